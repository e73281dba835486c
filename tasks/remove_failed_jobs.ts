import type { Task } from 'graphile-worker';
import { contextOf } from '../src/worker/context.ts';

/** Removes jobs that never run again: failed each time, or replaced by a later one with their key. They are kept for a week. */
export default (async (payload, helpers) => {
  const { pool, log } = contextOf(payload, helpers);
  const { rowCount } = await pool.query(
    `delete from graphile_worker._private_jobs
     where attempts >= max_attempts and greatest(locked_at, updated_at) < now() - interval '7 days'`,
  );
  if (rowCount !== null && rowCount > 0) log.info({ removed: rowCount }, 'removed failed jobs');
}) satisfies Task;
