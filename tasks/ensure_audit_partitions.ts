import type { Task } from 'graphile-worker';
import { contextOf } from '../src/worker/context.ts';

/** So far ahead that the worker may be down for months before an event finds no partition. */
const MONTHS_AHEAD = 3;

/** Makes the audit trail's partitions ahead of time. */
export default (async (payload, helpers) => {
  const { pool, log } = contextOf(payload, helpers);
  const { rows } = await pool.query<{ made: number }>(
    'select app_private.ensure_audit_partitions($1) as made',
    [MONTHS_AHEAD],
  );
  const made = rows[0]?.made ?? 0;
  if (made > 0) log.info({ made }, 'made partitions of the audit trail');
}) satisfies Task;
