import type {} from 'postgraphile';
import { changeNullability, jsonPgSmartTags } from 'postgraphile/utils';
import { ARGUMENTS } from './arguments.ts';
import { PLAN_FUNCTIONS } from './plan_functions.ts';
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
  'app_public.plans': {
    condition: ['status', 'created_by'],
    orderBy: ['created_at', 'next_at'],
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
const RETURNS_PLAN = { tags: { resultFieldName: 'plan' } };
const RETURNS_ENVIRONMENT = { tags: { resultFieldName: 'environment' } };
const RETURNS_DRY_RUN = { tags: { resultFieldName: 'dryRun' } };
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
          // Its index is partial, which PostGraphile takes for none.
          feature_flag_schedules_plan_id_fkey: {
            tags: { foreignFieldName: 'schedules', isIndexed: true },
          },
        },
        attribute: {
          revision: HIDDEN,
          // jsonb; flag_updates.ts has the typed fields.
          updates: HIDDEN,
          expects: HIDDEN,
          before: HIDDEN,
        },
      },
      'app_public.plans': {
        // Made and changed by functions only.
        tags: { behavior: '-insert -update -delete' },
        // plans.ts has the typed fields.
        attribute: {
          ...{ content: HIDDEN, content_hash: HIDDEN, flag_ids: HIDDEN, environments: HIDDEN },
          revision: HIDDEN,
        },
      },
      // plans.ts has the type, whose objects come out of dry runs, too.
      'app_public.change_conflict': { tags: { name: 'change_conflict_row' } },
      'audit.events': {
        tags: { name: 'audit_events', behavior: '-insert -update -delete' },
        attribute: { revision: HIDDEN },
        // occurred_at is in the key only because the table is partitioned by it.
        constraint: { events_pkey: { tags: { behavior: '-single' } } },
      },
      ...hidden(SQL_ONLY),
    },
    procedure: {
      'app_public.create_environment': RETURNS_ENVIRONMENT,
      'app_public.stop_environment': RETURNS_ENVIRONMENT,
      'app_public.resume_environment': RETURNS_ENVIRONMENT,
      'app_public.resume_schedule': RETURNS_SCHEDULE,
      'app_public.create_plan': RETURNS_PLAN,
      'app_public.edit_plan': RETURNS_PLAN,
      'app_public.cancel_plan': RETURNS_PLAN,
      'app_public.retry_plan': RETURNS_PLAN,
      'app_public.revert_plan': RETURNS_PLAN,
      'app_public.revert_schedule': RETURNS_PLAN,
      'app_public.revert_span': RETURNS_PLAN,
      'app_public.dry_run_plan': RETURNS_DRY_RUN,
      'app_public.dry_run_edit': RETURNS_DRY_RUN,
      'app_public.dry_run_resume': RETURNS_DRY_RUN,
      'app_public.schedule_flag_change': RETURNS_SCHEDULE,
      'app_public.cancel_flag_schedule': RETURNS_SCHEDULE,
      'app_public.reschedule_flag_change': RETURNS_SCHEDULE,
      'app_public.retry_flag_schedule': RETURNS_SCHEDULE,
      ...hidden(COMMANDS_ONLY),
      ...hidden(STATE_FUNCTIONS, 'app_public'),
      ...hidden(PLAN_FUNCTIONS, 'app_public'),
    },
  },
});

const REQUIRED = '!';
const ALL = '[!]!';
const LISTED = ['Environment', 'FeatureFlag', 'FeatureFlagSchedule', 'Plan', 'AuditEvent'];
const CONNECTIONS = LISTED.flatMap((type) => [
  [`${type}Connection`, { nodes: ALL, edges: ALL }],
  [`${type}Edge`, { node: REQUIRED, cursor: REQUIRED }],
]);

/** PostgreSQL's functions can't say which arguments they need, and PostGraphile can't know that no row is null. */
const nullability = changeNullability({
  Query: { serverTime: REQUIRED },
  CreateEnvironmentInput: { name: REQUIRED },
  ScheduleFlagChangeInput: { flagKey: REQUIRED, scheduledAt: REQUIRED, updates: REQUIRED },
  CancelFlagScheduleInput: { id: REQUIRED },
  RescheduleFlagChangeInput: { id: REQUIRED, scheduledAt: REQUIRED },
  RetryFlagScheduleInput: { id: REQUIRED },
  CreatePlanInput: { title: REQUIRED, steps: REQUIRED },
  EditPlanInput: { id: REQUIRED },
  CancelPlanInput: { id: REQUIRED },
  RetryPlanInput: { id: REQUIRED },
  ChangeFlagsInput: { changes: REQUIRED },
  DryRunPlanInput: { title: REQUIRED, steps: REQUIRED },
  DryRunEditInput: { id: REQUIRED },
  DryRunResumeInput: { environment: REQUIRED, missed: REQUIRED, except: '[!]' },
  RevertPlanInput: { id: REQUIRED },
  RevertScheduleInput: { id: REQUIRED },
  RevertSpanInput: { environment: REQUIRED, from: REQUIRED, to: REQUIRED, flags: '[!]' },
  StopEnvironmentInput: { name: REQUIRED, reason: REQUIRED },
  ResumeEnvironmentInput: { name: REQUIRED, missed: REQUIRED, reason: REQUIRED, except: '[!]' },
  ResumeScheduleInput: { id: REQUIRED, reason: REQUIRED },
  FeatureFlagSchedule: { updates: REQUIRED, kept: '[!]' },
  ...(Object.fromEntries(CONNECTIONS) as Record<string, Record<string, string>>),
});

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
      // As REST has it: the function's parameter is named beside columns.
      argument(previous, _preset, details) {
        const isFlags = details.param.name === 'flag_keys';
        return isFlags ? 'flags' : (previous?.(details) ?? '');
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
