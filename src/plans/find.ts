import type { Response } from 'express';

import { ProblemError } from '../lib/errors.ts';
import type { Statement } from '../postgres/pipeline.ts';
import { COLUMNS, planBody, type PlanRow } from './rows.ts';

/** What is denied to a role that may not read, or change, plans. */
export const READ = { action: 'read_plans' } as const;
export const CHANGE = { action: 'change_plans' } as const;

/** A plan by its id, without its conflicts, which are no part of the answer of a change. */
export const FIND: Statement = {
  name: 'find_plan',
  text: `select ${COLUMNS} from app_public.plans p where p.id = $1`,
};

/** @throws ProblemError plan_not_found */
export function onlyPlan([plan]: readonly PlanRow[]): PlanRow {
  if (plan === undefined)
    throw new ProblemError('plan_not_found', 'There is no such plan in your environments.');
  return plan;
}

/** Answers 201 with the plan and its address. */
export function sendNewPlan(response: Response, plan: PlanRow): void {
  response.status(201).location(`/api/admin/plans/${plan.id}`).json(planBody(plan));
}
