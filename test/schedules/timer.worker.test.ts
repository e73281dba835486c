import { expect, test } from 'vitest';
import { useDatabase, withClient } from '../support/database.ts';
import { makePool } from '../../src/postgres/pool.ts';
import { makeAlarm } from '../../src/schedules/timer.ts';
import { makeTestLog } from '../support/log.ts';
import { startTcpProxy } from '../support/tcp_proxy.ts';
import { insertFlag, insertSchedule } from '../support/factory.ts';
import { startTestWorker } from '../support/worker.ts';
import type { TestWorker } from '../support/worker.ts';
import type pg from 'pg';

const database = useDatabase();

/** Resolves once this schedule is applied. */
async function applied(client: pg.ClientBase, id: string): Promise<void> {
  await expect
    .poll(
      async () => {
        const { rows } = await client.query<{ status: string }>(
          'select status from app_public.feature_flag_schedules where id = $1',
          [id],
        );
        return rows[0]?.status;
      },
      { timeout: 15_000 },
    )
    .toBe('applied');
}

/** When apply_due_schedules was run as a job, in milliseconds. */
function runs({ lines }: TestWorker): number[] {
  return lines
    .filter(({ msg }) => /^Completed task \d+ \(apply_due_schedules,/.test(String(msg)))
    .map(({ time }) => Date.parse(String(time)));
}

async function terminate(name: string): Promise<void> {
  await withClient(database.rootUrl, async (root) => {
    const { rowCount } = await root.query(
      `select pg_terminate_backend(pid) from pg_stat_activity
       where datname = current_database() and application_name = $1`,
      [name],
    );
    expect(rowCount).toBeGreaterThan(0);
  });
}

test('what was scheduled while the listener was away is applied', async () => {
  const { worker } = await startTestWorker(database);
  await withClient(database.ownerUrl, async (client) => {
    const flag = await insertFlag(client);
    await terminate('halyard worker listener');
    const { id } = await insertSchedule(client, flag.id, { dueIn: '300 ms' });
    await applied(client, id);
    await expect.poll(() => worker.healthy(), { timeout: 10_000 }).toBe(true);
  });
});

test('a worker that loses all its connections goes on', async () => {
  const { worker } = await startTestWorker(database);
  await withClient(database.ownerUrl, async (client) => {
    const flag = await insertFlag(client);
    const { id } = await insertSchedule(client, flag.id, { dueIn: '500 ms' });
    for (const name of ['halyard worker', 'halyard worker listener']) await terminate(name);
    await applied(client, id);
    await expect.poll(() => worker.healthy(), { timeout: 10_000 }).toBe(true);
  });
});

test('when no job is run at all the alarm applies by itself', async () => {
  const worker = await startTestWorker(database);
  await withClient(database.rootUrl, async (root) => {
    await root.query(`
      create function public.put_off() returns trigger language plpgsql
        as $$ begin new.run_at = now() + interval '1 hour'; return new; end $$;
      create trigger put_off before insert or update on graphile_worker._private_jobs
        for each row when (new.key = 'apply_due_schedules') execute function public.put_off()`);
    try {
      const flag = await insertFlag(root);
      const { id } = await insertSchedule(root, flag.id, { dueIn: '200 ms' });
      await applied(root, id);
    } finally {
      await root.query('drop function public.put_off() cascade');
    }
  });
  expect(runs(worker)).toStrictEqual([]);
});

test('what is due and held by somebody is looked at again, ever less often, and applied once it is free', async () => {
  const worker = await startTestWorker(database);
  await withClient(database.ownerUrl, async (holder) => {
    const flag = await insertFlag(holder);
    await holder.query('begin');
    await holder.query('select from app_public.feature_flags where id = $1 for no key update', [
      flag.id,
    ]);
    await withClient(database.ownerUrl, async (client) => {
      const { id } = await insertSchedule(client, flag.id, { dueIn: '100 ms' });
      await expect.poll(() => runs(worker).length, { timeout: 15_000 }).toBeGreaterThanOrEqual(7);
      // Timers are never early. Five rings take 100 + 200 + 400 + 800 ms; the crontab may have added a run.
      const times = runs(worker);
      expect((times[6] ?? 0) - (times[0] ?? 0)).toBeGreaterThan(1_000);
      await holder.query('commit');
      await applied(client, id);
    });
  });
});

test('a schedule in the far future neither rings nor is forgotten', async () => {
  const worker = await startTestWorker(database);
  await withClient(database.ownerUrl, async (client) => {
    const flag = await insertFlag(client);
    // Beyond what setTimeout can take, which would fire at once.
    const { id } = await insertSchedule(client, flag.id, { dueIn: '40 days' });
    // Each of these makes the alarm look again.
    for (let flags = 0; flags < 10; flags++) {
      const { flag_key: flagKey } = await insertFlag(client);
      const arrived = () => worker.sink.taken.some(({ message }) => message.includes(flagKey));
      await expect.poll(arrived, { timeout: 10_000 }).toBe(true);
    }
    // The crontab may have added a run.
    expect(runs(worker).length).toBeLessThanOrEqual(1);
    await client.query(
      `update app_public.feature_flag_schedules set scheduled_at = clock_timestamp() + interval '200 ms' where id = $1`,
      [id],
    );
    await applied(client, id);
  });
});

test('a connection on which nothing passes any more holds the alarm up for seconds only', async () => {
  const url = new URL(database.workerUrl);
  await using proxy = await startTcpProxy({ host: url.hostname, port: Number(url.port) });
  url.port = String(proxy.port);
  const { log } = makeTestLog();
  const pool = makePool(url.href, { name: 'halyard test', max: 1, log });
  const rang = Promise.withResolvers<string>();
  const alarm = makeAlarm({
    pool,
    log,
    ring() {
      rang.resolve('rang');
      return Promise.resolve();
    },
    applyDirectly: () => Promise.resolve(),
  });
  alarm.look();
  await expect.poll(() => alarm.healthy(), { timeout: 10_000 }).toBe(true);
  proxy.freeze();
  await withClient(database.ownerUrl, async (client) => {
    const flag = await insertFlag(client);
    await insertSchedule(client, flag.id, { dueIn: '0 ms' });
  });
  alarm.look();
  expect(await rang.promise).toBe('rang');
  await alarm.close();
  await pool.end();
}, 30_000);
