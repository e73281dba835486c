import { describe, expect, test } from 'vitest';
import { cityOf, otherZone } from '../../../console/src/schedules/other_zone.ts';
import {
  monthOf,
  monthsLater,
  readFields,
  readWhen,
  whenTextOf,
  type WhenText,
} from '../../../console/src/time/when.ts';

const NOW = Date.parse('2026-11-26T14:04:22Z');
const paris = (date: string, time: string, choice: WhenText['choice'] = ''): WhenText => ({
  ...{ date, time, zone: 'Europe/Paris', choice },
});

describe('the fields of an instant', () => {
  test.each([
    ['2026-11-26', '20:00', '2026-11-26 20:00:00'],
    ['tomorrow', '9', '2026-11-27 09:00:00'],
    ['+3d', '06:30:15', '2026-11-29 06:30:15'],
    ['tomorrow 9:00', '', '2026-11-27 09:00:00'],
    ['+2h', '', '2026-11-26 17:04:22'],
    ['2026-11-26', '+2h', '2026-11-26 17:04:22'],
    ['', 'tomorrow 9:00', '2026-11-27 09:00:00'],
  ])('%j and %j are %s', (date, time, expected) => {
    expect(readFields(paris(date, time), NOW)).toEqual({
      date: expected.slice(0, 10),
      time: expected.slice(11),
    });
  });

  test.each([
    ['2026-02-30', '20:00', 'date'],
    ['soon', '20:00', 'date'],
    ['today', '25:00', 'time'],
    ['today', '', 'time'],
  ])('%j and %j are no instant for the %3$s', (date, time, field) => {
    expect(readFields(paris(date, time), NOW)).toBe(field);
  });
});

describe('what they mean', () => {
  test('one instant, with the offset of its day', () => {
    expect(readWhen(paris('2026-11-26', '20:00'), NOW)).toEqual({
      ...{ kind: 'instant', at: Date.parse('2026-11-26T19:00:00Z'), isSecond: null },
    });
    expect(readWhen(paris('2027-06-01', '20:00'), NOW)).toMatchObject({
      at: Date.parse('2027-06-01T18:00:00Z'),
    });
  });

  test('a gap has none, and names its neighbours', () => {
    expect(readWhen(paris('2027-03-28', '02:30'), NOW)).toEqual({
      kind: 'gap',
      before: { date: '2027-03-28', time: '01:30:00', at: Date.parse('2027-03-28T00:30:00Z') },
      after: { date: '2027-03-28', time: '03:30:00', at: Date.parse('2027-03-28T01:30:00Z') },
    });
  });

  test('an overlap has two until one is chosen', () => {
    const first = Date.parse('2027-10-31T00:30:00Z');
    const second = Date.parse('2027-10-31T01:30:00Z');
    const read = (choice: WhenText['choice']) => readWhen(paris('2027-10-31', '2:30', choice), NOW);
    expect(read('')).toEqual({ kind: 'overlap', first, second });
    expect(read('first')).toEqual({ kind: 'instant', at: first, isSecond: false });
    expect(read('second')).toEqual({ kind: 'instant', at: second, isSecond: true });
  });

  test('what has passed is past, now too', () => {
    expect(readWhen(paris('2026-11-26', '15:04:22'), NOW)).toEqual({ kind: 'past', at: NOW });
    expect(readWhen(paris('2026-11-26', '15:04:23'), NOW)).toMatchObject({ kind: 'instant' });
  });

  test('an unknown zone is said first', () => {
    expect(readWhen({ ...paris('never', ''), zone: 'Europe/Pari' }, NOW)).toMatchObject({
      ...{ kind: 'bad', field: 'zone' },
    });
  });

  test.each([
    ['2026-11-26T19:00:00Z', 'Asia/Kathmandu'],
    ['2027-10-31T00:30:00Z', 'Europe/Paris'],
    ['2027-10-31T01:30:00Z', 'Europe/Paris'],
    // Clocks of Lord Howe are set back by half an hour.
    ['2027-04-03T14:45:00Z', 'Australia/Lord_Howe'],
    ['2027-04-03T15:15:00Z', 'Australia/Lord_Howe'],
  ])('the fields of %s in %s mean it again', (text, zone) => {
    const at = Date.parse(text);
    expect(readWhen(whenTextOf(at, zone), NOW)).toMatchObject({ kind: 'instant', at });
  });
});

describe('the calendar', () => {
  test('has weeks from Monday on, and the whole month', () => {
    const weeks = monthOf('2026-11-26');
    expect(weeks[0]?.[0]).toEqual({ date: '2026-10-26', day: 26, isOfMonth: false });
    expect(weeks.flat().filter(({ isOfMonth }) => isOfMonth)).toHaveLength(30);
  });

  test('goes to the last day where a month is shorter', () => {
    expect(monthsLater('2026-10-31', 1)).toBe('2026-11-30');
    expect(monthsLater('2027-01-31', 1)).toBe('2027-02-28');
    expect(monthsLater('2027-01-31', -1)).toBe('2026-12-31');
    expect(monthsLater('2026-12-31', 2)).toBe('2027-02-28');
  });
});

describe('the other zone of an echo', () => {
  test('is the display’s, the browser’s or New York, the first that is another', () => {
    expect(otherZone('Europe/Paris', 'Asia/Tokyo', 'Europe/Rome')).toBe('Asia/Tokyo');
    expect(otherZone('Europe/Paris', 'Europe/Paris', 'Europe/Rome')).toBe('Europe/Rome');
    expect(otherZone('Europe/Paris', 'UTC', 'Europe/Paris')).toBe('America/New_York');
    expect(otherZone('America/New_York', 'UTC', 'UTC')).toBeNull();
  });

  test('is called by its city', () => {
    expect(cityOf('America/Argentina/Buenos_Aires')).toBe('Buenos Aires');
  });
});
