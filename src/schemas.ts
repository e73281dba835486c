/**
 * The shapes of the REST API, for the server and for front ends (`halyard/schemas`): nothing here needs Node.
 * Times are ISO 8601 in UTC with milliseconds, as `Date.toISOString` writes them.
 */
import { z } from 'zod';

import {
  environmentSchema,
  flagKeySchema,
  instantSchema,
  LIMITS,
  text,
} from './http/schema_parts.ts';

export * from './audit/export/schemas.ts';
export { environmentSchema, flagKeySchema, LIMITS };

export const DEFAULT_ENVIRONMENT = 'production';
const DEFAULT_PAGE = 50;

export const SCHEDULE_STATUSES = ['pending', 'applied', 'failed', 'cancelled'] as const;

export const scheduleStatusSchema = z.enum(SCHEDULE_STATUSES);
export const rolloutPercentageSchema = z.int().min(0).max(100);

/** A time that is asked for. Whether it is in the future is for the database's clock to say. */
export const scheduledAtSchema = instantSchema;

const timeSchema = z.iso.datetime({ precision: 3 });

function atLeastOne(value: object): boolean {
  return Object.values(value).some((field) => field !== undefined);
}

/** What a schedule changes. */
export const updatesSchema = z
  .strictObject({
    enabled: z.boolean().optional(),
    rollout_percentage: rolloutPercentageSchema.optional(),
  })
  .refine(atLeastOne, 'must have at least one of: enabled, rollout_percentage');

/** Body of POST /api/admin/flags/:flagKey/schedule. */
export const createScheduleSchema = z.strictObject({
  scheduled_at: scheduledAtSchema,
  updates: updatesSchema,
});

/** Body, which may be left out, of DELETE /api/admin/flags/:flagKey/schedule/:scheduleId. */
export const cancelScheduleSchema = z.strictObject({
  reason: text(LIMITS.cancelReason).nullish(),
});

/** Body of PATCH /api/admin/flags/:flagKey/schedule/:scheduleId. */
export const rescheduleSchema = z.strictObject({ scheduled_at: scheduledAtSchema });

/** Body, which may be left out, of POST /api/admin/flags/:flagKey/schedule/:scheduleId/retry. */
export const retryScheduleSchema = z.strictObject({});

/** Body of POST /api/admin/flags. */
export const createFlagSchema = z.strictObject({
  flag_key: flagKeySchema,
  environment: environmentSchema.optional(),
  enabled: z.boolean().optional(),
  rollout_percentage: rolloutPercentageSchema.optional(),
  description: text(LIMITS.description).nullish(),
});

/** Body of PATCH /api/admin/flags/:flagKey. */
export const updateFlagSchema = z
  .strictObject({
    enabled: z.boolean().optional(),
    rollout_percentage: rolloutPercentageSchema.optional(),
    description: text(LIMITS.description).nullish(),
  })
  .refine(atLeastOne, 'must have at least one of: enabled, rollout_percentage, description');

/** Parts of an address. */
export const flagPathSchema = z.strictObject({ flagKey: flagKeySchema });
export const schedulePathSchema = z.strictObject({ flagKey: flagKeySchema, scheduleId: z.guid() });

/** `?environment=`: strict, because a misspelt name would quietly mean production. */
export const environmentQuerySchema = z.strictObject({
  environment: environmentSchema.default(DEFAULT_ENVIRONMENT),
});

const pageSchema = {
  limit: z
    .string()
    .regex(/^\d{1,3}$/)
    .transform(Number)
    .pipe(z.number().min(1).max(LIMITS.page))
    .default(DEFAULT_PAGE),
  /** The opaque cursor of the `Link` of the page before. */
  after: z.string().min(1).max(400).optional(),
};

/** Query of GET /api/admin/flags. */
export const listFlagsQuerySchema = environmentQuerySchema.extend(pageSchema);

/** Query of GET /api/admin/flags/:flagKey/schedule. */
export const listSchedulesQuerySchema = environmentQuerySchema.extend({
  ...pageSchema,
  status: scheduleStatusSchema.optional(),
});

/** A flag, as every route answers it. */
export const flagSchema = z.strictObject({
  id: z.guid(),
  flag_key: flagKeySchema,
  environment: environmentSchema,
  enabled: z.boolean(),
  rollout_percentage: rolloutPercentageSchema,
  description: z.string().nullable(),
  created_at: timeSchema,
  updated_at: timeSchema,
});

/** A schedule, as every route answers it. Who created and cancelled it is null in rows from before that was kept. */
export const scheduleSchema = z.strictObject({
  id: z.guid(),
  flag_key: flagKeySchema,
  environment: environmentSchema,
  scheduled_at: timeSchema,
  status: scheduleStatusSchema,
  updates: updatesSchema,
  applied_at: timeSchema.nullable(),
  error_message: z.string().nullable(),
  attempts: z.int().min(0),
  created_by: z.string().max(LIMITS.userId).nullable(),
  cancelled_by: z.string().max(LIMITS.userId).nullable(),
  cancelled_at: timeSchema.nullable(),
  cancel_reason: z.string().nullable(),
  created_at: timeSchema,
  updated_at: timeSchema,
});

/** An error, as `application/problem+json` (RFC 9457). Act on `code`; docs/errors.md lists them. */
export const problemSchema = z.strictObject({
  type: z.string(),
  title: z.string(),
  status: z.int(),
  detail: z.string(),
  code: z.string(),
  request_id: z.string(),
  errors: z.array(z.strictObject({ path: z.string(), message: z.string() })).optional(),
});

export type ScheduleStatus = z.infer<typeof scheduleStatusSchema>;
export type Updates = z.infer<typeof updatesSchema>;
export type CreateSchedule = z.infer<typeof createScheduleSchema>;
export type CancelSchedule = z.infer<typeof cancelScheduleSchema>;
export type Reschedule = z.infer<typeof rescheduleSchema>;
export type CreateFlag = z.infer<typeof createFlagSchema>;
export type UpdateFlag = z.infer<typeof updateFlagSchema>;
export type Flag = z.infer<typeof flagSchema>;
export type Schedule = z.infer<typeof scheduleSchema>;
export type ProblemBody = z.infer<typeof problemSchema>;
