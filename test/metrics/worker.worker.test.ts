import { Registry } from 'prom-client';
import { expect, test, vi } from 'vitest';
import type { Sink } from '../../src/audit/delivery/sink.ts';
import { meterSink } from '../../src/metrics/sink.ts';
import { makeWorkerMetrics } from '../../src/metrics/worker.ts';
import { withClient } from '../support/database.ts';
import { insertFlag, insertSchedule } from '../support/factory.ts';
import { parseSamples, scrape, startTestMetrics } from '../support/metrics.ts';
import { breakFlag } from '../support/trail.ts';
import { insertDue, makeMemorySink, startTestWorker, useFreshDatabase } from '../support/worker.ts';

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
