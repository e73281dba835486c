import { expect, test } from 'vitest';
import {
  dateText,
  dayText,
  durationText,
  instantText,
  longDayText,
  offsetTextAt,
  relativeText,
  shortText,
  timeText,
} from '../../../console/src/time/format.ts';

const AT = Date.parse('2026-11-26T17:00:00.018Z');
const NOW = Date.parse('2026-11-26T14:04:22Z');

test('a time is written in the zone, as exactly as it is asked for', () => {
  expect(timeText(AT, 'Europe/Paris')).toBe('18:00');
  expect(timeText(AT, 'Asia/Kathmandu', 'second')).toBe('22:45:00');
  expect(timeText(AT, 'America/New_York', 'millisecond')).toBe('12:00:00.018');
  // Midnight is 00:00 and never 24:00.
  expect(timeText(Date.parse('2026-11-26T23:00Z'), 'Europe/Paris')).toBe('00:00');
});

test('a day is the zone’s, with the year where it isn’t this one', () => {
  expect(dayText(AT, 'Europe/Paris', NOW)).toBe('Thu 26 Nov');
  expect(dayText(AT, 'Pacific/Auckland', NOW)).toBe('Fri 27 Nov');
  expect(dayText(Date.parse('2027-01-01T00:30Z'), 'UTC', NOW)).toBe('Fri 1 Jan 2027');
  expect(longDayText(AT, 'UTC', NOW)).toBe('Thursday 26 November');
  // What is this year is the zone’s too.
  expect(dayText(Date.parse('2026-12-31T23:30Z'), 'Europe/Paris', NOW)).toBe('Fri 1 Jan 2027');
  expect(dateText(AT, 'Pacific/Auckland')).toBe('2026-11-27');
});

test('a time of today stands alone, and others with their day', () => {
  expect(shortText(AT, 'Europe/Paris', NOW)).toBe('18:00');
  // 23:30 and 03:30 of the day after, in the zone.
  expect(shortText(AT + 5 * 3_600_000, 'Europe/Paris', NOW)).toBe('23:00');
  expect(shortText(AT + 6 * 3_600_000, 'Europe/Paris', NOW)).toBe('Fri 27 Nov 00:00');
  expect(instantText(AT, 'Europe/Paris', NOW)).toBe('Thu 26 Nov 18:00:00');
});

test('an offset is that of the instant’s day', () => {
  expect(offsetTextAt(AT, 'Europe/Paris')).toBe('UTC+1');
  expect(offsetTextAt(Date.parse('2026-07-01T00:00Z'), 'Europe/Paris')).toBe('UTC+2');
  expect(offsetTextAt(AT, 'Asia/Kathmandu')).toBe('UTC+5:45');
});

test.each([
  [0, '0 ms'],
  [18, '18 ms'],
  [1_000, '1 s'],
  [59_999, '59 s'],
  [60_000, '1 min'],
  [90_000, '1 min 30 s'],
  [61_000, '1 min 01 s'],
  [11 * 60_000 + 30_000, '11 min'],
  [3_600_000, '1 h'],
  [10_500_000, '2 h 55 min'],
  [86_400_000, '1 d'],
  [100 * 3_600_000, '4 d 4 h'],
])('%d milliseconds are written %s', (ms, text) => {
  expect(durationText(ms)).toBe(text);
  expect(durationText(-ms)).toBe(text);
});

test('how long until, and how long since', () => {
  expect(relativeText(NOW + 10_500_000, NOW)).toBe('in 2 h 55 min');
  expect(relativeText(NOW - 3_840_000, NOW)).toBe('1 h 4 min ago');
});
