import type { ExecutionResult } from 'postgraphile/graphql';
import type { Hint } from '../../audit/hint.ts';
import { ASKER, type Settings } from '../../postgres/request_settings.ts';
import { DatabaseUnavailableError } from '../../postgres/pool.ts';
import type { Logger } from '../../lib/log.ts';
import type { FairQueue } from '../../lib/fair_queue.ts';
import type { Planning } from '../planning.ts';
import { failure, format, type Result } from '../errors.ts';
import type { Lookup, Topic } from '../schema/subscriptions.ts';
import { makeAudience, type Audience } from './audience.ts';
import type { Changes } from './changes.ts';
import { makeStarts, type Start } from './starts.ts';
import { deliver, makeSubscriberQueue } from './subscriber_queue.ts';
import type { Delivery, SubscriberQueue, Message } from './subscriber_queue.ts';
import { makePerNoticeCache, type Reader } from './reader.ts';
import { idsIn, makeView } from './view.ts';

/** A subscription that was checked and may begin. */
export interface SubscribedEntity {
  /** Subscriptions with the same operation, variables and rights have the same key, and get the same messages. */
  readonly key: string;
  readonly rights: Settings;
  /** Whose turns it takes. */
  readonly user: string;
  /** Runs the operation once, on what is given for its topic. Null when that is null; a result of errors alone ends it all. */
  readonly run: (rights: Settings, lookUp: Lookup) => Promise<ExecutionResult | null>;
  /** Knows the request's id. */
  readonly log: Logger;
}

/** Results, each as JSON text. One of errors alone is the last. */
export interface Results extends AsyncIterableIterator<string, void, void> {
  return(): Promise<IteratorResult<string, void>>;
}

/** Rows of a message that is large, by what limits.ts allows for a row: more of these wait for a place, and have it until they are sent. */
const LARGE_ROWS = 25;

/** The asker of the rows that an audience shares. A user's key never looks like it. */
const LOOKS = { user: 'looks' };

/**
 * Feeds subscribers with what changed: rows that were read with their rights, never what a notification says. Those with the same
 * rights share a look at the rows; those with the same key also share what it comes to, down to the text: 200 executions took 40 to
 * 60 ms of a core. An execution begins and ends with its rows, so a group has no leader, and leaves nothing behind.
 *
 * When the listener's connection is lost, hints are too: every subscription ends at once, so that its client knows, and reads and
 * subscribes again.
 */
