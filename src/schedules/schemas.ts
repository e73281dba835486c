/** The shapes of schedules in the REST API. */
import { z } from '../lib/zod.ts';

import { someOf, updatesShape } from '../flags/fields.ts';
import { environmentQuerySchema, flagSchema } from '../flags/schemas.ts';
import {
  environmentSchema,
  expectedRevisionSchema,
  flagKeySchema,
  instantSchema,
  pageShape,
  reasonSchema,
  requiredReasonSchema,
  revisionSchema,
  timeSchema,
  userIdSchema,
  withSpan,
} from '../http/schema_parts.ts';

export const SCHEDULE_STATUSES = [
  ...(['pending', 'suspended', 'applied', 'failed', 'cancelled', 'skipped'] as const),
] as const;

/** Why a schedule is suspended: its environment is stopped, or its flag isn't as it expects. */
export const SUSPENSIONS = ['stop', 'conflict'] as const;

export const scheduleStatusSchema = z.enum(SCHEDULE_STATUSES);

/** A time that a client asks for. Whether it is in the future is for the database's clock to say. */
export const scheduledAtSchema = instantSchema;

/** What a schedule changes. */
export const updatesSchema = someOf(updatesShape);

/** Body of POST /api/admin/flags/:flagKey/schedule. */
export const createScheduleSchema = z.strictObject({
  scheduled_at: scheduledAtSchema,
  updates: updatesSchema,
  reason: reasonSchema,
});

/** Body, which may be left out, of DELETE /api/admin/flags/:flagKey/schedule/:scheduleId. */
export const cancelScheduleSchema = z.strictObject({
  reason: reasonSchema,
  expected_revision: expectedRevisionSchema,
});

/** Body of PATCH /api/admin/flags/:flagKey/schedule/:scheduleId. */
export const rescheduleSchema = z.strictObject({
  scheduled_at: scheduledAtSchema,
  reason: reasonSchema,
  expected_revision: expectedRevisionSchema,
});

/** Body, which may be left out, of POST /api/admin/flags/:flagKey/schedule/:scheduleId/retry. */
export const retryScheduleSchema = z.strictObject({
  reason: reasonSchema,
  expected_revision: expectedRevisionSchema,
});

/** Body of POST /api/admin/flags/:flagKey/schedule/:scheduleId/resume. */
export const resumeScheduleSchema = z.strictObject({ reason: requiredReasonSchema });

/** Parts of an address. */
export const schedulePathSchema = z.strictObject({ flagKey: flagKeySchema, scheduleId: z.guid() });

/** Query of GET /api/admin/flags/:flagKey/schedule. */
export const listSchedulesQuerySchema = z.extend(environmentQuerySchema, {
  ...pageShape,
  status: z.optional(scheduleStatusSchema),
});

/** Query of GET /api/admin/schedules: of all environments of the token, and of all flags, unless given. */
export const listAllSchedulesQuerySchema = withSpan(
  z.strictObject({
    environment: z.optional(environmentSchema),
    flag: z.optional(flagKeySchema),
    status: z.optional(scheduleStatusSchema),
    /** Inclusive, by scheduled_at. */
    from: z.optional(instantSchema),
    /** Exclusive, by scheduled_at. */
    to: z.optional(instantSchema),
    ...pageShape,
  }),
);

/**
 * A schedule, as every route answers it. requested_by is who scheduled it, or moved or retried it last, and reason is why. They, created_by
 * and cancelled_by are null where they are not known. What follows the revision is there only where it says something: of a schedule of a
 * plan, and of one that was suspended.
 */
export const scheduleSchema = z.strictObject({
  id: z.guid(),
  flag_key: flagKeySchema,
  environment: environmentSchema,
  scheduled_at: timeSchema,
  status: scheduleStatusSchema,
  updates: updatesSchema,
  applied_at: z.nullable(timeSchema),
  error_message: z.nullable(z.string()),
  attempts: z.int().check(z.minimum(0)),
  requested_by: z.nullable(userIdSchema),
  reason: z.nullable(z.string()),
  created_by: z.nullable(userIdSchema),
  cancelled_by: z.nullable(userIdSchema),
  cancelled_at: z.nullable(timeSchema),
  cancel_reason: z.nullable(z.string()),
  created_at: timeSchema,
  updated_at: timeSchema,
  revision: revisionSchema,
  plan_id: z.optional(z.guid()),
  occurrence_no: z.optional(z.int()),
  step_no: z.optional(z.int()),
  /** What it expects to find in the flag, and what happens where it doesn't: keep or suspend; overwrite unless given. */
  expects: z.optional(updatesSchema),
  on_conflict: z.optional(z.enum(['keep', 'suspend'])),
  suspended_for: z.optional(z.enum(SUSPENSIONS)),
  suspended_details: z.optional(z.record(z.string(), z.unknown())),
  /** Why it was resumed or skipped. */
  resolution_reason: z.optional(z.string()),
  /** Of a plan's that was applied: the flag as it was found. */
  before: z.optional(updatesSchema),
  /** The fields that it left alone because they weren't as it expects. */
  kept: z.optional(z.array(z.string())),
});

/** Pending schedules that the answer of a changed flag shows. */
export const MAX_PENDING_SHOWN = 10;

/** A flag, as PATCH answers it: with those of its pending schedules that come first, which will change it again. */
export const changedFlagSchema = z.extend(flagSchema, {
  pending_schedules: z.array(scheduleSchema).check(z.maxLength(MAX_PENDING_SHOWN)),
});

export type ScheduleStatus = z.infer<typeof scheduleStatusSchema>;
export type Updates = z.infer<typeof updatesSchema>;
export type CreateSchedule = z.infer<typeof createScheduleSchema>;
export type CancelSchedule = z.infer<typeof cancelScheduleSchema>;
export type Reschedule = z.infer<typeof rescheduleSchema>;
export type ChangedFlag = z.infer<typeof changedFlagSchema>;
export type Schedule = z.infer<typeof scheduleSchema>;
