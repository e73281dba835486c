import { EventEmitter } from 'node:events';
import type { WorkerEvents } from 'graphile-worker';
import pg from 'pg';
import { expect, test } from 'vitest';
import { installWorkerSchema } from '../../src/postgres/worker_schema.ts';
import { watchNotifications } from '../../src/worker/job_notifications.ts';
import { withClient } from '../support/database.ts';
import { makeTestLog } from '../support/log.ts';
import {
  appliedEvents,
  countByStatus,
  insertDue,
  startTestWorker,
  useFreshDatabase,
} from '../support/worker.ts';

const soon = { timeout: 20_000 };

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

test('a migration that came before LISTEN is found, and a worker that stops at once queues no query', async () => {
  const { workerUrl } = await useFreshDatabase();
  const pool = new pg.Pool({ connectionString: workerUrl });
  // Its connections may still be closing when the database goes.
  pool.on('error', () => undefined);
  pool.on('connect', (client) => client.on('error', () => undefined));
  const events = new EventEmitter() as WorkerEvents;
  const warnings: string[] = [];
  const warn = ({ name, message }: Error) => {
    if (name === 'DeprecationWarning') warnings.push(message);
  };
  process.on('warning', warn);
  let stops = 0;
  try {
    await watchNotifications(events, {
      pool,
      slots: 1,
      log: makeTestLog().log,
      stop: () => (stops += 1),
    });
    const client = await pool.connect();
    await client.query(
      'insert into graphile_worker.migrations (id, breaking) values (1000000, true)',
    );
    // As graphile-worker does it: the event, LISTEN, and UNLISTEN where it is stopped by then.
    events.emit('pool:listen:success', { client } as never);
    const listening = client.query('listen "jobs:insert"');
    const stopping = client.query('unlisten "jobs:insert"');
    await Promise.all([listening, stopping]);
    client.release();
    await expect.poll(() => stops, soon).toBe(1);
    expect(warnings).toStrictEqual([]);
  } finally {
    process.off('warning', warn);
    await pool.end();
  }
});
