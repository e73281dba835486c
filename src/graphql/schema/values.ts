import type {} from 'postgraphile';
import type { ValueNode } from 'postgraphile/graphql';
import { lambda, sideEffect, type ObjectStep, type Step } from 'postgraphile/grafast';
import { addPgTableCondition, wrapPlans } from 'postgraphile/utils';
import { ProblemError } from '../../lib/errors.ts';
import { scheduledAtSchema } from '../../schedules/schemas.ts';

/** Times as REST takes them: RFC 3339 with an offset, a day that exists, four digits of year. */
const strictDatetime: GraphileConfig.Plugin = {
  name: 'HalyardDatetimePlugin',
  version: '0.0.0',
  schema: {
    hooks: {
      GraphQLScalarType(config, build) {
        if (config.name !== build.inflection.builtin('Datetime')) return config;
        // With its node, an error says where it is, and so gets the code that fits (document.ts).
        const parse = (value: unknown, nodes?: ValueNode): string => {
          const result = scheduledAtSchema.safeParse(value);
          if (result.success) return result.data;
          const rule = result.error.issues[0]?.message ?? 'must be RFC 3339';
          throw new build.graphql.GraphQLError(`The value ${rule}.`, { nodes: nodes ?? null });
        };
        return {
          ...config,
          description:
            'A time with an offset as in RFC 3339, such as 2030-01-31T09:00:00Z or 2030-01-31T10:00:00+01:00; the year has four digits.',
          parseValue: (value) => parse(value),
          parseLiteral: (node) => parse(build.graphql.valueFromASTUntyped(node), node),
        };
      },
    },
  },
};

/** PostgreSQL calls an update of no row a success, and one of no column can't be written. */
const checkedUpdate = wrapPlans({
  Mutation: {
    updateFeatureFlag(plan, _$source, args) {
      sideEffect(args.getRaw(['input', 'patch']), (patch: object) => {
        if (Object.keys(patch).length === 0)
          throw new ProblemError('invalid_value', 'patch must have at least one field.');
      });
      const $payload = plan() as ObjectStep<{ result: Step }>;
      sideEffect(
        lambda($payload.get('result'), (row) => row === null || row === undefined),
        (missing) => {
          if (missing) throw new ProblemError('flag_not_found', 'There is no flag with this id.');
        },
      );
      return $payload;
    },
  },
});

/** @throws ProblemError invalid_value for null, which would find nothing */
export function requireValue(name: string, value: unknown): void {
  if (value === null) throw new ProblemError('invalid_value', `${name} can’t be null.`);
}

/** A half-open span of a time column: `…From <= column < …Before`. */
function span(schemaName: string, tableName: string, column: string, name: string) {
  const bound = (argument: string, operator: '>=' | '<', description: string) =>
    addPgTableCondition(
      { schemaName, tableName },
      argument,
      ({ getInputTypeByName, inflection }) => ({
        description,
        type: getInputTypeByName(inflection.builtin('Datetime')),
      }),
      (value, { sql, sqlTableAlias, sqlValueWithCodec, build }) => {
        requireValue(argument, value);
        const at = sql`${sqlTableAlias}.${sql.identifier(column)}`;
        const limit = sqlValueWithCodec(value, build.dataplanPg.TYPES.timestamptz);
        return operator === '<' ? sql`${at} < ${limit}` : sql`${at} >= ${limit}`;
      },
    );
  return [
    bound(`${name}From`, '>=', `Only from this time on.`),
    bound(`${name}Before`, '<', `Only before this time.`),
  ];
}

/** Schedules by a column of their flag. EXISTS, which the planner joins: from a few flags to their schedules, or the other way round. */
function ofFlag(column: string, name: string, description: string): GraphileConfig.Plugin {
  return addPgTableCondition(
    { schemaName: 'app_public', tableName: 'feature_flag_schedules' },
    name,
    (build) => ({ description, type: build.graphql.GraphQLString }),
    (value, { sql, sqlTableAlias, sqlValueWithCodec, build }) => {
      requireValue(name, value);
      const wanted = sqlValueWithCodec(value, build.dataplanPg.TYPES.text);
      const flag = sql.identifier(Symbol('flag'));
      return sql`exists (
        select from app_public.feature_flags ${flag}
        where ${flag}.id = ${sqlTableAlias}.flag_id and ${flag}.${sql.identifier(column)} = ${wanted}
      )`;
    },
  );
}

/** Flags by a part of their key, in either case. A flag's key is short and flags are few, so all that the reader sees are looked at. */
const keyContains = addPgTableCondition(
  { schemaName: 'app_public', tableName: 'feature_flags' },
  'flagKeyContains',
  (build) => ({
    description: 'Only flags whose key contains this text, in capitals or not.',
    type: build.graphql.GraphQLString,
  }),
  (value, { sql, sqlTableAlias, sqlValueWithCodec, build }) => {
    requireValue('flagKeyContains', value);
    const part = sqlValueWithCodec(value, build.dataplanPg.TYPES.text);
    return sql`strpos(lower(${sqlTableAlias}.flag_key), lower(${part})) > 0`;
  },
);

/** Plugins that check values where PostgreSQL's types don't. */
export const valuePlugins: GraphileConfig.Plugin[] = [
  strictDatetime,
  checkedUpdate,
  ...span('audit', 'events', 'occurred_at', 'occurred'),
  ...span('app_public', 'feature_flag_schedules', 'scheduled_at', 'scheduled'),
  keyContains,
  ofFlag('environment', 'environment', 'Only of flags in this environment.'),
  ofFlag('flag_key', 'flagKey', 'Only of flags with this key.'),
];
