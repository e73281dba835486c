/** The shapes of plans in the REST API. */
import { z } from '../lib/zod.ts';

import {
  environmentSchema,
  expectedRevisionSchema,
  flagKeySchema,
  instantSchema,
  LIMITS,
  pageShape,
  reasonSchema,
  revisionSchema,
  timeSchema,
  userIdSchema,
} from '../http/schema_parts.ts';
import { SUSPENSIONS, updatesSchema } from '../schedules/schemas.ts';

export const PLAN_STATUSES = ['active', 'paused', 'completed', 'cancelled'] as const;

export const planStatusSchema = z.enum(PLAN_STATUSES);

/** What happens where a flag isn't as a change expects. */
export const CONFLICT_RULES = ['overwrite', 'keep', 'suspend'] as const;

export const onConflictSchema = z.enum(CONFLICT_RULES);

/** What a plan is called: the blanks round it go. It has no control characters, which would forge lines where it is printed. */
export const planTitleSchema = z.string().check(
  z.trim(),
  z.refine(
    (value) =>
      value !== '' &&
      Array.from(value).length <= LIMITS.planTitle &&
      !/[\p{Cc}\p{Surrogate}]/u.test(value),
    `must be text of 1 to ${LIMITS.planTitle} characters, without control characters`,
  ),
);

/** A change of a flag: to `updates`, if it is as `expects` says. */
export const planChangeSchema = z
  .strictObject({
    flag_key: flagKeySchema,
    environment: environmentSchema,
    updates: updatesSchema,
    expects: z.optional(updatesSchema),
    on_conflict: z.optional(onConflictSchema),
  })
  .check(
    z.refine(
      ({ expects, on_conflict = 'overwrite' }) =>
        on_conflict === 'overwrite' || expects !== undefined,
      { path: ['on_conflict'], message: 'needs expects: what the change expects to find' },
    ),
  );

type Addressed = Pick<z.output<typeof planChangeSchema>, 'flag_key' | 'environment'>;

/** Refuses a second change of a flag, which is one too many. */
function eachFlagOnce({ value, issues }: z.core.ParsePayload<Addressed[]>): void {
  const known = new Set<string>();
  for (const [i, { flag_key, environment }] of value.entries()) {
    const flag = JSON.stringify([flag_key, environment]);
    if (known.has(flag))
      issues.push({
        ...{ code: 'custom', input: value, path: [i] },
        message: 'changes a flag that another change names: put both into one',
      });
    known.add(flag);
  }
}

const CHANGES_RULE = `must have 1 to ${LIMITS.changes} changes`;

/** An array of a bounded length. Of a longer one no element is looked at: each of many could have an issue. */
function bounded<T extends z.ZodMiniType>(element: T, least: number, most: number, rule: string) {
  return z.pipe(
    z.array(z.unknown()).check(z.minLength(least, rule), z.maxLength(most, rule)),
    z.array(element),
  );
}

/** Changes of several flags, each flag once. */
export const planChangesSchema = bounded(planChangeSchema, 1, LIMITS.changes, CHANGES_RULE).check(
  eachFlagOnce,
);

/** The steps of a plan. */
export const planStepsSchema = bounded(
  z.strictObject({ changes: planChangesSchema }),
  ...([1, 1, 'must have one step'] as const),
);

/** Body of POST /api/admin/plans and of …/dry-run. Without starts_at the plan is due now. */
export const createPlanSchema = z.strictObject({
  title: planTitleSchema,
  starts_at: z.nullish(instantSchema),
  reason: reasonSchema,
  steps: planStepsSchema,
});

const EDITABLE = ['title', 'starts_at', 'steps', 'reason'] as const;

/** Body, which may be left out, of POST /api/admin/plans/:id/dry-run: what an edit would say, or nothing for the plan as it is. */
export const tryEditSchema = z.strictObject({
  title: z.optional(planTitleSchema),
  starts_at: z.optional(instantSchema),
  steps: z.optional(planStepsSchema),
  reason: reasonSchema,
  expected_revision: expectedRevisionSchema,
});

/** Body of PATCH /api/admin/plans/:id. What it leaves out stays. */
export const editPlanSchema = tryEditSchema.check(
  z.refine(
    (given) => EDITABLE.some((name) => given[name] !== undefined),
    `must have at least one of: ${EDITABLE.join(', ')}`,
  ),
);

/** Body, which may be left out, of POST /api/admin/plans/:id/cancel and …/retry. */
export const endPlanSchema = z.strictObject({
  reason: reasonSchema,
  expected_revision: expectedRevisionSchema,
});

/** Body of POST /api/admin/changes. */
export const changeFlagsSchema = z.strictObject({
  changes: planChangesSchema,
  reason: reasonSchema,
});

/** Parts of an address. */
export const planPathSchema = z.strictObject({ planId: z.guid() });

/** Query of GET /api/admin/plans: of all environments of the token, and of all flags, unless given. */
export const listPlansQuerySchema = z.strictObject({
  status: z.optional(planStatusSchema),
  environment: z.optional(environmentSchema),
  flag: z.optional(flagKeySchema),
  ...pageShape,
});

/** What stands against a change: a value that isn't expected, or another change of the field for the same instant. */
export const changeConflictSchema = z.strictObject({
  flag_key: flagKeySchema,
  environment: environmentSchema,
  /** The field's column. */
  field: z.string(),
  kind: z.enum(['expectation', 'same_instant']),
  expected: z.unknown(),
  found: z.unknown(),
  /** When the two meet. */
  at: timeSchema,
  /** The cause, where the token reaches it. */
  schedule_id: z.nullable(z.guid()),
  plan_id: z.nullable(z.guid()),
});

/** What a plan takes back. */
const revertsSchema = z.union([
  z.strictObject({ plan_id: z.guid() }),
  z.strictObject({ schedule_id: z.guid() }),
  z.strictObject({ environment: environmentSchema, from: timeSchema, to: timeSchema }),
]);

const userSchema = z.nullable(userIdSchema);

/** A plan, as every route answers it: what was sent, and behind it what became of it. */
export const planSchema = z.strictObject({
  title: z.string(),
  starts_at: z.nullable(timeSchema),
  reason: z.nullable(z.string()),
  steps: planStepsSchema,
  id: z.guid(),
  status: planStatusSchema,
  /** SHA-256 of what the plan does, in lower-case hex. */
  content_hash: z.string().check(z.regex(/^[0-9a-f]{64}$/)),
  /** The open point; null when none is. */
  occurrence_no: z.nullable(z.int()),
  step_no: z.nullable(z.int()),
  next_at: z.nullable(timeSchema),
  created_by: userSchema,
  created_at: timeSchema,
  revision: revisionSchema,
  /** There are no approvals yet. */
  approval: z.null(),
  /** Why it is paused or cancelled. */
  status_reason: z.nullable(z.string()),
  suspended_for: z.nullable(z.enum(SUSPENSIONS)),
  reverts: z.nullable(revertsSchema),
  updated_at: timeSchema,
  ended_at: z.nullable(timeSchema),
  /** Of GET /api/admin/plans/:id. */
  conflicts: z.optional(z.array(changeConflictSchema)),
});

export type PlanChange = z.infer<typeof planChangeSchema>;
export type PlanSteps = z.infer<typeof planStepsSchema>;
export type CreatePlan = z.infer<typeof createPlanSchema>;
export type EditPlan = z.infer<typeof editPlanSchema>;
export type ChangeFlags = z.infer<typeof changeFlagsSchema>;
export type ChangeConflict = z.infer<typeof changeConflictSchema>;
export type Plan = z.infer<typeof planSchema>;
