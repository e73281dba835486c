import type { Router } from 'express';
import express from 'express';

import { claimsOf } from '../auth/auth.ts';
import { requireEnvironment } from '../environments/routes.ts';
import type { QueryAsCaller } from '../http/caller.ts';
import { makeCursor, paginate } from '../http/page.ts';
import { onlyMethods, parse } from '../http/problems.ts';
import { ProblemError } from '../lib/errors.ts';
import { COLUMNS, PLACE, preciseTime, type ScheduleRow } from './rows.ts';
import { listAllSchedulesQuerySchema } from './schemas.ts';

const cursor = makeCursor<'at' | 'id'>(
  new RegExp(`^all-schedules:${PLACE}$`),
  ({ at, id }) => `all-schedules:${at}:${id}`,
);

/**
 * The environments are a condition of the statement, also where the token limits them: the planner knows how many flags those have, and
 * of a policy it doesn't (bench/sql/all_schedules.md). Without a name, so that it is planned for these values.
 */
export const LIST_ALL = `
  select ${COLUMNS}, ${preciseTime('scheduled_at')} as cursor_at
  from app_public.feature_flag_schedules s
  join app_public.feature_flags f on f.id = s.flag_id
  where ($1::text[] is null or f.environment = any ($1))
    and ($2::text is null or f.flag_key = $2)
    and ($3::text is null or s.status = $3)
    and ($4::timestamptz is null or s.scheduled_at >= $4)
    and ($5::timestamptz is null or s.scheduled_at < $5)
    and ($6::timestamptz is null or (s.scheduled_at, s.id) > ($6, $7::uuid))
  order by s.scheduled_at, s.id
  limit $8`;

const FIND_FLAG = `
  select from app_public.feature_flags f
  where ($1::text[] is null or f.environment = any ($1)) and f.flag_key = $2
  limit 1`;

/** /schedules: the schedules of all flags, by time. */
export function makeAllScheduleRoutes(query: QueryAsCaller): Router {
  const router = express.Router();
  router
    .route('/schedules')
    .get(async (request, response) => {
      const asked = parse(listAllSchedulesQuerySchema, request.query);
      const { environment, flag, status, from, to, limit, after } = asked;
      const place = cursor.decode(after);
      const environments =
        environment === undefined ? claimsOf(request).environments : [environment];
      const { rows } = await query<ScheduleRow & { cursor_at: string }>(
        request,
        { text: LIST_ALL },
        [environments, flag, status, from, to, place?.at, place?.id, limit + 1],
      );
      // A name that there isn't is a slip, and an empty list would say that nothing is to happen.
      if (rows.length === 0 && environment !== undefined)
        await requireEnvironment(query, request, environment);
      if (rows.length === 0 && flag !== undefined) {
        const found = await query(request, { text: FIND_FLAG }, [environments, flag]);
        if (found.rowCount === 0)
          throw new ProblemError('flag_not_found', 'There is no flag with this key here.');
      }
      const page = paginate(request, response, rows, limit, ({ cursor_at, id }) =>
        cursor.encode({ at: cursor_at, id }),
      );
      // JSON leaves out what is undefined.
      response.json(page.map((schedule) => ({ ...schedule, cursor_at: undefined })));
    })
    .all(onlyMethods('GET'));
  return router;
}
