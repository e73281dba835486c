import type { Task } from 'graphile-worker';
import { contextOf } from '../src/worker/context.ts';

/**
 * Removes jobs that graphile-worker never runs again: those that failed each time, and those of dead workers that a later job
 * with the same key has replaced. They are kept for a week, so that a failure can be looked into.
 */
export default (async (payload, helpers) => {
  const { pool, log } = contextOf(payload, helpers);
  const { rowCount } = await pool.query(
    `delete from graphile_worker._private_jobs
     where attempts >= max_attempts and greatest(locked_at, updated_at) < now() - interval '7 days'`,
  );
  if (rowCount !== null && rowCount > 0) log.info({ removed: rowCount }, 'removed failed jobs');
}) satisfies Task;
