import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import {
  EVENT_OVERHEAD_BYTES,
  MAX_AGE_MS,
  MAX_AHEAD_MS,
  MAX_BATCH_BYTES,
  MAX_EVENT_BYTES,
  MAX_NUDGE_MS,
  MAX_SPAN_MS,
  cutBatches,
} from '../../../src/audit/delivery/sinks/cloudwatch/batch.ts';
import type { Entry } from '../../../src/audit/delivery/sinks/cloudwatch/batch.ts';
import { makeEvent } from '../../support/audit_events.ts';

const NOW = Date.parse('2030-01-15T12:00:00Z');
const DAY_MS = 24 * 3_600_000;

/** A message of exactly `bytes` bytes of UTF-8, most of them in characters of three. */
function textOf(bytes: number): string {
  return '…'.repeat(Math.floor(bytes / 3)) + 'x'.repeat(bytes % 3);
}

function seqs(batches: readonly (readonly Entry[])[]): number[][] {
  return batches.map((batch) => batch.map(({ event }) => event.seq));
}

function at(...times: number[]): Entry[][] {
  return cutBatches(
    times.map((time, i) => makeEvent(i + 1, { at: time })),
    NOW,
  );
}

function times(batches: readonly (readonly Entry[])[]): number[][] {
  return batches.map((batch) => batch.map(({ timestamp }) => timestamp - NOW));
}

test('no events make no batch', () => {
  expect(cutBatches([], NOW)).toEqual([]);
});

test('a message is shipped as it stands, under its own time', () => {
  const event = makeEvent(7, { at: NOW - 5 });
  expect(cutBatches([event], NOW)).toEqual([
    [
      {
        event,
        message: event.message,
        bytes: Buffer.byteLength(event.message) + EVENT_OVERHEAD_BYTES,
        timestamp: NOW - 5,
        stub: null,
        restamped: null,
      },
    ],
  ]);
});

describe('size', () => {
  test('bytes are those of UTF-8 plus 26 an event, to the byte', () => {
    const half = MAX_BATCH_BYTES / 2 - EVENT_OVERHEAD_BYTES;
    const pair = (extra: number) => [
      makeEvent(1, { at: NOW, message: textOf(half) }),
      makeEvent(2, { at: NOW, message: textOf(half + extra) }),
    ];
    expect(seqs(cutBatches(pair(0), NOW))).toEqual([[1, 2]]);
    expect(seqs(cutBatches(pair(1), NOW))).toEqual([[1], [2]]);
  });

  test.each(['é', '…', '🚢'])(
    'a character such as %s counts whole, on both sides of the limit',
    (character) => {
      const size = Buffer.byteLength(character);
      const room = MAX_BATCH_BYTES - 3 * EVENT_OVERHEAD_BYTES - size;
      const message = (more: number) => 'x'.repeat(room - 1 + more);
      const counts = (more: number) =>
        cutBatches(
          ['x', message(more), character].map((text, i) =>
            makeEvent(i + 1, { at: NOW, message: text }),
          ),
          NOW,
        ).map((batch) => batch.length);
      expect(counts(0)).toEqual([3]);
      expect(counts(1)).toEqual([2, 1]);
    },
  );

  test('an event that is too large by one character of four bytes is a stub, and its hash is of the whole', () => {
    const start = '🚢'.repeat((MAX_EVENT_BYTES - EVENT_OVERHEAD_BYTES - 2) / 4);
    const entryOf = (message: string) =>
      cutBatches([makeEvent(1, { at: NOW, message })], NOW)[0]?.[0];
    expect(entryOf(`${start}é`)).toMatchObject({ stub: null, bytes: MAX_EVENT_BYTES });
    const over = `${start}🚢`;
    expect(JSON.parse(entryOf(over)?.message ?? '')).toMatchObject({
      bytes: Buffer.byteLength(over),
      sha256: createHash('sha256').update(over, 'utf8').digest('hex'),
    });
  });

  test('each batch is filled anew', () => {
    const events = Array.from({ length: 9 }, (_, i) =>
      makeEvent(i + 1, {
        at: NOW,
        message: textOf(MAX_BATCH_BYTES / 3 - EVENT_OVERHEAD_BYTES - 1),
      }),
    );
    expect(cutBatches(events, NOW).map((batch) => batch.length)).toEqual([3, 3, 3]);
  });

  test('10,000 events go in one batch and the next one in another', () => {
    const counts = (count: number) => {
      const events = Array.from({ length: count }, (_, i) =>
        makeEvent(i + 1, { at: NOW, message: '{}' }),
      );
      return cutBatches(events, NOW).map((batch) => batch.length);
    };
    expect(counts(10_000)).toEqual([10_000]);
    expect(counts(10_001)).toEqual([10_000, 1]);
  });

  test('an event of the greatest size goes whole, and alone', () => {
    const message = textOf(MAX_EVENT_BYTES - EVENT_OVERHEAD_BYTES);
    const batches = cutBatches(
      [makeEvent(1, { at: NOW }), makeEvent(2, { at: NOW, message }), makeEvent(3, { at: NOW })],
      NOW,
    );
    expect(seqs(batches)).toEqual([[1], [2], [3]]);
    expect(batches[1]?.[0]?.message).toBe(message);
    expect(batches[1]?.[0]?.stub).toBeNull();
  });

  test('an event one byte over is a stub that says what it stands for', () => {
    const start = makeEvent(2, { at: NOW }).message.slice(0, -1);
    const room =
      MAX_EVENT_BYTES - EVENT_OVERHEAD_BYTES + 1 - Buffer.byteLength(`${start}, "blob": ""}`);
    const event = makeEvent(2, { at: NOW, message: `${start}, "blob": "${textOf(room)}"}` });
    const entry = cutBatches([makeEvent(1, { at: NOW }), event], NOW)[0]?.[1];
    expect(entry).toMatchObject({ event, stub: 'too_large', timestamp: NOW });
    expect(entry?.bytes).toBe(Buffer.byteLength(entry?.message ?? '') + EVENT_OVERHEAD_BYTES);
    expect(JSON.parse(entry?.message ?? '')).toEqual({
      eventType: 'flag_schedule.created',
      timestamp: '2030-01-15T12:00:00.000Z',
      eventId: event.eventId,
      seq: 2,
      level: 'info',
      environment: 'production',
      requestId: 'r-2',
      truncated: true,
      reason: 'too_large',
      bytes: MAX_EVENT_BYTES - EVENT_OVERHEAD_BYTES + 1,
      sha256: createHash('sha256').update(event.message).digest('hex'),
    });
  });

  test('a stub stays small whatever the event holds, and needs no JSON', () => {
    const long = 'x'.repeat(MAX_EVENT_BYTES);
    const events = [
      makeEvent(1, { at: NOW, message: JSON.stringify({ requestId: long, level: 'info' }) }),
      makeEvent(2, { at: NOW, message: long }),
    ];
    const [first, second] = cutBatches(events, NOW).flat();
    expect(JSON.parse(first?.message ?? '')).toMatchObject({
      seq: 1,
      level: 'info',
      truncated: true,
    });
    expect(JSON.parse(second?.message ?? '')).toMatchObject({
      seq: 2,
      timestamp: '2030-01-15T12:00:00.000Z',
    });
    expect(first?.bytes).toBeLessThan(1_000);
  });
});

