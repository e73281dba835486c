import { Registry } from 'prom-client';
import { expect, onTestFinished, test } from 'vitest';
import type { Forwarder } from '../../../src/audit/delivery/forwarder.ts';
import { meterSink } from '../../../src/metrics/sink.ts';
import { makeWorkerMetrics } from '../../../src/metrics/worker.ts';
import { sleep } from '../../../src/lib/wait.ts';
import { makeDelivery } from '../../../src/audit/delivery/loop.ts';
import { makeCloudWatchServer } from '../../support/cloudwatch_server.ts';
import { GROUP, makeTestSink, STREAM } from '../../support/cloudwatch_sink.ts';
import { withClient } from '../../support/database.ts';
import { one } from '../../support/factory.ts';
import { makeTestLog } from '../../support/log.ts';
import { parseShipped } from '../../support/worker.ts';
import {
  never,
  signals,
  finish,
  seqs,
  eventsOf,
  takenBy,
  type Destination,
  useForwarders,
} from '../../support/forwarder.ts';

const use = useForwarders();
const { makeTestForwarder, makeEvents, cursor } = use;

function makeTestDelivery(forwarder: Forwarder, waitFor?: () => Promise<unknown>) {
  return makeDelivery({
    ...{ forwarder, destination: 'memory', log: makeTestLog().log, stopping: never, abort: never },
    ...(waitFor && { waitFor }),
    handOver: () => Promise.resolve(),
  });
}

test('delivers every event once, in order of seq, in batches', async () => {
  await makeEvents(50);
  const { forwarder, sink } = makeTestForwarder();
  await finish(forwarder);
  expect(takenBy(sink)).toStrictEqual(seqs(50));
  expect(sink.sends.map((batch) => new Set(batch).size)).toStrictEqual([10, 10, 10, 10, 10]);
  expect(await cursor()).toBe(50);
  for (const { seq, eventId, message } of eventsOf(sink))
    expect(parseShipped(message)).toMatchObject({ seq, eventId });

  await finish(forwarder);
  expect(takenBy(sink)).toHaveLength(50);
});

test('each destination has a cursor of its own', async () => {
  await makeEvents(20);
  const first = makeTestForwarder();
  const second = makeTestForwarder({ destination: 'elsewhere' });
  await first.forwarder.forward(signals);
  await second.forwarder.forward(signals);
  expect(takenBy(first.sink)).toStrictEqual(seqs(20));
  expect(takenBy(second.sink)).toStrictEqual(seqs(20));
});

test('two destinations that forward at once both get everything in one run each', async () => {
  await makeEvents(6_000);
  const [first, second] = [{}, { destination: 'elsewhere' }].map((options) =>
    makeTestForwarder({ ...options, batch: 1_000 }),
  ) as [Destination, Destination];
  const outcomes = await Promise.all(
    [first, second].map(({ forwarder }) => forwarder.forward(signals)),
  );
  // On a slow machine a run may only have skimmed the queue, but not left its events.
  expect(['done', 'skimmed']).toEqual(expect.arrayContaining(outcomes));
  expect(takenBy(first.sink)).toStrictEqual(seqs(6_000));
  expect(takenBy(second.sink)).toStrictEqual(seqs(6_000));
});

test('a forwarder waits for a batch that another is numbering, but not for ever', async () => {
  await makeEvents(20);
  const { forwarder, sink } = makeTestForwarder();
  await withClient(use.database.workerUrl, async (other) => {
    await other.query('begin; select from app_private.seal_batch(10, 0)');
    expect(await forwarder.forward(signals)).toBe('skimmed');
    expect(sink.taken).toStrictEqual([]);
    const running = forwarder.forward(signals);
    await sleep(100, never);
    await other.query('commit');
    expect(await running).toBe('done');
  });
  expect(takenBy(sink)).toStrictEqual(seqs(20));
});

test('times that only a hand can have written hold nothing up', async () => {
  await withClient(use.database.ownerUrl, (client) =>
    client.query(
      `insert into audit.queue (event_id, occurred_at)
       select gen_random_uuid(), at::timestamptz
       from unnest(array['infinity', '-infinity', '0044-03-15 BC', '290000-01-01']) as at`,
    ),
  );
  const server = await makeCloudWatchServer();
  onTestFinished(() => server.close());
  const { sink } = makeTestSink(server);
  const registry = new Registry();
  const metrics = makeWorkerMetrics(registry).delivery('memory');
  const { forwarder } = makeTestForwarder({ sink: meterSink(sink, metrics) });
  await finish(forwarder);
  expect(await cursor()).toBe(4);
  const stored = server.stored(GROUP, STREAM).map(({ message }) => parseShipped(message));
  expect(stored.map(({ eventType }) => eventType)).toStrictEqual([
    ...Array<string>(4).fill('audit.missing'),
    'audit.sealed',
    'audit.restamped',
  ]);
  expect(await registry.getSingleMetricAsString('halyard_delivery_events_total')).toMatch(/ 5$/);
});

