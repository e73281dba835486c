/** The shapes of environments in the REST API. */
import { z } from '../lib/zod.ts';

import {
  environmentSchema,
  pageShape,
  reasonSchema,
  timeSchema,
  userIdSchema,
} from '../http/schema_parts.ts';

/** Body of POST /api/admin/environments. */
export const createEnvironmentSchema = z.strictObject({
  name: environmentSchema,
  reason: reasonSchema,
});

/** Parts of an address. */
export const environmentPathSchema = z.strictObject({ name: environmentSchema });

/** Query of GET /api/admin/environments. */
export const listEnvironmentsQuerySchema = z.strictObject(pageShape);

/** An environment, as every route answers it. created_by is null where the admin is not known. */
export const environmentRowSchema = z.strictObject({
  name: environmentSchema,
  created_at: timeSchema,
  created_by: z.nullable(userIdSchema),
});

export type CreateEnvironment = z.infer<typeof createEnvironmentSchema>;
export type Environment = z.infer<typeof environmentRowSchema>;
