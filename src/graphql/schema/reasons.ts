import type {} from 'postgraphile';
import { context, sideEffect, type Step } from 'postgraphile/grafast';
import { wrapPlans, type PlanWrapperFn } from 'postgraphile/utils';
import { reasonSchema } from '../../http/schema_parts.ts';
import { ProblemError } from '../../lib/errors.ts';
import { REASON } from '../../postgres/request_settings.ts';

export const REASON_DESCRIPTION =
  'Why, for the trail: up to 500 characters, without control characters.';

/** Inputs that have no argument of a function for it: the event alone keeps the reason. */
const WITHOUT_ARGUMENT = [
  'CreateEnvironmentInput',
  'CreateFeatureFlagInput',
  'UpdateFeatureFlagInput',
];

const inputs: GraphileConfig.Plugin = {
  name: 'HalyardReasonsPlugin',
  version: '0.0.0',
  schema: {
    hooks: {
      GraphQLInputObjectType_fields(fields, build, { Self }) {
        if (!WITHOUT_ARGUMENT.includes(Self.name)) return fields;
        const reason = { type: build.graphql.GraphQLString, description: REASON_DESCRIPTION };
        return build.extend(fields, { reason }, `Adding reason to ${Self.name}`);
      },
    },
  },
};

/**
 * Sets the reason for the mutation's transaction. One mutation of an operation runs after the other, with the settings of the operation:
 * each sets its own reason, or none.
 */
const withReason: PlanWrapperFn = (plan, _$source, args) => {
  sideEffect(
    [context().get('pgSettings'), args.getRaw(['input', 'reason'])],
    ([settings, given]) => {
      const { success, data, error } = reasonSchema.safeParse(given);
      if (!success)
        throw new ProblemError('invalid_value', `reason ${error.issues[0]?.message ?? ''}.`);
      if (settings !== null) settings[REASON] = data ?? '';
    },
  );
  return plan() as Step;
};

/** The reason of each change: beside the patch, and not in it. */
export const reasons: GraphileConfig.Plugin[] = [
  inputs,
  wrapPlans({
    Mutation: {
      createEnvironment: withReason,
      createFeatureFlag: withReason,
      updateFeatureFlag: withReason,
      scheduleFlagChange: withReason,
      cancelFlagSchedule: withReason,
      rescheduleFlagChange: withReason,
      retryFlagSchedule: withReason,
      resumeSchedule: withReason,
      createPlan: withReason,
      editPlan: withReason,
      cancelPlan: withReason,
      retryPlan: withReason,
      changeFlags: withReason,
      dryRunPlan: withReason,
      dryRunEdit: withReason,
      revertPlan: withReason,
      revertSchedule: withReason,
      revertSpan: withReason,
      stopEnvironment: withReason,
      resumeEnvironment: withReason,
    },
  }),
];
