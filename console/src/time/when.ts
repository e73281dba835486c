import { dateText } from './format.ts';
import { parseDate, parseDateTime, parseTime, wallOf } from './parse.ts';
import { DAY, instantsOf, isZone, wallAt } from './zone.ts';

/** What a person has typed for an instant. */
export interface WhenText {
  readonly date: string;
  readonly time: string;
  readonly zone: string;
  /** Which of two instants, where clocks are set back; '' until it is chosen. */
  readonly choice: '' | 'first' | 'second';
}

/** A date and time of a clock, and the instant at which it shows them. */
export interface WallInstant {
  readonly date: string;
  readonly time: string;
  readonly at: number;
}

/** What that means: an instant, or what is in the way. */
export type When =
  | { readonly kind: 'instant'; readonly at: number; readonly isSecond: boolean | null }
  | { readonly kind: 'past'; readonly at: number }
  | { readonly kind: 'gap'; readonly before: WallInstant; readonly after: WallInstant }
  | { readonly kind: 'overlap'; readonly first: number; readonly second: number }
  | { readonly kind: 'bad'; readonly field: 'date' | 'time' | 'zone'; readonly message: string };

const BAD = {
  date: 'No date: write 2026-11-26, tomorrow or +3d.',
  time: 'No time: write 20:00, 20:00:30 or +2h.',
  zone: 'No zone of the IANA’s list, as Europe/Paris.',
} as const;

/**
 * The date and the time of the two fields. Either may say both: `tomorrow 9:00`, `+2h`.
 *
 * @returns as `2026-11-26` and `20:00:00`, or the field that says none
 */
export function readFields(
  { date, time, zone }: Pick<WhenText, 'date' | 'time' | 'zone'>,
  now: number,
): { readonly date: string; readonly time: string } | 'date' | 'time' {
  const day = parseDate(date, zone, now);
  const hour = parseTime(time);
  if (day !== null && hour !== null) return { date: day, time: hour };
  const both = parseDateTime(date, zone, now) ?? (hour === null && parseDateTime(time, zone, now));
  if (both !== null && both !== false) return both;
  return day === null ? 'date' : 'time';
}

/** Reads the fields: a gap of the zone's clocks has no instant, an overlap has two, and what has passed can't be scheduled. */
export function readWhen(text: WhenText, now: number): When {
  const zone = text.zone.trim();
  if (!isZone(zone)) return { kind: 'bad', field: 'zone', message: BAD.zone };
  const found = readFields({ ...text, zone }, now);
  if (typeof found === 'string') return { kind: 'bad', field: found, message: BAD[found] };
  const instants = instantsOf(wallOf(found.date, found.time), zone);
  if (instants.kind === 'none') {
    const { before, after } = instants;
    return { kind: 'gap', before: wallInstant(before, zone), after: wallInstant(after, zone) };
  }
  if (instants.kind === 'one') return dated(instants.at, null, now);
  const { first, second } = instants;
  if (text.choice === '') return { kind: 'overlap', first, second };
  return dated(text.choice === 'first' ? first : second, text.choice === 'second', now);
}

const dated = (at: number, isSecond: boolean | null, now: number): When =>
  at <= now ? { kind: 'past', at } : { kind: 'instant', at, isSecond };

/** What a clock of the zone shows at an instant. */
export function wallInstant(at: number, zone: string): WallInstant {
  const wall = wallAt(at, zone).toISOString();
  return { date: wall.slice(0, 10), time: wall.slice(11, 19), at };
}

/** The fields of an instant. Where clocks show its time twice, it says which. */
export function whenTextOf(at: number, zone: string): WhenText {
  const { date, time } = wallInstant(at, zone);
  const instants = instantsOf(wallOf(date, time), zone);
  const isTwo = instants.kind === 'two';
  return { date, time, zone, choice: !isTwo ? '' : instants.second === at ? 'second' : 'first' };
}

/** One day of a month's calendar. */
export interface CalendarDay {
  /** As `2026-11-26`. */
  readonly date: string;
  readonly day: number;
  readonly isOfMonth: boolean;
}

/** Six weeks from a Monday, which hold the month of a date. */
export function monthOf(date: string): readonly (readonly CalendarDay[])[] {
  const first = Date.parse(`${date.slice(0, 7)}-01T00:00Z`);
  // Monday is the first day of the week, as in ISO 8601.
  const start = first - ((new Date(first).getUTCDay() + 6) % 7) * DAY;
  return Array.from({ length: 6 }, (_week, week) =>
    Array.from({ length: 7 }, (_day, i) => {
      const text = new Date(start + (week * 7 + i) * DAY).toISOString().slice(0, 10);
      return {
        date: text,
        day: Number(text.slice(8)),
        isOfMonth: text.slice(0, 7) === date.slice(0, 7),
      };
    }),
  );
}

/** The same day of another month, or its last. */
export function monthsLater(date: string, months: number): string {
  const [year = 0, month = 1, day = 1] = date.split('-').map(Number);
  const last = new Date(Date.UTC(year, month + months, 0)).getUTCDate();
  return dateText(Date.UTC(year, month - 1 + months, Math.min(day, last)), 'UTC');
}
