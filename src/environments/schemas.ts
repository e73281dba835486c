/** The shapes of environments in the REST API. */
import { z } from '../lib/zod.ts';

import {
  environmentSchema,
  pageShape,
  reasonSchema,
  requiredReasonSchema,
  timeSchema,
  userIdSchema,
} from '../http/schema_parts.ts';

/** Body of POST /api/admin/environments. */
export const createEnvironmentSchema = z.strictObject({
  name: environmentSchema,
  reason: reasonSchema,
});

/** Body of POST /api/admin/environments/:name/stop. */
export const stopEnvironmentSchema = z.strictObject({ reason: requiredReasonSchema });

const MAX_EXCEPTIONS = 1_000;

/** Body of POST /api/admin/environments/:name/resume. */
export const resumeEnvironmentSchema = z.strictObject({
  /** What is done with what came due meanwhile. */
  missed: z.enum(['apply', 'skip']),
  /** Schedules with which the other is done; one stands for all of its plan's point. */
  except: z.optional(z.array(z.guid()).check(z.maxLength(MAX_EXCEPTIONS))),
  reason: requiredReasonSchema,
});

/** Parts of an address. */
export const environmentPathSchema = z.strictObject({ name: environmentSchema });

/** Query of GET /api/admin/environments. */
export const listEnvironmentsQuerySchema = z.strictObject(pageShape);

/**
 * An environment, as every route answers it. created_by and stopped_by are null where the admin is not known. Viewers don't get stopped_by
 * and stop_reason.
 */
export const environmentRowSchema = z.strictObject({
  name: environmentSchema,
  created_at: timeSchema,
  created_by: z.nullable(userIdSchema),
  stopped_at: z.nullable(timeSchema),
  stopped_by: z.nullish(userIdSchema),
  stop_reason: z.nullish(z.string()),
});

export type CreateEnvironment = z.infer<typeof createEnvironmentSchema>;
export type ResumeEnvironment = z.infer<typeof resumeEnvironmentSchema>;
export type Environment = z.infer<typeof environmentRowSchema>;
