/** Rows of schedules, as every statement of REST reads them. */
import type { Schedule } from './schemas.ts';

const TIMES = ['scheduled_at', 'applied_at', 'cancelled_at', 'created_at', 'updated_at'] as const;
type Time = (typeof TIMES)[number];

/** Dates, because pg makes them; in JSON they become ISO 8601 in UTC with milliseconds. */
export type ScheduleRow = Omit<Schedule, Time> & Record<Time, Date | null>;

/** Of a flag `f` and a schedule `s`. */
export const COLUMNS = `
  s.id, f.flag_key, f.environment, s.scheduled_at, s.status, s.updates, s.applied_at, s.error_message, s.attempts,
  s.requested_by, s.reason,
  s.created_by, s.cancelled_by, s.cancelled_at, s.cancel_reason, s.created_at, s.updated_at`;

/** A time of a row as text with microseconds, which a Date has not: without them a page would skip or repeat rows of one millisecond. */
export const preciseTime = (column: Time) =>
  `to_char(s.${column} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`;

/** Such a time and the schedule's id: what the cursors of lists are made of, behind their name. */
export const PLACE =
  /(?<at>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z):(?<id>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/
    .source;

/** A row that PostgreSQL has written as JSON, where times are text. */
export function rowOfJson(row: Omit<ScheduleRow, Time> & Record<Time, string | null>): ScheduleRow {
  const times = TIMES.map((name) => {
    const text = row[name];
    return [name, text === null ? null : new Date(text)] as const;
  });
  return { ...row, ...(Object.fromEntries(times) as Record<Time, Date | null>) };
}
