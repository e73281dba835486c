import type { Request, Router } from 'express';
import express from 'express';

import { claimsOf } from '../auth/auth.ts';
import { requireEnvironment } from '../environments/routes.ts';
import type { QueryAsCaller } from '../http/caller.ts';
import { optionalBody } from '../http/json_body.ts';
import { makeTimeCursor, paginate, preciseTime } from '../http/page.ts';
import { onlyMethods, parse } from '../http/problems.ts';
import type { Statement } from '../postgres/pipeline.ts';
import { requireFlagIn } from '../schedules/all.ts';
import { contentOf } from './content.ts';
import { CHANGE, FIND, onlyPlan, READ, sendNewPlan } from './find.ts';
import { COLUMNS, CONFLICTS, planBody, type PlanRow } from './rows.ts';
import {
  createPlanSchema,
  editPlanSchema,
  endPlanSchema,
  listPlansQuerySchema,
  planPathSchema,
} from './schemas.ts';

const cursor = makeTimeCursor('plan');

/** Newest first. A flag is looked for in the content, where that of a deleted flag stands too. */
const LIST = `
  select ${COLUMNS}, ${preciseTime('p.created_at')} as cursor_at
  from app_public.plans p
  where ($1::text is null or p.status = $1)
    and ($2::text is null or p.environments @> array[$2]::varchar[])
    and ($3::jsonb is null or p.content @> $3)
    and ($4::timestamptz is null or (p.created_at, p.id) < ($4, $5::uuid))
  order by p.created_at desc, p.id desc
  limit $6`;

const GET: Statement = {
  name: 'get_plan',
  text: `select ${COLUMNS}, ${CONFLICTS} from app_public.plans p where p.id = $1`,
};
const CREATE: Statement = {
  name: 'create_plan',
  text: `select ${COLUMNS} from app_public.create_plan($1, $2, $3, $4) p`,
};

/** Before the statement that reads the plan: what the function did, only a later one sees. */
const change = (name: string, call: string, values: readonly unknown[]): Statement => ({
  name,
  text: `select from app_public.${call}`,
  values: [...values],
});

/** /plans: changes of several flags at one instant. */
export function makePlanRoutes(query: QueryAsCaller): Router {
  const router = express.Router();

  router
    .route('/plans')
    .get(async (request, response) => {
      const { status, environment, flag, limit, after } = parse(
        listPlansQuerySchema,
        request.query,
      );
      const from = cursor.decode(after);
      const content = flag === undefined ? null : contentOf(flag, environment);
      const values = [status, environment, content, from?.at, from?.id, limit + 1];
      const { rows } = await query<PlanRow & { cursor_at: string }>(
        request,
        { text: LIST },
        values,
        READ,
      );
      if (rows.length === 0 && environment !== undefined)
        await requireEnvironment(query, request, environment);
      if (rows.length === 0 && flag !== undefined) {
        const reached = environment === undefined ? claimsOf(request).environments : [environment];
        await requireFlagIn(query, request, flag, reached);
      }
      const page = paginate(request, response, rows, limit, ({ cursor_at, id }) =>
        cursor.encode({ at: cursor_at, id }),
      );
      response.json(page.map(planBody));
    })
    .post(async (request, response) => {
      const { title, steps, starts_at, reason } = parse(createPlanSchema, request.body);
      const values = [title, JSON.stringify(steps), starts_at, reason];
      const { rows } = await query<PlanRow>(request, CREATE, values, { ...CHANGE, reason });
      sendNewPlan(response, onlyPlan(rows));
    })
    .all(onlyMethods('GET', 'POST'));

  router
    .route('/plans/:planId')
    .get(async (request, response) => {
      const { planId } = parse(planPathSchema, request.params);
      const { rows } = await query<PlanRow>(request, GET, [planId], READ);
      response.json(planBody(onlyPlan(rows)));
    })
    .patch(async (request, response) => {
      const given = parse(editPlanSchema, request.body);
      const { title, steps, starts_at, reason } = given;
      const content = steps && JSON.stringify(steps);
      response.json(
        await changePlan(request, given, (id) =>
          change('edit_plan', 'edit_plan($1, $2, $3, $4, $5)', [
            ...[id, title, content, starts_at, reason],
          ]),
        ),
      );
    })
    .all(onlyMethods('GET', 'PATCH'));

  for (const verb of ['cancel', 'retry'])
    router
      .route(`/plans/:planId/${verb}`)
      .post(async (request, response) => {
        const given = parse(endPlanSchema, optionalBody(request));
        const name = `${verb}_plan`;
        response.json(
          await changePlan(request, given, (id) =>
            change(name, `${name}($1, $2)`, [id, given.reason]),
          ),
        );
      })
      .all(onlyMethods('POST'));

  /** Calls a function for the plan that the address names, and reads the plan behind it in the same transaction. */
  async function changePlan(
    request: Request,
    {
      reason,
      expected_revision,
    }: { reason?: string | null | undefined; expected_revision?: number | undefined },
    first: (id: string) => Statement,
  ) {
    const { planId } = parse(planPathSchema, request.params);
    const options = { ...CHANGE, reason, expectedRevision: expected_revision };
    const { rows } = await query<PlanRow>(request, FIND, [planId], {
      ...options,
      first: first(planId),
    });
    return planBody(onlyPlan(rows));
  }

  return router;
}
