import type {} from 'postgraphile';
import { changeNullability, jsonPgSmartTags } from 'postgraphile/utils';
import { REASON_DESCRIPTION as REASON } from './reasons.ts';
import { STATE_FUNCTIONS } from './states.ts';

/** The columns that lists can be narrowed to and sorted by, listed so that a new column makes no slow query and discloses nothing. */
const COLUMNS: Readonly<Record<string, Record<'condition' | 'orderBy', readonly string[]>>> = {
  'app_public.environments': { condition: ['name'], orderBy: ['name'] },
  'app_public.feature_flags': {
    condition: ['flag_key', 'environment', 'enabled'],
    orderBy: ['flag_key', 'created_at'],
  },
  'app_public.feature_flag_schedules': {
    condition: ['flag_id', 'status', 'created_by'],
    orderBy: ['scheduled_at', 'created_at'],
  },
  'audit.events': {
    condition: [
      ...['id', 'flag_key', 'environment', 'event_type', 'level', 'schedule_id'],
      ...['admin_user_id', 'admin_email', 'request_id', 'client_request_id'],
    ],
    orderBy: ['occurred_at'],
  },
};

/** Tables and views of the schema audit that auditors read in SQL. The first two lines are views (migrations/fixtures/audit/read/views.sql). */
const SQL_ONLY = [
  ...['flag_events', 'actor_events', 'applied_schedules', 'lateness_days', 'failed_schedules'],
  ...['cancellations_by_others', 'manual_changes', 'stops', 'plan_events'],
  ...['event_types', 'ledger', 'seals', 'incarnations', 'divergences', 'dead_letters'],
];
/** Functions of the schema audit that only REST, the command line and the fields of seals.ts and trail_status.ts call. */
const COMMANDS_ONLY = [
  ...[
    'verify',
    'verify_rows',
    'verify_triggers',
    'prove',
    'last_seq',
    'record_export',
    'trail_status',
  ],
];

const RETURNS_SCHEDULE = { tags: { resultFieldName: 'featureFlagSchedule' } };
const HIDDEN = { tags: { behavior: '-*' } };
const hidden = (names: readonly string[], schema = 'audit') =>
  Object.fromEntries(names.map((name) => [`${schema}.${name}`, HIDDEN]));

/** Which of a table's rows and columns are in the schema at all; what the roles may not do is left out by itself. */
const smartTags = jsonPgSmartTags({
  version: 1,
  config: {
    class: {
      'app_public.environments': {
        // Made by create_environment() only.
        tags: { behavior: '-insert -update -delete' },
        attribute: { revision: HIDDEN },
      },
      'app_public.feature_flags': {
        attribute: { revision: HIDDEN },
        constraint: {
          // An environment is its name, and its flags are a list of its own.
          feature_flags_environment_fkey: HIDDEN,
          // One way to name a flag in a mutation is enough.
          feature_flags_environment_flag_key_key: {
            tags: { behavior: '-constraint:resource:update' },
          },
        },
      },
      'app_public.feature_flag_schedules': {
        // Made and changed by functions only; the role's INSERT is what schedule_flag_change uses.
        tags: { behavior: '-insert -update -delete' },
        constraint: {
          feature_flag_schedules_flag_id_fkey: { tags: { foreignFieldName: 'schedules' } },
        },
        attribute: {
          revision: HIDDEN,
          // jsonb; flag_updates.ts has the typed field.
          updates: HIDDEN,
        },
      },
      'audit.events': {
        tags: { name: 'audit_events', behavior: '-insert -update -delete' },
        attribute: { revision: HIDDEN },
        // occurred_at is in the key only because the table is partitioned by it.
        constraint: { events_pkey: { tags: { behavior: '-single' } } },
      },
      ...hidden(SQL_ONLY),
    },
    procedure: {
      'app_public.create_environment': { tags: { resultFieldName: 'environment' } },
      'app_public.schedule_flag_change': RETURNS_SCHEDULE,
      'app_public.cancel_flag_schedule': RETURNS_SCHEDULE,
      'app_public.reschedule_flag_change': RETURNS_SCHEDULE,
      'app_public.retry_flag_schedule': RETURNS_SCHEDULE,
      ...hidden(COMMANDS_ONLY),
      ...hidden(STATE_FUNCTIONS, 'app_public'),
    },
  },
});

