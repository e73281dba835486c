import type {} from 'postgraphile';
import { constant, type FieldArgs, type Step } from 'postgraphile/grafast';
import { extendSchema, gql } from 'postgraphile/utils';
import type { PgCodec, PgSelectSingleStep } from 'postgraphile/@dataplan/pg';

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
    typeDefs: gql`
      extend type Query {
        """
        The state of every flag of an environment at a time, by key, at most 10,000: of the past as the trail has it, of the future as the
        pending schedules will make it. A flag that didn't exist then isn't in it.
        """
        flagStateAt(
          "The environment."
          environment: String!
          "The time."
          at: Datetime!
        ): [FlagState!]!

        "The changes that the pending schedules will make, in the order in which they come."
        upcomingChanges(
          "The environment."
          environment: String!
          "From this time on. For what is overdue, and so comes at once: a time that has passed."
          from: Datetime!
          "Before this time, 400 days after the other at most."
          to: Datetime!
          "How many, 10,000 at most."
          first: Int! = 100
        ): [UpcomingChange!]!

        "The changes of state that flags had, oldest first, from the trail. For every role."
        flagChanges(
          "The environment."
          environment: String!
          "From this time on."
          from: Datetime!
          "Before this time."
          to: Datetime!
          "Only of the flag with this key."
          flagKey: String
          "How many, 10,000 at most."
          first: Int! = 1000
        ): [FlagChange!]!

        "The schedules for a span of time, by that time, of every status."
        schedulesBetween(
          "The environment."
          environment: String!
          "From this time on."
          from: Datetime!
          "Before this time."
          to: Datetime!
          "Only of the flag with this key."
          flagKey: String
          "How many, 10,000 at most."
          first: Int! = 1000
        ): [ScheduleMark!]!

        "How much happened, and is to happen, on each day of a span of time."
        changesPerDay(
          "The environment."
          environment: String!
          "From this time on."
          from: Datetime!
          "Before this time, 400 days after the other at most."
          to: Datetime!
          "The time zone of the days, such as Europe/Zurich."
          zone: String! = "UTC"
        ): [ChangesOfDay!]!
      }

      "The state of a flag at a time."
      type FlagState {
        "The flag's key."
        flagKey: String!
        "The flag's id."
        flagId: UUID
        "Whether it is on."
        enabled: Boolean!
        "The share of users that get the feature, 0 to 100."
        rolloutPercentage: Int!
        "Whether nothing is in the way: false when a schedule of the flag is overdue, or what the trail says isn't enough."
        certain: Boolean!
        "What decides: of the past the event, of the future the schedule for each field that one will have changed."
        sources: JSON!
      }

      "A change that a pending schedule will make."
      type UpcomingChange {
        "When it comes: the schedule's time, the time of its next attempt, or now for what is overdue."
        at: Datetime!
        "The flag's key."
        flagKey: String!
        "What it changes."
        updates: FlagUpdates!
        "The schedule."
        scheduleId: UUID
        "The plan that the schedule belongs to; null, as there are no plans yet."
        planId: UUID
        "The number of the plan's occurrence."
        occurrenceNo: Int
        "The number of the occurrence's step."
        stepNo: Int
        "The schedule's status."
        status: String!
        "Whether the flag is on after it."
        enabled: Boolean!
        "The flag's share of users after it, 0 to 100."
        rolloutPercentage: Int!
      }

      "A change of a flag's state that was made."
      type FlagChange {
        "When."
        at: Datetime!
        "The flag's key."
        flagKey: String!
        "Whether the flag is on after it."
        enabled: Boolean!
        "The flag's share of users after it, 0 to 100."
        rolloutPercentage: Int!
        "Whether the flag was on before it; null when it was created."
        wasEnabled: Boolean
        "The flag's share of users before it; null when it was created."
        wasRolloutPercentage: Int
        "The schedule that made it; null when a person did."
        scheduleId: UUID
        "Whether the flag was deleted; it is off then."
        deleted: Boolean!
      }

      "A schedule, as a mark on a line of time."
      type ScheduleMark {
        "The schedule's id."
        id: UUID!
        "The flag's key."
        flagKey: String!
        "The time that it is scheduled for."
        at: Datetime!
        "What it changes."
        updates: FlagUpdates!
        "Its status: pending, applied, failed or cancelled."
        status: String!
        "When it was applied."
        appliedAt: Datetime
        "When it was cancelled."
        cancelledAt: Datetime
      }

      "A day, with how much happened on it."
      type ChangesOfDay {
        "The day of the zone, as 2030-01-31."
        day: String!
        "How many changes of state flags had."
        changes: Int!
        "How many schedules for this day failed."
        failed: Int!
        "How many schedules for this day are pending."
        pending: Int!
      }

      extend type FeatureFlag {
        "The pending schedule that comes first, by its time and then its id."
        nextSchedule: FeatureFlagSchedule
        "The last change of the flag that the trail has; null when it has none."
        lastChange: FlagLastChange
      }

      "The last change of a flag."
      type FlagLastChange {
        "When."
        at: Datetime!
        "Who wanted it: the admin who made it, or scheduled what made it; the login that made it in SQL. Null for viewers, and when unknown."
        by: String
        "What happened, as feature_flag.updated."
        eventType: String!
        "The schedule that made it; null when a person did."
        scheduleId: UUID
        "Why, as they said; null for viewers, and without a reason."
        reason: String
      }
    `,
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
          ...['status', 'enabled', 'rollout_percentage'],
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
          ...['id', 'flag_key', 'at', 'updates', 'status', 'applied_at', 'cancelled_at'],
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
