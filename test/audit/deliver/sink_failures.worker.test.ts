import { expect, test } from 'vitest';
import { RetryLaterError } from '../../../src/audit/delivery/sink.ts';
import { withClient } from '../../support/database.ts';
import { insertDue, makeMemorySink, parseShipped, startTestWorker } from '../../support/worker.ts';
import {
  signals,
  finish,
  seqs,
  eventsOf,
  takenBy,
  useForwarders,
} from '../../support/forwarder.ts';

const use = useForwarders();
const { makeTestForwarder, makeEvents, cursor } = use;

test('what was in flight when the sink failed is sent again, and nothing else', async () => {
  await makeEvents(40);
  const { forwarder, sink } = makeTestForwarder();
  // Fails after it has taken the second batch: the worst moment.
  sink.trouble = (events) => {
    if (events[0]?.seq !== 11) return Promise.resolve();
    sink.trouble = null;
    sink.taken.push(...events);
    return Promise.reject(new Error('The answer was lost.'));
  };
  await expect(forwarder.forward(signals)).rejects.toThrow('The answer was lost.');
  expect(await cursor()).toBe(10);
  await finish(forwarder);
  expect(takenBy(sink)).toStrictEqual([...seqs(20), ...seqs(40).slice(10)]);
});

test.each([
  ['an event', 7, 7],
  ['the last event of a seal, without the record of the seal', 10, 9],
  ['the record of the seal', 11, 10],
])('what arrived before a send failed, up to %s, is not sent again', async (_what, count, to) => {
  await makeEvents(20);
  const { sink } = makeTestForwarder();
  let failing = true;
  const { forwarder } = makeTestForwarder({
    sink: {
      ...sink,
      async send(events, signal, confirmed) {
        if (!failing) return sink.send(events, signal);
        failing = false;
        confirmed?.(count);
        throw new Error('The destination is out of order.');
      },
    },
  });
  // Sealed by tens, as they are read.
  await use.pool.query('select from app_private.seal_batch(10, 0)');
  await use.pool.query('select from app_private.seal_batch(10, 0)');
  await expect(forwarder.forward(signals)).rejects.toThrow('out of order');
  expect(await cursor()).toBe(to);
  await finish(forwarder);
  expect(takenBy(sink)).toStrictEqual(seqs(20).slice(to));
});

test('a worker whose sink fails tries again by itself, and applies schedules meanwhile', async () => {
  const sink = makeMemorySink();
  let refusals = 0;
  sink.trouble = () => {
    refusals++;
    if (refusals === 2) sink.trouble = null;
    return Promise.reject(new Error('The destination is out of order.'));
  };
  const { lines } = await startTestWorker(use.database, { sink });
  await withClient(use.database.ownerUrl, async (client) => {
    await insertDue(client, { count: 5, dueIn: '200 ms' });
    await expect.poll(() => eventsOf(sink).length, { timeout: 15_000 }).toBe(20);
  });
  const types = eventsOf(sink).map(({ message }) => parseShipped(message).eventType);
  expect(types.filter((type) => type === 'flag_schedule.applied')).toHaveLength(5);
  expect(takenBy(sink)).toStrictEqual(seqs(20));
  const warnings = lines.filter(({ failures }) => failures !== undefined);
  expect(warnings).toMatchObject([
    { level: 'warn', failures: 1 },
    { level: 'debug', failures: 2 },
  ]);
});

test('new events do not cut short the pause after a failure', async () => {
  const sink = makeMemorySink();
  sink.trouble = () =>
    Promise.reject(new RetryLaterError('The destination is out of order.', 60_000));
  const { lines } = await startTestWorker(use.database, { sink });
  const runs = () => lines.filter(({ msg }) => /^Completed .*forward_audit/.test(String(msg)));
  await makeEvents(2);
  await expect.poll(() => sink.sends.length, { timeout: 10_000 }).toBe(1);
  const before = runs().length;
  await makeEvents(2);
  await expect.poll(() => runs().length, { timeout: 10_000 }).toBeGreaterThan(before);
  expect(sink.sends).toHaveLength(1);
});

test('a sink that hangs holds up no schedule, whatever notifications come', async () => {
  const sink = makeMemorySink();
  const hanging = Promise.withResolvers<undefined>();
  sink.trouble = (_events, signal) => {
    signal.addEventListener('abort', () => hanging.reject(signal.reason as Error));
    return hanging.promise;
  };
  const { lines } = await startTestWorker(use.database, { sink });
  await withClient(use.database.ownerUrl, async (client) => {
    for (const dueIn of ['100 ms', '200 ms', '300 ms', '400 ms', '500 ms', '600 ms'])
      await insertDue(client, { count: 3, dueIn });
    await expect
      .poll(
        async () => {
          const { rowCount } = await client.query(
            `select from app_public.feature_flag_schedules where status = 'applied'`,
          );
          return rowCount;
        },
        { timeout: 10_000 },
      )
      .toBe(18);
    expect(sink.sends).toHaveLength(1);
    // The other jobs that the notifications queued didn't wait for the one that hangs.
    const count = (what: string) =>
      lines.filter(({ msg }) =>
        new RegExp(`^${what} task \\d+ \\(forward_audit_events[,)]`).test(String(msg)),
      ).length;
    await expect.poll(() => count('Found'), { timeout: 10_000 }).toBeGreaterThanOrEqual(3);
    await expect.poll(() => count('Found') - count('Completed'), { timeout: 10_000 }).toBe(1);
    sink.trouble = null;
    hanging.resolve(undefined);
    await expect.poll(() => eventsOf(sink).length, { timeout: 10_000 }).toBe(72);
  });
});
