import { describe, expect, test } from 'vitest';
import { timeText } from '../../../console/src/time/format.ts';
import { ticksBetween } from '../../../console/src/time/ticks.ts';
import { DAY, HOUR } from '../../../console/src/time/zone.ts';

const utc = (text: string): number => Date.parse(text);

const labels = (from: string, hours: number, zone: string, most: number): string[] =>
  ticksBetween(utc(from), utc(from) + hours * HOUR, zone, most).map(({ at }) => timeText(at, zone));

describe('ticks', () => {
  test.each(['Europe/Paris', 'America/New_York', 'Asia/Kathmandu', 'Australia/Lord_Howe'])(
    'stand at round hours of the clocks of %s',
    (zone) => {
      const found = labels('2026-11-26T08:20Z', 24, zone, 12);
      expect(found).toHaveLength(12);
      for (const text of found) expect(text).toMatch(/^(00|02|04|06|08|\d[02468]):00$/);
    },
  );

  test('mark midnight of the zone, also where clocks leave it out', () => {
    const days = (from: string, zone: string) =>
      ticksBetween(utc(from), utc(from) + 2 * DAY, zone, 16)
        .filter(({ isDay }) => isDay)
        .map(({ at }) => new Date(at).toISOString());
    expect(days('2026-11-26T00:00Z', 'Asia/Kathmandu')).toEqual([
      ...['2026-11-26T18:15:00.000Z', '2026-11-27T18:15:00.000Z'],
    ]);
    // In Beirut that day begins at 01:00.
    expect(days('2027-03-27T00:00Z', 'Asia/Beirut')).toEqual([
      ...['2027-03-27T22:00:00.000Z', '2027-03-28T21:00:00.000Z'],
    ]);
  });

  test.each([
    ['a gap', '2027-03-27T23:00Z', 'Europe/Paris'],
    ['an overlap', '2026-10-24T22:00Z', 'Europe/Paris'],
    ['a gap of half an hour', '2026-10-03T13:00Z', 'Australia/Lord_Howe'],
    ['an overlap of half an hour', '2027-04-03T12:00Z', 'Australia/Lord_Howe'],
    ['a day that is left out', '2011-12-29T20:00Z', 'Pacific/Apia'],
  ])('stand in order, each once, round %s', (_name, from, zone) => {
    for (const most of [6, 12, 24, 36]) {
      const found = ticksBetween(utc(from), utc(from) + 6 * HOUR, zone, most).map(({ at }) => at);
      expect(found.length).toBeGreaterThan(1);
      expect(found).toEqual([...new Set(found)].sort((a, b) => a - b));
    }
  });

  test('are not many more than there is room for', () => {
    for (const days of [0.01, 0.25, 1, 7, 30, 200, 400])
      for (const most of [2, 5, 12])
        expect(
          ticksBetween(utc('2026-11-26T08:20Z'), utc('2026-11-26T08:20Z') + days * DAY, 'UTC', most)
            .length,
        ).toBeLessThanOrEqual(most + 2);
  });
});
