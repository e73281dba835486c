/**
 * The shapes of the REST API, for front ends (`halyard/schemas`): nothing here needs Node.
 * Times are ISO 8601 in UTC with milliseconds, as `Date.toISOString` writes them.
 */
export * from './audit/export/schemas.ts';
export * from './environments/schemas.ts';
export * from './flags/schemas.ts';
export {
  environmentSchema,
  flagKeySchema,
  LIMITS,
  problemSchema,
  reasonSchema,
} from './http/schema_parts.ts';
export type { ProblemBody } from './http/schema_parts.ts';
export * from './plans/result_schemas.ts';
export * from './plans/schemas.ts';
export * from './schedules/schemas.ts';
export * from './schedules/state_schemas.ts';
