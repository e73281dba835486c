import type {} from 'postgraphile';
import { context, lambda, sideEffect, type Step } from 'postgraphile/grafast';
import { extendSchema, gql, wrapPlans, type PlanWrapperFn } from 'postgraphile/utils';
import { expectedRevisionSchema } from '../../http/schema_parts.ts';
import { ProblemError } from '../../lib/errors.ts';
import { EXPECTED_REVISION } from '../../postgres/request_settings.ts';

/** A step of a row. */
type RowStep = Step & { get(attribute: string): Step };

/** The column is a bigint, of which pg makes text; a row has no 2³¹ changes. */
const plans = { revision: ($row: RowStep) => lambda($row.get('revision'), Number, true) };

const EXPECTED =
  'The revision that you saw: where the row has another one, nothing is changed, and the error flag_changed, schedule_changed or plan_changed says who changed it.';

const fields = extendSchema({
  typeDefs: gql`
    extend type FeatureFlag {
      "1 when it was created, and one more for each change that the trail has."
      revision: Int!
    }
    extend type FeatureFlagSchedule {
      "1 when it was created, and one more for each change that the trail has. Attempts to apply it don’t count."
      revision: Int!
    }
    extend type Plan {
      "1 when it was created, and one more for each change that the trail has."
      revision: Int!
    }
  `,
  objects: { FeatureFlag: { plans }, FeatureFlagSchedule: { plans }, Plan: { plans } },
});

const GUARDED = [
  'UpdateFeatureFlagInput',
  'RescheduleFlagChangeInput',
  'CancelFlagScheduleInput',
  'RetryFlagScheduleInput',
  'EditPlanInput',
  'DryRunEditInput',
  'CancelPlanInput',
  'RetryPlanInput',
];

const inputs: GraphileConfig.Plugin = {
  name: 'HalyardExpectedRevisionPlugin',
  version: '0.0.0',
  schema: {
    hooks: {
      GraphQLInputObjectType_fields(given, build, { Self }) {
        if (!GUARDED.includes(Self.name)) return given;
        const expectedRevision = { type: build.graphql.GraphQLInt, description: EXPECTED };
        return build.extend(given, { expectedRevision }, `Adding a guard to ${Self.name}`);
      },
    },
  },
};

/** Sets the expected revision for the mutation's transaction, or none: the settings are the operation's, as with reasons. */
const withExpectedRevision: PlanWrapperFn = (plan, _$source, args) => {
  sideEffect(
    [context().get('pgSettings'), args.getRaw(['input', 'expectedRevision'])],
    ([settings, given]) => {
      const { success, data, error } = expectedRevisionSchema.safeParse(given);
      if (!success)
        throw new ProblemError(
          'invalid_value',
          `expectedRevision ${error.issues[0]?.message ?? ''}.`,
        );
      if (settings !== null) settings[EXPECTED_REVISION] = data?.toString() ?? '';
    },
  );
  return plan() as Step;
};

/** The revision of flags, schedules and plans, and the guard of their changes by it. */
export const revisions: GraphileConfig.Plugin[] = [
  fields,
  inputs,
  wrapPlans({
    Mutation: {
      updateFeatureFlag: withExpectedRevision,
      cancelFlagSchedule: withExpectedRevision,
      rescheduleFlagChange: withExpectedRevision,
      retryFlagSchedule: withExpectedRevision,
      editPlan: withExpectedRevision,
      dryRunEdit: withExpectedRevision,
      cancelPlan: withExpectedRevision,
      retryPlan: withExpectedRevision,
    },
  }),
];