export function makeSubscriptionSource(options: {
  readonly changes: Changes;
  readonly reader: Reader;
  /** The queue of executions and looks. */
  readonly turns: FairQueue;
  readonly planning: Pick<Planning, 'beginLarge'>;
  readonly log: Logger;
}) {
  const { changes, reader, turns, planning, log } = options;
  const audiences = new Map<string, Audience & { readonly kind: Topic['kind'] }>();
  const queues = new Set<SubscriberQueue>();
  const share = makePerNoticeCache<Message>();
  const begin = makeStarts(changes);
  changes.follow({ onHint, onLost });

  function onHint(hint: Hint): void {
    for (const audience of audiences.values())
      if (hint.partial || idsIn(hint, audience.kind).length > 0) audience.notify(hint);
  }

  function onLost(): void {
    const message = lastMessage(listenerLost());
    for (const queue of queues) queue.end(message);
  }

  /** Made, and logged, once for all whose subscriptions it ends. */
  function lastMessage(error: unknown, to = log): Message {
    return { text: JSON.stringify(failure(error, to)), last: true };
  }

  function audienceFor(kind: Topic['kind'], rights: Settings) {
    const key = JSON.stringify([kind, rights]);
    const known = audiences.get(key);
    if (known !== undefined) return { key, audience: known };
    // What all of them share comes out of no one's share of the connections.
    const view = makeView(reader, kind, { ...rights, [ASKER]: LOOKS });
    const audience = Object.assign(makeAudience({ view, turns, lastMessage }), { kind });
    audiences.set(key, audience);
    return { key, audience };
  }

  /** Puts a queue where what is notified from now on reaches it, and what was since the start. @returns takes it away again */
  function join(queue: SubscriberQueue, topic: Topic, rights: Settings, start: Start) {
    const { key, audience } = audienceFor(topic.kind, rights);
    audience.add(topic, queue);
    const missed = start.take();
    const caughtUp =
      idsIn(missed, topic.kind).length === 0
        ? Promise.resolve()
        : audience.catchUp(topic, queue, missed);
    const leave = () => {
      audience.remove(topic, queue);
      if (audience.isEmpty() && audiences.get(key) === audience) audiences.delete(key);
    };
    return { leave, caughtUp, begun: audience.begin() };
  }

  async function execute(followed: SubscribedEntity, delivery: Delivery): Promise<Message> {
    // An object for this execution alone: by it the reader knows the look.
    const rights = { ...followed.rights };
    reader.follow(rights, delivery.look);
    const result = await followed.run(rights, () => Promise.resolve(delivery));
    if (result === null) throw new Error('A subscription gave no result.');
    const text = JSON.stringify(format(result, followed.log));
    return { text, last: result.data === undefined };
  }

  async function next(
    followed: SubscribedEntity,
    queue: SubscriberQueue,
    untilSent: (end: () => void) => void,
  ): Promise<Message | null> {
    const item = await queue.take();
    if (item === null || 'text' in item) return item;
    if (item.ids.length > LARGE_ROWS)
      try {
        untilSent(await planning.beginLarge({ user: followed.user }));
      } catch (error) {
        return lastMessage(error, followed.log);
      }
    // Errors, too, are shared, and logged once.
    return share(item, followed.key, () =>
      turns
        .run({ user: followed.user }, () => execute(followed, item))
        .catch((error: unknown) => lastMessage(error, followed.log)),
    );
  }

  return {
    /** How many subscriptions are open. */
    get size() {
      return queues.size;
    },
    /** Begins to collect what changes, for a subscription that was asked for just now. */
    begin,
    /**
     * Begins a subscription. Who may not read what it is about hears so now, and not at the first change.
     *
     * @param start what changes from then on is for it; ended here
     * @returns a result of errors when the operation may not be followed
     * @throws DatabaseUnavailableError while nothing is being listened to
     */
    async follow(followed: SubscribedEntity, start = begin()): Promise<Result | Results> {
      const place: { leave?: () => void; caughtUp?: Promise<void> } = {};
      const queue = makeSubscriberQueue(() => {
        queues.delete(queue);
        place.leave?.();
      });
      queues.add(queue);
      try {
        if (!changes.healthy() || start.isLost()) throw listenerLost();
        const refused = await followed.run(followed.rights, async (topic) => {
          const { begun, ...joined } = join(queue, topic, followed.rights, start);
          Object.assign(place, joined);
          // The connection may be lost already.
          if (!queues.has(queue)) joined.leave();
          await begun;
          // What was there when the view began isn't new to it, and the hints that say otherwise are incomplete.
          if (start.isPartial()) queue.put(deliver([], {}, { truncated: true }));
          return null;
        });
        if (refused === null && place.leave === undefined)
          throw new Error('A subscription followed nothing.');
        if (refused === null)
          return makeResults(queue, async (untilSent) => {
            await place.caughtUp;
            return next(followed, queue, untilSent);
          });
        queue.close();
        return format(refused, followed.log);
      } catch (error) {
        queue.close();
        throw error;
      } finally {
        start.end();
      }
    },
    /** Ends all subscriptions. */
    close: (): void => {
      for (const queue of queues) queue.close();
    },
  };
}

/** What a subscription ends with when its hints may be lost. */
function listenerLost(): DatabaseUnavailableError {
  return new DatabaseUnavailableError(
    new Error(
      'The listener has no connection, or lost it, and with it what was notified meanwhile.',
    ),
  );
}

export type SubscriptionSource = ReturnType<typeof makeSubscriptionSource>;

/**
 * The messages until the queue is closed, which return() does. Not an async generator: its return() would wait for a change.
 *
 * @param next gives a message, and before it what is to be called once that is sent: when the next one is asked for, or at the end
 */
function makeResults(
  queue: SubscriberQueue,
  next: (untilSent: (end: () => void) => void) => Promise<Message | null>,
): Results {
  let ended = false;
  let endLast: () => void = () => undefined;
  const isOpen = () => !ended;
  const untilSent = (endThis: () => void) => {
    if (ended) endThis();
    else endLast = endThis;
  };
  const end = (): Promise<IteratorResult<string, void>> => {
    ended = true;
    endLast();
    queue.close();
    return Promise.resolve({ done: true, value: undefined });
  };
  return {
    [Symbol.asyncIterator]() {
      return this;
    },
    async next() {
      endLast();
      const message = isOpen() ? await next(untilSent) : null;
      // A client that has left meanwhile may have begun something else under the same id.
      if (message === null || !isOpen()) return end();
      if (message.last) await end();
      return { done: false, value: message.text };
    },
    return: end,
  };
}
