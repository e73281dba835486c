import { afterAll, describe, expect, test, vi } from 'vitest';
import catalogue from '../../../src/audit/event_types.json' with { type: 'json' };
import { chainOf } from '../../../console/src/trail/chain.ts';
import {
  actorName,
  headingOf,
  statusOfEvent,
  wordsOf,
} from '../../../console/src/trail/event_text.ts';
import { EVENT_TYPES, typesMatching } from '../../../console/src/trail/event_types.ts';
import {
  NOTHING,
  showWaiting,
  takeNewest,
  takeOlder,
} from '../../../console/src/trail/list_model.ts';
import { leafOf, messageOf } from '../../../console/src/trail/message.ts';
import { problemsOf } from '../../../console/src/trail/problems.ts';
import { event, ID } from './trail_event.ts';

await vi.hoisted(async () => (await import('./browser.ts')).stubBrowser());

afterAll(() => {
  vi.unstubAllGlobals();
});

const states = (before: number, after: number, enabled = true) => ({
  before: { enabled: true, rolloutPercentage: before, description: null },
  after: { enabled, rolloutPercentage: after, description: null },
});

describe('events in words', () => {
  const time = (at: string) => at.slice(11, 16);

  test('every type of the catalogue has its words', () => {
    expect(Object.keys(EVENT_TYPES)).toEqual(catalogue.map(({ type }) => type));
    expect(typesMatching('environment.*')).toHaveLength(6);
  });

  test.each([
    [event({ metadata: states(10, 25) }), 'Share set', 'checkout-v2 10% → 25%'],
    [event({ metadata: states(100, 100, false) }), 'Turned off', 'checkout-v2'],
    [event({ metadata: states(25, 25) }), 'Description changed', 'checkout-v2'],
    [
      event({
        eventType: 'flag_schedule.created',
        metadata: { updates: { rollout_percentage: 50 }, scheduledAt: '2026-11-26T17:00:00Z' },
      }),
      'Change scheduled',
      'checkout-v2 → 50% at 17:00',
    ],
    [
      event({ eventType: 'flag_schedule.failed', metadata: { attempts: 5 } }),
      'Failed after 5 tries',
      'checkout-v2',
    ],
    [
      event({
        ...{ eventType: 'flag_plan.created', flagKey: null },
        metadata: { title: 'Black Friday', firstAt: '2026-11-26T17:00:00Z' },
      }),
      'Plan made',
      'Black Friday for 17:00',
    ],
    [
      event({
        ...{ eventType: 'flag_plan.paused', flagKey: null },
        metadata: { title: 'Black Friday', reason: 'Frozen.' },
      }),
      'Plan paused',
      'Black Friday: Frozen.',
    ],
    [
      event({
        ...{ eventType: 'flag_plan.updated', flagKey: null },
        metadata: { before: { title: 'A' }, after: { title: 'B' } },
      }),
      'Plan edited',
      'B',
    ],
    [
      event({
        ...{ eventType: 'flag_plan.deleted', flagKey: null },
        metadata: { before: { title: 'A' } },
      }),
      'Plan deleted',
      'A',
    ],
    [event({ eventType: 'not.known', metadata: null }), 'not.known', 'checkout-v2'],
  ])('%#', (one, title, rest) => {
    expect(wordsOf(one, time)).toEqual({ title, rest });
  });

  test('the heading says what the flag was and is', () => {
    expect(headingOf(event({ metadata: states(10, 25) }), time)).toBe(
      'checkout-v2 went from 10% to 25%',
    );
  });

  test('actors and shapes', () => {
    const system = { actorKind: 'system', adminEmail: null, adminUserId: null };
    expect(actorName(event())).toBe('alice');
    expect(actorName(event({ ...system, databaseUser: 'halyard_worker' }))).toBe('worker');
    expect(actorName(event({ ...system, databaseUser: 'halyard_owner' }))).toBe('system');
    expect(actorName(event({ actorKind: 'database', databaseUser: 'dba' }))).toBe('dba');
    expect(statusOfEvent(event({ scheduleId: ID }))).toBe('applied');
    expect(statusOfEvent(event())).toBe('changed');
    expect(statusOfEvent(event({ eventType: 'audit.gap', level: 'warning' }))).toBe('uncertain');
  });
});

