import { DAY, HOUR, wallAt } from './zone.ts';

const MINUTE = 60_000;
const UNITS: Readonly<Record<string, number>> = {
  s: 1_000,
  m: MINUTE,
  min: MINUTE,
  h: HOUR,
  d: DAY,
  w: 7 * DAY,
};

/**
 * Reads a date as a person writes it: `2026-11-26`, `today`, `tomorrow`, `+3d`.
 *
 * @returns as `2026-11-26`, or null
 */
export function parseDate(text: string, zone: string, now: number): string | null {
  const said = text.trim().toLowerCase();
  const today = Math.floor(wallAt(now, zone).getTime() / DAY);
  const named = { today: 0, tomorrow: 1, yesterday: -1 }[said];
  const days = named ?? Number(/^([+-]\d{1,3})\s*d$/.exec(said)?.[1] ?? Number.NaN);
  if (Number.isInteger(days)) return new Date((today + days) * DAY).toISOString().slice(0, 10);
  const found = /^(\d{4})-(\d{1,2})-(\d{1,2})$/.exec(said);
  if (found === null) return null;
  const [year, month, day] = found.slice(1).map(Number) as [number, number, number];
  const date = new Date(Date.UTC(year, month - 1, day));
  // 31 April is no day.
  return date.getUTCMonth() === month - 1 ? date.toISOString().slice(0, 10) : null;
}

/**
 * Reads a time of day of 24 hours: `9`, `9:00`, `09:00:30`.
 *
 * @returns as `09:00:00`, or null
 */
export function parseTime(text: string): string | null {
  const found = /^(\d{1,2})(?:[:.h](\d{2}))?(?::(\d{2}))?$/.exec(text.trim().toLowerCase());
  if (found === null) return null;
  const parts = found.slice(1).map((part) => Number(part || 0)) as [number, number, number];
  const [hour, minute, second] = parts;
  if (hour > 23 || minute > 59 || second > 59) return null;
  return parts.map((part) => String(part).padStart(2, '0')).join(':');
}

/** Milliseconds of a wall time taken as if it were UTC. */
export const wallOf = (date: string, time: string): number => Date.parse(`${date}T${time}Z`);

/** Milliseconds of a span as `+2h`, `-24h`, `90 min`; null where it is none. */
export function parseSpan(text: string): number | null {
  const found = /^([+-]?)\s*(\d{1,5})\s*(s|m|min|h|d|w)$/.exec(text.trim().toLowerCase());
  const unit = UNITS[found?.[3] ?? ''];
  if (found === null || unit === undefined) return null;
  return (found[1] === '-' ? -1 : 1) * Number(found[2]) * unit;
}

/**
 * Reads what a person writes for a date and time in one field: `tomorrow 9:00`, `+2h`, `2026-11-26 20:00`, `20:00`.
 *
 * @returns the date and time of a clock in the zone, or null
 */
export function parseDateTime(
  text: string,
  zone: string,
  now: number,
): { date: string; time: string } | null {
  const span = /^[+-]/.test(text.trim()) ? parseSpan(text) : null;
  if (span !== null) {
    const wall = wallAt(now + span, zone).toISOString();
    return { date: wall.slice(0, 10), time: wall.slice(11, 19) };
  }
  const words = text.trim().split(/[\sT]+/);
  const time = parseTime(words.at(-1) ?? '');
  const date = parseDate(words.length === 1 ? 'today' : words.slice(0, -1).join(' '), zone, now);
  return time === null || date === null ? null : { date, time };
}
