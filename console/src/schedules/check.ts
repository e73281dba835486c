import './jitless.ts';
import { createFlagSchema, createScheduleSchema } from 'halyard/schemas';
import type { FieldProblem } from '../data/field_problems.ts';

const SCHEMAS = { schedule: createScheduleSchema, flag: createFlagSchema } as const;

/** What the API's own schema finds wrong with a body, before it is sent. */
export function check(kind: keyof typeof SCHEMAS, body: unknown): readonly FieldProblem[] {
  const { error } = SCHEMAS[kind].safeParse(body);
  return (error?.issues ?? []).map(({ path, message }) => ({ path: path.join('.'), message }));
}
