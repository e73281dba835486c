import type {} from 'postgraphile';
import { addPgTableCondition } from 'postgraphile/utils';
import { contentOf } from '../../plans/content.ts';
import { requireValue } from './values.ts';

const PLANS = { schemaName: 'app_public', tableName: 'plans' };

/** The conditions that are being built, of each the parts that name a flag: they belong together. */
const named = new WeakMap<object, { environment?: string; flagKey?: string }>();

/** Adds a part to the condition, which PostGraphile passes besides what its types say. */
function name(helpers: object, part: { environment?: string; flagKey?: string }) {
  const { condition } = helpers as { readonly condition: object };
  const all = { ...named.get(condition), ...part };
  named.set(condition, all);
  return all;
}

/** Plans that reach an environment. */
const environment = addPgTableCondition(
  PLANS,
  'environment',
  (build) => ({
    description:
      'Only plans that change flags of this environment; with `flagKey`, this flag of this environment.',
    type: build.graphql.GraphQLString,
  }),
  (value, { sql, sqlTableAlias, sqlValueWithCodec, build, ...more }) => {
    requireValue('environment', value);
    const { TYPES } = build.dataplanPg;
    const { flagKey } = name(more, { environment: String(value) });
    const reached = sql`${sqlTableAlias}.environments @> array[${sqlValueWithCodec(value, TYPES.text)}]::varchar[]`;
    if (flagKey === undefined) return reached;
    const content = sqlValueWithCodec(contentOf(flagKey, String(value)), TYPES.jsonb);
    return sql`(${reached} and ${sqlTableAlias}.content @> ${content})`;
  },
);

/** Plans that change a flag. It is looked for in the content, where that of a deleted flag stands too. */
const flagKey = addPgTableCondition(
  PLANS,
  'flagKey',
  (build) => ({
    description: 'Only plans that change a flag with this key.',
    type: build.graphql.GraphQLString,
  }),
  (value, { sql, sqlTableAlias, sqlValueWithCodec, build, ...more }) => {
    requireValue('flagKey', value);
    const all = name(more, { flagKey: String(value) });
    const content = contentOf(String(value), all.environment);
    return sql`${sqlTableAlias}.content @> ${sqlValueWithCodec(content, build.dataplanPg.TYPES.jsonb)}`;
  },
);

/** What lists of plans are narrowed to, besides the columns that exposure.ts lists. */
export const planConditions: GraphileConfig.Plugin[] = [environment, flagKey];
