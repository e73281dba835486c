import { afterAll, describe, expect, test, vi } from 'vitest';
import { isConflict } from '../../../console/src/parts/flag_state.tsx';
import type { Pending, Upcoming } from '../../../console/src/tonight/documents.ts';
import { handOver, wrap } from '../../../console/src/tonight/handover.ts';
import { itemsOf, labelOf, mostAsked, namesOf } from '../../../console/src/tonight/model.ts';
import { endText, readUntil, untilParam, untilText } from '../../../console/src/tonight/until.ts';
import { DAY, HOUR } from '../../../console/src/time/zone.ts';

await vi.hoisted(async () => (await import('./browser.ts')).stubBrowser());

afterAll(() => {
  vi.unstubAllGlobals();
});

const PARIS = 'Europe/Paris';
/** 15:04 in Paris. */
const NOW = Date.parse('2026-11-26T14:04:22Z');
const iso = (at: number | null): string | null => (at === null ? null : new Date(at).toISOString());

describe('the end of the night', () => {
  test.each([
    ['', '2026-11-27T07:00:00.000Z'],
    ['20:00', '2026-11-26T19:00:00.000Z'],
    ['9', '2026-11-27T08:00:00.000Z'],
    ['tomorrow 12:00', '2026-11-27T11:00:00.000Z'],
    ['+12h', '2026-11-27T02:04:22.000Z'],
    ['2026-11-27T08:00:00+01:00', '2026-11-27T07:00:00.000Z'],
    ['yesterday 9:00', null],
    ['2028-01-01 00:00', null],
    ['soon', null],
  ])('%s is %s', (text, expected) => {
    expect(iso(readUntil(text, PARIS, NOW))).toBe(expected);
  });

  test('the address keeps a time of day as it is, and of a span the instant', () => {
    expect(untilParam('08:00', PARIS, NOW)).toBe('08:00');
    const kept = untilParam('+12h', PARIS, NOW);
    expect(kept).toBe('2026-11-27T02:05:00.000Z');
    expect(untilText(kept, PARIS)).toBe('2026-11-27 03:05');
    expect(untilParam('soon', PARIS, NOW)).toBe('soon');
  });

  test('the morning is said by its time alone', () => {
    expect(endText(NOW + 17 * HOUR, PARIS, NOW)).toBe('08:04');
    expect(endText(NOW + 2 * DAY, PARIS, NOW)).toBe('Sat 28 Nov 15:04');
  });
});

const EVENING = '2026-11-26T17:00:00Z';
const upcoming = (
  id: string,
  updates: Upcoming['updates'],
  rest: Partial<Upcoming> = {},
): Upcoming => ({
  ...{ at: EVENING, flagKey: 'ranker', scheduleId: id, updates },
  ...{ enabled: true, rolloutPercentage: 25, inConflict: false, planId: null, ...rest },
});
const pending = (id: string, by: string, rest: Partial<Pending> = {}): Pending => ({
  ...{ id, status: 'pending', scheduledAt: EVENING, requestedBy: by, createdBy: by, reason: null },
  ...{ attempts: 0, maxAttempts: 5, errorMessage: null },
  ...{ flag: { flagKey: 'ranker', enabled: true, rolloutPercentage: 10 }, ...rest },
});

describe('the list of the night', () => {
  test('two pending changes at one instant are one item, and the last one wins', () => {
    const [item, ...others] = itemsOf(
      'production',
      [
        upcoming('1', { enabled: null, rolloutPercentage: 30 }, { rolloutPercentage: 30 }),
        upcoming('2', { enabled: null, rolloutPercentage: 0 }, { rolloutPercentage: 0 }),
      ],
      [pending('1', 'alice@example.com'), pending('2', 'bob')],
    );
    expect(others).toEqual([]);
    expect(item).toMatchObject({ isConflict: true, before: { rolloutPercentage: 10 } });
    expect(item?.after.rolloutPercentage).toBe(0);
    expect(item && [labelOf(item), namesOf(item)]).toEqual(['30% or 0%', 'alice and bob']);
  });

  test('changes of other fields, and the same change twice, are no conflict', () => {
    const on = { enabled: true, rolloutPercentage: null };
    expect(isConflict([on, { enabled: null, rolloutPercentage: 30 }])).toBe(false);
    expect(isConflict([on, on])).toBe(false);
    expect(isConflict([on, { enabled: false }])).toBe(true);
  });

  test('what comes before is what the change before has made', () => {
    const items = itemsOf(
      'production',
      [
        upcoming('1', { enabled: null, rolloutPercentage: 25 }),
        upcoming(
          '2',
          { enabled: false, rolloutPercentage: null },
          { at: '2026-11-26T18:00:00Z', enabled: false },
        ),
      ],
      [pending('1', 'alice')],
    );
    expect(items.map(({ before }) => before?.rolloutPercentage)).toEqual([10, 25]);
    expect(mostAsked(items)).toEqual({ by: 'alice', count: 1 });
  });

  test('viewers see no person named', () => {
    const { id, status, scheduledAt, attempts, maxAttempts, flag } = pending('1', 'alice');
    const seen = { id, status, scheduledAt, attempts, maxAttempts, flag };
    const items = itemsOf(
      'production',
      [upcoming('1', { enabled: true, rolloutPercentage: null })],
      [seen],
    );
    expect(mostAsked(items)).toBeNull();
    expect(items[0]?.changes[0]).toMatchObject({ by: null, reason: null });
  });
});

describe('the hand-over', () => {
  const night = {
    ...{ environments: ['production'], zone: PARIS, now: NOW, until: NOW + 17 * HOUR, failed: [] },
    ...{ suspended: [], paused: [] },
  };
  const items = itemsOf(
    'production',
    [
      upcoming('1', { enabled: null, rolloutPercentage: 30 }),
      upcoming('2', { enabled: true, rolloutPercentage: 0 }),
      upcoming(
        '3',
        { enabled: true, rolloutPercentage: null },
        { at: '2026-11-27T01:00:00Z', flagKey: 'nightly' },
      ),
    ],
    [],
  );

  test('is plain text of 40 columns', () => {
    const text = handOver({
      ...{ ...night, items },
      failed: [{ environment: 'production', flagKey: 'payments-3ds', at: NOW - 2 * HOUR }],
      suspended: [{ environment: 'production', flagKey: 'search', at: NOW - HOUR }],
      paused: ['production'],
    });
    expect(text.split('\n')).toEqual([
      'Until 08:04, production, Europe/Paris',
      '(UTC+1)',
      'PAUSED: production, nothing is applied',
      '18:00 ranker 30% or on, 0%: DECIDE',
      '02:00 nightly on',
      'Failed: payments-3ds 13:04',
      'Waits: search 14:04: DECIDE',
    ]);
  });

  test('names environments and days where there are several', () => {
    const text = handOver({
      ...{ ...night, items, environments: ['production', 'staging'], until: NOW + 2 * DAY },
    });
    expect(text).toContain('\nFri 27 Nov\n02:00 nightly (production) on');
    expect(handOver({ ...night, items: [] })).toContain('Nothing is scheduled until 08:04.');
  });

  test('breaks between words, and no word', () => {
    expect(wrap(`18:00 ${'x'.repeat(50)} on`)).toEqual([
      '18:00',
      `      ${'x'.repeat(50)}`,
      '      on',
    ]);
    expect(wrap('18:00 a b', 8)).toEqual(['18:00 a', '      b']);
  });
});