test('the cursor follows a send that takes long', async () => {
  await makeEvents(10);
  const arrivals = Promise.withResolvers<undefined>();
  const { forwarder } = makeTestForwarder({
    sink: {
      async send(_events, signal, confirmed) {
        await sleep(1_100, signal);
        confirmed?.(4);
        await arrivals.promise;
      },
      close: () => Promise.resolve(),
    },
  });
  const running = forwarder.forward(signals);
  await expect.poll(() => cursor(), { timeout: 5_000 }).toBe(4);
  arrivals.resolve(undefined);
  expect(await running).toBe('done');
  expect(await cursor()).toBe(10);
});

test('a second forwarder of a destination leaves at once', async () => {
  await makeEvents(10);
  const { forwarder, sink } = makeTestForwarder();
  const other = makeTestForwarder();
  const elsewhere = makeTestForwarder({ destination: 'elsewhere' });
  sink.trouble = async () => {
    expect(await other.forwarder.forward(signals)).toBe('busy');
    expect(await elsewhere.forwarder.forward(signals)).toBe('done');
  };
  await finish(forwarder);
  expect(other.sink.taken).toStrictEqual([]);
  expect(takenBy(elsewhere.sink)).toStrictEqual(seqs(10));
  await finish(other.forwarder);
});

test('a forwarder that was frozen and overtaken moves no cursor back, and stops', async () => {
  await makeEvents(40);
  const { forwarder, sink } = makeTestForwarder();
  sink.trouble = async () => {
    sink.trouble = null;
    await withClient(use.database.ownerUrl, (owner) =>
      owner.query(`update app_private.leases set expires_at = '-infinity'`),
    );
    const other = `select app_private.take_lease('forward.memory', 'another', 60000) as token`;
    const { token } = one((await use.pool.query<{ token: string }>(other)).rows);
    await use.pool.query(`select app_private.confirm_audit_events('memory', $1, 0, 30)`, [token]);
    await use.pool.query(`select app_private.release_lease('forward.memory', $1)`, [token]);
  };
  expect(await forwarder.forward(signals)).toBe('overtaken');
  expect(await cursor()).toBe(30);
  await finish(forwarder);
  expect(takenBy(sink)).toStrictEqual([...seqs(10), ...seqs(40).slice(30)]);
});

test('a forwarder that lost its connection gives its place to another', async () => {
  await makeEvents(10);
  const { forwarder, sink } = makeTestForwarder();
  sink.trouble = async () => {
    sink.trouble = null;
    await withClient(use.database.rootUrl, (root) =>
      root.query(
        `select pg_terminate_backend(pid) from pg_stat_activity
         where datname = current_database() and application_name = 'halyard test' and usename = 'halyard_worker'`,
      ),
    );
  };
  await expect(forwarder.forward(signals)).rejects.toThrow();
  await finish(forwarder);
  expect(await cursor()).toBe(10);
});

test('it stops between batches when asked to, and gives a batch up when told to', async () => {
  await makeEvents(30);
  const { forwarder, sink } = makeTestForwarder();
  const stop = new AbortController();
  sink.trouble = () => {
    stop.abort();
    return Promise.resolve();
  };
  expect(await forwarder.forward({ stopping: stop.signal, abort: never })).toBe('stopped');
  expect(takenBy(sink)).toStrictEqual(seqs(10));

  const abort = new AbortController();
  sink.trouble = (_events, signal) => {
    abort.abort(new Error('given up'));
    signal.throwIfAborted();
    return Promise.resolve();
  };
  await expect(forwarder.forward({ stopping: never, abort: abort.signal })).rejects.toThrow(
    'given up',
  );
  expect(await cursor()).toBe(10);
});

test('what a run is asked for while it lasts is delivered behind it, without another job', async () => {
  await makeEvents(10);
  const { forwarder, sink } = makeTestForwarder({ batch: 100 });
  const delivery = makeTestDelivery(forwarder);
  sink.trouble = async () => {
    sink.trouble = null;
    await makeEvents(10);
    await delivery.run();
  };
  await delivery.run();
  await delivery.close();
  expect(takenBy(sink)).toStrictEqual(seqs(20));
});

test('a run begins when what it is to wait for has ended, or after two seconds', async () => {
  const { forwarder, sink } = makeTestForwarder({ batch: 100 });
  const waits = [() => makeEvents(10), () => new Promise<never>(() => undefined)];
  const delivery = makeTestDelivery(forwarder, async () => waits.shift()?.());
  await delivery.run();
  expect(takenBy(sink)).toStrictEqual(seqs(10));
  await makeEvents(10);
  await delivery.run();
  expect(takenBy(sink)).toStrictEqual(seqs(20));
  await delivery.close();
});
