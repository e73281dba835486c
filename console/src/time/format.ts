import { DAY, HOUR, offsetAt, offsetText, wallAt } from './zone.ts';

const MINUTE = 60_000;
const DAYS = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'] as const;
const LONG_DAYS = 'Sunday Monday Tuesday Wednesday Thursday Friday Saturday'.split(' ');
const MONTHS = 'Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec'.split(' ');
const LONG_MONTHS =
  'January February March April May June July August September October November December'.split(
    ' ',
  );

const two = (n: number): string => String(n).padStart(2, '0');

export type Precision = 'minute' | 'second' | 'millisecond';

/** As `18:00`, `18:00:00` or `18:00:00.018`. */
export function timeText(at: number, zone: string, precision: Precision = 'minute'): string {
  const wall = wallAt(at, zone);
  const minutes = `${two(wall.getUTCHours())}:${two(wall.getUTCMinutes())}`;
  if (precision === 'minute') return minutes;
  const seconds = `${minutes}:${two(wall.getUTCSeconds())}`;
  if (precision === 'second') return seconds;
  return `${seconds}.${String(wall.getUTCMilliseconds()).padStart(3, '0')}`;
}

/** As `Thu 26 Nov`, with the year where it isn't this one. */
export function dayText(at: number, zone: string, now: number): string {
  const wall = wallAt(at, zone);
  const year = wall.getUTCFullYear();
  const day = `${DAYS[wall.getUTCDay()] ?? ''} ${wall.getUTCDate()} ${MONTHS[wall.getUTCMonth()] ?? ''}`;
  return year === wallAt(now, zone).getUTCFullYear() ? day : `${day} ${year}`;
}

/** As `Thursday 26 November`, with the year where it isn't this one. */
export function longDayText(at: number, zone: string, now: number): string {
  const wall = wallAt(at, zone);
  const year = wall.getUTCFullYear();
  const day = `${LONG_DAYS[wall.getUTCDay()] ?? ''} ${wall.getUTCDate()} ${LONG_MONTHS[wall.getUTCMonth()] ?? ''}`;
  return year === wallAt(now, zone).getUTCFullYear() ? day : `${day} ${year}`;
}

/** As `Thu 26 Nov 18:00:00`. */
export const instantText = (
  at: number,
  zone: string,
  now: number,
  precision: Precision = 'second',
): string => `${dayText(at, zone, now)} ${timeText(at, zone, precision)}`;

/** The time alone where it is today's, else with its day: as `18:00` or `Fri 27 Nov 06:00`. */
export const shortText = (
  at: number,
  zone: string,
  now: number,
  precision: Precision = 'minute',
): string =>
  dateText(at, zone) === dateText(now, zone)
    ? timeText(at, zone, precision)
    : instantText(at, zone, now, precision);

/** As `2026-11-26`. */
export const dateText = (at: number, zone: string): string =>
  wallAt(at, zone).toISOString().slice(0, 10);

/** As `UTC+1`, of the instant's day. */
export const offsetTextAt = (at: number, zone: string): string => offsetText(offsetAt(at, zone));

/** The two greatest units of a duration: as `2 h 55 min`, `45 s`, `3 d 4 h`. `ms` below a second. */
export function durationText(ms: number): string {
  const left = Math.abs(ms);
  if (left < 1_000) return `${Math.round(left)} ms`;
  if (left < MINUTE) return `${Math.floor(left / 1_000)} s`;
  if (left < HOUR) {
    const seconds = Math.floor((left % MINUTE) / 1_000);
    const minutes = `${Math.floor(left / MINUTE)} min`;
    return left < 10 * MINUTE && seconds > 0 ? `${minutes} ${two(seconds)} s` : minutes;
  }
  const [big, small, bigName, smallName] =
    left < DAY ? ([HOUR, MINUTE, 'h', 'min'] as const) : ([DAY, HOUR, 'd', 'h'] as const);
  const rest = Math.floor((left % big) / small);
  return `${Math.floor(left / big)} ${bigName}${rest === 0 ? '' : ` ${rest} ${smallName}`}`;
}

/** As `in 2 h 55 min` or `3 h 4 min ago`. */
export const relativeText = (at: number, now: number): string =>
  at >= now ? `in ${durationText(at - now)}` : `${durationText(at - now)} ago`;
