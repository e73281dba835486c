import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { Registry } from 'prom-client';
import { expect, onTestFinished, test, vi } from 'vitest';
import type { Sink } from '../../src/audit/delivery/sink.ts';
import { ConfigError, loadConfig } from '../../src/config/config.ts';
import { startMetrics } from '../../src/metrics/endpoint.ts';
import { meterSink } from '../../src/metrics/sink.ts';
import { makeWorkerMetrics } from '../../src/metrics/worker.ts';
import { withClient } from '../support/database.ts';
import { insertFlag, insertSchedule } from '../support/factory.ts';
import { makeTestLog } from '../support/log.ts';
import { parseSamples, scrape, startTestMetrics } from '../support/metrics.ts';
import { startProcess } from '../support/processes.ts';
import { startTcpProxy } from '../support/tcp_proxy.ts';
import { TEST_SECRET } from '../support/tokens.ts';
import { breakFlag } from '../support/trail.ts';
import {
  insertDue,
  makeMemorySink,
  spawnWorker,
  startTestWorker,
  useFreshDatabase,
} from '../support/worker.ts';

const soon = { timeout: 15_000 };

test('what a worker applies moves the counter and the histogram of lateness', async () => {
  const database = await useFreshDatabase();
  const { url, registry } = await startTestMetrics(database.workerUrl);
  await startTestWorker(database, { registry });
  await withClient(database.ownerUrl, async (client) => {
    await insertDue(client, { count: 3, dueIn: '50 ms' });
    await insertDue(client, { count: 2, dueIn: '-2 hours' });
  });
  await vi.waitFor(async () => {
    const samples = await scrape(url);
    expect(samples.get('halyard_schedules_applied_total')).toBe(5);
    expect(samples.get('halyard_schedule_lateness_seconds_count')).toBe(5);
    // Those that were two hours overdue are above every bucket, and weigh in the sum.
    expect(samples.get('halyard_schedule_lateness_seconds_bucket{le="600"}')).toBe(3);
    expect(samples.get('halyard_schedule_lateness_seconds_sum')).toBeGreaterThan(14_400);
    expect(samples.get('halyard_schedules_overdue')).toBe(0);
    expect(samples.get('halyard_worker_healthy')).toBe(1);
    expect(samples.get('halyard_workers_connected')).toBe(1);
  }, soon);
});

test('work that stands still is a metric and makes the worker unhealthy, and the log names the session in the way', async () => {
  const database = await useFreshDatabase();
  const { url, registry } = await startTestMetrics(database.workerUrl);
  const { worker, sink, lines } = await startTestWorker(database, {
    registry,
    standstillMs: 1_500,
  });
  const standing = async () => {
    const samples = await scrape(url);
    const works = ['applying', 'numbering', 'forwarding'];
    return works.filter((work) => samples.get(`halyard_work_standing_still{work="${work}"}`) === 1);
  };
  const said = (what: string) => lines.filter(({ msg }) => String(msg).startsWith(what));
  await withClient(database.ownerUrl, async (client) => {
    // Numbered, and its send hangs: only forwarding stands still.
    const hanging = Promise.withResolvers<undefined>();
    sink.trouble = () => hanging.promise;
    await insertDue(client, { count: 1, dueIn: '1 day' });
    await expect.poll(standing, soon).toEqual(['forwarding']);
    expect(worker.healthy()).toBe(false);
    sink.trouble = null;
    hanging.resolve(undefined);
    await expect.poll(standing, soon).toEqual([]);
    await expect.poll(() => worker.healthy(), soon).toBe(true);
    expect(said('forwarding goes on')).toHaveLength(1);

    // As a session of the owner's that is left open, with rows locked.
    await withClient(database.ownerUrl, async (holder) => {
      await insertDue(client, { count: 1, dueIn: '300 ms' });
      await holder.query('begin');
      await holder.query('select from app_public.feature_flags for update');
      await holder.query(`select from app_private.locks where name = 'numbering' for update`);
      await expect
        .poll(standing, { timeout: 25_000 })
        .toEqual(expect.arrayContaining(['applying', 'numbering']));
      const { rows } = await holder.query<{ pid: number }>('select pg_backend_pid() as pid');
      const pids = () =>
        said('numbering stands still').flatMap(({ blockers }) => blockers as { pid: number }[]);
      await expect.poll(pids, soon).toContainEqual(expect.objectContaining({ pid: rows[0]?.pid }));
      await holder.query('rollback');
    });
    await expect.poll(standing, soon).toEqual([]);
  });
});

