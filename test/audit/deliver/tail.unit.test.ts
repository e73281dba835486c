import { expect, test } from 'vitest';
import { extendTail, joinEnds, readEnd } from '../../../src/audit/delivery/tail.ts';
import { makeEvent } from '../../support/audit_events.ts';

const TRAIL = '11111111-1111-4111-8111-111111111111';
const OTHER = '22222222-2222-4222-8222-222222222222';
const HASH = 'ab'.repeat(32);
const time = (second: number) => new Date(Date.UTC(2026, 0, 1, 0, 0, second)).toISOString();

interface SealOptions {
  readonly trail?: string;
  readonly incarnation?: string;
  readonly at?: number;
}

/** An audit.sealed record over a range. */
function sealed(seal: number, first: number, last: number, options: SealOptions = {}): string {
  const { trail = TRAIL, incarnation = TRAIL, at = last } = options;
  const numbers = `"seal": ${seal}, "trail": "${trail}", "incarnation": "${incarnation}", "firstSeq": ${first}, "lastSeq": ${last}`;
  return `{"eventType": "audit.sealed", "timestamp": "${time(at)}", "eventId": "e", "metadata": {${numbers}, "root": "${HASH}", "previousHead": "${HASH}", "head": "${HASH}"}}`;
}

/** An event, its second of the minute being its number. */
function event(seq: number, at = seq): string {
  const eventId = `00000000-0000-4000-8000-${String(seq).padStart(12, '0')}`;
  return JSON.stringify({ eventType: 'feature_flag.updated', timestamp: time(at), eventId, seq });
}

function tailOf(...streams: (readonly string[])[]) {
  const ends = streams.map((messages) =>
    readEnd(
      messages.map((message) => ({ message, storedAt: 0 })),
      TRAIL,
    ),
  );
  const { seals, events } = joinEnds(TRAIL, ends);
  return { seals: seals.map(({ seal }) => seal), events: events.map(({ seq }) => seq) };
}

test('events that a seal follows, or that have the time before it, are sealed', () => {
  expect(tailOf([event(1), event(2), sealed(1, 1, 2)])).toEqual({ seals: [1], events: [] });
  expect(tailOf([event(1), sealed(1, 1, 2), event(2)])).toEqual({ seals: [1], events: [] });
});

test('events behind the last seal are not, nor stubs, also in a stream without a seal', () => {
  const stub = event(4).replace('{', '{"truncated": true, ');
  const expected = { seals: [1], events: [3, 4] };
  expect(tailOf([event(1), sealed(1, 1, 2), event(3), stub])).toEqual(expected);
  expect(tailOf([sealed(1, 1, 2)], [event(3), stub])).toEqual(expected);
  expect(tailOf([event(1)])).toEqual({ seals: [], events: [1] });
});

test('what stands for a seal that the destination refused is no event', () => {
  const stub = JSON.stringify({ ...JSON.parse(event(2)), eventType: 'audit.sealed' });
  const truncated = stub.replace('{', '{"truncated": true, ');
  expect(tailOf([sealed(1, 1, 1), event(2), truncated]).events).toEqual([2]);
});

test('an event that was sent again and sealed, in another stream, is sealed', () => {
  const first = [sealed(1, 1, 2), event(3)];
  expect(tailOf(first, [event(3), event(4), sealed(2, 3, 4)])).toEqual({ seals: [2], events: [] });
});

test('a lost event stays unsealed though a later incarnation has sealed its number before', () => {
  const before = [event(3), sealed(2, 3, 4)];
  const other = { incarnation: OTHER, at: 9 };
  const { seals, events } = tailOf([...before, sealed(3, 3, 3, other), event(4, 10)]);
  expect({ seals, events }).toEqual({ seals: [2, 3], events: [4] });
});

test('another trail’s events are not this trail’s', () => {
  const other = { trail: OTHER };
  expect(tailOf([sealed(1, 1, 2)], [sealed(9, 1, 2, other), event(3)])).toEqual({
    seals: [1],
    events: [],
  });
  expect(tailOf([sealed(1, 1, 2)], [event(9_000)]).events).toEqual([]);
});

test('of an incarnation the seal with the highest number counts, in spite of clocks', () => {
  expect(tailOf([sealed(5, 5, 5, { at: 9 })], [sealed(6, 6, 6, { at: 8 })]).seals).toEqual([6]);
});

test('what was confirmed last is kept, the seal and the event each by itself', () => {
  const make = (seq: number, message: string) => makeEvent(seq, { message });
  const first = extendTail(null, TRAIL, [make(1, event(1)), make(1, sealed(1, 1, 1))]);
  const second = extendTail(first, TRAIL, [make(2, event(2))]);
  expect(second.seals.map(({ seal }) => seal)).toEqual([1]);
  expect(second.events).toMatchObject([{ seq: 2, at: time(2), incarnation: TRAIL }]);
});