describe('time', () => {
  test('a span of 24 hours goes in one batch, a millisecond more does not', () => {
    expect(seqs(at(NOW - MAX_SPAN_MS, NOW))).toEqual([[1, 2]]);
    expect(seqs(at(NOW - MAX_SPAN_MS - 1, NOW))).toEqual([[1], [2]]);
  });

  test('seq order is kept and timestamps never fall within a batch', () => {
    const batches = at(NOW - 50, NOW - 90, NOW - 60, NOW - 10, NOW - 40);
    expect(seqs(batches)).toEqual([[1, 2, 3, 4, 5]]);
    expect(times(batches)).toEqual([[-50, -50, -50, -10, -10]]);
  });

  test('a greater step back starts a batch instead of moving the event', () => {
    expect(times(at(NOW, NOW - MAX_NUDGE_MS, NOW))).toEqual([[0, 0, 0]]);
    expect(times(at(NOW, NOW - MAX_NUDGE_MS - 1, NOW))).toEqual([[0], [-MAX_NUDGE_MS - 1, 0]]);
  });

  test('14 days old is taken, older is stamped now and known as late', () => {
    const entries = at(NOW - MAX_AGE_MS, NOW - MAX_AGE_MS - 1).flat();
    expect(entries.map(({ restamped }) => restamped)).toEqual([null, 'late']);
    expect(times([entries])).toEqual([[-MAX_AGE_MS, 0]]);
    expect(entries[1]?.message).toContain('"timestamp": "2030-01-01T11:59:59.999Z"');
  });

  test('late events share a batch and leave the times of those behind them alone', () => {
    const batches = at(
      NOW - 20 * DAY_MS,
      NOW - 19 * DAY_MS,
      NOW - 13 * DAY_MS,
      NOW - 12.5 * DAY_MS,
      NOW,
    );
    expect(seqs(batches)).toEqual([[1, 2], [3, 4], [5]]);
    expect(times(batches)).toEqual([[0, 0], [-13 * DAY_MS, -12.5 * DAY_MS], [0]]);
  });

  test('two hours ahead is taken, more is stamped now', () => {
    expect(at(NOW + MAX_AHEAD_MS)[0]?.[0]).toMatchObject({
      restamped: null,
      timestamp: NOW + MAX_AHEAD_MS,
    });
    expect(at(NOW + MAX_AHEAD_MS + 1)[0]?.[0]).toMatchObject({
      restamped: 'ahead',
      timestamp: NOW,
    });
  });

  test('an event without a valid time goes out now', () => {
    expect(at(Number.NaN)[0]?.[0]).toMatchObject({ restamped: 'late', timestamp: NOW });
  });
});

test('whatever comes, every event is in one batch, in order, within every limit', () => {
  let state = 42;
  const random = (below: number) => (state = (state * 48_271) % 2_147_483_647) % below;
  const events = Array.from({ length: 3_000 }, (_, i) =>
    makeEvent(i + 1, {
      at: NOW - random(20 * DAY_MS) * (random(10) === 0 ? 1 : 0) + random(90_000) - random(90_000),
      message: textOf(1 + random(random(50) === 0 ? 1_100_000 : 300)),
    }),
  );
  const batches = cutBatches(events, NOW);
  expect(seqs(batches).flat()).toEqual(events.map(({ seq }) => seq));
  for (const batch of batches) {
    const stamps = batch.map(({ timestamp }) => timestamp);
    expect(stamps).toEqual(stamps.toSorted((a, b) => a - b));
    expect((stamps.at(-1) ?? 0) - (stamps[0] ?? 0)).toBeLessThanOrEqual(MAX_SPAN_MS);
    const bytes = batch.reduce(
      (sum, { message }) => sum + Buffer.byteLength(message) + EVENT_OVERHEAD_BYTES,
      0,
    );
    expect(bytes).toBeLessThanOrEqual(MAX_BATCH_BYTES);
  }
});
