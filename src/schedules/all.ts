import type { Request, Router } from 'express';
import express from 'express';

import { claimsOf } from '../auth/auth.ts';
import { requireEnvironment } from '../environments/routes.ts';
import type { QueryAsCaller } from '../http/caller.ts';
import { preciseTime } from '../http/page.ts';
import { onlyMethods, parse } from '../http/problems.ts';
import { ProblemError } from '../lib/errors.ts';
import { COLUMNS, makeScheduleList, type ListedRow } from './rows.ts';
import { listAllSchedulesQuerySchema } from './schemas.ts';

const list = makeScheduleList('all-schedules');

/**
 * The environments are a condition of the statement, also where the token limits them: the planner estimates how many flags those
 * have, and can't estimate it for a policy (bench/sql/all_schedules.md). Without a name, so that it is planned for these values.
 */
export const LIST_ALL = `
  select ${COLUMNS}, ${preciseTime('s.scheduled_at')} as cursor_at
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
      const { environment, flag, status, from, to, limit, after } = parse(
        listAllSchedulesQuerySchema,
        request.query,
      );
      const place = list.decode(after);
      const environments =
        environment === undefined ? claimsOf(request).environments : [environment];
      const values = [environments, flag, status, from, to, place?.at, place?.id, limit + 1];
      const { rows } = await query<ListedRow>(request, { text: LIST_ALL }, values);
      // An unknown name is a slip, and an empty list would say that nothing is to happen.
      if (rows.length === 0 && environment !== undefined)
        await requireEnvironment(query, request, environment);
      if (rows.length === 0 && flag !== undefined)
        await requireFlagIn(query, request, flag, environments);
      list.send(request, response, rows, limit);
    })
    .all(onlyMethods('GET'));
  return router;
}

/**
 * For a list that is empty: an unknown name is a slip, and the empty list would say that there is nothing of this flag.
 *
 * @param environments null for all
 * @throws ProblemError flag_not_found when none of them has a flag with this key
 */
export async function requireFlagIn(
  query: QueryAsCaller,
  request: Request,
  flagKey: string,
  environments: readonly string[] | null,
): Promise<void> {
  const { rowCount } = await query(request, { text: FIND_FLAG }, [environments, flagKey]);
  if (rowCount === 0)
    throw new ProblemError('flag_not_found', 'There is no flag with this key here.');
}