test('attempts that are retried, and schedules that failed for good, are counted', async () => {
  const database = await useFreshDatabase();
  const { url, registry } = await startTestMetrics(database.workerUrl);
  await withClient(database.ownerUrl, async (client) => {
    await client.query(`select app_private.set_setting('retry_base', '10 ms')`);
    const flag = await insertFlag(client);
    await breakFlag(client, flag.flag_key);
    await insertSchedule(client, flag.id, { dueIn: '-1 second', max_attempts: 3 });
  });
  await startTestWorker(database, { registry });
  await vi.waitFor(async () => {
    const samples = await scrape(url);
    expect(samples.get('halyard_schedules_retried_total')).toBe(2);
    expect(samples.get('halyard_schedules_failed_total')).toBe(1);
    expect(samples.get('halyard_schedules_applied_total')).toBe(0);
  }, soon);
});

test('what can not be delivered shows as behind and as failures, and what is sent again as repeated', async () => {
  const database = await useFreshDatabase();
  const { url, registry } = await startTestMetrics(database.workerUrl);
  const sink = makeMemorySink();
  sink.trouble = () => Promise.reject(new Error('out of order'));
  await startTestWorker(database, { registry, sink });
  await withClient(database.ownerUrl, (client) => insertDue(client, { count: 2, dueIn: '1 day' }));
  await vi.waitFor(async () => {
    const samples = await scrape(url);
    // By name before it has ever confirmed anything.
    expect(samples.get('halyard_delivery_behind_events{destination="stdout"}')).toBe(4);
    expect(samples.get('halyard_delivery_oldest_seconds{destination="stdout"}')).toBeGreaterThan(0);
    expect(samples.get('halyard_delivery_failures_total{destination="stdout"}')).toBeGreaterThan(0);
    expect(samples.get('halyard_delivery_events_total{destination="stdout"}')).toBe(0);
  }, soon);
  sink.trouble = null;
  await vi.waitFor(async () => {
    const samples = await scrape(url);
    expect(samples.get('halyard_delivery_behind_events{destination="stdout"}')).toBe(0);
    expect(samples.get('halyard_delivery_oldest_seconds{destination="stdout"}')).toBe(0);
    expect(samples.get('halyard_delivery_events_total{destination="stdout"}')).toBe(
      sink.taken.length,
    );
    expect(samples.get('halyard_delivery_repeated_total{destination="stdout"}')).toBeGreaterThan(0);
    expect(samples.get('halyard_delivery_latency_seconds_count{destination="stdout"}')).toBe(
      sink.taken.length,
    );
  }, soon);
});

test('what is given up at the end of a process is no failure of the destination', async () => {
  const registry = new Registry();
  const sink = makeMemorySink();
  const metered = meterSink(sink, makeWorkerMetrics(registry).delivery('memory'));
  const abort = new AbortController();
  sink.trouble = (_events, signal) => {
    abort.abort(new Error('The worker is stopping.'));
    return Promise.reject(signal.reason as Error);
  };
  const event = { seq: 1, eventId: 'x', occurredAt: new Date(), message: '{}' };
  await expect(metered.send([event], abort.signal)).rejects.toThrow('stopping');
  const samples = parseSamples(await registry.metrics());
  expect(samples.get('halyard_delivery_failures_total{destination="memory"}')).toBe(0);
});

test('what a destination confirms of a sending that fails is delivered, once', async () => {
  const registry = new Registry();
  let fails = true;
  const sink: Sink = {
    send(sent, _signal, confirmed) {
      confirmed?.(Math.min(2, sent.length));
      return fails ? Promise.reject(new Error('out of order')) : Promise.resolve();
    },
    close: () => Promise.resolve(),
  };
  const metered = meterSink(sink, makeWorkerMetrics(registry).delivery('memory'));
  const events = [1, 2, 3].map((seq) => ({
    seq,
    eventId: `${seq}`,
    occurredAt: new Date(),
    message: '{}',
  }));
  const counts: number[] = [];
  const send = (from: number) =>
    metered.send(events.slice(from), new AbortController().signal, (n) => counts.push(n));
  await expect(send(0)).rejects.toThrow('out of order');
  fails = false;
  await send(2);
  const samples = parseSamples(await registry.metrics());
  expect(counts).toEqual([2, 1]);
  expect(samples.get('halyard_delivery_events_total{destination="memory"}')).toBe(3);
  expect(samples.get('halyard_delivery_repeated_total{destination="memory"}')).toBe(1);
  expect(samples.get('halyard_delivery_failures_total{destination="memory"}')).toBe(1);
});

