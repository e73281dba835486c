import './environment.ts';

import { constant, context, get, listen, object } from 'postgraphile/grafast';
import type { FieldArgs, GrafastSubscriber, Step } from 'postgraphile/grafast';
import { extendSchema, gql } from 'postgraphile/utils';

import type { Settings } from '../../db.ts';
import type { Changes, Hint } from './changes.ts';
import type { Reader } from './reader.ts';

/** Which rows a subscriber wants; what is null or left out doesn't matter. */
interface Topic {
  readonly kind: Kind;
  readonly flagKey?: string | null;
  readonly environment?: string | null;
}

type Kind = 'events' | 'schedules';

/** What reaches the client, once its rows are read. */
interface Visible {
  readonly ids: readonly string[];
  readonly truncated: boolean;
}

/** Of those ids, the ones that the caller's role, environments and arguments let through. */
const SELECT_VISIBLE: Record<Kind, string> = {
  events: `
    select e.id
    from audit.events e
    where e.id = any ($1::uuid[])
      and ($2::text is null or e.flag_key = $2)
      and ($3::text is null or e.environment = $3)`,
  schedules: `
    select s.id
    from app_public.feature_flag_schedules s
    join app_public.feature_flags f on f.id = s.flag_id
    where s.id = any ($1::uuid[])
      and ($2::text is null or f.flag_key = $2)
      and ($3::text is null or f.environment = $3)`,
};

export interface SubscriberOptions {
  readonly changes: Changes;
  readonly reader: Reader;
  /** Of the operation. */
  readonly settings: Settings;
}

/**
 * What the plans of one operation subscribe through: every hint is looked up with the claims of who asked, and one of
 * which nothing is visible to them goes no further.
 */
export function makeSubscriber(options: SubscriberOptions): GrafastSubscriber {
  const { changes, reader, settings } = options;

  async function visible(topic: Topic, ids: readonly string[]): Promise<string[]> {
    const { rows } = await reader.query(settings, {
      name: `visible_${topic.kind}`,
      text: SELECT_VISIBLE[topic.kind],
      values: [ids, topic.flagKey ?? null, topic.environment ?? null],
    });
    return (rows as { id: string }[]).map(({ id }) => id);
  }

  async function next(topic: Topic, take: () => Promise<Hint | null>): Promise<Visible | null> {
    for (;;) {
      reader.follow(settings, null);
      const hint = await take();
      if (hint === null) return null;
      reader.follow(settings, hint);
      const wanted = hint[topic.kind];
      const ids = wanted.length === 0 ? [] : await visible(topic, wanted);
      if (ids.length > 0 || hint.truncated) return { ids, truncated: hint.truncated };
    }
  }

  async function subscribe(topic: Topic): Promise<AsyncIterableIterator<Visible>> {
    const mailbox = changes.open();
    try {
      // Whoever may not read the table hears so now, and not at the first change.
      await visible(topic, []);
    } catch (error) {
      mailbox.close();
      throw error;
    }
    const end = (): Promise<IteratorResult<Visible>> => {
      mailbox.close();
      return Promise.resolve({ done: true, value: undefined });
    };
    // Not an async generator: its return() would wait for a hint that may never come.
    const hints: AsyncIterableIterator<Visible> = {
      [Symbol.asyncIterator]: () => hints,
      async next() {
        try {
          const value = await next(topic, () => mailbox.take());
          return value === null ? await end() : { done: false, value };
        } catch (error) {
          mailbox.close();
          throw error;
        }
      },
      return: end,
    };
    return hints;
  }

  return { subscribe: subscribe as unknown as GrafastSubscriber['subscribe'] };
}

/** The key of the context under which plans find the subscriber. */
export const SUBSCRIBER = 'halyardSubscriber';

function subscribePlan(kind: Kind) {
  return (_$root: Step, args: FieldArgs) => {
    const $topic = object({
      kind: constant(kind),
      flagKey: args.getRaw('flagKey'),
      environment: args.getRaw('environment'),
    });
    const $subscriber = get(context(), SUBSCRIBER as never);
    // A topic is a string where it names a channel; here the subscriber is our own.
    return listen($subscriber, $topic as never, ($hint) => $hint);
  };
}

const hintPlan = ($hint: Step) => $hint;

/** Subscription fields for the audit trail and for schedules, and the plans that read their rows. */
const subscriptions = extendSchema((build) => {
  const { sql } = build;
  const { listOfCodec, TYPES } = build.dataplanPg;

  /** Reads the rows of a hint as any query does: under the policies, in an order that doesn't change. */
  function rowsPlan(schema: string, table: string, order: string) {
    const resource = Object.values(build.pgResources).find(
      ({ extensions, parameters }) =>
        parameters === undefined &&
        extensions?.pg?.schemaName === schema &&
        extensions.pg.name === table,
    );
    if (resource === undefined)
      throw new Error(`Migrate the database: it has no ${schema}.${table} that the API may read.`);
    return ($hint: Step) => {
      const $rows = resource.find();
      const $ids = $rows.placeholder(get($hint as never, 'ids' as never), listOfCodec(TYPES.uuid));
      $rows.where(sql`${$rows.alias}.id = any (${$ids})`);
      for (const attribute of [order, 'id']) $rows.orderBy({ attribute, direction: 'ASC' });
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
          """
          Only of flags with this key.
          """
          flagKey: String
          """
          Only of this environment.
          """
          environment: String
        ): AuditEventsAdded!

        """
        Schedules as they are created, cancelled, moved, retried, applied or fail, as they are then. For admins and
        viewers. It ends as auditEventsAdded does.
        """
        flagSchedulesChanged(
          """
          Only of flags with this key.
          """
          flagKey: String
          """
          Only of this environment.
          """
          environment: String
        ): FlagSchedulesChanged!
      }

      """
      Events that were added at about the same time.
      """
      type AuditEventsAdded {
        """
        The events, oldest first.
        """
        events: [AuditEvent!]!
        """
        Whether there are more than these, because they are many or this client is slow: query auditEvents for all.
        """
        truncated: Boolean!
      }

      """
      Schedules that changed at about the same time.
      """
      type FlagSchedulesChanged {
        """
        The schedules, by the time for which they are scheduled.
        """
        schedules: [FeatureFlagSchedule!]!
        """
        Whether there are more than these, because they are many or this client is slow: query featureFlagSchedules for all.
        """
        truncated: Boolean!
      }
    `,
    objects: {
      Subscription: {
        plans: {
          auditEventsAdded: { subscribePlan: subscribePlan('events'), plan: hintPlan },
          flagSchedulesChanged: {
            subscribePlan: subscribePlan('schedules'),
            plan: hintPlan,
          },
        },
      },
      AuditEventsAdded: {
        plans: { events: rowsPlan('audit', 'events', 'occurred_at') },
      },
      FlagSchedulesChanged: {
        plans: { schedules: rowsPlan('app_public', 'feature_flag_schedules', 'scheduled_at') },
      },
    },
  };
});

export const subscriptionPlugins: GraphileConfig.Plugin[] = [subscriptions];
