import { createHash } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { makeEvent, makeEvents } from '../../support/audit_events.ts';
import {
  GROUP,
  STREAM,
  makeSinkFromEnvironment,
  makeTestSink,
} from '../../support/cloudwatch_sink.ts';
import { makeCloudWatchServer } from '../../support/cloudwatch_server.ts';
import type { CloudWatchServer } from '../../support/cloudwatch_server.ts';

const DAY_MS = 24 * 3_600_000;
const WARN = 40;
const never = new AbortController().signal;

interface Restamped {
  readonly eventId: string;
  readonly level: string;
  readonly metadata: Record<string, unknown>;
}

let server: CloudWatchServer;

beforeEach(async () => {
  server = await makeCloudWatchServer();
  server.createStream(GROUP, STREAM);
});

afterEach(() => server.close());

const stored = () => server.stored(GROUP, STREAM).map(({ message }) => message);
const isRecord = (message: string) => message.startsWith('{"eventType":"audit.restamped"');
/** The events that arrived, without the records about them. */
const messages = () => stored().filter((message) => !isRecord(message));
const records = () =>
  stored()
    .filter(isRecord)
    .map((message) => JSON.parse(message) as Restamped);
const operations = () => server.calls.map(({ operation, outcome }) => `${operation} ${outcome}`);

describe('delivery', () => {
  test('events arrive in the order given, byte for byte, under their own times', async () => {
    const at = Date.now() - 60_000;
    const events = [
      makeEvent(1, { at, message: '{"a":  "é 🚢 \\u0000"}' }),
      makeEvent(2, { at: at + 2 }),
      makeEvent(3, { at: at + 1 }),
    ];
    await makeTestSink(server).sink.send(events, never);
    expect(server.stored(GROUP, STREAM)).toEqual([
      { timestamp: at, message: events[0]?.message },
      { timestamp: at + 2, message: events[1]?.message },
      { timestamp: at + 2, message: events[2]?.message },
    ]);
  });

  test('the standard variables give endpoint, credentials and region', async () => {
    await makeSinkFromEnvironment(server).send([makeEvent(1)], never);
    expect(messages()).toEqual([
      makeEvent(1, { at: server.stored(GROUP, STREAM)[0]?.timestamp ?? 0 }).message,
    ]);
  });

  test('no events make no call', async () => {
    await makeTestSink(server).sink.send([], never);
    expect(server.calls).toEqual([]);
  });

  test('more than a batch holds goes in several, in order', async () => {
    const events = Array.from({ length: 10_001 }, (_, i) =>
      makeEvent(i + 1, { message: `{"seq": ${i + 1}}` }),
    );
    await makeTestSink(server).sink.send(events, never);
    expect(server.calls.map((call) => call.events.length)).toEqual([10_000, 1]);
    expect(messages()).toEqual(events.map(({ message }) => message));
  });

  test('the service takes a batch and an event of exactly the greatest size, in characters of three bytes', async () => {
    const half =
      '…'.repeat((1_048_576 / 2 - 26 - 1) / 3) + 'x'.repeat(((1_048_576 / 2 - 26 - 1) % 3) + 1);
    const whole = '…'.repeat((1_048_576 - 26) / 3) + 'x'.repeat((1_048_576 - 26) % 3);
    const sizes = [half, half, whole].map((message, i) => makeEvent(i + 1, { message }));
    await makeTestSink(server).sink.send(sizes, never);
    expect(server.calls.map((call) => call.events.length)).toEqual([2, 1]);
    expect(messages()).toEqual([half, half, whole]);
  });

  test('an event too large goes as a stub, with a warning', async () => {
    const { sink, lines } = makeTestSink(server);
    const large = makeEvent(2, {
      message: JSON.stringify({ eventType: 'flag_schedule.created', blob: 'x'.repeat(1_048_576) }),
    });
    await sink.send([makeEvent(1), large, makeEvent(3)], never);
    expect(messages()).toHaveLength(3);
    expect(JSON.parse(messages()[1] ?? '')).toMatchObject({
      eventType: 'flag_schedule.created',
      seq: 2,
      truncated: true,
      sha256: createHash('sha256').update(large.message).digest('hex'),
    });
    expect(sink.degraded()).toEqual({ late: 0, ahead: 0, stubbed: 1 });
    expect(lines).toMatchObject([{ level: WARN, kind: 'stubbed', events: [{ seq: 2 }] }]);
  });
});