test('deliveries other than plain are counted by kind, from what the sink says', async () => {
  const database = await useFreshDatabase();
  const { url, registry } = await startTestMetrics(database.workerUrl);
  const sink = Object.assign(makeMemorySink(), {
    degraded: () => ({ late: 3, ahead: 0, stubbed: 1 }),
  });
  await startTestWorker(database, { registry, sink });
  const samples = await scrape(url);
  expect(samples.get('halyard_delivery_exceptions_total{destination="stdout",kind="late"}')).toBe(
    3,
  );
  expect(samples.get('halyard_delivery_exceptions_total{destination="stdout",kind="ahead"}')).toBe(
    0,
  );
  expect(
    samples.get('halyard_delivery_exceptions_total{destination="stdout",kind="stubbed"}'),
  ).toBe(1);
});

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

test('only GET /metrics is answered', async () => {
  const database = await useFreshDatabase();
  const { url } = await startTestMetrics(database.workerUrl);
  const good = await fetch(url);
  expect([good.status, good.headers.get('content-type')]).toEqual([
    200,
    'text/plain; version=0.0.4; charset=utf-8',
  ]);
  const status = async (path: string, method = 'GET') =>
    (await fetch(new URL(path, url), { method })).status;
  expect(await status('/metrics?a=b')).toBe(200);
  expect(await status('/metrics', 'HEAD')).toBe(200);
  for (const path of ['/', '/metrics/', '/METRICS', '/healthz', '/metrics%00'])
    expect(await status(path), path).toBe(404);
  for (const method of ['POST', 'PUT', 'DELETE'])
    expect(await status('/metrics', method)).toBe(404);
});

test('without METRICS_PORT nothing listens, and nothing asks the database', async () => {
  const metrics = await startMetrics({
    config: loadConfig({ NODE_ENV: 'test' }, 'worker'),
    databaseUrl: 'postgres://127.0.0.1:1/none',
    delivers: true,
    log: makeTestLog().log,
  });
  expect(metrics.url).toBeNull();
  expect(await metrics.registry.metrics()).toBe('\n');
  await metrics.close();
});

test('a port that is taken ends the worker before it takes a job', async () => {
  const database = await useFreshDatabase();
  const taken = createServer();
  await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void taken.close());
  const { port } = taken.address() as AddressInfo;
  const env = { NODE_ENV: 'test', METRICS_PORT: String(port) };
  await expect(
    startTestMetrics(database.workerUrl, { config: loadConfig(env, 'worker') }),
  ).rejects.toThrow(ConfigError);

  const worker = startProcess(process.execPath, ['src/main.ts', 'worker'], {
    env: { ...env, WORKER_DATABASE_URL: database.workerUrl },
  });
  expect(await worker.exited).toBe(1);
  expect(worker.stderr()).toContain('Set METRICS_PORT to a free port');
  expect(worker.stderr()).not.toContain('the worker is running');
});

test('the command serves them until it has stopped, and then ends', async () => {
  const database = await useFreshDatabase();
  const { stderr, end } = await spawnWorker(database, { METRICS_PORT: '0' });
  const url = /"url":"(http:[^"]+\/metrics)"/.exec(stderr.join('\n'))?.[1] ?? '';
  const samples = await scrape(url);
  expect(samples.get('halyard_worker_healthy')).toBe(1);
  expect(samples.has('halyard_http_request_duration_seconds_count')).toBe(false);
  expect(await end('SIGTERM')).toBe(0);
  await expect(fetch(url)).rejects.toThrow();
});

test('start serves API and worker together on a free port, and says where', async () => {
  const database = await useFreshDatabase();
  const halyard = startProcess(process.execPath, ['src/main.ts', 'start'], {
    env: {
      PORT: '0',
      NODE_ENV: 'test',
      JWT_SECRET: TEST_SECRET,
      DATABASE_URL: database.ownerUrl,
      AUTH_DATABASE_URL: database.authenticatorUrl,
      WORKER_DATABASE_URL: database.workerUrl,
    },
  });
  onTestFinished(() => void halyard.end('SIGKILL'));
  const [, url = ''] = await halyard.waitFor(/Metrics +(http:\/\/127\.0\.0\.1:\d+\/metrics)/);
  const samples = await scrape(url);
  expect(samples.get('halyard_worker_healthy')).toBe(1);
  expect(samples.has('halyard_api_pool_waiting')).toBe(true);
  expect(samples.get('halyard_database_up')).toBe(1);
  expect(await halyard.end('SIGTERM')).toBe(0);
});
