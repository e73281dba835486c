import { expect, test } from 'vitest';
import { makeApplier } from '../../src/schedules/apply.ts';
import { makePool } from '../../src/postgres/pool.ts';
import { withClient } from '../support/database.ts';
import { makeTestLog } from '../support/log.ts';
import {
  countByStatus,
  insertDue,
  parseShipped,
  spawnWorker,
  startTestWorker,
  useFreshDatabase,
} from '../support/worker.ts';
import { hold, lockedJobs } from '../support/held_jobs.ts';

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
