import { once } from 'node:events';
import { expect, test } from 'vitest';
import { makePool } from '../../src/postgres/pool.ts';
import { makeJanitor } from '../../src/worker/janitor.ts';
import { makePresence } from '../../src/worker/presence.ts';
import { useDatabase, withClient } from '../support/database.ts';
import { one } from '../support/factory.ts';
import { makeTestLog } from '../support/log.ts';
import type { LogLine } from '../support/log.ts';
import { spawnWorker, startTestWorker } from '../support/worker.ts';
import type pg from 'pg';

const database = useDatabase();

/** The lock that a run of ensure_audit_partitions waits for: whoever has it decides how long the task takes. */
const PARTITIONS = `hashtext('halyard.ensure_audit_partitions')`;

/** Queues a job that stays with its worker until the lock is given back; resolves to its id and its pool's. */
async function holdJob(client: pg.ClientBase): Promise<{ id: string; pool: string }> {
  await client.query(`select pg_advisory_lock(${PARTITIONS})`);
  const { rows } = await client.query<{ id: string }>(
    `select id from graphile_worker.add_job('ensure_audit_partitions')`,
  );
  const { id } = one(rows);
  await expect.poll(() => holderOf(client, id), { timeout: 10_000 }).toMatch(/^pool-/);
  return { id, pool: (await holderOf(client, id)) ?? '' };
}

async function holderOf(client: pg.ClientBase, id: string): Promise<string | null | undefined> {
  const { rows } = await client.query<{ locked_by: string | null }>(
    'select locked_by from graphile_worker._private_jobs where id = $1',
    [id],
  );
  return rows[0]?.locked_by;
}

test('the job of a killed worker is taken by another one', async () => {
  const killed = await spawnWorker(database);
  await withClient(database.workerUrl, async (client) => {
    const { id, pool } = await holdJob(client);
    expect(await killed.end('SIGKILL')).toBe('SIGKILL');
    const { lines } = await startTestWorker(database);
    await client.query(`select pg_advisory_unlock(${PARTITIONS})`);
    await expect.poll(() => holderOf(client, id), { timeout: 20_000 }).toBeUndefined();
    expect(lines).toContainEqual(expect.objectContaining({ pools: [pool] }));
  });
});

test('a live worker whose connections are all lost keeps its job', async () => {
  const { worker, lines } = await startTestWorker(database);
  await withClient(database.workerUrl, async (client) => {
    const { id, pool } = await holdJob(client);
    const other = await startTestWorker(database);
    await withClient(database.rootUrl, (root) =>
      root.query(
        `select pg_terminate_backend(pid) from pg_stat_activity
         where datname = current_database() and application_name = 'halyard worker presence'`,
      ),
    );
    await expect.poll(() => said(lines, 'sign of life'), { timeout: 10_000 }).toBe(true);
    await expect.poll(() => worker.healthy() && other.worker.healthy()).toBe(true);
    expect(await holderOf(client, id)).toBe(pool);
    await client.query(`select pg_advisory_unlock(${PARTITIONS})`);
    await expect.poll(() => holderOf(client, id), { timeout: 10_000 }).toBeUndefined();
    expect([...lines, ...other.lines].filter((line) => 'pools' in line)).toStrictEqual([]);
  });
});

test('a lock that is taken again within the grace keeps its pool alive', async () => {
  const { log, lines } = makeTestLog();
  const stop = new AbortController();
  const pool = makePool(database.workerUrl, { name: 'halyard test', log });
  const none = makePresence({ url: database.workerUrl, log });
  await withClient(database.workerUrl, async (client) => {
    await client.query(`select graphile_worker.add_job('remove_failed_jobs', job_key => 'held')`);
    await client.query(
      `update graphile_worker._private_jobs set locked_by = 'pool-blinking', locked_at = now()
       where key = 'held'`,
    );
    const janitor = makeJanitor({ pool, presence: none, log, stopping: stop.signal });
    const firstLook = once(pool, 'release');
    const released = janitor.sweep();
    await firstLook;
    const presence = makePresence({ url: database.workerUrl, log });
    await presence.hold('pool-blinking');
    expect(await released).toStrictEqual([]);
    const { rows } = await client.query(
      `select locked_by from graphile_worker._private_jobs where key = 'held'`,
    );
    expect(rows).toStrictEqual([{ locked_by: 'pool-blinking' }]);

    await presence.close();
    await expect.poll(() => said(lines, 'released the jobs'), { timeout: 10_000 }).toBe(true);
    stop.abort();
    await janitor.close();
  });
  await none.close();
  await pool.end();
});

function said(lines: readonly LogLine[], text: string): boolean {
  return lines.some(({ msg }) => String(msg).includes(text));
}
