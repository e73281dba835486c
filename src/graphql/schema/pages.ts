import type {} from 'postgraphile';

/** Rows of a page when `first` isn't given. */
export const DEFAULT_PAGE = 50;

/** The largest `first`; limits.ts refuses more, wherever the value comes from. */
export const MAX_PAGE = 100;

/** In what order rows come unless `orderBy` says otherwise; the primary keys are random. */
const DEFAULT_ORDER: Readonly<Record<string, string>> = {
  FeatureFlagOrderBy: 'FLAG_KEY_ASC',
  FeatureFlagScheduleOrderBy: 'CREATED_AT_DESC',
  PlanOrderBy: 'CREATED_AT_DESC',
  AuditEventOrderBy: 'OCCURRED_AT_DESC',
};

/** How connections are paged and ordered. */
export const pages: GraphileConfig.Plugin = {
  name: 'HalyardPagesPlugin',
  version: '0.0.0',
  after: [
    'PgFirstLastBeforeAfterArgsPlugin',
    'PgConnectionArgOrderByDefaultValuePlugin',
    'PgOrderByPrimaryKeyPlugin',
  ],
  schema: {
    hooks: {
      /**
       * Gives `first` a default and takes `offset` away: a cursor goes to the next page in the time of one page, at any depth.
       * `first` can't be null, because PostgreSQL takes that for no limit.
       */
      GraphQLObjectType_fields_field_args(args, build, { scope }) {
        if (scope.isPgFieldConnection !== true || args.first === undefined) return args;
        const { GraphQLInt, GraphQLNonNull } = build.graphql;
        const kept = Object.entries(args).filter(([name]) => name !== 'offset');
        return {
          ...Object.fromEntries(kept),
          first: {
            ...args.first,
            type: new GraphQLNonNull(GraphQLInt),
            defaultValue: DEFAULT_PAGE,
            description: `How many to read, from 0 to ${MAX_PAGE}.`,
          },
        };
      },
      GraphQLEnumType_values(values, _build, { scope }) {
        if (scope.isPgRowSortEnum !== true) return values;
        return Object.fromEntries(
          Object.entries(values).filter(([name]) => !/^(NATURAL|PRIMARY_KEY_.*)$/.test(name)),
        );
      },
      GraphQLObjectType_fields_field_args_arg(arg, build, { scope }) {
        if (scope.argName !== 'orderBy') return arg;
        const type = build.graphql.getNamedType(arg.type);
        const name = DEFAULT_ORDER[type.name];
        if (!build.graphql.isEnumType(type) || name === undefined) return arg;
        const value = type.getValue(name);
        if (value === null || value === undefined)
          throw new Error(`Give ${type.name} a value ${name}, its default.`);
        return { ...arg, defaultValue: [value.value] };
      },
    },
  },
};
