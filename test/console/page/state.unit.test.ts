import { describe, expect, test } from 'vitest';
import type { StateAt } from '../../../console/src/state/documents.ts';
import {
  changeTime,
  differs,
  jsonOf,
  neighbours,
  readSources,
  stateRows,
  statesNow,
} from '../../../console/src/state/model.ts';
import { windowOf } from '../../../console/src/state/window.ts';
import type { Mark } from '../../../console/src/timeline/model.ts';
import { DAY, HOUR } from '../../../console/src/time/zone.ts';

const NOW = Date.parse('2026-11-26T14:00:00Z');
const off = { enabled: false, rolloutPercentage: 100 };
const on = { enabled: true, rolloutPercentage: 100 };
const share = (rolloutPercentage: number) => ({ enabled: true, rolloutPercentage });

const mark = (flagKey: string, hours: number, rest: Partial<Mark> = {}): Mark => ({
  ...{ id: `${flagKey} ${hours}`, environment: 'production', flagKey, scheduleId: null },
  ...{ planId: null, isTogether: false },
  ...{
    at: NOW + hours * HOUR,
    status: 'pending',
    before: off,
    after: on,
    updates: { enabled: true },
    label: 'on',
    lateMs: null,
  },
  ...rest,
});

const stateOf = (flagKey: string, state: typeof on, rest: Partial<StateAt[number]> = {}) => ({
  ...{ flagKey, ...state, certain: true, sources: {} as unknown, ...rest },
});

test('the states of now are those of a while ago and what happened since', () => {
  const change = (flagKey: string, deleted: boolean) => ({ flagKey, deleted, ...on });
  const states = statesNow({
    flagStateAt: [
      { flagKey: 'a', ...off },
      { flagKey: 'gone', ...on },
    ],
    flagChanges: [change('a', false), change('new', false), change('gone', true)],
  });
  expect([...states]).toEqual([
    ['a', on],
    ['new', on],
  ]);
});

test('sources are an event of the past, or schedules of the future by time', () => {
  expect(
    readSources({
      enabled: { schedule_id: 's2', at: '2026-11-26T18:00:00Z' },
      rollout_percentage: { schedule_id: 's1', at: '2026-11-26T17:00:00Z' },
    }).schedules.map(({ id }) => id),
  ).toEqual(['s1', 's2']);
  expect(readSources({ event: { id: 'e', at: 't', is_after: true } }).event).toEqual({
    ...{ id: 'e', at: 't', isAfter: true },
  });
  expect(readSources(null)).toEqual({ schedules: [], event: null });
});

describe('rows', () => {
  const present = new Map([
    ['same', on],
    ['window', off],
    ['changes', share(25)],
    ['new', on],
  ]);
  const span = { now: NOW, at: NOW + 12 * HOUR };

  test('what differs stands first, and what was not there is said', () => {
    const then = [
      stateOf('same', on),
      stateOf('window', off),
      stateOf('changes', share(50)),
      stateOf('gone', on),
    ];
    const rows = stateRows('production', present, then, [], span);
    expect(rows.map(({ flagKey }) => flagKey)).toEqual([
      'changes',
      'gone',
      'new',
      'same',
      'window',
    ]);
    expect(rows.filter(differs)).toHaveLength(3);
    expect(rows.find(({ flagKey }) => flagKey === 'new')?.then).toBeNull();
    expect(rows.find(({ flagKey }) => flagKey === 'gone')?.now).toBeNull();
  });

  test('a window that opens and closes in between is named', () => {
    const marks = [
      mark('window', 2),
      mark('window', 4, { before: on, after: off }),
      mark('window', 20),
    ];
    const rows = stateRows('production', present, [stateOf('window', off)], marks, span);
    expect(rows.find(({ flagKey }) => flagKey === 'window')?.between).toEqual(marks.slice(0, 2));
  });

  test('two changes at the instant that decides are uncertain', () => {
    const conflict = mark('changes', 6, {
      ...{ id: 's1', status: 'conflict', label: '30% or 0%', isTogether: true },
    });
    const then = [
      stateOf('changes', share(0), {
        sources: { rollout_percentage: { schedule_id: 's1', at: '' } },
      }),
    ];
    const rows = stateRows('production', present, then, [conflict], span);
    expect(rows[0]).toMatchObject({ flagKey: 'changes', conflict: '30% or 0%' });
  });

  test('without an answer nothing differs from now', () => {
    expect(stateRows('production', present, null, [], span).some(differs)).toBe(false);
  });
});

describe('steps', () => {
  test('lead to where a change holds: of the past behind its microseconds', () => {
    const applied = mark('a', -1, { status: 'applied', lateMs: 57 });
    const marks = [
      applied,
      mark('a', 1, { status: 'cancelled' }),
      mark('a', 2),
      mark('a', 3, { after: off }),
    ];
    const before = changeTime(applied);
    expect(before).toBe(NOW - HOUR + 58);
    expect(neighbours(marks, NOW)).toEqual({ before, behind: NOW + 2 * HOUR });
    expect(neighbours(marks, before).before).toBeNull();
  });

  test('the scale has both instants in it, and stays the same for a while', () => {
    const one = windowOf(NOW + 60_000, NOW + 12 * HOUR);
    expect(one.from).toBeLessThan(NOW);
    expect(one.to).toBeGreaterThan(NOW + 12 * HOUR);
    expect(windowOf(NOW + 120_000, NOW + 12 * HOUR)).toEqual(one);
    const far = windowOf(NOW, NOW - 900 * DAY);
    expect(far.to - far.from).toBeLessThan(20 * DAY);
    const long = windowOf(NOW, NOW - 289 * DAY);
    expect(long.to - long.from).toBeGreaterThan(340 * DAY);
    expect(long.to - long.from).toBeLessThanOrEqual(400 * DAY);
  });
});

test('the JSON is that of the REST API', () => {
  const at = NOW + HOUR;
  expect(jsonOf('staging', [stateOf('a', share(25))], { now: NOW, at })).toEqual({
    ...{ environment: 'staging', at: '2026-11-26T15:00:00.000Z', kind: 'projection' },
    flags: [{ flag_key: 'a', enabled: true, rollout_percentage: 25, certain: true, sources: {} }],
  });
});
