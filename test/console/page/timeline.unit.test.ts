import { afterAll, describe, expect, test, vi } from 'vitest';
import type { FlagState } from '../../../console/src/parts/flag_state.tsx';
import { matches } from '../../../console/src/timeline/filter.ts';
import { groupMarks, textOf } from '../../../console/src/timeline/groups.ts';
import { rowsOf, type Facts, type Mark, type Row } from '../../../console/src/timeline/model.ts';
import { baseline, bandHeight, markTop, percent, x } from '../../../console/src/timeline/scale.ts';
import { HOUR } from '../../../console/src/time/zone.ts';

await vi.hoisted(async () => (await import('./browser.ts')).stubBrowser());

afterAll(() => {
  vi.unstubAllGlobals();
});

const T = Date.parse('2026-11-26T12:00:00Z');
const SPAN = { from: T - 6 * HOUR, to: T + 18 * HOUR, now: T };
const at = (hours: number): string => new Date(T + hours * HOUR).toISOString();
const state = (enabled: boolean, rolloutPercentage = 100): FlagState => ({
  ...{ enabled, rolloutPercentage },
});

type Schedule = Facts['schedulesBetween'][number];

const schedule = (id: string, hours: number, rest: Partial<Schedule> = {}): Schedule => ({
  ...{ id, flagKey: 'a', at: at(hours), updates: { enabled: true }, status: 'pending' },
  ...{ appliedAt: null, planId: null, ...rest },
});

/** Facts about one flag, `a`, that was off as the span began. */
const facts = (some: Partial<Facts> = {}): Facts => ({
  ...{ flagStateAt: [{ flagKey: 'a', ...state(false) }], flagChanges: [], upcomingChanges: [] },
  ...{ schedulesBetween: [], ...some },
});

const rowOf = (some: Partial<Facts>): Row => {
  const [row] = rowsOf('production', facts(some), SPAN);
  if (row === undefined) throw new Error('There is no row.');
  return row;
};

/** A segment as `-6..0 off`. */
const bands = ({ segments }: Row): string[] =>
  segments.map(
    ({ from, to, state: { enabled, rolloutPercentage }, isPlanned, isCertain }) =>
      `${(from - T) / HOUR}..${(to - T) / HOUR} ${enabled ? rolloutPercentage : 'off'}${isPlanned ? ' planned' : ''}${isCertain ? '' : ', perhaps'}`,
  );

const change = (hours: number, after: FlagState, was: FlagState | null, id: string | null = null) =>
  ({
    ...{ at: at(hours), flagKey: 'a', ...after, scheduleId: id, deleted: false },
    ...{ wasEnabled: was?.enabled ?? null, wasRolloutPercentage: was?.rolloutPercentage ?? null },
  }) satisfies Facts['flagChanges'][number];

