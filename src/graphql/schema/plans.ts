import type {} from 'postgraphile';
import { constant, get, lambda, object, type FieldArgs, type Step } from 'postgraphile/grafast';
import { extendSchema } from 'postgraphile/utils';
import type { PgSelectSingleStep } from 'postgraphile/@dataplan/pg';
import { ProblemError } from '../../lib/errors.ts';
import type { ContentChange, PlanContent } from '../../plans/content.ts';
import { PLAN_TYPES } from './plan_types.ts';

type Row = PgSelectSingleStep;

/** Fields that are the columns of a row, or the keys of an object, with the same names in snake case. */
function columns(build: GraphileBuild.Build, names: readonly string[]) {
  const plans = names.map((name) => [
    build.inflection.camelCase(name),
    ($row: Step) => get($row as never, name as never),
  ]);
  return Object.fromEntries(plans) as Record<string, ($row: Step) => Step>;
}

const key =
  (name: string) =>
  ($object: Step): Step =>
    get($object as never, name as never);

/** A plan's steps as its fields read them: each change knows its plan and step, by which its schedule is found. */
function stepsOf([content, planId]: readonly unknown[]) {
  const { steps } = content as PlanContent;
  const withPlace = (change: ContentChange, stepNo: number) => ({
    ...{ expects: null, onConflict: 'overwrite', ...change },
    ...{ planId, stepNo },
  });
  return steps.map(({ changes }, i) => ({
    changes: changes.map((change) => withPlace(change, i + 1)),
  }));
}

/** In the form of every other Datetime. */
const startOf = (content: unknown) =>
  (content as PlanContent).startsAt?.replace(/Z$/, '+00:00') ?? null;

const hex = (bytes: unknown) =>
  Buffer.isBuffer(bytes)
    ? bytes.toString('hex')
    : Buffer.from(String(bytes), 'base64').toString('hex');

/** Plans, with what they do and what stands against it; and what the functions of plans answer. */
export const plans = extendSchema((build) => {
  const { uuid, text, timestamptz, jsonb } = build.dataplanPg.TYPES;

  function resourceNamed(name: string) {
    const resource = build.pgResources[name];
    if (resource === undefined)
      throw new Error(`Migrate the database: it has no ${name} that the API may use.`);
    return resource;
  }

  const schedules = resourceNamed('feature_flag_schedules');
  const planRows = resourceNamed('plans');
  const dryRunRevert = resourceNamed('dry_run_revert');

  /** One statement for all rows of a page, as grafast gathers them. */
  const conflictsBy = (name: string) => {
    const resource = resourceNamed(name);
    return ($row: Row) => resource.execute([{ step: $row.get('id'), pgCodec: uuid }]);
  };

  return {
    typeDefs: PLAN_TYPES,
    objects: {
      Plan: {
        plans: {
          startsAt: ($plan: Row) => lambda($plan.get('content'), startOf, true),
          steps: ($plan: Row) => lambda([$plan.get('content'), $plan.get('id')], stepsOf, true),
          contentHash: ($plan: Row) => lambda($plan.get('content_hash'), hex, true),
          environments: ($plan: Row) => $plan.get('environments'),
          // A statement of its own behind a mutation, which alone sees what became of the point.
          suspendedFor($plan: Row) {
            const $suspended = schedules.find({ plan_id: $plan.get('id') });
            $suspended.where(build.sql`${$suspended.alias}.status = 'suspended'`);
            $suspended.orderBy({ attribute: 'suspended_for', direction: 'ASC' });
            $suspended.setFirst(constant(1));
            return $suspended.single().get('suspended_for');
          },
          conflicts: conflictsBy('plan_conflicts'),
        },
      },
      PlanStep: { plans: { changes: key('changes') } },
      PlanChange: {
        plans: {
          ...{ flagKey: key('flagKey'), environment: key('environment') },
          ...{ updates: key('updates'), expects: key('expects'), onConflict: key('onConflict') },
          schedule($change: Step) {
            const $rows = schedules.find({
              plan_id: key('planId')($change),
              step_no: key('stepNo')($change),
              flag_id: key('flagId')($change),
            });
            $rows.orderBy({ attribute: 'occurrence_no', direction: 'DESC' });
            $rows.setFirst(constant(1));
            return $rows.single();
          },
        },
      },
      ChangeConflict: {
        plans: columns(build, [
          ...['flag_key', 'environment', 'field', 'kind', 'expected', 'found', 'at'],
          ...['schedule_id', 'plan_id'],
        ]),
      },
      FlagDiff: { plans: columns(build, ['flag_key', 'environment', 'before', 'after']) },
      FeatureFlagSchedule: { plans: { conflicts: conflictsBy('schedule_conflicts') } },
      ChangeFlagsPayload: {
        plans: {
          plan: ($payload: Step) => planRows.get({ id: key('plan_id')(key('result')($payload)) }),
          changes: ($payload: Step) => key('changes')(key('result')($payload)),
        },
      },
      Mutation: {
        plans: {
          dryRunRevert(_$root: Step, args: FieldArgs) {
            const $input = args.getRaw('input');
            const $onConflict = lambda(
              key('onConflict')($input),
              (rule: unknown) => rule ?? 'keep',
              true,
            );
            const $result = dryRunRevert.execute(
              [
                { step: lambda($input, sourceOf), pgCodec: jsonb },
                // What the client leaves out has the function's default, and so that behind it needs its name.
                { step: key('at')($input), pgCodec: timestamptz, name: 'at' },
                { step: $onConflict, pgCodec: text, name: 'on_conflict' },
              ],
              'mutation',
            );
            return object({
              result: $result,
              clientMutationId: key('clientMutationId')($input),
            });
          },
        },
      },
      DryRunRevertPayload: {
        plans: {
          clientMutationId: key('clientMutationId'),
          dryRun: key('result'),
        },
      },
    },
  };
});

