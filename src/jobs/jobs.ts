import type pg from 'pg';

/** Every task there is, as the files in tasks/ are named; a test holds the folder, the crontab and this list together. */
export const TASKS = [
  'apply_due_schedules',
  'ensure_audit_partitions',
  'forward_audit_events',
  'reconcile_audit',
  'remove_failed_jobs',
  'remove_old_schedules',
  'retain_audit_events',
] as const;

export type TaskName = (typeof TASKS)[number];

/** A worker that takes the waiting job at the very moment makes the request vanish; that it happens over and over is unlikely. */
const MAX_TRIES = 5;

/**
 * Wakes a task: queues it under its own name as the job key, so that it waits at most once. While it runs, a
 * request queues it again, because what the request is about may have come too late for the run.
 *
 * Jobs are wake-ups and never the only record of something to do: the tables are.
 *
 * @param when.inMs milliseconds from now, by the database's clock
 * @param when.keepTime leaves a job that waits already at its time, so that a hint doesn't cut a back-off short
 * @throws Error when the database can't be reached, or the request was dropped each time
 */
export async function addJob(
  pool: pg.Pool,
  task: TaskName,
  { inMs = 0, keepTime = false }: { inMs?: number; keepTime?: boolean } = {},
): Promise<void> {
  for (let tries = 0; tries < MAX_TRIES; tries++) {
    const { rows } = await pool.query<{ id: string | null }>(
      `select id from graphile_worker.add_job(
         $1, run_at => now() + $2 * interval '1 ms', job_key => $1, job_key_mode => $3)`,
      [task, inMs, keepTime ? 'preserve_run_at' : 'replace'],
    );
    // A row of nulls: the job with this key was locked between two steps of add_job, and nothing was queued.
    if (typeof rows[0]?.id === 'string') return;
  }
  throw new Error(`The job ${task} could not be queued in ${MAX_TRIES} tries; it is tried again.`);
}
