import { expect, test } from 'vitest';
import { withDatabase } from '../../src/postgres/setup.ts';
import { installWorkerSchema } from '../../src/postgres/worker_schema.ts';
import { makeApplier } from '../../src/schedules/apply.ts';
import { makePool } from '../../src/postgres/pool.ts';
import { withClient } from '../support/database.ts';
import type { TestDatabase } from '../support/database.ts';
import { holdLock } from '../support/hold_lock.ts';
import { makeTestLog } from '../support/log.ts';
import {
  appliedEvents,
  countByStatus,
  insertDue,
  parseShipped,
  spawnWorker,
  startTestWorker,
  useFreshDatabase,
} from '../support/worker.ts';
import type pg from 'pg';

const soon = { timeout: 20_000 };

/** Holds the lock that runs of ensure_audit_partitions wait for, which decides how long the task takes. */
async function hold(database: TestDatabase, client: pg.ClientBase, jobs = 1) {
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
async function waiting(client: pg.ClientBase): Promise<number[]> {
  const { rows } = await client.query<{ pid: number }>(
    `select pid from pg_stat_activity
     where datname = current_database() and wait_event_type = 'Lock' and query like '%ensure_audit_partitions%'`,
  );
  return rows.map(({ pid }) => pid);
}

/** Connections that are being made, as PostgreSQL 18 shows them. */
async function starting(root: pg.ClientBase): Promise<number | null> {
  const { rowCount } = await root.query(`select from pg_stat_activity where state = 'starting'`);
  return rowCount;
}

async function waitingJobs(client: pg.ClientBase): Promise<number | null> {
  const { rowCount } = await client.query('select from graphile_worker.jobs where run_at <= now()');
  return rowCount;
}

/** Of that task alone: others come and go by the crontab. */
async function lockedJobs(client: pg.ClientBase): Promise<number | null> {
  const { rowCount } = await client.query(
    `select from graphile_worker.jobs where task_identifier = 'ensure_audit_partitions' and locked_at is not null`,
  );
  return rowCount;
}

test('stopping waits for the task that runs, and leaves nothing locked', async () => {
  const database = await useFreshDatabase();
  const { worker } = await startTestWorker(database);
  await withClient(database.workerUrl, async (client) => {
    const lock = await hold(database, client);
    const stopped = worker.stop();
    expect(worker.healthy()).toBe(false);
    expect(await lockedJobs(client)).toBe(1);
    await lock.release();
    await stopped;
    const { rowCount } = await client.query(
      `select from graphile_worker.jobs where locked_at is not null or task_identifier = 'ensure_audit_partitions'`,
    );
    expect(rowCount).toBe(0);
  });
});

// One by one: four reports that fail are what graphile-worker waits for without end.
test.each([1, 4])(
  'a worker outlives an outage in which it can tell nobody how its %i jobs ended',
  async (jobs) => {
    const database = await useFreshDatabase();
    const { worker, lines } = await startTestWorker(database);
    const said = (what: string) => lines.filter(({ msg }) => String(msg).includes(what)).length;
    await withClient(withDatabase(database.rootUrl, 'postgres'), async (root) => {
      // Keeps its connection, and so the lock, until the worker has given up: else a job may get the lock, and end, before it is ended.
      await withClient(database.workerUrl, async (client) => {
        const lock = await hold(database, client, jobs);
        const pids = await waiting(client);
        const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid');
        await root.query(`alter database ${database.name} allow_connections false`);
        // One that was let in just before isn't listed by database yet.
        await expect.poll(() => starting(root), { timeout: 10_000 }).toBe(0);
        await root.query(
          'select pg_terminate_backend(pid) from pg_stat_activity where datname = $1 and pid <> all ($2)',
          [database.name, [...pids, lock.pid, ...rows.map(({ pid }) => pid)]],
        );
        for (const [i, pid] of pids.entries()) {
          await root.query('select pg_terminate_backend($1)', [pid]);
          await expect.poll(() => said('Failed to fail jobs'), { timeout: 15_000 }).toBe(i + 1);
        }
        await expect.poll(() => said('begins again'), { timeout: 20_000 }).toBeGreaterThan(0);
      });
      await root.query(`alter database ${database.name} allow_connections true`);
    });
    await expect.poll(() => worker.healthy(), { timeout: 20_000 }).toBe(true);
    await withClient(database.ownerUrl, async (client) => {
      await insertDue(client, { count: 3, dueIn: '100 ms' });
      await expect
        .poll(() => countByStatus(client), { timeout: 10_000 })
        .toStrictEqual({ applied: 3 });
    });
  },
);

test('a worker can be stopped in the midst of an outage', async () => {
  const database = await useFreshDatabase();
  const { worker } = await startTestWorker(database);
  await withClient(withDatabase(database.rootUrl, 'postgres'), async (root) => {
    await root.query(`alter database ${database.name} allow_connections false`);
    await root.query('select pg_terminate_backend(pid) from pg_stat_activity where datname = $1', [
      database.name,
    ]);
    await expect.poll(() => worker.healthy(), { timeout: 10_000 }).toBe(false);
    await worker.stop();
    await root.query(`alter database ${database.name} allow_connections true`);
  });
});

test('a worker for which the server has no connection left goes on once it has', async () => {
  const database = await useFreshDatabase();
  const { worker, lines } = await startTestWorker(database);
  // A superuser's isn't counted.
  await withClient(database.rootUrl, async (root) => {
    await root.query(`alter database ${database.name} connection limit 0`);
    await root.query(
      `select pg_terminate_backend(pid) from pg_stat_activity
       where datname = current_database() and usename = 'halyard_worker'`,
    );
    await expect.poll(() => worker.healthy(), soon).toBe(false);
    await insertDue(root, { count: 3, dueIn: '0 s' });
    await expect
      .poll(() => JSON.stringify(lines).includes('too many connections'), soon)
      .toBe(true);
    expect(await countByStatus(root)).toStrictEqual({ pending: 3 });
    await root.query(`alter database ${database.name} connection limit -1`);
    await expect.poll(() => countByStatus(root), soon).toStrictEqual({ applied: 3 });
  });
  await expect.poll(() => worker.healthy(), soon).toBe(true);
});

test('a worker whose sessions are read only says so once, and goes on by itself after that', async () => {
  const database = await useFreshDatabase();
  const { worker, lines } = await startTestWorker(database);
  const said = (what: string) => lines.filter(({ msg }) => String(msg).includes(what));
  const setting = `alter role halyard_worker in database ${database.name}`;
  await withClient(database.rootUrl, async (root) => {
    await root.query(`${setting} set default_transaction_read_only = on`);
    await root.query(
      `select pg_terminate_backend(pid) from pg_stat_activity
       where datname = current_database() and usename = 'halyard_worker'`,
    );
    await expect.poll(() => said('no schedule is applied').length, soon).toBe(1);
    await insertDue(root, { count: 1, dueIn: '0 s' });
    await expect.poll(() => worker.healthy(), soon).toBe(false);
    // Each second the timer looks again.
    const looks = () => said('no schedule is applied').filter(({ level }) => level === 'debug');
    await expect.poll(() => looks().length, soon).toBeGreaterThan(1);
    expect(await countByStatus(root)).toStrictEqual({ pending: 1 });
    await root.query(`${setting} reset default_transaction_read_only`);
    await expect.poll(() => countByStatus(root), soon).toStrictEqual({ applied: 1 });
  });
  await expect.poll(() => worker.healthy(), soon).toBe(true);
  expect(said('no schedule is applied').filter(({ level }) => level === 'warn')).toHaveLength(1);
  expect(said('schedules are applied again')).toHaveLength(1);
});

test('a worker that could not look its tasks up at its start takes jobs all the same', async () => {
  const database = await useFreshDatabase();
  await withClient(database.rootUrl, async (holder) => {
    await holder.query('begin; lock table graphile_worker._private_tasks in access exclusive mode');
    const starting = startTestWorker(database);
    await withClient(database.rootUrl, async (root) => {
      const cut = () =>
        root.query(
          `select pg_terminate_backend(pid) from pg_stat_activity
           where datname = current_database() and application_name = 'halyard worker jobs'
             and wait_event_type = 'Lock' and query like 'insert into %_private_tasks%'`,
        );
      await expect.poll(async () => (await cut()).rowCount, soon).toBeGreaterThan(0);
    });
    await holder.query('rollback');
    const { worker } = await starting;
    await expect.poll(() => worker.healthy(), soon).toBe(true);
  });
});

test('a worker whose jobs are dropped says what to run, at its start too, and goes on after it', async () => {
  const database = await useFreshDatabase();
  const { worker, lines } = await startTestWorker(database);
  // The worker's own statements lock the tables in another order, and one of the two is the victim of a deadlock.
  const drop = () =>
    withClient(database.workerUrl, (client) =>
      client.query('drop schema if exists graphile_worker cascade').then(() => 'dropped'),
    );
  await expect.poll(() => drop().catch(String), soon).toBe('dropped');
  await expect.poll(() => worker.healthy(), soon).toBe(false);
  const { log, lines: second } = makeTestLog();
  const starting = startTestWorker(database, { log });
  for (const found of [lines, second]) {
    const errors = () => found.filter(({ level }) => level === 'error');
    await expect.poll(errors, soon).toMatchObject([{ msg: 'no jobs are taken' }]);
    expect(errors()[0]?.err).toMatchObject({
      message: expect.stringContaining('npm run halyard -- migrate') as string,
    });
    expect(JSON.stringify(found)).not.toContain('permission denied');
  }
  await withClient(database.ownerUrl, async (owner) => {
    await insertDue(owner, { count: 1, dueIn: '0 s' });
    await expect.poll(() => countByStatus(owner), soon).toStrictEqual({ applied: 1 });
  });
  await installWorkerSchema(database.ownerUrl, log);
  const started = await starting;
  for (const one of [worker, started.worker])
    await expect.poll(() => one.healthy(), soon).toBe(true);
});

test('notifications of strangers neither stop a worker nor make it late or its log long', async () => {
  const database = await useFreshDatabase();
  const { worker, lines } = await startTestWorker(database);
  const { exitCode } = process;
  const logged = lines.length;
  await withClient(database.ownerUrl, async (client) => {
    await client.query(`notify "worker:migrate", '{"breaking": true, "migrationNumber": 1}'`);
    await insertDue(client, { count: 3, dueIn: '1 s' });
    for (const [channel, payload] of [
      ['jobs:insert', `'{"count": 1000}' || repeat(' ', g % 100)`],
      ['worker:migrate', `'{"breaking": true}' || repeat(' ', g % 100)`],
      ['halyard_audit', `repeat('x', 1 + g % 7000)`],
      ['halyard_audit', `'{"events" : ["' || gen_random_uuid() || '"]}'`],
    ])
      await client.query(
        `select count(pg_notify($1, ${payload ?? ''})) from generate_series(1, 20000) as g`,
        [channel],
      );
    await expect.poll(() => countByStatus(client), soon).toEqual({ applied: 3 });
    const events = await appliedEvents(client);
    // A worker that was stopped, or kept busy, takes its time.
    for (const { metadata } of events) expect(metadata.latenessMs).toBeLessThan(1_000);
  });
  expect(worker.healthy()).toBe(true);
  expect(process.exitCode).toBe(exitCode);
  const bad = lines.slice(logged).filter(({ level }) => level !== 'debug' && level !== 'info');
  expect(bad).toMatchObject([{ level: 'warn', channel: 'halyard_audit', count: 1 }]);
  expect(lines.length - logged).toBeLessThan(500);
});

test('a worker takes no jobs once their tables are of a version that it does not know', async () => {
  const database = await useFreshDatabase();
  const { worker, lines } = await startTestWorker(database);
  await withClient(database.workerUrl, async (client) => {
    await client.query(
      `insert into graphile_worker.migrations (id, breaking) values (1000000, true)`,
    );
    // Again until it is heard: a worker that has just begun may not listen yet.
    await expect
      .poll(async () => {
        await client.query(`notify "worker:migrate", '{}'`);
        return worker.healthy();
      }, soon)
      .toBe(false);
    const warnings = () => lines.filter(({ level }) => level === 'warn');
    await expect.poll(() => JSON.stringify(warnings()), soon).toContain('1000000');
    await client.query('delete from graphile_worker.migrations where id = 1000000');
  });
  await expect.poll(() => worker.healthy(), soon).toBe(true);
});

test('a run that is asked to stop leaves the rest due', async () => {
  const database = await useFreshDatabase();
  const { log } = makeTestLog();
  const pool = makePool(database.workerUrl, { name: 'halyard test', log });
  await withClient(database.ownerUrl, async (client) => {
    await insertDue(client, { count: 1_200, dueIn: '-1 second' });
    const stop = new AbortController();
    pool.once('release', () => stop.abort());
    await makeApplier({ pool, log, stopping: stop.signal }).apply();
    expect(await countByStatus(client)).toStrictEqual({ applied: 500, pending: 700 });
    const stopping = new AbortController().signal;
    const rest = await makeApplier({ pool, log, stopping }).apply();
    expect(rest).toMatchObject({ applied: 700, stuck: 0 });
  });
  await pool.end();
});

test('the command drains on SIGTERM, and prints nothing but audit events', async () => {
  const database = await useFreshDatabase();
  await withClient(database.ownerUrl, (client) => insertDue(client, { count: 3, dueIn: '1 day' }));
  const { stdout, end } = await spawnWorker(database);
  await expect.poll(() => stdout.length, { timeout: 10_000 }).toBeGreaterThanOrEqual(6);
  expect(await end('SIGTERM')).toBe(0);
  const printed = stdout.map(parseShipped);
  const events = printed.filter(({ eventType }) => eventType !== 'audit.sealed');
  expect(events.map(({ seq }) => seq)).toStrictEqual(events.map((_, i) => i + 1));
  expect(printed.at(-1)?.eventType).toBe('audit.sealed');
});

test('a second signal, not one that came with the first, ends the command at once', async () => {
  const database = await useFreshDatabase();
  const { child, stderr, end } = await spawnWorker(database);
  await withClient(database.workerUrl, async (client) => {
    await hold(database, client);
    child.kill('SIGINT');
    child.kill('SIGINT');
    await expect
      .poll(() => stderr.filter((line) => line.includes('"msg":"stopping"')), { timeout: 10_000 })
      .toHaveLength(1);
    await expect
      .poll(() => child.kill('SIGINT') && child.exitCode, { timeout: 10_000 })
      .not.toBeNull();
    expect(await end('SIGINT')).toBe(1);
    expect(stderr.join()).toContain('stopping at once');
  });
});
