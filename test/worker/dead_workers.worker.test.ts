import { expect, test } from 'vitest';
import { makePool } from '../../src/postgres/pool.ts';
import { addJob, TASKS } from '../../src/jobs/jobs.ts';
import type { TaskName } from '../../src/jobs/jobs.ts';
import { holdAt } from '../support/chaos/hold.ts';
import { value } from '../support/actors.ts';
import { withClient } from '../support/database.ts';
import { insertFlag } from '../support/factory.ts';
import { makeTestLog } from '../support/log.ts';
import {
  countByStatus,
  insertDue,
  spawnWorker,
  startTestWorker,
  useFreshDatabase,
} from '../support/worker.ts';
import type { TestWorker } from '../support/worker.ts';
import type pg from 'pg';

const soon = { timeout: 10_000 };

/** Jobs under their own keys, as a worker leaves them that is killed while it runs them. */
async function leaveLocked(client: pg.ClientBase, tasks: readonly TaskName[]): Promise<void> {
  // The live worker's own jobs first: one that it completes must not be one of these.
  await expect.poll(() => countJobs(client, 'run_at <= now()'), soon).toBe(0);
  await client.query('begin');
  await client.query(
    `select graphile_worker.add_job(task, job_key => task) from unnest($1::text[]) as task`,
    [tasks],
  );
  await client.query(
    `update graphile_worker._private_jobs set locked_by = 'pool-dead', locked_at = now(), attempts = 1
     where key = any ($1)`,
    [tasks],
  );
  await client.query('commit');
}

function countJobs(client: pg.ClientBase, where: string): Promise<number> {
  return value<number>(
    client,
    `select count(*)::int from graphile_worker._private_jobs where ${where}`,
  );
}

/** How often the worker has run a task as a job. */
function runs({ lines }: TestWorker, task: TaskName): number {
  return lines.filter(
    ({ msg }) => String(msg).startsWith('Completed task') && String(msg).includes(`(${task},`),
  ).length;
}

test('a request for a task runs it although a dead worker holds its job', async () => {
  const database = await useFreshDatabase();
  const live = await startTestWorker(database);
  const pool = makePool(database.workerUrl, { name: 'halyard test', log: makeTestLog().log });
  await withClient(database.workerUrl, async (client) => {
    await leaveLocked(client, TASKS);
    const before = TASKS.map((task) => runs(live, task));
    // As the crontab and the worker do.
    for (const task of TASKS) await addJob(pool, task);
    for (const [i, task] of TASKS.entries())
      await expect.poll(() => runs(live, task), soon).toBeGreaterThan(before[i] ?? 0);
    expect(await countJobs(client, `locked_by = 'pool-dead'`)).toBe(TASKS.length);
  });
  await pool.end();
});

test('schedules are applied and events delivered although a dead worker holds the jobs', async () => {
  const database = await useFreshDatabase();
  const { sink } = await startTestWorker(database);
  await withClient(database.workerUrl, (client) => leaveLocked(client, TASKS));
  await withClient(database.ownerUrl, async (client) => {
    await insertDue(client, { count: 2, dueIn: '200 ms' });
    await expect.poll(() => countByStatus(client), soon).toStrictEqual({ applied: 2 });
  });
  const applied = () =>
    sink.taken.filter(({ message }) => message.includes('flag_schedule.applied')).length;
  await expect.poll(applied, soon).toBe(2);
});

test('a live worker applies what a killed one was applying', async () => {
  const database = await useFreshDatabase();
  const killed = await spawnWorker(database);
  const hold = await holdAt(database, 'app_public.feature_flag_schedules', 'before update');
  await withClient(database.ownerUrl, async (client) => {
    await insertDue(client, { count: 2, dueIn: '0 ms' });
    const backend = await hold.reached();
    await startTestWorker(database);
    await killed.end('SIGKILL');
    const left = `locked_at is not null and task_id = (
      select id from graphile_worker._private_tasks where identifier = 'apply_due_schedules')`;
    expect(await countJobs(client, left)).toBeGreaterThan(0);
    await hold.terminate(backend);
    await hold.release();
    await expect.poll(() => countByStatus(client), soon).toStrictEqual({ applied: 2 });
  });
});

test('a live worker delivers an event whose only job a dead one took', async () => {
  const database = await useFreshDatabase();
  const { sink } = await startTestWorker(database);
  await withClient(database.rootUrl, async (client) => {
    await leaveLocked(client, TASKS);
    // Its notification went to the dead worker alone: this one hears nothing of it.
    await client.query(`
      create function public.swallow() returns trigger language plpgsql as $$ begin return null; end $$;
      create trigger swallow before insert on graphile_worker._private_jobs
        for each row when (new.key = 'forward_audit_events') execute function public.swallow()`);
    const { flag_key: flagKey } = await insertFlag(client);
    const arrived = () => sink.taken.some(({ message }) => message.includes(flagKey));
    await expect.poll(arrived, soon).toBe(true);
  });
});

test('jobs that nothing will run again, also those of dead workers, are removed after a week', async () => {
  const database = await useFreshDatabase();
  const live = await startTestWorker(database);
  await withClient(database.workerUrl, async (client) => {
    await expect.poll(() => countJobs(client, 'run_at <= now()'), soon).toBe(0);
    await client.query(
      `insert into graphile_worker._private_jobs (task_id, payload, attempts, max_attempts, locked_at, locked_by, updated_at, flags)
       select t.id, '{}', age.attempts, 25, now() - age.locked, case when age.locked is not null then 'pool-dead' end,
         now() - age.updated, jsonb_build_object(age.name, true)
       from (select id from graphile_worker._private_tasks limit 1) as t,
         (values
           ('failed long ago', 25, null::interval, interval '8 days'),
           ('failed lately', 25, null, interval '6 days'),
           ('replaced long ago', 25, interval '8 days', interval '8 days'),
           ('replaced lately', 25, interval '8 days', interval '6 days'),
           ('running', 25, interval '1 minute', interval '8 days')
         ) as age (name, attempts, locked, updated)`,
    );
    const before = runs(live, 'remove_failed_jobs');
    await client.query(`select graphile_worker.add_job('remove_failed_jobs')`);
    await expect.poll(() => runs(live, 'remove_failed_jobs'), soon).toBeGreaterThan(before);
    const { rows } = await client.query<{ name: string }>(
      `select jsonb_object_keys(flags) as name from graphile_worker._private_jobs where attempts = 25 order by 1`,
    );
    expect(rows.map(({ name }) => name)).toStrictEqual([
      'failed lately',
      'replaced lately',
      'running',
    ]);
  });
});
