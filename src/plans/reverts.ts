import type { Request, Router } from 'express';
import express from 'express';

import { requireEnvironment } from '../environments/routes.ts';
import { environmentPathSchema } from '../environments/schemas.ts';
import { environmentQuerySchema } from '../flags/schemas.ts';
import type { QueryAsCaller } from '../http/caller.ts';
import { optionalBody } from '../http/json_body.ts';
import { onlyMethods, parse } from '../http/problems.ts';
import { ProblemError } from '../lib/errors.ts';
import type { Statement } from '../postgres/pipeline.ts';
import { schedulePathSchema } from '../schedules/schemas.ts';
import { answerDryRun } from './dry_runs.ts';
import { CHANGE, FIND, onlyPlan, sendNewPlan } from './find.ts';
import { revertSchema, revertSpanSchema, type Revert } from './result_schemas.ts';
import type { PlanRow } from './rows.ts';
import { planPathSchema } from './schemas.ts';

/** What a request would take back. */
interface Source {
  /** A call of the function that does it, with `at`, `on_conflict` and the reason as $1 to $3. */
  readonly call: string;
  readonly name: string;
  /** Its values, from $4 on. */
  readonly values: readonly unknown[];
  /** For a dry run. */
  readonly json: Readonly<Record<string, unknown>>;
  readonly how: Revert;
}

const DRY_RUN: Statement = {
  name: 'dry_run_revert',
  text: 'select d.changes, d.events, d.conflicts from app_public.dry_run_revert($1, $2, $3) d',
};

/** Whether the flag of the address has the schedule; its right to run a function is checked by the function. */
const FIND_SCHEDULE: Statement = {
  name: 'find_schedule_to_revert',
  text: `
  select
  from app_public.feature_flags f
  join app_public.feature_flag_schedules s on s.flag_id = f.id
  where f.flag_key = $1 and f.environment = $2 and s.id = $3`,
};

/** …/revert and …/revert/dry-run: of a plan, a schedule, and what was changed in a span of time. */
export function makeRevertRoutes(query: QueryAsCaller): Router {
  const router = express.Router();

  /** Adds the two routes of a source. */
  function revertible(path: string, sourceOf: (request: Request) => Promise<Source> | Source) {
    router
      .route(`${path}/revert`)
      .post(async (request, response) => {
        const { call, name, values, how } = await sourceOf(request);
        const { at, on_conflict, reason } = how;
        const statement = { name, text: `select p.id from app_public.${call} p` };
        const options = { ...CHANGE, reason };
        const made = await query<{ id: string }>(
          ...[request, statement, [at, on_conflict, reason, ...values], options],
        );
        // Only a later statement sees what became of its point.
        const { rows } = await query<PlanRow>(request, FIND, [made.rows[0]?.id], CHANGE);
        sendNewPlan(response, onlyPlan(rows));
      })
      .all(onlyMethods('POST'));
    router
      .route(`${path}/revert/dry-run`)
      .post(async (request, response) => {
        const { json, how } = await sourceOf(request);
        const values = [JSON.stringify(json), how.at, how.on_conflict];
        await answerDryRun(query, request, response, DRY_RUN, values);
      })
      .all(onlyMethods('POST'));
  }

  revertible('/plans/:planId', (request) => {
    const { planId } = parse(planPathSchema, request.params);
    return {
      ...{ name: 'revert_plan', call: 'revert_plan($4, $1, $2, $3)', values: [planId] },
      json: { plan_id: planId },
      how: parse(revertSchema, optionalBody(request)),
    };
  });

  revertible('/flags/:flagKey/schedule/:scheduleId', async (request) => {
    const { flagKey, scheduleId } = parse(schedulePathSchema, request.params);
    const { environment } = parse(environmentQuerySchema, request.query);
    const how = parse(revertSchema, optionalBody(request));
    const found = await query(request, FIND_SCHEDULE, [flagKey, environment, scheduleId]);
    if (found.rowCount === 0) {
      await requireEnvironment(query, request, environment);
      throw new ProblemError(
        'schedule_not_found',
        'This flag has no such schedule in this environment.',
      );
    }
    return {
      ...{ name: 'revert_schedule', call: 'revert_schedule($4, $1, $2, $3)', values: [scheduleId] },
      json: { schedule_id: scheduleId },
      how,
    };
  });

  revertible('/environments/:name', (request) => {
    const { name } = parse(environmentPathSchema, request.params);
    const { from, to, flags, ...how } = parse(revertSpanSchema, request.body);
    return {
      ...{ name: 'revert_span', call: 'revert_span($4, $5, $6, $7, $1, $2, $3)' },
      values: [name, from, to, flags],
      json: { environment: name, from, to, ...(flags && { flags }) },
      how,
    };
  });

  return router;
}
