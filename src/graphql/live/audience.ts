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

/** A subscriber that missed what was notified just before it came. */
interface Latecomer {
  readonly topic: Topic;
  readonly queue: SubscriberQueue;
  readonly missed: Hint;
  readonly done: () => void;
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
  const latecomers: Latecomer[] = [];
  let pending: Hint | null = null;
  const looking = coalesce(async () => {
    const late = latecomers.splice(0);
    try {
      if (topics.size > 0) await turns.run(LOOKS, () => look(late));
    } catch (error) {
      const message = lastMessage(error);
      const queues = Array.from(topics.values()).flatMap((one) => [...one.queues]);
      for (const queue of queues) queue.end(message);
    } finally {
      for (const { done } of late) done();
    }
  }, 0);

  async function look(late: readonly Latecomer[]): Promise<void> {
    const hint = pending;
    pending = null;
    if (hint !== null) handOut(await view.look(hint));
    for (const { topic, queue, missed } of late) {
      const found = { changes: await view.readNamed(missed), more: false };
      const delivery = deliveryFor(topic, found, byFlagOf(found), {});
      if (delivery !== null) queue.put(delivery);
    }
  }

  function handOut(found: Found): void {
    const byFlag = byFlagOf(found);
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
    /**
     * Gives a subscriber that was added what a hint names that came before. A look that has begun may bring it the same rows: as long as it
     * takes nothing until then, they are one delivery.
     *
     * @returns resolves once that is in its queue
     */
    async catchUp(topic: Topic, queue: SubscriberQueue, missed: Hint): Promise<void> {
      const { promise, resolve: done } = Promise.withResolvers<undefined>();
      latecomers.push({ topic, queue, missed, done: () => done(undefined) });
      looking.request();
      await promise;
    },
    /** Looks at a hint soon; several that come meanwhile are one. */
    notify(hint: Hint): void {
      pending = pending === null ? hint : mergeHints([pending, hint]);
      looking.request();
    },
  };
}

const byFlagOf = ({ changes }: Found) => Map.groupBy(changes, ({ flagKey }) => flagKey);

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
    ({ environments }) => environment === null || environments.includes(environment),
  );
  if (wanted.length === 0 && !more) return null;
  const ids = wanted.map(({ id }) => id);
  return deliver(ids, look, { truncated: more });
}