describe('the row of a flag', () => {
  test('without a change is one state, planned from now on', () => {
    const row = rowOf({});
    expect(bands(row)).toEqual(['-6..0 off', '0..18 off planned']);
    expect(row.marks).toEqual([]);
    expect(row.current).toMatchObject(state(false));
  });

  test('goes through what happened and what will', () => {
    const row = rowOf({
      flagChanges: [change(-3, state(true, 25), state(false), 's1')],
      upcomingChanges: [
        {
          ...{ at: at(6), flagKey: 'a', updates: { rolloutPercentage: 50 }, scheduleId: 's2' },
          ...{ ...state(true, 50), certain: true, inConflict: false },
        },
      ],
      schedulesBetween: [
        schedule('s1', -3, { status: 'applied', appliedAt: at(-3).replace('.000Z', '.018Z') }),
        schedule('s2', 6, { updates: { rolloutPercentage: 50 } }),
      ],
    });
    expect(bands(row)).toEqual(['-6..-3 off', '-3..0 25', '0..6 25 planned', '6..18 50 planned']);
    expect(row.current).toMatchObject(state(true, 25));
    expect(row.marks).toMatchObject([
      { id: 's1', status: 'applied', label: 'on', before: state(false), after: state(true, 25) },
      {
        id: 's2',
        status: 'pending',
        label: '50%',
        before: state(true, 25),
        after: state(true, 50),
      },
    ]);
    expect(row.marks.map(({ lateMs }) => lateMs)).toEqual([18, null]);
  });

  test('begins where the flag is made, with a mark', () => {
    const row = rowOf({ flagStateAt: [], flagChanges: [change(-2, state(true, 10), null)] });
    expect(bands(row)).toEqual(['-2..0 10', '0..18 10 planned']);
    expect(row.marks).toMatchObject([{ status: 'changed', label: '10%', before: null }]);
  });

  test('ends where the flag is deleted', () => {
    const gone = { ...change(-1, state(false), state(false)), deleted: true };
    const row = rowOf({ flagChanges: [gone] });
    expect(bands(row)).toEqual(['-6..-1 off']);
    expect(row.current).toBeNull();
    expect(row.marks).toMatchObject([{ status: 'changed', label: 'deleted' }]);
  });

  test('marks no change that changes nothing, as of the description', () => {
    expect(rowOf({ flagChanges: [change(-2, state(false), state(false))] }).marks).toEqual([]);
  });

  test('shows cancelled and failed schedules, which change nothing', () => {
    const row = rowOf({
      schedulesBetween: [
        schedule('s1', -2, { status: 'failed' }),
        schedule('s2', 2, { status: 'cancelled' }),
      ],
    });
    expect(row.marks.map(({ status, label, after }) => [status, label, after])).toEqual([
      ['failed', 'failed', null],
      ['cancelled', 'cancelled', null],
    ]);
    expect(bands(row)).toEqual(['-6..0 off', '0..18 off planned']);
  });

  test('says that an applied schedule left the state as it was', () => {
    const row = rowOf({
      flagChanges: [change(-3, state(true), state(false)), change(-1, state(false), state(true))],
      schedulesBetween: [
        schedule('s1', -2, { status: 'applied', appliedAt: at(-2), updates: { enabled: true } }),
      ],
    });
    const mark = row.marks.find(({ id }) => id === 's1');
    expect([mark?.before?.enabled, mark?.after?.enabled]).toEqual([true, true]);
  });

  test('shows two pending changes of one instant as a conflict, where they set a field to different values', () => {
    const both = (updates: Schedule['updates']) =>
      rowOf({ schedulesBetween: [schedule('s1', 2), schedule('s2', 2, { updates })] }).marks.map(
        ({ status, label }) => `${status} ${label}`,
      );
    expect(both({ enabled: false })).toEqual(['conflict on or off', 'conflict off or on']);
    expect(both({ enabled: true })).toEqual(['pending on', 'pending on']);
    // Both count: it is on for a half then.
    expect(both({ rolloutPercentage: 50 })).toEqual(['pending on', 'pending 50%']);
  });

  test('is doubtful from what may not come so, until something is sure', () => {
    const upcoming = (id: string, hours: number, share: number, certain: boolean) => ({
      ...{ at: at(hours), flagKey: 'a', scheduleId: id, ...state(true, share) },
      ...{ certain, inConflict: false },
    });
    const row = rowOf({
      upcomingChanges: [upcoming('s1', 2, 50, false), upcoming('s2', 4, 100, true)],
    });
    expect(bands(row)).toEqual([
      ...['-6..0 off', '0..2 off planned', '2..4 50 planned, perhaps', '4..18 100 planned'],
    ]);
  });

  test('marks what will not find what it expects, what waits, and what was left out', () => {
    const { marks } = rowOf({
      upcomingChanges: [
        {
          ...{ at: at(2), flagKey: 'a', scheduleId: 's3', ...state(false) },
          ...{ certain: true, inConflict: true },
        },
      ],
      schedulesBetween: [
        schedule('s1', -2, { status: 'suspended', planId: 'p1' }),
        schedule('s2', -1, { status: 'skipped' }),
        schedule('s3', 2),
      ],
    });
    expect(marks).toMatchObject([
      { status: 'suspended', label: 'on', after: null, planId: 'p1' },
      { status: 'skipped', label: 'skipped', after: null },
      { status: 'conflict', label: 'on', isTogether: false, after: state(false) },
    ]);
  });

  test('leaves out marks beyond the span', () => {
    const { marks } = rowOf({ schedulesBetween: [schedule('s1', -7), schedule('s2', 19)] });
    expect(marks).toEqual([]);
  });
});