describe('time', () => {
  test('a span of more than a day goes in two calls', async () => {
    const now = Date.now();
    await makeTestSink(server).sink.send(
      [makeEvent(1, { at: now - DAY_MS - 1 }), makeEvent(2, { at: now })],
      never,
    );
    expect(operations()).toEqual(['PutLogEvents ok', 'PutLogEvents ok']);
    expect(server.stored(GROUP, STREAM).map(({ timestamp }) => timestamp)).toEqual([
      now - DAY_MS - 1,
      now,
    ]);
  });

  test('an event too old is taken under the present time, its text untouched, marked late behind it', async () => {
    const { sink, lines } = makeTestSink(server);
    const event = makeEvent(5, { at: Date.now() - 15 * DAY_MS });
    await sink.send([event], never);
    expect(stored()).toHaveLength(2);
    expect(stored()[0]).toBe(event.message);
    expect(records()).toMatchObject([
      {
        level: 'warning',
        metadata: {
          reason: 'late',
          count: 1,
          firstSeq: 5,
          lastSeq: 5,
          earliest: event.occurredAt.toISOString(),
          latest: event.occurredAt.toISOString(),
        },
      },
    ]);
    expect(sink.degraded()).toEqual({ late: 1, ahead: 0, stubbed: 0 });
    expect(lines).toMatchObject([
      {
        level: WARN,
        kind: 'late',
        count: 1,
        events: [{ seq: 5, occurredAt: event.occurredAt.toISOString() }],
      },
    ]);
  });

  test('events that the group has no retention for are sent again, exactly those', async () => {
    server.createStream(GROUP, STREAM, { retentionDays: 1 });
    const now = Date.now();
    const events = [1.6, 1.4, 0.9, 0.8].map((days, i) =>
      makeEvent(i + 1, { at: now - days * DAY_MS }),
    );
    const { sink } = makeTestSink(server);
    await sink.send(events, never);
    expect(server.calls.map((call) => call.events.length)).toEqual([4, 2, 1]);
    expect(messages()).toEqual([3, 4, 1, 2].map((seq) => events[seq - 1]?.message));
    expect(sink.degraded().late).toBe(2);
  });

  test.each([
    [
      'the end of the old is exclusive',
      { tooOldLogEventEndIndex: 2 },
      [3, 4, 5, 1, 2],
      { late: 2, ahead: 0 },
    ],
    [
      'the end of the expired is exclusive',
      { expiredLogEventEndIndex: 1 },
      [2, 3, 4, 5, 1],
      { late: 1, ahead: 0 },
    ],
    [
      'the start of the new is inclusive',
      { tooNewLogEventStartIndex: 3 },
      [1, 2, 3, 4, 5],
      { late: 0, ahead: 2 },
    ],
    [
      'all of them are new',
      { tooNewLogEventStartIndex: 0 },
      [1, 2, 3, 4, 5],
      { late: 0, ahead: 5 },
    ],
    [
      'some at both ends',
      { tooOldLogEventEndIndex: 1, expiredLogEventEndIndex: 2, tooNewLogEventStartIndex: 4 },
      [3, 4, 1, 2, 5],
      { late: 2, ahead: 1 },
    ],
  ])('of events rejected in an answer of 200, %s', async (_what, reject, order, counts) => {
    server.failNext({ reject });
    const { sink } = makeTestSink(server);
    const events = makeEvents(5);
    await sink.send(events, never);
    expect(messages()).toEqual(order.map((seq) => events[seq - 1]?.message));
    expect(sink.degraded()).toMatchObject(counts);
    const marked = records().map(({ metadata }) => [metadata.reason, metadata.count]);
    expect(marked).toEqual(Object.entries(counts).filter(([, count]) => count > 0));
  });

  test('a record about the same events has the same id, and one about others another', async () => {
    const { sink } = makeTestSink(server);
    const events = makeEvents(3, Date.now() - 15 * DAY_MS);
    await sink.send(events, never);
    await sink.send(events, never);
    await sink.send(events.slice(1), never);
    const [first, again, other] = records().map(({ eventId }) => eventId);
    expect(first).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    expect(again).toBe(first);
    expect(other).not.toBe(first);
  });

  test('events whose mark could not be stored are not confirmed', async () => {
    const { sink } = makeTestSink(server);
    server.failNext({ reject: {} });
    server.failNext('denied');
    const counts: number[] = [];
    const sending = sink.send(makeEvents(2, Date.now() - 15 * DAY_MS), never, (count) =>
      counts.push(count),
    );
    await expect(sending).rejects.toMatchObject({ cause: { name: 'AccessDeniedException' } });
    expect(counts).toEqual([]);
  });

  test('events whose mark was rejected inside an answer of 200 are not confirmed', async () => {
    const { sink } = makeTestSink(server);
    const events = makeEvents(2, Date.now() - 15 * DAY_MS);
    server.failNext({ reject: {} });
    server.failNext({ reject: { tooOldLogEventEndIndex: 1 } });
    const counts: number[] = [];
    await expect(sink.send(events, never, (count) => counts.push(count))).rejects.toThrow();
    expect(counts).toEqual([]);
    expect(records()).toEqual([]);
    await sink.send(events, never);
    expect(records()).toHaveLength(1);
  });

  test('a service that rejects the present time again and again makes the send fail', async () => {
    server.failNext({ reject: { tooNewLogEventStartIndex: 0 } }, 20);
    await expect(makeTestSink(server).sink.send([makeEvent(1)], never)).rejects.toThrow();
    expect(server.calls.length).toBeLessThan(6);
  });

  test('stamps follow the clock of the service where the clock here is hours off', async () => {
    const behind = await makeCloudWatchServer({ clockOffsetMs: -3 * 3_600_000 });
    onTestFinished(() => behind.close());
    behind.createStream(GROUP, STREAM);
    const { sink } = makeTestSink(behind);
    const at = Date.now();
    await sink.send([makeEvent(1, { at })], never);
    expect(behind.calls.map((call) => call.events.length)).toEqual([1, 1, 1]);
    expect(behind.stored(GROUP, STREAM)[0]?.message).toBe(makeEvent(1, { at }).message);
    expect(sink.degraded().ahead).toBe(1);
  });
});

