/** The shapes of flags in the REST API. */
import { z } from '../lib/zod.ts';

import {
  environmentSchema,
  expectedRevisionSchema,
  flagKeySchema,
  pageShape,
  reasonSchema,
  revisionSchema,
  timeSchema,
} from '../http/schema_parts.ts';
import { flagPatchShape, flagShape, someOf } from './fields.ts';

export { rolloutPercentageSchema } from './fields.ts';

export const DEFAULT_ENVIRONMENT = 'production';

/** Body of POST /api/admin/flags. */
export const createFlagSchema = z.strictObject({
  flag_key: flagKeySchema,
  environment: z.optional(environmentSchema),
  ...flagPatchShape,
  reason: reasonSchema,
});

/** Body of PATCH /api/admin/flags/:flagKey. */
export const updateFlagSchema = someOf(
  { ...flagPatchShape, reason: reasonSchema, expected_revision: expectedRevisionSchema },
  Object.keys(flagPatchShape),
);

/** Parts of an address. */
export const flagPathSchema = z.strictObject({ flagKey: flagKeySchema });

/** `?environment=`: strict, because a misspelt name would silently mean production. */
export const environmentQuerySchema = z.strictObject({
  environment: z._default(environmentSchema, DEFAULT_ENVIRONMENT),
});

/** Query of GET /api/admin/flags. */
export const listFlagsQuerySchema = z.extend(environmentQuerySchema, pageShape);

/** A flag, as every route answers it. */
export const flagSchema = z.strictObject({
  id: z.guid(),
  flag_key: flagKeySchema,
  environment: environmentSchema,
  ...flagShape,
  created_at: timeSchema,
  updated_at: timeSchema,
  revision: revisionSchema,
});

export type CreateFlag = z.infer<typeof createFlagSchema>;
export type UpdateFlag = z.infer<typeof updateFlagSchema>;
export type Flag = z.infer<typeof flagSchema>;
