import { describe, expect, test } from 'vitest';
import {
  instantOf,
  instantsOf,
  isZone,
  offsetAt,
  offsetText,
  wallAt,
} from '../../../console/src/time/zone.ts';

/** A wall time as if it were UTC. */
const wall = (text: string): number => Date.parse(`${text}Z`);
const utc = (text: string): number => Date.parse(text);

describe('the instants of a wall time', () => {
  test('are one on most days', () => {
    expect(instantsOf(wall('2026-11-26T18:00'), 'Europe/Paris')).toEqual({
      kind: 'one',
      at: utc('2026-11-26T17:00Z'),
    });
  });

  // Each gap by the last instant before it as clocks show it, and by its length.
  test.each([
    ['Europe/Paris', '2027-03-28T02:30', '2027-03-28T00:30Z', '2027-03-28T01:30Z'],
    ['America/New_York', '2027-03-14T02:30', '2027-03-14T06:30Z', '2027-03-14T07:30Z'],
    // Half an hour.
    ['Australia/Lord_Howe', '2026-10-04T02:15', '2026-10-03T15:15Z', '2026-10-03T15:45Z'],
    // A whole day that Samoa left out.
    ['Pacific/Apia', '2011-12-30T12:00', '2011-12-29T22:00Z', '2011-12-30T22:00Z'],
  ])('are none where clocks of %s leave out %s, with both neighbours', (zone, at, ...sides) => {
    const [before, after] = sides;
    expect(instantsOf(wall(at), zone)).toEqual({
      kind: 'none',
      before: utc(before),
      after: utc(after),
    });
    expect(instantOf(wall(at), zone)).toBe(utc(after));
  });

  test.each([
    ['Europe/Paris', '2026-10-25T02:30', '2026-10-25T00:30Z', '2026-10-25T01:30Z'],
    ['America/New_York', '2026-11-01T01:30', '2026-11-01T05:30Z', '2026-11-01T06:30Z'],
    ['Australia/Lord_Howe', '2027-04-04T01:45', '2027-04-03T14:45Z', '2027-04-03T15:15Z'],
  ])('are two where clocks of %s show %s twice', (zone, at, ...both) => {
    const [first, second] = both;
    expect(instantsOf(wall(at), zone)).toEqual({
      kind: 'two',
      first: utc(first),
      second: utc(second),
    });
    expect(instantOf(wall(at), zone)).toBe(utc(first));
  });

  test.each(['Europe/Paris', 'Asia/Kathmandu', 'Australia/Lord_Howe', 'Pacific/Apia', 'UTC'])(
    'of what clocks of %s show are the instant itself, or have it among them',
    (zone) => {
      // A step that meets all hours, days and quarters of an hour.
      for (let at = utc('2025-12-01T00:00Z'); at < utc('2027-12-01T00:00Z'); at += 435 * 60_000) {
        const found = instantsOf(wallAt(at, zone).getTime(), zone);
        expect(Object.values(found)).toContain(at);
      }
    },
  );
});

test('an offset is that of its day', () => {
  expect(offsetAt(utc('2026-07-01T12:00Z'), 'Europe/Paris')).toBe(120);
  expect(offsetAt(utc('2026-12-01T12:00Z'), 'Europe/Paris')).toBe(60);
  expect(offsetAt(utc('2026-12-01T12:00Z'), 'Asia/Kathmandu')).toBe(345);
  expect(offsetAt(utc('2026-12-01T12:00Z'), 'Australia/Lord_Howe')).toBe(660);
  // The second that sets clocks back, and the one before.
  expect(offsetAt(utc('2026-10-25T01:00Z') - 1, 'Europe/Paris')).toBe(120);
  expect(offsetAt(utc('2026-10-25T01:00Z'), 'Europe/Paris')).toBe(60);
  expect(() => offsetAt(0, 'Europe/Nowhere')).toThrow(RangeError);
});

test.each([
  [0, 'UTC'],
  [60, 'UTC+1'],
  [345, 'UTC+5:45'],
  [-210, 'UTC−3:30'],
])('an offset of %d minutes is written %s', (minutes, text) => {
  expect(offsetText(minutes)).toBe(text);
});

test('a zone is a name of the IANA’s database', () => {
  expect(['Europe/Paris', 'UTC', 'Europe/Nowhere', ''].map(isZone)).toEqual([
    ...[true, true, false, false],
  ]);
});
