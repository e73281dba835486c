import type {} from 'postgraphile';
import { constant, type FieldArgs, type Step } from 'postgraphile/grafast';
import { extendSchema } from 'postgraphile/utils';
import type { PgCodec, PgSelectSingleStep } from 'postgraphile/@dataplan/pg';
import { STATE_TYPES } from './state_types.ts';

/** The functions of app_public behind these fields; exposure.ts keeps PostGraphile from showing them by itself. */
export const STATE_FUNCTIONS = [
  ...['flag_state_at', 'upcoming_changes', 'flag_changes', 'schedules_between', 'changes_per_day'],
  'last_flag_change',
];

type Row = PgSelectSingleStep;
/** What a field's argument is in SQL: its type, and the name of the function's parameter where that is another one. */
type Arguments = Readonly<Record<string, readonly [pgCodec: PgCodec, name?: string]>>;

/** Fields that are the columns of a function's rows. */
function columns(build: GraphileBuild.Build, names: readonly string[]) {
  const plans = names.map((name) => [
    build.inflection.camelCase(name),
    ($row: Row) => $row.get(name) as Step,
  ]);
  return Object.fromEntries(plans) as Record<string, ($row: Row) => Step>;
}

/** What flags were, are and will be, all of an environment at once, and when that changes. */
export const states = extendSchema((build) => {
  const { text, timestamptz, int, uuid } = build.dataplanPg.TYPES;

  function functionNamed(name: string) {
    const resource = build.pgResources[name];
    if (resource === undefined)
      throw new Error(`Migrate the database: it has no function ${name} that the API may call.`);
    return resource;
  }

  /** The rows of a function that takes the field's arguments, in the order of its parameters. */
  function rowsOf(name: string, given: Arguments) {
    const resource = functionNamed(name);
    return (_$root: Step, args: FieldArgs) =>
      resource.execute(
        Object.entries(given).map(([argument, [pgCodec, parameter = argument]]) => ({
          step: args.getRaw(argument),
          pgCodec,
          // What the client leaves out has the function's default, and so those behind it need their names.
          name: parameter,
        })),
      );
  }

  const span: Arguments = { environment: [text], from: [timestamptz], to: [timestamptz] };
  const ofFlag: Arguments = { flagKey: [text, 'of_flag'], first: [int] };
  const lastChange = functionNamed('last_flag_change');
  const schedules = functionNamed('feature_flag_schedules');

  return {
    typeDefs: STATE_TYPES,
    objects: {
      Query: {
        plans: {
          flagStateAt: rowsOf('flag_state_at', { environment: [text], at: [timestamptz] }),
          upcomingChanges: rowsOf('upcoming_changes', { ...span, first: [int] }),
          flagChanges: rowsOf('flag_changes', { ...span, ...ofFlag }),
          schedulesBetween: rowsOf('schedules_between', { ...span, ...ofFlag }),
          changesPerDay: rowsOf('changes_per_day', { ...span, zone: [text] }),
        },
      },
      FlagState: {
        plans: columns(build, [
          ...['flag_key', 'flag_id', 'enabled', 'rollout_percentage', 'certain', 'sources'],
        ]),
      },
      UpcomingChange: {
        plans: columns(build, [
          ...['at', 'flag_key', 'updates', 'schedule_id', 'plan_id', 'occurrence_no', 'step_no'],
          ...['status', 'enabled', 'rollout_percentage', 'certain', 'in_conflict'],
        ]),
      },
      FlagChange: {
        plans: columns(build, [
          ...['at', 'flag_key', 'enabled', 'rollout_percentage', 'was_enabled'],
          ...['was_rollout_percentage', 'schedule_id', 'deleted'],
        ]),
      },
      ScheduleMark: {
        plans: columns(build, [
          ...['id', 'flag_key', 'at', 'updates', 'status', 'applied_at', 'cancelled_at', 'plan_id'],
        ]),
      },
      ChangesOfDay: { plans: columns(build, ['day', 'changes', 'failed', 'pending']) },
      FlagLastChange: {
        plans: columns(build, ['at', 'by', 'event_type', 'schedule_id', 'reason']),
      },
      FeatureFlag: {
        plans: {
          // One statement for all flags of a page, as grafast gathers them.
          nextSchedule($flag: Row) {
            const $next = schedules.find({ flag_id: $flag.get('id') });
            $next.where(build.sql`${$next.alias}.status = 'pending'`);
            for (const attribute of ['scheduled_at', 'id'])
              $next.orderBy({ attribute, direction: 'ASC' });
            $next.setFirst(constant(1));
            return $next.single();
          },
          lastChange($flag: Row) {
            const $rows = lastChange.execute([{ step: $flag.get('id'), pgCodec: uuid }]);
            // One row at most.
            return ($rows as unknown as { single(): Step }).single();
          },
        },
      },
    },
  };
});