test('rows are by key, and a flag that is only planned has one', () => {
  const rows = rowsOf(
    'production',
    facts({
      flagStateAt: ['b', 'a'].map((flagKey) => ({ flagKey, ...state(true) })),
      schedulesBetween: [schedule('s1', 2, { flagKey: 'c' })],
    }),
    SPAN,
  );
  expect(rows.map(({ flagKey, current }) => [flagKey, current?.enabled])).toEqual([
    ['a', true],
    ['b', true],
    ['c', undefined],
  ]);
});

describe('the filter', () => {
  const row = rowOf({
    flagStateAt: [{ flagKey: 'a', ...state(true) }],
    schedulesBetween: [schedule('s1', -2, { status: 'failed' })],
  });
  test.each([
    ['', true],
    ['A', true],
    ['b', false],
    ['is:on', true],
    ['is:off', false],
    ['is:failed', true],
    ['is:Failed a', true],
    ['is:pending', false],
    ['is:on is:failed', true],
    ['env:production', true],
    ['env:staging', false],
  ])('“%s” takes the row: %s', (text, taken) => {
    expect(matches(row, text)).toBe(taken);
  });
});

describe('marks', () => {
  const marks = (...hours: number[]): readonly Mark[] =>
    rowOf({ schedulesBetween: hours.map((one, i) => schedule(`s${i}`, one)) }).marks;

  test('that would cover each other are one, and fall apart when one zooms', () => {
    const close = marks(2, 2.05, 8);
    const wide = { from: SPAN.from, to: SPAN.to };
    const near = { from: T + 2 * HOUR, to: T + 3 * HOUR };
    expect(groupMarks(close, wide, 1_000).map((group) => group.marks.length)).toEqual([2, 1]);
    expect(groupMarks(close.slice(0, 2), near, 1_000)).toHaveLength(2);
  });

  test('are apart where one has happened and the other will', () => {
    const [first, second] = marks(2, 2.1);
    if (first === undefined || second === undefined) throw new Error('there are two');
    const wide = { from: SPAN.from, to: SPAN.to };
    const mixed = [{ ...first, status: 'applied' as const }, second];
    expect(groupMarks(mixed, wide, 1_000)).toHaveLength(2);
    expect(groupMarks([first, second], wide, 1_000)).toHaveLength(1);
  });

  test('have a label where there is room for it', () => {
    const wide = { from: SPAN.from, to: SPAN.to };
    const groups = groupMarks(marks(2, 2.6, 8), wide, 1_000);
    expect(groups.map(({ hasLabel }) => hasLabel)).toEqual([false, true, true]);
    expect(textOf(marks(2, 3))).toBe('2 changes');
    expect(textOf(marks(2))).toBe('on');
  });
});

describe('the scale', () => {
  const whole = { from: 0, to: 100 };
  test('is in percent of the width', () => {
    expect([percent(25, whole), x(33.3333, whole)]).toEqual([25, '33.333%']);
  });

  test('gives a band its height: at least 6 px, and more for more users', () => {
    expect([0, 1, 10, 25, 50, 100].map((share) => bandHeight(share, 46))).toEqual([
      ...[0, 6, 8, 11, 16, 26],
    ]);
    expect(bandHeight(100, 32)).toBeLessThan(baseline(32));
  });

  test('keeps marks within the row', () => {
    for (const height of [32, 46, 84])
      for (const share of [0, 50, 100]) {
        expect(markTop(share, height)).toBeGreaterThanOrEqual(15);
        expect(markTop(share, height)).toBeLessThanOrEqual(baseline(height));
      }
  });
});