test('a chain goes from the cause to the effect, each event once', () => {
  const scheduleId = '8c9dddc5-e83f-406e-b9a6-683c0c55d91d';
  const worker = { actorKind: 'system', databaseUser: 'halyard_worker', scheduleId };
  const at = '2026-11-26T11:00:00.018Z';
  const asked = event({
    ...{ id: '1', seq: '1', scheduleId, occurredAt: '2026-11-26T08:41:10Z' },
    eventType: 'flag_schedule.created',
    metadata: {
      reason: 'OPS-881',
      updates: { enabled: true },
      scheduledAt: '2026-11-26T11:00:00Z',
    },
  });
  const changed = event({ ...worker, id: '2', seq: '2', occurredAt: at, metadata: states(10, 25) });
  const applied = event({
    ...{ ...worker, id: '3', seq: '3', occurredAt: at, eventType: 'flag_schedule.applied' },
    metadata: { latenessMs: 18, reason: 'OPS-881' },
  });
  const chain = chainOf([changed, applied, asked, changed], '2', (time) => time.slice(11, 16));
  expect(chain.map(({ by, did, isThis }) => [by, did, isThis])).toEqual([
    ['alice', 'asked for on at 11:00', false],
    ['worker', 'applied it, 18 ms late', false],
    ['', 'the flag changed', true],
  ]);
  expect(chain[0]?.reason).toBe('OPS-881');
});

describe('the list', () => {
  const one = (id: string, minute: number, seal: string | null = null) => ({
    ...{ id, occurredAt: `2026-11-26T12:${String(minute).padStart(2, '0')}:00Z`, seal },
  });
  const listed = takeOlder(NOTHING, [one('b', 2), one('a', 1)]);
  const ids = (events: readonly { readonly id: string }[]) => events.map(({ id }) => id).join('');

  test('new events come on top, and known ones get their seal', () => {
    const { shown } = takeNewest(listed, [one('c', 3), one('b', 2, '9')], true, false);
    expect(ids(shown)).toBe('cba');
    expect(shown[1]?.seal).toBe('9');
  });

  test('while it is held no row comes, and what waits comes together', () => {
    const first = takeNewest(listed, [one('c', 3), one('b', 2)], true, true);
    const second = takeNewest(first, [one('d', 4), one('c', 3)], true, true);
    expect(ids(second.shown)).toBe('ba');
    expect(ids(second.waiting)).toBe('dc');
    expect(ids(showWaiting(second).shown)).toBe('dcba');
  });

  test('an event that comes late stands at its time', () => {
    expect(ids(takeNewest(listed, [one('x', 0), one('c', 3)], true, false).shown)).toBe('cbax');
  });

  test('across a gap the older ones go: the list has no hole', () => {
    expect(ids(takeNewest(listed, [one('z', 9)], false, false).shown)).toBe('z');
    const held = takeNewest(listed, [one('z', 9)], false, true);
    expect(ids(held.shown)).toBe('ba');
    expect(held.hasGap).toBe(true);
    expect(ids(showWaiting(held).shown)).toBe('z');
  });

  test('an older page adds each event once', () => {
    expect(ids(takeOlder(listed, [one('a', 1), one('0', 0)]).shown)).toBe('ba0');
  });
});

test('the leaf is that of the shipped message', async () => {
  const payload =
    '{"eventType": "a", "eventId": "b", "level": "info", "metadata": {"é": ", \\"level\\": "}}';
  const message = messageOf(payload, '1196');
  expect(message).toBe(
    '{"eventType": "a", "eventId": "b", "seq": 1196, "level": "info", "metadata": {"é": ", \\"level\\": "}}',
  );
  // Of a zero byte and the message in UTF-8.
  expect(await leafOf(message)).toBe(
    '887e64c38dcda5a3b09d854e74cebdcae5e67c0ee1d905fcf299da892a77849e',
  );
});

test('the badge names the events that are shown and aren’t what was sealed', () => {
  const seal = (problem: string | null) => ({ number: '3', anchored: true, problem });
  const altered = ['7', '8', '9', '10', '11'].map((seq) =>
    event({ seq, seal: seal('event_altered') }),
  );
  expect(problemsOf([], [event({ seal: seal(null) }), event({ seal: null, seq: null })])).toEqual(
    [],
  );
  expect(problemsOf(['A letter is dead.'], altered.slice(0, 1).concat(altered[0] ?? []))).toEqual([
    'A letter is dead.',
    'Event 7 isn’t what was sealed (event_altered).',
  ]);
  expect(problemsOf([], altered)).toHaveLength(4);
  expect(problemsOf([], altered).at(-1)).toMatch(/^Nor are 2 more/);
});
