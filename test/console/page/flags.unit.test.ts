import { afterAll, describe, expect, test, vi } from 'vitest';
import { titleOf as pageTitle } from '../../../console/src/frame/title.ts';
import { aheadOf, suspendedOf, upcomingOf } from '../../../console/src/flag/entries.ts';
import {
  groupName,
  matches,
  rowsOf,
  serverFilter,
  type FlagRow,
  type ListedFlag,
} from '../../../console/src/flags/model.ts';
import { steady } from '../../../console/src/flags/steady.ts';

await vi.hoisted(async () => (await import('./browser.ts')).stubBrowser());

afterAll(() => {
  vi.unstubAllGlobals();
});

const day = (time: string): string => `2026-11-26T${time}:00.000Z`;
const flag = (flagKey: string, enabled = false, changed = '09:00'): ListedFlag => ({
  ...{ id: flagKey, flagKey, environment: 'production', enabled, rolloutPercentage: 100 },
  ...{ createdAt: day('08:00'), lastChange: { at: day(changed), by: 'alice' } },
});
const schedule = (id: string, time: string, share: number, attempts = 0) => ({
  ...{ id, scheduledAt: day(time), attempts },
  updates: { enabled: null, rolloutPercentage: share },
});

describe('the list of flags', () => {
  const rows = rowsOf({
    failed: [
      { ...schedule('f1', '13:20', 100, 5), flag: flag('payments') },
      // Somebody changed it since.
      { ...schedule('f2', '13:00', 100, 5), flag: flag('mended', true, '14:00') },
    ],
    suspended: [
      {
        ...{ ...schedule('w1', '15:30', 50), flag: flag('search') },
        suspendedFor: 'conflict',
      },
    ],
    pending: [
      { ...schedule('s1', '16:30', 100), flag: flag('gifts', true) },
      { ...schedule('s2', '20:00', 30), flag: flag('ranker', true) },
      { ...schedule('s3', '20:00', 0), flag: flag('ranker', true) },
      { ...schedule('s4', '22:00', 30), flag: flag('payments') },
    ],
    flags: [
      { ...flag('about'), nextSchedule: null },
      { ...flag('mended', true, '14:00'), nextSchedule: null },
      { ...flag('zoo'), nextSchedule: schedule('s5', '15:00', 10, 2) },
    ],
  });
  const row = (key: string) => rows.find((one) => one.flag.flagKey === key);

  test('has what needs someone first, then what changes next, then the others by key', () => {
    expect(rows.map((one) => [one.flag.flagKey, one.group])).toEqual([
      ...[
        ['payments', 'someone'],
        ['search', 'someone'],
        ['ranker', 'someone'],
      ],
      ...[
        ['zoo', 'ahead'],
        ['gifts', 'ahead'],
        ['about', 'rest'],
        ['mended', 'rest'],
      ],
    ]);
  });

  test('says what is wrong or next', () => {
    expect(row('payments')?.next).toMatchObject({
      ...{ status: 'failed', text: '100%, after 5 tries; 30% is scheduled again' },
    });
    expect(row('ranker')?.next).toMatchObject({
      ...{ status: 'conflict', text: '30% or 0%: two changes' },
    });
    expect(row('search')?.next).toMatchObject({ text: '50%, for a conflict' });
    expect(row('zoo')?.next).toMatchObject({ status: 'uncertain', text: '10%, tried 2 times' });
  });

  test.each([
    ['', 7],
    ['is:suspended', 1],
    ['is:failed', 1],
    ['is:conflict', 1],
    ['is:pending', 3],
    ['is:on', 3],
    ['is:off A', 3],
    ['MEND is:on', 1],
    ['is:nothing', 0],
  ])('%j lets %i of 7 through', (filter, count) => {
    expect(rows.filter((one) => matches(one, filter))).toHaveLength(count);
  });

  test('the server is asked for the longest word, and for on or off', () => {
    expect(serverFilter('v2 checkout is:on is:pending')).toEqual({
      ...{ text: 'checkout', enabled: true },
    });
    expect(serverFilter('is:failed')).toEqual({});
  });

  test('rows stay where they are while a pointer is over them', () => {
    const changed = rows.map((one) =>
      one.flag.flagKey === 'gifts' ? { ...one, next: null, group: 'rest' as const } : one,
    );
    const resorted = changed.toSorted((a, b) => (a.flag.flagKey < b.flag.flagKey ? -1 : 1));
    const held = steady(resorted, rows);
    expect(held.map((one) => one.flag.flagKey)).toEqual(rows.map((one) => one.flag.flagKey));
    expect(held.find((one) => one.flag.flagKey === 'gifts')).toMatchObject({
      ...{ next: null, group: 'ahead' },
    });
    // Others have come.
    expect(steady(resorted, rows.slice(1))).toBe(resorted);
    const other = { ...rows[0], flag: flag('other') } as FlagRow;
    expect(steady(resorted, [other, ...rows.slice(1)])).toBe(resorted);
  });

  test('headings count', () => {
    expect(groupName('someone', 1, true)).toBe('1 needs someone');
    expect(groupName('someone', 2, true)).toBe('2 need someone');
    expect(groupName('ahead', 10, true)).toBe('10 more with changes ahead');
    expect(groupName('ahead', 10, false)).toBe('10 with changes ahead');
  });
});

