import { shortText, timeText } from '../time/format.ts';
import { parseDateTime, parseTime, wallOf } from '../time/parse.ts';
import { DAY, instantOf, wallAt } from '../time/zone.ts';

/** When a night ends unless another end is chosen. */
const MORNING = '08:00:00';
/** The server takes a span of 400 days. */
const LONGEST = 399 * DAY;

const INSTANT = /^\d{4}-\d\d-\d\dT.*(Z|[+-]\d\d:\d\d)$/;

/** The next time at which clocks of the zone show a time of day. */
function nextTime(time: string, zone: string, now: number): number {
  const today = wallAt(now, zone).toISOString().slice(0, 10);
  const wall = wallOf(today, time);
  const at = instantOf(wall, zone);
  return at > now ? at : instantOf(wall + DAY, zone);
}

/**
 * Reads the end of the list: `08:00`, `tomorrow 12:00`, `+12h`, an instant. A time of day is the next one.
 *
 * @returns milliseconds since 1970; null for what is no time, or none that comes within 400 days
 */
export function readUntil(text: string, zone: string, now: number): number | null {
  const said = text.trim();
  if (said === '') return nextTime(MORNING, zone, now);
  const time = parseTime(said);
  if (time !== null) return nextTime(time, zone, now);
  const exact = INSTANT.test(said) ? Date.parse(said) : Number.NaN;
  const found = parseDateTime(said, zone, now);
  const at = Number.isNaN(exact)
    ? found === null
      ? Number.NaN
      : instantOf(wallOf(found.date, found.time), zone)
    : exact;
  return at > now && at - now <= LONGEST ? at : null;
}

/** What the address keeps: a time of day as it is, so that it is each morning's; of anything else the instant, so that it doesn't move. */
export function untilParam(text: string, zone: string, now: number): string {
  const said = text.trim();
  const at = said === '' || parseTime(said) !== null ? null : readUntil(said, zone, now);
  return at === null ? said : new Date(Math.ceil(at / 60_000) * 60_000).toISOString();
}

/** The address's text as the field shows it: an instant as the zone's clocks do. */
export function untilText(param: string, zone: string): string {
  const at = INSTANT.test(param) ? Date.parse(param) : Number.NaN;
  if (Number.isNaN(at)) return param;
  return wallAt(at, zone).toISOString().slice(0, 16).replace('T', ' ');
}

/** The end as a person says it: the time alone where it is within a day. */
export const endText = (until: number, zone: string, now: number): string =>
  until - now <= DAY ? timeText(until, zone) : shortText(until, zone, now);
