import pg from 'pg';

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
/** The limit for each lock: while another session locks the jobs' tables, a request gives its connection back soon. Jobs are wake-ups only. */
const LOCK_TIMEOUT_MS = 500;
/** A connection that gives no answer leads nowhere any more. */
const ANSWER_MS = 3_000;

/**
 * Wakes a task: queues it under its own name as the job key, so that it waits at most once. While it runs, a
 * request queues it again, because what the request is about may have come too late for the run.
 *
 * Jobs are wake-ups and never the only record of something to do: the tables are.
 *
 * @param when.inMs milliseconds from now, by the database's clock
 * @throws Error when the database can't be reached, the jobs' tables are locked, or the request was dropped each time
 */
export async function addJob(
  pool: pg.Pool,
  task: TaskName,
  { inMs = 0 }: { inMs?: number } = {},
): Promise<void> {
  for (let tries = 0; tries < MAX_TRIES; tries++) {
    const query = { text: addJobSql(task, inMs), query_timeout: ANSWER_MS };
    const results: unknown = await pool.query(query);
    const { rows } = (results as [unknown, pg.QueryResult<{ id: string | null }>])[1];
    // A row of nulls: the job with this key was locked between two steps of add_job, and nothing was queued.
    if (typeof rows[0]?.id === 'string') return;
  }
  throw new Error(`The job ${task} could not be queued in ${MAX_TRIES} tries; it is tried again.`);
}

/**
 * Two statements sent together are one transaction, with which the setting ends. The setting comes first, and in a statement of its
 * own: PostgreSQL locks the jobs' table as soon as it reads the second. Such a text takes no parameters.
 */
function addJobSql(task: TaskName, inMs: number): string {
  const key = pg.escapeLiteral(task);
  return `
    select set_config('lock_timeout', '${LOCK_TIMEOUT_MS}ms', true);
    select id from graphile_worker.add_job(
      ${key}, run_at => now() + ${inMs} * interval '1 ms', job_key => ${key},
      job_key_mode => 'replace')`;
}
