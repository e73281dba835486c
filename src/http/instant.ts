/** Times that clients send, by RFC 3339. */

/** Either case of T and Z, and a space for the T: RFC 3339, section 5.6. */
const INSTANT =
  /^(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(\.\d+)?(?:[Zz]|([+-])(\d\d):(\d\d))$/;

const MINUTE_MS = 60_000;
const DAY_MS = 1_440 * MINUTE_MS;
/** PostgreSQL's are microseconds, and it rounds. */
const MAX_FRACTION = 10;

/**
 * Reads a time of RFC 3339 and writes it in the one way that PostgreSQL and JavaScript read alike: in UTC, with T and Z, so that every
 * offset is possible, and a leap second is the second after it, as in both of them.
 *
 * @returns null for text that is no such time: a day that doesn't exist, 24:00, a second 60 other than at 23:59 UTC, the year 0
 */
export function readInstant(text: string): string | null {
  const [, year, month, day, hour, minute, second, fraction = '', sign, offsetHour, offsetMinute] =
    INSTANT.exec(text) ?? [];
  if (year === undefined || Number(year) === 0) return null;
  const [hours, minutes, seconds] = [Number(hour), Number(minute), Number(second)];
  const [awayHours, awayMinutes] = [Number(offsetHour ?? 0), Number(offsetMinute ?? 0)];
  if (hours > 23 || minutes > 59 || seconds > 60 || awayHours > 23 || awayMinutes > 59) return null;
  const date = `${year}-${month ?? ''}-${day ?? ''}`;
  const midnight = Date.parse(`${date}T00:00:00Z`);
  // 30 February is a day in March to Date.parse, or none.
  if (Number.isNaN(midnight) || new Date(midnight).toISOString().slice(0, 10) !== date) return null;
  const away = (sign === '-' ? -1 : 1) * (awayHours * 60 + awayMinutes) * MINUTE_MS;
  const toMinute = midnight + (hours * 60 + minutes) * MINUTE_MS - away;
  const isLastMinute = (toMinute + MINUTE_MS) % DAY_MS === 0;
  if (seconds === 60 && !isLastMinute) return null;
  return write(new Date(toMinute + seconds * 1_000), fraction.slice(0, MAX_FRACTION));
}

/** A year beyond 9999 has five digits, without the sign of ISO 8601, which PostgreSQL doesn't read: what that means is for it to say. */
function write(at: Date, fraction: string): string | null {
  if (at.getUTCFullYear() < 1) return null;
  const [, year = '', rest = ''] = /^\+?0*(\d{4,})(-.*)\.\d{3}Z$/.exec(at.toISOString()) ?? [];
  return `${year}${rest}${fraction}Z`;
}