const TENTH = { enabled: true, rolloutPercentage: 10 };

describe('the browser’s name of a page', () => {
  test.each([
    ['/timeline', 'Timeline · Halyard'],
    ['/flags', 'Flags · Halyard'],
    ['/flags/production/checkout-v2', 'checkout-v2 · Halyard'],
    ['/flags/production/%', 'Flags · Halyard'],
    ['/trail/3eb2283f', 'Trail · Halyard'],
    ['/elsewhere', 'Halyard'],
  ])('%s is %s', (path, title) => {
    expect(pageTitle(path)).toBe(title);
  });
});

describe('what is ahead of a flag', () => {
  const pending = (id: string, time: string, share: number, attempts = 0) => ({
    ...schedule(id, time, share, attempts),
    ...{ status: 'pending', createdAt: day('09:00'), requestedBy: 'bob', maxAttempts: 5 },
    ...{ nextAttemptAt: attempts > 0 ? day('14:10') : null, errorMessage: 'busy' },
    ...{ planId: null },
  });

  test('stands with the latest first, each from the state before it', () => {
    const lines = aheadOf(TENTH, [pending('a', '18:00', 50), pending('b', '21:00', 100)]);
    expect(lines).toMatchObject([
      { title: 'Set to 100%', before: { rolloutPercentage: 50 }, by: 'bob', status: 'pending' },
      { title: 'Set to 50%', before: { rolloutPercentage: 10 } },
    ]);
  });

  test('marks two of one instant, and one that is tried again', () => {
    const lines = aheadOf(TENTH, [pending('a', '18:00', 50), pending('b', '18:00', 0)]);
    expect(lines.map(({ status }) => status)).toEqual(['conflict', 'conflict']);
    expect(aheadOf(TENTH, [pending('a', '14:00', 50, 2)])).toMatchObject([
      { status: 'uncertain', note: 'try 2 of 5 failed: busy' },
    ]);
  });

  test('is what the server foresees, where more decides than the flag’s own schedules', () => {
    const change = (id: string, share: number, inConflict: boolean) => ({
      ...{ at: day('18:00'), flagKey: 'checkout', scheduleId: id, enabled: true },
      ...{ rolloutPercentage: share, certain: true, inConflict },
    });
    const list = [pending('a', '18:00', 50), pending('b', '21:00', 100), pending('c', '23:00', 5)];
    // The first will be suspended, and the last comes later than one asked for.
    const lines = aheadOf(TENTH, list, [change('a', 10, true), change('b', 100, false)]);
    expect(lines).toMatchObject([
      { key: 'c', title: 'Set to 5%', before: { rolloutPercentage: 100 } },
      { key: 'b', title: 'Set to 100%', before: { rolloutPercentage: 10 }, status: 'pending' },
      {
        ...{ key: 'a', status: 'conflict', title: 'Would change nothing: 50%', after: null },
        note: 'as things stand it will not find what it expects',
      },
    ]);
  });

  test('what came due and waits says why', () => {
    const [line] = suspendedOf('production', TENTH, [
      {
        ...{ ...schedule('a', '14:00', 50), suspendedFor: 'conflict', planId: 'p', reason: null },
        suspendedDetails: {
          expected: { rollout_percentage: 25, enabled: true },
          found: { rollout_percentage: 10, enabled: true },
        },
      },
    ]);
    expect(line).toMatchObject({
      ...{ status: 'suspended', title: 'Set to 50%', held: { planId: 'p' } },
      note: 'Suspended for a conflict; expected rollout 25%, found 10%',
    });
  });

  test('of what is overdue comes with its next try', () => {
    const now = Date.parse(day('14:05'));
    const found = upcomingOf('checkout', TENTH, [pending('a', '14:00', 50, 2)], now);
    expect(found).toMatchObject([{ at: day('14:10'), scheduleId: 'a', rolloutPercentage: 50 }]);
  });
});
