import type { Request, Response, Router } from 'express';
import express from 'express';

import { environmentPathSchema } from '../environments/schemas.ts';
import type { QueryAsCaller } from '../http/caller.ts';
import { optionalBody } from '../http/json_body.ts';
import { onlyMethods, parse } from '../http/problems.ts';
import type { Statement } from '../postgres/pipeline.ts';
import { CHANGE } from './find.ts';
import {
  changeFlagsSchema,
  createPlanSchema,
  planPathSchema,
  tryEditSchema,
  type ChangeConflict,
} from './schemas.ts';
import { dryRunResumeSchema, type ChangeResult, type DryRun } from './result_schemas.ts';
import { conflictBody, diffBody } from './rows.ts';

type DryRunRow = Omit<DryRun, 'conflicts'> & { readonly conflicts: readonly ChangeConflict[] };

const DRY_RUN_PLAN: Statement = {
  name: 'dry_run_plan',
  text: 'select d.changes, d.events, d.conflicts from app_public.dry_run_plan($1, $2, $3, $4) d',
};
const DRY_RUN_EDIT: Statement = {
  name: 'dry_run_edit',
  text: 'select d.changes, d.events, d.conflicts from app_public.dry_run_edit($1, $2, $3, $4, $5) d',
};
const DRY_RUN_RESUME: Statement = {
  name: 'dry_run_resume',
  text: 'select d.changes, d.events, d.conflicts from app_public.dry_run_resume($1, $2, $3) d',
};
const CHANGE_FLAGS: Statement = {
  name: 'change_flags',
  text: 'select c.changes, c.plan_id from app_public.change_flags($1, $2) c',
};

/** Runs a statement of a dry run and answers what it found. */
export async function answerDryRun(
  query: QueryAsCaller,
  request: Request,
  response: Response,
  statement: Statement,
  values: readonly unknown[],
  options: Parameters<QueryAsCaller>[3] = CHANGE,
): Promise<void> {
  const { rows } = await query<DryRunRow>(request, statement, values, options);
  const [answer] = rows.map(({ changes, events, conflicts }) => ({
    changes: changes.map(diffBody),
    events,
    conflicts: conflicts.map(conflictBody),
  }));
  response.json(answer);
}

/** /changes: several flags now; and the dry runs of plans, and of an environment's resumption. */
export function makeChangeRoutes(query: QueryAsCaller): Router {
  const router = express.Router();

  router
    .route('/changes')
    .post(async (request, response) => {
      const { changes, reason } = parse(changeFlagsSchema, request.body);
      const values = [JSON.stringify(changes), reason];
      const { rows } = await query<ChangeResult>(request, CHANGE_FLAGS, values, {
        ...CHANGE,
        reason,
      });
      const [answer] = rows.map(({ changes, plan_id }) => ({
        changes: changes.map(diffBody),
        plan_id,
      }));
      response.json(answer);
    })
    .all(onlyMethods('POST'));

  router
    .route('/plans/dry-run')
    .post(async (request, response) => {
      const { title, steps, starts_at, reason } = parse(createPlanSchema, request.body);
      const values = [title, JSON.stringify(steps), starts_at, reason];
      const options = { ...CHANGE, reason };
      await answerDryRun(query, request, response, DRY_RUN_PLAN, values, options);
    })
    .all(onlyMethods('POST'));

  router
    .route('/plans/:planId/dry-run')
    .post(async (request, response) => {
      const { planId } = parse(planPathSchema, request.params);
      const { title, steps, starts_at, reason, expected_revision } = parse(
        tryEditSchema,
        optionalBody(request),
      );
      const values = [planId, title, steps && JSON.stringify(steps), starts_at, reason];
      const options = { ...CHANGE, reason, expectedRevision: expected_revision };
      await answerDryRun(query, request, response, DRY_RUN_EDIT, values, options);
    })
    .all(onlyMethods('POST'));

  router
    .route('/environments/:name/resume/dry-run')
    .post(async (request, response) => {
      const { name } = parse(environmentPathSchema, request.params);
      const { missed, except = [] } = parse(dryRunResumeSchema, request.body);
      const values = [name, missed, except];
      await answerDryRun(query, request, response, DRY_RUN_RESUME, values);
    })
    .all(onlyMethods('POST'));

  return router;
}
