import { expect, test } from 'vitest';
import { useDatabase, withClient } from '../support/database.ts';
import { makePool } from '../../src/postgres/pool.ts';
import { makeDueTimer } from '../../src/schedules/timer.ts';
import { addJob } from '../../src/jobs/jobs.ts';
import { value } from '../support/actors.ts';
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
    for (const name of ['halyard worker', 'halyard worker jobs', 'halyard worker listener'])
      await terminate(name);
    await applied(client, id);
    await expect.poll(() => worker.healthy(), { timeout: 10_000 }).toBe(true);
  });
});

test('when no job is run at all the timer applies by itself', async () => {
  const worker = await startTestWorker(database);
  await withClient(database.rootUrl, async (root) => {
    await root.query(`
      create function public.put_off() returns trigger language plpgsql
        as $$ begin new.run_at = now() + interval '1 hour'; return new; end $$;
      create trigger put_off before insert or update on graphile_worker._private_jobs
        for each row when (new.key = 'apply_due_schedules') execute function public.put_off()`);
    try {
      // One that a worker of another test has left.
      const left = () =>
        value(
          root,
          `select count(*)::int from graphile_worker._private_jobs
           where key = 'apply_due_schedules' and run_at <= now()`,
        );
      await expect.poll(left, { timeout: 10_000 }).toBe(0);
      const before = runs(worker);
      const flag = await insertFlag(root);
      const { id } = await insertSchedule(root, flag.id, { dueIn: '200 ms' });
      await applied(root, id);
      // Before the trigger goes: a job that the timer queues just behind it is run.
      expect(runs(worker)).toStrictEqual(before);
    } finally {
      await root.query('drop function public.put_off() cascade');
    }
  });
});

test('what is due and locked is tried again, less and less often, and applied once it is free', async () => {
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
      // Timers are never early. Five firings take 100 + 200 + 400 + 800 ms; the crontab may have added a run.
      const times = runs(worker);
      expect((times[6] ?? 0) - (times[0] ?? 0)).toBeGreaterThan(1_000);
      await holder.query('commit');
      await applied(client, id);
    });
  });
});

test('what there was no time to wait for is waited for without another firing', async () => {
  const { log } = makeTestLog();
  const pool = makePool(database.workerUrl, { name: 'halyard test', max: 1, log });
  let [firings, waits] = [0, 0];
  const dueTimer = makeDueTimer({
    pool,
    log,
    queueJob() {
      firings++;
      return Promise.resolve();
    },
    applyDirectly: () => Promise.resolve(),
    applyLocked() {
      waits++;
      return Promise.resolve(true);
    },
  });
  await withClient(database.ownerUrl, async (client) => {
    const flag = await insertFlag(client);
    const { id } = await insertSchedule(client, flag.id, { dueIn: '0 s' });
    dueTimer.refresh();
    await expect.poll(() => waits - firings, { timeout: 20_000 }).toBeGreaterThan(0);
    await client.query('delete from app_public.feature_flag_schedules where id = $1', [id]);
  });
  await dueTimer.close();
  await pool.end();
});

test('for a schedule in the far future the timer neither fires nor forgets it', async () => {
  const worker = await startTestWorker(database);
  await withClient(database.ownerUrl, async (client) => {
    const flag = await insertFlag(client);
    // Beyond what setTimeout can take, which would fire at once.
    const { id } = await insertSchedule(client, flag.id, { dueIn: '40 days' });
    // Each of these makes the timer query again.
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

test('a connection on which nothing passes any more holds the timer up for seconds only', async () => {
  const url = new URL(database.workerUrl);
  await using proxy = await startTcpProxy({ host: url.hostname, port: Number(url.port) });
  url.port = String(proxy.port);
  const { log } = makeTestLog();
  const pool = makePool(url.href, { name: 'halyard test', max: 1, log });
  const fired = Promise.withResolvers<string>();
  const dueTimer = makeDueTimer({
    pool,
    log,
    queueJob() {
      fired.resolve('fired');
      return Promise.resolve();
    },
    applyDirectly: () => Promise.resolve(),
    applyLocked: () => Promise.resolve(false),
  });
  dueTimer.refresh();
  await expect.poll(() => dueTimer.healthy(), { timeout: 10_000 }).toBe(true);
  proxy.freeze();
  await withClient(database.ownerUrl, async (client) => {
    const flag = await insertFlag(client);
    await insertSchedule(client, flag.id, { dueIn: '0 ms' });
  });
  dueTimer.refresh();
  expect(await fired.promise).toBe('fired');
  await dueTimer.close();
  await pool.end();
}, 30_000);

test('while no job can be queued the timer goes on firing and takes one connection for the job', async () => {
  const { log } = makeTestLog();
  const pool = makePool(database.workerUrl, { name: 'halyard test', log });
  let applyings = 0;
  const dueTimer = makeDueTimer({
    pool,
    log,
    queueJob: () => addJob(pool, 'apply_due_schedules'),
    applyDirectly() {
      applyings++;
      return Promise.resolve();
    },
    applyLocked: () => Promise.resolve(false),
  });
  await withClient(database.rootUrl, async (holder) => {
    await holder.query('begin; lock table graphile_worker._private_jobs in exclusive mode');
    const seen = new Set<number>();
    await withClient(database.rootUrl, async (client) => {
      const { id } = await insertFlag(client);
      await insertSchedule(client, id, { dueIn: '0 ms' });
      dueTimer.refresh();
      const look = async () => {
        seen.add(
          await value<number>(
            client,
            `select count(*)::int from pg_stat_activity
             where datname = current_database() and wait_event_type = 'Lock' and query like '%add_job%'`,
          ),
        );
        return applyings;
      };
      await expect.poll(look, { timeout: 10_000 }).toBeGreaterThanOrEqual(5);
    });
    // 0 between two requests: each gives its connection back after half a second.
    expect([...seen].toSorted()).toStrictEqual([0, 1]);
    await holder.query('rollback');
  });
  await dueTimer.close();
  await pool.end();
});
