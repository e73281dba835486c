import type { ApiError } from './request.ts';

/** What is wrong with a field of a request, by the field's path, as `updates.rollout_percentage`. */
export interface FieldProblem {
  readonly path: string;
  readonly message: string;
}

/** The fields that a refusal names. Codes of times name theirs by themselves. */
export function fieldProblems(error: ApiError | null): readonly FieldProblem[] {
  if (error === null) return [];
  const { errors } = error.details;
  if (Array.isArray(errors))
    return (errors as FieldProblem[]).map(({ path, message }) => ({ path, message }));
  const path = FIELD_OF[error.code];
  return path === undefined ? [] : [{ path, message: error.message }];
}

const FIELD_OF: Readonly<Record<string, string>> = {
  invalid_scheduled_at: 'scheduled_at',
  scheduled_at_in_past: 'scheduled_at',
  scheduled_at_out_of_range: 'scheduled_at',
  flag_exists: 'flag_key',
  flag_not_found: 'flag_key',
  environment_not_found: 'environment',
  invalid_updates: 'updates',
};

/** The message for a field; also of a part of it. Null where nothing is wrong with it. */
export const problemAt = (problems: readonly FieldProblem[], field: string): string | null =>
  problems.find(({ path }) => path === field || path.startsWith(`${field}.`))?.message ?? null;

/** Whether some field shows the refusal: then the form says it nowhere else. */
export const isAtField = (problems: readonly FieldProblem[], fields: readonly string[]): boolean =>
  problems.length > 0 && problems.every(({ path }) => fields.includes(path.split('.')[0] ?? ''));
