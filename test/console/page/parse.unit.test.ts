import { expect, test } from 'vitest';
import {
  parseDate,
  parseDateTime,
  parseSpan,
  parseTime,
  wallOf,
} from '../../../console/src/time/parse.ts';

/** In Auckland it is the 27th already. */
const NOW = Date.parse('2026-11-26T14:04:22Z');

test.each([
  ['2026-11-26', '2026-11-26'],
  [' 2026-1-5 ', '2026-01-05'],
  ['today', '2026-11-27'],
  ['Tomorrow', '2026-11-28'],
  ['yesterday', '2026-11-26'],
  ['+3d', '2026-11-30'],
  ['-1 d', '2026-11-26'],
  ['2028-02-29', '2028-02-29'],
  ['2026-02-29', null],
  ['2026-04-31', null],
  ['2026-13-01', null],
  ['2026-00-10', null],
  ['26.11.2026', null],
  ['', null],
])('the date “%s” is read as %s', (text, date) => {
  expect(parseDate(text, 'Pacific/Auckland', NOW)).toBe(date);
});

test.each([
  ['9', '09:00:00'],
  ['9:00', '09:00:00'],
  ['18.30', '18:30:00'],
  ['9h05', '09:05:00'],
  ['23:59:59', '23:59:59'],
  ['24:00', null],
  ['9:60', null],
  ['9:5', null],
  ['noon', null],
  ['', null],
])('the time “%s” is read as %s', (text, time) => {
  expect(parseTime(text)).toBe(time);
});

test.each([
  ['+2h', 7_200_000],
  ['-24h', -86_400_000],
  ['90 min', 5_400_000],
  ['90m', 5_400_000],
  ['2w', 14 * 86_400_000],
  ['2 months', null],
  ['h', null],
])('the span “%s” is read as %s', (text, ms) => {
  expect(parseSpan(text)).toBe(ms);
});

test.each([
  ['tomorrow 9:00', { date: '2026-11-27', time: '09:00:00' }],
  ['+2h', { date: '2026-11-26', time: '17:04:22' }],
  ['+90s', { date: '2026-11-26', time: '15:05:52' }],
  ['+3d 9:00', { date: '2026-11-29', time: '09:00:00' }],
  ['2026-11-26 20:00', { date: '2026-11-26', time: '20:00:00' }],
  ['2026-11-26T20:00:30', { date: '2026-11-26', time: '20:00:30' }],
  ['20:00', { date: '2026-11-26', time: '20:00:00' }],
  ['tomorrow', null],
  ['soon', null],
])('“%s” is read as a clock of Paris shows it', (text, found) => {
  expect(parseDateTime(text, 'Europe/Paris', NOW)).toEqual(found);
});

test('a span is one of time, and not of clocks', () => {
  // An hour before clocks of Paris are set back: two hours later they show one more.
  const before = Date.parse('2026-10-25T00:00Z');
  expect(parseDateTime('+2h', 'Europe/Paris', before)).toEqual({
    ...{ date: '2026-10-25', time: '03:00:00' },
  });
});

test('a wall time is taken as if it were UTC', () => {
  expect(wallOf('2026-11-26', '20:00:30')).toBe(Date.parse('2026-11-26T20:00:30Z'));
});
