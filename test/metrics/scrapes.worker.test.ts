import { expect, test } from 'vitest';
import { withClient } from '../support/database.ts';
import { scrape, startTestMetrics } from '../support/metrics.ts';
import { startTcpProxy } from '../support/tcp_proxy.ts';
import { useFreshDatabase } from '../support/worker.ts';

const soon = { timeout: 15_000 };

test('a database that does not answer is said to be down, and the process tells the rest', async () => {
  const database = await useFreshDatabase();
  const url = new URL(database.workerUrl);
  await using proxy = await startTcpProxy({ host: url.hostname, port: Number(url.port) });
  Object.assign(url, { hostname: '127.0.0.1', port: String(proxy.port) });
  const metrics = await startTestMetrics(url.href);
  const isUp = async () => {
    const samples = await scrape(metrics.url);
    expect(samples.get('process_resident_memory_bytes')).toBeGreaterThan(0);
    const up = samples.get('halyard_database_up');
    expect(samples.has('halyard_dead_letters')).toBe(up === 1);
    return up;
  };
  expect(await isUp()).toBe(1);
  proxy.freeze();
  expect(await isUp()).toBe(0);
  proxy.refuse();
  expect(await isUp()).toBe(0);
  proxy.accept();
  await expect.poll(isUp, soon).toBe(1);
  // Once for the outage, however often it was asked, and once when it is over.
  const said = (level: string) =>
    metrics.lines.filter((line) => line.level === level && String(line.msg).includes('gives'));
  expect([said('warn').length, said('info').length]).toEqual([1, 1]);
  expect(metrics.lines.some(({ level }) => level === 'error')).toBe(false);
});

test('many scrapes at once ask the database once', async () => {
  const database = await useFreshDatabase();
  await withClient(database.rootUrl, async (root) => {
    await root.query(`alter database ${database.name} set track_functions = 'pl'`);
    const { url, close } = await startTestMetrics(database.workerUrl);
    const isWaiting = async () => {
      const { rowCount } = await root.query(
        `select from pg_stat_activity
         where datname = current_database() and application_name = 'halyard metrics' and wait_event_type = 'Lock'`,
      );
      return rowCount;
    };
    await withClient(database.ownerUrl, async (client) => {
      // Whoever reads this table waits, and so all scrapes come while the first one is at it.
      await client.query('begin; lock table audit.cursors in access exclusive mode');
      const scrapes = Array.from({ length: 40 }, () => scrape(url));
      await expect.poll(isWaiting, soon).toBe(1);
      await client.query('commit');
      for (const samples of await Promise.all(scrapes))
        expect(samples.get('halyard_database_up')).toBe(1);
    });
    // A session tells what it has called when it ends.
    await close();
    const calls = async () => {
      const { rows } = await root.query<{ calls: number }>(
        `select calls::int from pg_stat_user_functions where funcname = 'metrics'`,
      );
      return rows[0]?.calls ?? 0;
    };
    await expect.poll(calls, soon).toBeGreaterThan(0);
    // One, and one more should some of the forty have come after the lock was gone.
    expect(await calls()).toBeLessThanOrEqual(2);
  });
});

test('a question that the database is slow to answer is cancelled there too', async () => {
  const database = await useFreshDatabase();
  const { url } = await startTestMetrics(database.workerUrl);
  await withClient(database.rootUrl, async (root) => {
    const isAsking = async () => {
      const { rowCount } = await root.query(
        `select from pg_stat_activity
         where datname = current_database() and application_name = 'halyard metrics' and state = 'active'`,
      );
      return rowCount;
    };
    const [slow, quick] = ['pg_sleep(60)', 'null'].map(
      (wait) =>
        `create or replace function app_private.server_metrics()
         returns table (metric text, destination text, value double precision)
         language sql volatile as $$ select 'workers_connected', null::text, 0::double precision from (select ${wait}) as waited $$`,
    );
    await root.query(slow ?? '');
    const scraped = scrape(url);
    await expect.poll(isAsking, soon).toBe(1);
    expect((await scraped).get('halyard_database_up')).toBe(0);
    // The role's own time-outs are 10 s and more.
    await expect.poll(isAsking, { timeout: 4_000 }).toBe(0);
    await root.query(quick ?? '');
  });
  await expect.poll(async () => (await scrape(url)).get('halyard_database_up'), soon).toBe(1);
});

test('tables that somebody has locked are left out, and the rest is told', async () => {
  const database = await useFreshDatabase();
  const { url } = await startTestMetrics(database.workerUrl);
  await withClient(database.ownerUrl, async (client) => {
    await client.query(
      `begin;
       lock table app_public.feature_flag_schedules, audit.queue, audit.cursors, audit.dead_letters in access exclusive mode`,
    );
    const samples = await scrape(url);
    expect(samples.get('halyard_database_up')).toBe(1);
    expect(samples.get('halyard_database_unreadable_parts')).toBe(4);
    expect(samples.get('halyard_workers_connected')).toBe(0);
    expect(samples.has('halyard_dead_letters')).toBe(false);
    await client.query('rollback');
  });
  expect((await scrape(url)).get('halyard_database_unreadable_parts')).toBe(0);
});
