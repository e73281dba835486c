import type {} from 'postgraphile';
import { get, lambda, type Step } from 'postgraphile/grafast';
import { FLAG_FIELDS, SCHEDULABLE_FIELDS } from '../../flags/fields.ts';
import { ProblemError } from '../../lib/errors.ts';

/** A schedule's updates by column, as the table's jsonb has them. */
type Updates = Readonly<Record<string, unknown>>;

/** The fields of FlagUpdates and FlagUpdatesInput by their names in GraphQL, each with what `more` says of its column. */
function fieldsOf<T>(build: GraphileBuild.Build, more: (column: string) => T) {
  const fields = SCHEDULABLE_FIELDS.map(([column, { graphql, description }]) => {
    const type = build.graphql[`GraphQL${graphql}`];
    return [build.inflection.camelCase(column), { type, description, ...more(column) }] as const;
  });
  return Object.fromEntries(fields);
}

/** An input's values by column. */
function toColumns({ inflection }: GraphileBuild.Build, given: Updates): Updates {
  const columns = SCHEDULABLE_FIELDS.map(([column]) => [column, inflection.camelCase(column)]);
  return Object.fromEntries(
    columns
      .filter(([, name = '']) => name in given)
      .map(([column = '', name = '']) => [column, notNull(name, given[name])]),
  );
}

const NAME = 'HalyardFlagUpdatesPlugin';

/**
 * A schedule's updates as types of their own, where the table and its function have jsonb: FlagUpdates, and FlagUpdatesInput for
 * scheduleFlagChange. Which fields they have is FLAG_FIELDS.
 */
export const flagUpdates: GraphileConfig.Plugin = {
  name: NAME,
  version: '0.0.0',
  schema: {
    hooks: {
      init(_, build) {
        const output = () => ({
          description: 'What a schedule changes; a field that is null is left as it is.',
          fields: fieldsOf(build, (column) => ({
            plan: ($updates: Step) =>
              lambda($updates, (updates) => (updates as Updates)[column] ?? null, true),
          })),
        });
        const input = () => ({
          description: 'An input for mutations affecting `FlagUpdates`',
          fields: fieldsOf(build, () => ({})),
          extensions: { grafast: { baked: (given: Updates) => toColumns(build, given) } },
        });
        build.registerObjectType('FlagUpdates', {}, output, NAME);
        build.registerInputObjectType('FlagUpdatesInput', {}, input, NAME);
        return _;
      },
      GraphQLInputObjectType_fields_field(field, build, { scope, Self }) {
        if (Self.name !== 'ScheduleFlagChangeInput' || scope.fieldName !== 'updates') return field;
        return { ...field, type: build.getInputTypeByName('FlagUpdatesInput') };
      },
      GraphQLObjectType_fields(fields, build, { scope, fieldWithHooks }) {
        if (scope.pgCodec?.name !== 'featureFlagSchedules' || scope.isPgClassType !== true)
          return fields;
        const updates = fieldWithHooks({ fieldName: 'updates' }, () => ({
          type: build.getOutputTypeByName('FlagUpdates'),
          description: 'What the schedule changes; a field that it leaves alone is null.',
          plan: ($schedule: Step) => get($schedule as never, 'updates' as never),
        }));
        return build.extend(fields, { updates }, 'Adding updates to FeatureFlagSchedule');
      },
    },
  },
};

/** How grafast hands an input field's value on. */
type Apply = (target: unknown, value: unknown, info: unknown) => unknown;

/** FLAG_FIELDS checks a value before it reaches the database, as in REST: the table's CHECKs are the net under it. */
export const checkedFlagFields: GraphileConfig.Plugin = {
  name: 'HalyardFlagFieldsPlugin',
  version: '0.0.0',
  schema: {
    hooks: {
      GraphQLInputObjectType_fields_field(field, build, { scope, Self }) {
        const { apply } = field as { apply?: Apply };
        const [column, { schema, rule } = {}] =
          Object.entries(FLAG_FIELDS).find(
            ([name]) => build.inflection.camelCase(name) === scope.fieldName,
          ) ?? [];
        if (!['FeatureFlagInput', 'FeatureFlagPatch'].includes(Self.name)) return field;
        if (apply === undefined || column === undefined) return field;
        const checked: Apply = (target, value, info) => {
          if (schema?.safeParse(value).success === false)
            throw new ProblemError('invalid_value', `${column} ${rule}.`);
          return apply(target, value, info);
        };
        return { ...field, apply: checked };
      },
    },
  },
};

/** A null would mean nothing to the table, and the client would believe that it meant something. */
function notNull(name: string, value: unknown): unknown {
  if (value === null)
    throw new ProblemError('invalid_updates', `${name} can’t be null: leave it out to keep it.`);
  return value;
}