describe('the group and the stream', () => {
  test.each([
    [
      'stream',
      () => server.deleteStream(GROUP, STREAM),
      ['PutLogEvents', 'CreateLogStream', 'PutLogEvents'],
    ],
    [
      'group',
      () => server.deleteGroup(GROUP),
      ['PutLogEvents', 'CreateLogStream', 'CreateLogGroup', 'CreateLogStream', 'PutLogEvents'],
    ],
  ])('a missing %s is created', async (_what, remove, expected) => {
    remove();
    await makeTestSink(server).sink.send(makeEvents(3), never);
    expect(server.calls.map(({ operation }) => operation)).toEqual(expected);
    expect(messages()).toHaveLength(3);
  });

  test('a stream deleted between two batches is created again', async () => {
    const { sink } = makeTestSink(server);
    await sink.send([makeEvent(1)], never);
    server.deleteStream(GROUP, STREAM);
    await sink.send([makeEvent(2)], never);
    expect(messages()).toHaveLength(1);
  });

  test('two that create the same stream at once both deliver', async () => {
    server.deleteGroup(GROUP);
    await Promise.all([
      makeTestSink(server).sink.send([makeEvent(1)], never),
      makeTestSink(server).sink.send([makeEvent(2)], never),
    ]);
    expect(messages()).toHaveLength(2);
  });

  test.each(['CreateLogStream', 'CreateLogGroup'])(
    '%s not being allowed is said, with the cause',
    async (operation) => {
      server.deleteGroup(GROUP);
      server.failNext('denied', 1, operation);
      await expect(makeTestSink(server).sink.send([makeEvent(1)], never)).rejects.toMatchObject({
        cause: {
          message: expect.stringContaining(`logs:${operation}`) as string,
          cause: { name: 'AccessDeniedException' },
        },
      });
    },
  );
});
