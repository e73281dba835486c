import type {} from 'postgraphile';
import { get, lambda, type Step } from 'postgraphile/grafast';
import { FLAG_FIELDS, SCHEDULABLE_FIELDS } from '../../flags/fields.ts';
import { ProblemError, type ProblemCode } from '../../lib/errors.ts';

/** A schedule's updates by column, as the table's jsonb has them. */
export type Updates = Readonly<Record<string, unknown>>;

/** The fields of FlagUpdates and FlagUpdatesInput by their names in GraphQL, each with what `more` says of its column. */
function fieldsOf<T>(build: GraphileBuild.Build, more: (column: string) => T) {
  const fields = SCHEDULABLE_FIELDS.map(([column, { graphql, description }]) => {
    const type = build.graphql[`GraphQL${graphql}`];
    return [build.inflection.camelCase(column), { type, description, ...more(column) }] as const;
  });
  return Object.fromEntries(fields);
}

/**
 * The values of a FlagUpdatesInput by column.
 *
 * @param code of the ProblemError that is thrown for a null
 */
export function toColumns(
  { inflection }: GraphileBuild.Build,
  given: Updates,
  code: ProblemCode = 'invalid_updates',
): Updates {
  const columns = SCHEDULABLE_FIELDS.map(([column]) => [column, inflection.camelCase(column)]);
  return Object.fromEntries(
    columns
      .filter(([, name = '']) => name in given)
      .map(([column = '', name = '']) => [column, notNull(name, given[name], code)]),
  );
}

/** The columns of a schedule that are such updates. */
const COLUMNS = {
  updates: 'What the schedule changes; a field that it leaves alone is null.',
  expects:
    'What its author expects to find in the flag; a field that doesn’t matter is null, and null is anything.',
  before: 'Of a plan’s schedule that was applied: the flag as it was found. Null otherwise.',
};

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
        const typed = Object.entries(COLUMNS).map(([fieldName, description]) => [
          fieldName,
          fieldWithHooks({ fieldName }, () => ({
            type: build.getOutputTypeByName('FlagUpdates'),
            description,
            plan: ($schedule: Step) => get($schedule as never, fieldName as never),
          })),
        ]);
        const more = Object.fromEntries(typed) as typeof fields;
        return build.extend(fields, more, 'Adding updates to FeatureFlagSchedule');
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
function notNull(name: string, value: unknown, code: ProblemCode): unknown {
  if (value === null)
    throw new ProblemError(code, `${name} can’t be null: leave it out to keep it.`);
  return value;
}
