import type { Request, Router } from 'express';
import express from 'express';

import { ProblemError } from '../lib/errors.ts';
import type { Statement } from '../postgres/pipeline.ts';
import { requireEnvironment } from '../environments/routes.ts';
import { flagAddress, flagPath, refuseMissingFlag } from '../flags/routes.ts';
import { environmentQuerySchema, flagPathSchema } from '../flags/schemas.ts';
import { optionalBody } from '../http/json_body.ts';
import { preciseTime } from '../http/page.ts';
import { onlyMethods, parse } from '../http/problems.ts';
import type { QueryAsCaller } from '../http/caller.ts';
import {
  cancelScheduleSchema,
  createScheduleSchema,
  listSchedulesQuerySchema,
  rescheduleSchema,
  resumeScheduleSchema,
  retryScheduleSchema,
  schedulePathSchema,
  type CancelSchedule,
} from './schemas.ts';
import {
  COLUMNS,
  makeScheduleList,
  scheduleBody,
  type ListedRow,
  type ScheduleRow,
} from './rows.ts';

const list = makeScheduleList('schedule');

/** One row for each schedule, or one of nulls for a flag without any, or none without such a flag: in one round trip. */
export const LIST = `
  select ${COLUMNS}, s.cursor_at
  from app_public.feature_flags f
  left join lateral (
    select s.*, ${preciseTime('s.created_at')} as cursor_at
    from app_public.feature_flag_schedules s
    where s.flag_id = f.id
      and ($3::text is null or s.status = $3)
      and ($4::timestamptz is null or (s.created_at, s.id) < ($4, $5::uuid))
    order by s.created_at desc, s.id desc
    limit $6
  ) s on true
  where f.flag_key = $1 and f.environment = $2
  order by s.created_at desc, s.id desc`;

/**
 * Calls a function of lifecycle.sql for a schedule that belongs to the flag of the address. Materialized, so that it is
 * never called for one that doesn't; and its right to run is checked first, whether there is such a schedule or not.
 */
const change = (name: string, call: string): Statement => ({
  name,
  text: `
  with f as materialized (
    select f.flag_key, f.environment, s.id
    from app_public.feature_flags f
    join app_public.feature_flag_schedules s on s.flag_id = f.id
    where f.flag_key = $1 and f.environment = $2 and s.id = $3
  )
  select ${COLUMNS} from f cross join lateral ${call} s`,
});

const CREATE: Statement = {
  name: 'create_schedule',
  text: `
  select ${COLUMNS}
  from (select $1::text as flag_key, $2::text as environment) f
  cross join lateral app_public.schedule_flag_change(f.flag_key, f.environment, $3, $4, $5) s`,
};
const GET: Statement = {
  name: 'get_schedule',
  text: `
  select ${COLUMNS}
  from app_public.feature_flags f
  join app_public.feature_flag_schedules s on s.flag_id = f.id
  where f.flag_key = $1 and f.environment = $2 and s.id = $3`,
};
const CANCEL = change('cancel_schedule', 'app_public.cancel_flag_schedule(f.id, $4)');
const RESCHEDULE = change('move_schedule', 'app_public.reschedule_flag_change(f.id, $5, $4)');
const RETRY = change('retry_schedule', 'app_public.retry_flag_schedule(f.id, $4)');
const RESUME = change('resume_schedule', 'app_public.resume_schedule(f.id, $4)');

/** /flags/:flagKey/schedule: the schedules of one flag. */
export function makeScheduleRoutes(query: QueryAsCaller): Router {
  const router = express.Router();

  /** Runs a statement about the schedule that the address names; for a change, its reason is $4. */
  async function requireSchedule(
    request: Request,
    sql: Statement,
    change?: CancelSchedule,
    ...rest: readonly unknown[]
  ) {
    const { flagKey, scheduleId } = parse(schedulePathSchema, request.params);
    const { environment } = parse(environmentQuerySchema, request.query);
    const address = [flagKey, environment, scheduleId];
    const values = change === undefined ? address : [...address, change.reason, ...rest];
    const options = { reason: change?.reason, expectedRevision: change?.expected_revision };
    const [schedule] = (await query<ScheduleRow>(request, sql, values, options)).rows;
    if (schedule === undefined) {
      await requireEnvironment(query, request, environment);
      throw new ProblemError(
        'schedule_not_found',
        'This flag has no such schedule in this environment.',
      );
    }
    return scheduleBody(schedule);
  }

  router
    .route('/flags/:flagKey/schedule')
    .get(async (request, response) => {
      const { flagKey } = parse(flagPathSchema, request.params);
      const { environment, status, limit, after } = parse(listSchedulesQuerySchema, request.query);
      const from = list.decode(after);
      const values = [flagKey, environment, status, from?.at, from?.id, limit + 1];
      const { rows } = await query<ListedRow>(request, { text: LIST }, values);
      if (rows.length === 0) await refuseMissingFlag(query, request, environment);
      const schedules = rows.filter(({ cursor_at }) => (cursor_at as string | null) !== null);
      list.send(request, response, schedules, limit);
    })
    .post(async (request, response) => {
      const address = flagAddress(request);
      const { scheduled_at, updates, reason } = parse(createScheduleSchema, request.body);
      const values = [...address, scheduled_at, updates, reason];
      const { rows } = await query<ScheduleRow>(request, CREATE, values);
      const location = flagPath(...address, `/schedule/${rows[0]?.id ?? ''}`);
      response
        .status(201)
        .location(location)
        .json(rows[0] && scheduleBody(rows[0]));
    })
    .all(onlyMethods('GET', 'POST'));

  router
    .route('/flags/:flagKey/schedule/:scheduleId')
    .get(async (request, response) => {
      response.json(await requireSchedule(request, GET));
    })
    .delete(async (request, response) => {
      const change = parse(cancelScheduleSchema, optionalBody(request));
      response.json(await requireSchedule(request, CANCEL, change));
    })
    .patch(async (request, response) => {
      const { scheduled_at, ...change } = parse(rescheduleSchema, request.body);
      response.json(await requireSchedule(request, RESCHEDULE, change, scheduled_at));
    })
    .all(onlyMethods('GET', 'PATCH', 'DELETE'));

  router
    .route('/flags/:flagKey/schedule/:scheduleId/retry')
    .post(async (request, response) => {
      const change = parse(retryScheduleSchema, optionalBody(request));
      response.json(await requireSchedule(request, RETRY, change));
    })
    .all(onlyMethods('POST'));

  router
    .route('/flags/:flagKey/schedule/:scheduleId/resume')
    .post(async (request, response) => {
      const change = parse(resumeScheduleSchema, request.body);
      response.json(await requireSchedule(request, RESUME, change));
    })
    .all(onlyMethods('POST'));

  return router;
}
