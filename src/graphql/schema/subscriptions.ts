import { constant, context, get, listen, object } from 'postgraphile/grafast';
import type { FieldArgs, GrafastSubscriber, Step } from 'postgraphile/grafast';
import type { ExecutionResult } from 'postgraphile/graphql';
import { extendSchema, gql } from 'postgraphile/utils';

/** Which rows a subscriber wants; what is null or left out doesn't matter. */
export interface Topic {
  readonly kind: Kind;
  readonly flagKey?: string | null;
  readonly environment?: string | null;
}

type Kind = 'events' | 'schedules' | 'flags' | 'plans' | 'environments';

/** The rows that reach the client, once they are read. */
export interface Visible {
  /** Of environments their names. */
  readonly ids: readonly string[];
  readonly truncated: boolean;
}

/** Looks a topic's rows up; null for none. */
export type Lookup = (topic: Topic) => Promise<Visible | null>;

/** The subscriber for the plans of one execution: it gives one value, or none, and ends. */
export function makeSubscriber(lookUp: Lookup): GrafastSubscriber {
  async function subscribe(topic: Topic): Promise<AsyncIterableIterator<Visible>> {
    return once(await lookUp(topic));
  }
  // A topic is a string where it names a channel; here the subscriber is our own.
  return { subscribe: subscribe as unknown as GrafastSubscriber['subscribe'] };
}

async function* once(value: Visible | null): AsyncGenerator<Visible, void, void> {
  if (value !== null) yield Promise.resolve(value);
}

/** The result of what the subscriber gave; null when that was none. Errors alone when it couldn't be subscribed. */
export async function resultOf(
  running: ExecutionResult | AsyncGenerator<ExecutionResult, void, void>,
): Promise<ExecutionResult | null> {
  if (!(Symbol.asyncIterator in running)) return running;
  const { value } = await running.next();
  await running.return();
  return value ?? null;
}

/** The key of the context under which plans find the subscriber. */
export const SUBSCRIBER = 'halyardSubscriber';

/** The plans of a subscription field with these arguments. */
function followPlans(kind: Kind, given: readonly ('flagKey' | 'environment')[]) {
  return {
    subscribePlan(_$root: Step, args: FieldArgs) {
      const $topic = object({
        kind: constant(kind),
        ...Object.fromEntries(given.map((name) => [name, args.getRaw(name)])),
      });
      const $subscriber = get(context(), SUBSCRIBER as never);
      // A topic is a string where it names a channel; here the subscriber is our own.
      return listen($subscriber, $topic as never, ($hint) => $hint);
    },
    plan: ($hint: Step) => $hint,
  };
}

const OF_FLAG = ['flagKey', 'environment'] as const;

/** Subscription fields for the audit trail, schedules, flags, plans and environments, and the plans that read their rows. */
export const subscriptions = extendSchema((build) => {
  const { sql } = build;
  const { listOfCodec, TYPES } = build.dataplanPg;

  /** Reads the rows of a hint as any query does: under the policies, in an order that doesn't change. */
  function rowsPlan(name: string, order: string, id: 'id' | 'name' = 'id') {
    const resource = build.pgResources[name];
    if (resource === undefined)
      throw new Error(`Migrate the database: it has no ${name} that the API may read.`);
    return ($hint: Step) => {
      const $rows = resource.find();
      const codec = listOfCodec(id === 'id' ? TYPES.uuid : TYPES.text);
      const $ids = $rows.placeholder(get($hint as never, 'ids' as never), codec);
      $rows.where(sql`${$rows.alias}.${sql.identifier(id)} = any (${$ids})`);
      for (const attribute of new Set([order, id])) $rows.orderBy({ attribute, direction: 'ASC' });
      return $rows;
    };
  }

  return {
    typeDefs: gql`
      extend type Subscription {
        """
        Events as they are added to the audit trail, oldest first. For admins and auditors. When the server loses sight
        of the trail the subscription ends with database_unavailable: read what is missing, and subscribe again.
        """
        auditEventsAdded(
          "Only of flags with this key."
          flagKey: String
          "Only of this environment."
          environment: String
        ): AuditEventsAdded!

        """
        Schedules as they are created, cancelled, moved, retried, suspended, resumed, skipped, applied or fail, as they are then. For
        every role. It ends as auditEventsAdded does.
        """
        flagSchedulesChanged(
          "Only of flags with this key."
          flagKey: String
          "Only of this environment."
          environment: String
        ): FlagSchedulesChanged!

        """
        Flags as they are created or changed, by an admin, by a schedule or in SQL, as they are then. For every role.
        It ends as auditEventsAdded does.
        """
        flagsChanged(
          "Only of this environment."
          environment: String
          "Only the flags with this key."
          flagKey: String
        ): FlagsChanged!

        """
        Plans as they are made, edited, paused or ended, and as their changes are applied, suspended, resumed or fail, as they are then.
        For admins and auditors, whose token must reach all environments of a plan. It ends as auditEventsAdded does.
        """
        plansChanged(
          "Only plans that change flags of this environment."
          environment: String
        ): PlansChanged!

        "Environments as they are made, stopped or resumed, as they are then. For every role. It ends as auditEventsAdded does."
        environmentsChanged: EnvironmentsChanged!
      }

      "Events that were added at about the same time."
      type AuditEventsAdded {
        "The events, oldest first."
        events: [AuditEvent!]!
        "Whether there are more than these, because they are many or this client is slow: query auditEvents for all."
        truncated: Boolean!
      }

      "Schedules that changed at about the same time."
      type FlagSchedulesChanged {
        "The schedules, by the time for which they are scheduled."
        schedules: [FeatureFlagSchedule!]!
        "Whether there are more than these, because they are many or this client is slow: query featureFlagSchedules for all."
        truncated: Boolean!
      }

      "Flags that changed at about the same time."
      type FlagsChanged {
        "The flags, by key."
        flags: [FeatureFlag!]!
        "Whether there are more than these, because they are many or this client is slow: query featureFlags for all."
        truncated: Boolean!
      }

      "Plans that changed at about the same time."
      type PlansChanged {
        "The plans, by the time when they were made."
        plans: [Plan!]!
        "Whether there are more than these, because they are many or this client is slow: query plans for all."
        truncated: Boolean!
      }

      "Environments that changed at about the same time."
      type EnvironmentsChanged {
        "The environments, by name."
        environments: [Environment!]!
        "Whether there are more than these, because they are many or this client is slow: query environments for all."
        truncated: Boolean!
      }
    `,
    objects: {
      Subscription: {
        plans: {
          auditEventsAdded: followPlans('events', OF_FLAG),
          flagSchedulesChanged: followPlans('schedules', OF_FLAG),
          flagsChanged: followPlans('flags', OF_FLAG),
          plansChanged: followPlans('plans', ['environment']),
          environmentsChanged: followPlans('environments', []),
        },
      },
      AuditEventsAdded: { plans: { events: rowsPlan('audit_events', 'occurred_at') } },
      FlagSchedulesChanged: {
        plans: { schedules: rowsPlan('feature_flag_schedules', 'scheduled_at') },
      },
      FlagsChanged: { plans: { flags: rowsPlan('feature_flags', 'flag_key') } },
      PlansChanged: { plans: { plans: rowsPlan('plans', 'created_at') } },
      EnvironmentsChanged: {
        plans: { environments: rowsPlan('environments', 'name', 'name') },
      },
    },
  };
});
