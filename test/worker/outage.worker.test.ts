import { expect, test } from 'vitest';
import { withDatabase } from '../../src/postgres/setup.ts';
import { withClient } from '../support/database.ts';
import { countByStatus, insertDue, startTestWorker, useFreshDatabase } from '../support/worker.ts';
import { hold, waiting, starting } from '../support/held_jobs.ts';

const soon = { timeout: 20_000 };

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