/**
 * What a revert is of, as the database's function takes it.
 *
 * @throws ProblemError invalid_value when the input names none, or more than one
 */
function sourceOf(input: unknown) {
  const { planId, scheduleId, environment, from, to, flags } = input as Record<string, unknown>;
  const named = [planId, scheduleId, environment].filter((name) => typeof name === 'string');
  const isSpan = typeof environment === 'string';
  const hasSpan = [from, to].every((bound) => typeof bound === 'string');
  const hasPart = [from, to, flags].some((part) => part !== undefined && part !== null);
  if (named.length !== 1 || (isSpan ? !hasSpan : hasPart))
    throw new ProblemError(
      'invalid_value',
      'Name planId, or scheduleId, or environment with from and to.',
    );
  if (isSpan) return { environment, from, to, ...(Array.isArray(flags) && { flags }) };
  return typeof planId === 'string' ? { plan_id: planId } : { schedule_id: scheduleId };
}

/** The results of functions as their fields have them, in place of jsonb. */
export const planResults: GraphileConfig.Plugin = {
  name: 'HalyardPlanResultsPlugin',
  version: '0.0.0',
  schema: {
    hooks: {
      GraphQLObjectType_fields(fields, _build, { Self }) {
        // plans.ts has its parts.
        const { result, ...rest } = fields;
        return Self.name === 'ChangeFlagsPayload' && result !== undefined ? rest : fields;
      },
      GraphQLObjectType_fields_field(field, build, { scope, Self }) {
        const [type, description] = Self.name === 'DryRun' ? (DRY_RUN[scope.fieldName] ?? []) : [];
        if (type === undefined) return field;
        const { GraphQLList, GraphQLNonNull } = build.graphql;
        const element = new GraphQLNonNull(build.getOutputTypeByName(type));
        return Object.assign(field, {
          type: new GraphQLNonNull(new GraphQLList(element)),
          description,
        });
      },
    },
  },
};

/** The fields of DryRun: what their elements are. */
const DRY_RUN: Readonly<Record<string, readonly [type: string, description: string]>> = {
  changes: ['FlagDiff', 'Each flag that would be changed, before and after.'],
  events: ['JSON', 'The audit events that would be written, without their numbers.'],
  conflicts: ['ChangeConflict', 'What stands against the changes at their time.'],
};
