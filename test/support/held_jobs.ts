import { expect } from 'vitest';
import type { TestDatabase } from './database.ts';
import { holdLock } from './hold_lock.ts';
import type pg from 'pg';

/** Holds the lock that runs of ensure_audit_partitions wait for, which decides how long the task takes. */
export async function hold(database: TestDatabase, client: pg.ClientBase, jobs = 1) {
  // What a worker queues when it starts must be over: there would be two of this task, and others beside it.
  await expect.poll(() => waitingJobs(client), { timeout: 10_000 }).toBe(0);
  const lock = await holdLock(database, 'partitions');
  await client.query(
    `select graphile_worker.add_job('ensure_audit_partitions') from generate_series(1, $1)`,
    [jobs],
  );
  await expect.poll(() => lockedJobs(client), { timeout: 10_000 }).toBe(jobs);
  await expect.poll(async () => (await waiting(client)).length, { timeout: 10_000 }).toBe(jobs);
  return lock;
}

/** The backends in which the tasks wait for the lock. */
export async function waiting(client: pg.ClientBase): Promise<number[]> {
  const { rows } = await client.query<{ pid: number }>(
    `select pid from pg_stat_activity
     where datname = current_database() and wait_event_type = 'Lock' and query like '%ensure_audit_partitions%'`,
  );
  return rows.map(({ pid }) => pid);
}

/** Connections that are being made, as PostgreSQL 18 shows them. */
export async function starting(root: pg.ClientBase): Promise<number | null> {
  const { rowCount } = await root.query(`select from pg_stat_activity where state = 'starting'`);
  return rowCount;
}

export async function waitingJobs(client: pg.ClientBase): Promise<number | null> {
  const { rowCount } = await client.query('select from graphile_worker.jobs where run_at <= now()');
  return rowCount;
}

/** Of that task alone: others come and go by the crontab. */
export async function lockedJobs(client: pg.ClientBase): Promise<number | null> {
  const { rowCount } = await client.query(
    `select from graphile_worker.jobs where task_identifier = 'ensure_audit_partitions' and locked_at is not null`,
  );
  return rowCount;
}