const REQUIRED = '!';
const ALL = '[!]!';
const CONNECTIONS = ['Environment', 'FeatureFlag', 'FeatureFlagSchedule', 'AuditEvent'].flatMap(
  (type) => [
    [`${type}Connection`, { nodes: ALL, edges: ALL }],
    [`${type}Edge`, { node: REQUIRED, cursor: REQUIRED }],
  ],
);

/** PostgreSQL's functions can't say which arguments they need, and PostGraphile can't know that no row is null. */
const nullability = changeNullability({
  Query: { serverTime: REQUIRED },
  CreateEnvironmentInput: { name: REQUIRED },
  ScheduleFlagChangeInput: { flagKey: REQUIRED, scheduledAt: REQUIRED, updates: REQUIRED },
  CancelFlagScheduleInput: { id: REQUIRED },
  RescheduleFlagChangeInput: { id: REQUIRED, scheduledAt: REQUIRED },
  RetryFlagScheduleInput: { id: REQUIRED },
  FeatureFlagSchedule: { updates: REQUIRED },
  ...(Object.fromEntries(CONNECTIONS) as Record<string, Record<string, string>>),
});

/** PostgreSQL has no comments on the arguments of functions. */
const ARGUMENTS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  CreateEnvironmentInput: {
    name: 'Its name: 1 to 20 letters, digits, dots, hyphens or underscores.',
  },
  ScheduleFlagChangeInput: {
    flagKey: 'The key of the flag to change.',
    environment: 'The flag’s environment; production unless given.',
    scheduledAt: 'When to change it: a time in the future.',
    updates: 'What to change: at least one field.',
    reason: REASON,
  },
  CancelFlagScheduleInput: { id: 'The schedule to cancel.', reason: REASON },
  RescheduleFlagChangeInput: {
    id: 'The schedule to move.',
    scheduledAt: 'Its new time, in the future.',
    reason: REASON,
  },
  RetryFlagScheduleInput: { id: 'The schedule that failed.', reason: REASON },
};

const CHANGED_FLAG =
  'The flag after the change. What will change it again: `schedules(condition: { status: "pending" }, orderBy: [SCHEDULED_AT_ASC], first: 10)`.';

const exposure: GraphileConfig.Plugin = {
  name: 'HalyardExposurePlugin',
  version: '0.0.0',
  inflection: {
    replace: {
      // Names as in the database: `id` stays `id`, since there are no global ids to confuse it with.
      _attributeName(_previous, _preset, { attributeName }) {
        return this.coerceToGraphQLName(attributeName);
      },
    },
  },
  schema: {
    hooks: {
      GraphQLObjectType_fields_field(field, _build, { scope, Self }) {
        const isChanged =
          Self.name === 'UpdateFeatureFlagPayload' && scope.fieldName === 'featureFlag';
        return isChanged ? { ...field, description: CHANGED_FLAG } : field;
      },
      GraphQLInputObjectType_fields_field(field, _build, { scope, Self }) {
        const description = ARGUMENTS[Self.name]?.[scope.fieldName];
        return description === undefined ? field : { ...field, description };
      },
    },
    entityBehavior: {
      pgCodecAttribute: {
        override(behavior, [codec, attribute]) {
          const pg = codec.extensions?.pg;
          const columns = pg === undefined ? undefined : COLUMNS[`${pg.schemaName}.${pg.name}`];
          if (columns === undefined) return behavior;
          return [
            behavior,
            columns.condition.includes(attribute) ? 'filterBy' : '-filterBy',
            columns.orderBy.includes(attribute) ? 'orderBy' : '-orderBy',
          ];
        },
      },
      pgCodec: {
        // Counting the whole trail takes as long as reading it.
        override: (behavior, codec) =>
          codec.extensions?.pg?.schemaName === 'audit' ? [behavior, '-totalCount'] : behavior,
      },
      pgResource: {
        // Forwards only: to read from the end, reverse the order; and a page has one size to limit.
        override: (behavior) => [behavior, '-resource:connection:backwards'],
      },
    },
  },
};

/** Plugins that decide what the schema shows of the database, and under which names. */
export const exposurePlugins: GraphileConfig.Plugin[] = [smartTags, nullability, exposure];
