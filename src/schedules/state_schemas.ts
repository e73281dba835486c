/** The shapes of what flags were, are and will be, in the REST API. */
import { z } from '../lib/zod.ts';

import { rolloutPercentageSchema } from '../flags/schemas.ts';
import {
  environmentSchema,
  flagKeySchema,
  instantSchema,
  timeSchema,
  wholeNumberSchema,
  withSpan,
} from '../http/schema_parts.ts';
import { scheduleStatusSchema, updatesSchema } from './schemas.ts';

const MAX_CHANGES = 10_000;
const CHANGES_RULE = `must be a whole number from 1 to ${MAX_CHANGES}`;

/** Query of GET /api/admin/environments/:name/state. Without a time it is now. */
export const stateQuerySchema = z.strictObject({ at: z.optional(instantSchema) });

/** Query of GET /api/admin/environments/:name/upcoming. Without times it is the 24 hours from now on. */
export const upcomingQuerySchema = withSpan(
  z.strictObject({
    /** Inclusive. */
    from: z.optional(instantSchema),
    /** Exclusive; 24 hours after `from` unless given. */
    to: z.optional(instantSchema),
    limit: z._default(wholeNumberSchema(1, MAX_CHANGES, CHANGES_RULE), 100),
  }),
);

/** The schedule that decides a field, and the plan that it belongs to. */
const sourceSchema = z.strictObject({
  schedule_id: z.guid(),
  at: z.iso.datetime(),
  plan_id: z.optional(z.guid()),
  occurrence_no: z.optional(z.int()),
  step_no: z.optional(z.int()),
});

/**
 * A flag's state at a time. `sources` has the event that made a state of the past (`is_after`: the first after it, which says what was
 * before), or the schedule for each field that one will have changed.
 */
export const flagStateSchema = z.strictObject({
  flag_key: flagKeySchema,
  enabled: z.boolean(),
  rollout_percentage: rolloutPercentageSchema,
  /** False when a schedule of the flag is overdue, or what the trail says isn't enough. */
  certain: z.boolean(),
  sources: z.strictObject({
    event: z.optional(
      z.strictObject({
        id: z.guid(),
        at: z.iso.datetime(),
        schedule_id: z.optional(z.guid()),
        is_after: z.optional(z.literal(true)),
      }),
    ),
    enabled: z.optional(sourceSchema),
    rollout_percentage: z.optional(sourceSchema),
  }),
});

/** Answer of GET /api/admin/environments/:name/state: what was so (a fact), or will be as far as is known now (a projection). */
export const environmentStateSchema = z.strictObject({
  environment: environmentSchema,
  at: timeSchema,
  kind: z.enum(['fact', 'projection']),
  /** By key. */
  flags: z.array(flagStateSchema),
});

/** A change that a pending schedule will make; plan_id, occurrence_no and step_no are null unless it belongs to a plan. */
export const upcomingChangeSchema = z.strictObject({
  at: timeSchema,
  flag_key: flagKeySchema,
  updates: updatesSchema,
  schedule_id: z.nullable(z.guid()),
  plan_id: z.nullable(z.guid()),
  occurrence_no: z.nullable(z.int()),
  step_no: z.nullable(z.int()),
  status: scheduleStatusSchema,
  /** The flag's state after it. */
  enabled: z.boolean(),
  rollout_percentage: rolloutPercentageSchema,
  /** False when the change may not come, or not then: of a stopped environment, or beside another one of the field at that instant. */
  certain: z.boolean(),
  /** Whether the flag won't be as the change expects. */
  in_conflict: z.boolean(),
});

export type FlagState = z.infer<typeof flagStateSchema>;
export type EnvironmentState = z.infer<typeof environmentStateSchema>;
export type UpcomingChange = z.infer<typeof upcomingChangeSchema>;
