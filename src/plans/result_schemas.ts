/** The shapes of what changes of several flags, dry runs and reverts take and answer, in the REST API. */
import { z } from '../lib/zod.ts';
import { resumeEnvironmentSchema } from '../environments/schemas.ts';

import {
  environmentSchema,
  flagKeySchema,
  instantSchema,
  LIMITS,
  reasonSchema,
} from '../http/schema_parts.ts';
import { updatesSchema } from '../schedules/schemas.ts';
import { changeConflictSchema, onConflictSchema } from './schemas.ts';

/** A flag before and after: all fields that schedules change. */
export const flagDiffSchema = z.strictObject({
  flag_key: flagKeySchema,
  environment: environmentSchema,
  before: updatesSchema,
  after: updatesSchema,
});

/** Answer of POST /api/admin/changes. */
export const changeResultSchema = z.strictObject({
  changes: z.array(flagDiffSchema),
  plan_id: z.guid(),
});

/** Answer of every dry run. The events are those that would be written, without their numbers. */
export const dryRunSchema = z.strictObject({
  changes: z.array(flagDiffSchema),
  events: z.array(z.record(z.string(), z.unknown())),
  conflicts: z.array(changeConflictSchema),
});

const revertShape = {
  /** Of fields that were changed since: keep leaves them. */
  on_conflict: z._default(onConflictSchema, 'keep'),
  /** Without it the revert is applied now. */
  at: z.nullish(instantSchema),
  reason: reasonSchema,
};

/** Body, which may be left out, of POST /api/admin/plans/:id/revert and /api/admin/flags/:flagKey/schedule/:id/revert, and their dry runs. */
export const revertSchema = z.strictObject(revertShape);

/** Body of POST /api/admin/environments/:name/revert and its dry run: of all flags that were changed in the span, unless some are named. */
export const revertSpanSchema = z
  .strictObject({
    /** Inclusive. */
    from: instantSchema,
    /** Exclusive. */
    to: instantSchema,
    flags: z.optional(z.array(flagKeySchema).check(z.minLength(1), z.maxLength(LIMITS.changes))),
    ...revertShape,
  })
  .check(
    z.refine(({ from, to }) => Date.parse(from) < Date.parse(to), {
      path: ['to'],
      message: 'must be after from',
    }),
  );

/** Body of POST /api/admin/environments/:name/resume/dry-run. */
export const dryRunResumeSchema = z.strictObject({
  ...resumeEnvironmentSchema.shape,
  reason: reasonSchema,
});

export type Revert = z.infer<typeof revertSchema>;
export type RevertSpan = z.infer<typeof revertSpanSchema>;
export type FlagDiff = z.infer<typeof flagDiffSchema>;
export type ChangeResult = z.infer<typeof changeResultSchema>;
export type DryRun = z.infer<typeof dryRunSchema>;
