import type { Router } from 'express';
import express from 'express';

import type { QueryAsCaller } from '../http/caller.ts';
import { onlyMethods, parse } from '../http/problems.ts';
import type { Statement } from '../postgres/pipeline.ts';
import { environmentPathSchema } from '../environments/schemas.ts';
import {
  stateQuerySchema,
  upcomingQuerySchema,
  type EnvironmentState,
  type UpcomingChange,
} from './state_schemas.ts';

const STATE: Statement = {
  name: 'flag_state_at',
  text: `
  select
    $1::text as environment, t.at, case when t.at > t.now then 'projection' else 'fact' end as kind,
    (
      select coalesce(json_agg(
        json_build_object(
          'flag_key', s.flag_key, 'enabled', s.enabled, 'rollout_percentage', s.rollout_percentage, 'certain', s.certain,
          'sources', s.sources)
        order by s.flag_key), '[]')
      from app_public.flag_state_at($1, t.at) s
    ) as flags
  from (
    select coalesce($2::timestamptz, c.now) as at, c.now
    from (select clock_timestamp() as now) c
  ) t`,
};

const UPCOMING: Statement = {
  name: 'upcoming_changes',
  text: `
  select u.at, u.flag_key, u.updates, u.schedule_id, u.plan_id, u.occurrence_no, u.step_no, u.status, u.enabled, u.rollout_percentage,
    u.certain, u.in_conflict
  from (select coalesce($2::timestamptz, now()) as starts) f
  cross join lateral app_public.upcoming_changes($1, f.starts, coalesce($3::timestamptz, f.starts + interval '24 hours'), $4) u`,
};

/** /environments/:name/state and …/upcoming: what the flags of an environment were, are and will be. */
export function makeStateRoutes(query: QueryAsCaller): Router {
  const router = express.Router();

  router
    .route('/environments/:name/state')
    .get(async (request, response) => {
      const { name } = parse(environmentPathSchema, request.params);
      const { at } = parse(stateQuerySchema, request.query);
      const { rows } = await query<Omit<EnvironmentState, 'at'> & { at: Date }>(
        ...[request, STATE, [name, at]],
      );
      response.json(rows[0]);
    })
    .all(onlyMethods('GET'));

  router
    .route('/environments/:name/upcoming')
    .get(async (request, response) => {
      const { name } = parse(environmentPathSchema, request.params);
      const { from, to, limit } = parse(upcomingQuerySchema, request.query);
      const values = [name, from, to, limit];
      const { rows } = await query<Omit<UpcomingChange, 'at'> & { at: Date }>(
        request,
        UPCOMING,
        values,
      );
      response.json(rows);
    })
    .all(onlyMethods('GET'));

  return router;
}
