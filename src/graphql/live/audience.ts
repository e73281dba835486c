import type { Hint } from '../../audit/hint.ts';
import { coalesce } from '../../lib/coalesce.ts';
import type { FairQueue } from '../../lib/fair_queue.ts';
import type { Topic } from '../schema/subscriptions.ts';
import { mergeHints } from './changes.ts';
import { deliver, type Delivery, type SubscriberQueue, type Message } from './subscriber_queue.ts';
import type { Change, Found, View } from './view.ts';

/** Those who follow the same topic. */
interface Followers {
  readonly topic: Topic;
  readonly queues: Set<SubscriberQueue>;
}

/** Looks have turns beside those of users, whose keys are never empty. */
const LOOKS = { user: '' };

/** The subscribers with the same rights to rows of the same kind, and their queues. */
export type Audience = ReturnType<typeof makeAudience>;

/**
 * Looks at each hint once for all of an audience, and hands each subscriber the rows that its arguments let through. A subscriber
 * none of whose rows changed costs nothing.
 *
 * @param options.lastMessage what a failed look ends all subscriptions with
 */
export function makeAudience(options: {
  readonly view: View;
  readonly turns: FairQueue;
  readonly lastMessage: (error: unknown) => Message;
}) {
  const { view, turns, lastMessage } = options;
  const topics = new Map<string, Followers>();
  let pending: Hint | null = null;
  const looking = coalesce(async () => {
    try {
      if (topics.size > 0) await turns.run(LOOKS, look);
    } catch (error) {
      const message = lastMessage(error);
      const queues = Array.from(topics.values()).flatMap((one) => [...one.queues]);
      for (const queue of queues) queue.end(message);
    }
  }, 0);

  async function look(): Promise<void> {
    const hint = pending;
    pending = null;
    if (hint !== null) handOut(await view.look(hint));
  }

  function handOut(found: Found): void {
    const byFlag = Map.groupBy(found.changes, ({ flagKey }) => flagKey);
    const byTopic = {};
    for (const { topic, queues } of topics.values()) {
      const delivery = deliveryFor(topic, found, byFlag, byTopic);
      if (delivery !== null) for (const queue of queues) queue.put(delivery);
    }
  }

  return {
    isEmpty: () => topics.size === 0,
    begin: view.begin,
    add(topic: Topic, queue: SubscriberQueue): void {
      const key = keyOf(topic);
      const followers = topics.get(key) ?? { topic, queues: new Set() };
      topics.set(key, followers);
      followers.queues.add(queue);
    },
    remove(topic: Topic, queue: SubscriberQueue): void {
      const key = keyOf(topic);
      const queues = topics.get(key)?.queues;
      queues?.delete(queue);
      if (queues?.size === 0) topics.delete(key);
    },
    /** Looks at a hint soon; several that come meanwhile are one. */
    notify(hint: Hint): void {
      pending = pending === null ? hint : mergeHints([pending, hint]);
      looking.request();
    },
  };
}

const keyOf = ({ flagKey, environment }: Topic) =>
  JSON.stringify([flagKey ?? null, environment ?? null]);

function deliveryFor(
  { flagKey = null, environment = null }: Topic,
  { changes, more }: Found,
  byFlag: ReadonlyMap<string | null, readonly Change[]>,
  look: object,
): Delivery | null {
  const ofFlag = flagKey === null ? changes : (byFlag.get(flagKey) ?? []);
  const wanted = ofFlag.filter(
    (change) => environment === null || change.environment === environment,
  );
  if (wanted.length === 0 && !more) return null;
  const ids = wanted.map(({ id }) => id);
  return deliver(ids, look, { truncated: more });
}
