import './jitless.ts';
import {
  changeFlagsSchema,
  createFlagSchema,
  createPlanSchema,
  createScheduleSchema,
} from 'halyard/schemas';
import type { FieldProblem } from '../data/field_problems.ts';

const SCHEMAS = {
  schedule: createScheduleSchema,
  flag: createFlagSchema,
  plan: createPlanSchema,
  changes: changeFlagsSchema,
} as const;

export type Checked = keyof typeof SCHEMAS;

/** What the API's own schema finds wrong with a body, before it is sent. */
export function check(kind: Checked, body: unknown): readonly FieldProblem[] {
  const { error } = SCHEMAS[kind].safeParse(body);
  return (error?.issues ?? []).map(({ path, message }) => ({ path: path.join('.'), message }));
}
