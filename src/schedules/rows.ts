/** Rows of schedules, as every statement of REST reads them. */
import type { Request, Response } from 'express';

import type { PendingSchedules } from '../flags/routes.ts';
import { makeTimeCursor, paginate } from '../http/page.ts';
import { MAX_PENDING_SHOWN, type Schedule } from './schemas.ts';

const TIMES = ['scheduled_at', 'applied_at', 'cancelled_at', 'created_at', 'updated_at'] as const;
type Time = (typeof TIMES)[number];
type RowWithTimes<T> = Omit<Schedule, Time> & Record<Time, T | null>;

/** Dates, because pg makes them; in JSON they become ISO 8601 in UTC with milliseconds. */
export type ScheduleRow = RowWithTimes<Date>;

/** A row of a list, with its place in the list's order. */
export type ListedRow = ScheduleRow & { readonly cursor_at: string };

/** Of a flag `f` and a schedule `s`. */
export const COLUMNS = `
  s.id, f.flag_key, f.environment, s.scheduled_at, s.status, s.updates, s.applied_at, s.error_message, s.attempts,
  s.requested_by, s.reason,
  s.created_by, s.cancelled_by, s.cancelled_at, s.cancel_reason, s.created_at, s.updated_at,
  s.revision::float8 as revision,
  s.plan_id, s.occurrence_no, s.step_no, s.expects, nullif(s.on_conflict, 'overwrite') as on_conflict,
  s.suspended_for, s.suspended_details, s.resolution_reason, s.before, s.kept`;

/** Columns that an answer has only where they aren't null. */
const OPTIONAL = [
  ...(['plan_id', 'occurrence_no', 'step_no', 'expects', 'on_conflict'] as const),
  ...(['suspended_for', 'suspended_details', 'resolution_reason', 'before', 'kept'] as const),
] satisfies readonly (keyof Schedule)[];

/** A schedule as it is answered. */
export function scheduleBody(row: ScheduleRow): ScheduleRow {
  const empty = OPTIONAL.filter((column) => (row[column] as unknown) === null);
  // JSON leaves out what is undefined.
  return { ...row, ...Object.fromEntries(empty.map((column) => [column, undefined])) };
}

/** The cursors of a list of schedules by a time, named `name`, and what answers a page of it. */
export function makeScheduleList(name: string) {
  const cursor = makeTimeCursor(name);
  return {
    decode: (after: string | undefined) => cursor.decode(after),
    /** Sends the first `limit` rows. */
    send(request: Request, response: Response, rows: readonly ListedRow[], limit: number): void {
      const page = paginate(request, response, rows, limit, ({ cursor_at, id }) =>
        cursor.encode({ at: cursor_at, id }),
      );
      // JSON leaves out what is undefined.
      response.json(page.map((row) => ({ ...scheduleBody(row), cursor_at: undefined })));
    },
  };
}

/** The pending schedules of a flag that come first, which will change it again. */
export const pendingSchedules: PendingSchedules = {
  sql: `(
    select coalesce(json_agg(p), '[]')
    from (
      select ${COLUMNS}
      from app_public.feature_flag_schedules s
      where s.flag_id = f.id and s.status = 'pending'
      order by s.scheduled_at, s.id
      limit ${MAX_PENDING_SHOWN}
    ) p
  )`,
  read: (json) => (json as RowWithTimes<string>[]).map(withDates).map(scheduleBody),
};

/** A row that PostgreSQL has written as JSON, where times are text. */
function withDates(row: RowWithTimes<string>): ScheduleRow {
  const times = TIMES.map((name) => [name, row[name] && new Date(row[name])]);
  return { ...row, ...(Object.fromEntries(times) as Record<Time, Date | null>) };
}
