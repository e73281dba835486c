import { ProblemError } from './errors.ts';

/** The receiver of an answer: a response, or a WebSocket. */
export interface Client {
  readonly destroyed: boolean;
  once(event: 'close', listener: () => void): unknown;
}

/** The functions to call when a client closes: one listener serves a client, for which many statements may wait at once. */
const departures = new WeakMap<Client, Set<() => void>>();

function departuresOf(client: Client): Set<() => void> {
  const known = departures.get(client);
  if (known !== undefined) return known;
  const leaving = new Set<() => void>();
  departures.set(client, leaving);
  client.once('close', () => {
    for (const leave of leaving) leave();
  });
  return leaving;
}

/** A caller that asks for a slot. */
export interface Asker {
  /** Askers with the same key have one share together. */
  readonly user: string;
  /** Whether the asker is refused where its user's queue is full; by default it waits in any case. */
  readonly isLimited?: boolean;
  /** When it closes, its client is gone: the asker leaves the queue. */
  readonly client?: Client | undefined;
}

/** No slot was free in time. */
export class QueueTimeoutError extends Error {
  override readonly name = 'QueueTimeoutError';
}

/** Gives an asker its slot, or the reason for which there is none. */
type Settle = (error?: Error) => void;

interface User {
  /** Slots in use, and those after which the user still rests. */
  held: number;
  /** The askers that wait. */
  readonly queue: Set<Settle>;
}

/**
 * Hands out slots by user, not by request: a user who asks a thousand times has the same share as one who asks once. It is
 * max-min fairness (Bertsekas and Gallager, Data Networks, 6.5.2), in whole slots: a free slot goes to the waiting user who holds
 * the fewest; among equals it goes round robin (Nagle, RFC 970). Round robin alone would count grants and not time: a user of slow
 * statements would come to hold nearly all slots.
 *
 * @param options.slots slots in all
 * @param options.perUser slots that one user may hold at once, also when no other asks
 * @param options.maxQueued askers of one user that may wait; by default any number
 * @param options.waitMs milliseconds after which an asker gets a QueueTimeoutError in place of a slot; no limit by default
 */
export function makeFairQueue(options: {
  readonly slots: number;
  readonly perUser: number;
  readonly maxQueued?: number;
  readonly waitMs?: number;
}) {
  const { perUser, maxQueued = Infinity, waitMs } = options;
  const users = new Map<string, User>();
  /** The keys of users who wait; who was served last is at the end. */
  const ring = new Set<string>();
  let free = options.slots;
  let waiting = 0;

  function userOf(key: string): User {
    const user = users.get(key) ?? { held: 0, queue: new Set() };
    users.set(key, user);
    return user;
  }

  /** The key of the user whose turn it is. */
  function nextUser(): string | undefined {
    let next: string | undefined;
    let fewest = perUser;
    for (const key of ring) {
      const { held } = userOf(key);
      if (held < fewest) [next, fewest] = [key, held];
    }
    return next;
  }

  function grantAll(): void {
    while (free > 0) {
      const key = nextUser();
      if (key === undefined) return;
      const user = userOf(key);
      const [first] = user.queue;
      // Served: back to the end of the ring, if any of its askers still waits.
      ring.delete(key);
      if (user.queue.size > 1) ring.add(key);
      free -= 1;
      user.held += 1;
      first?.();
    }
  }

  function wait({ user: key, client }: Asker): Promise<void> {
    const user = userOf(key);
    return new Promise((resolve, reject) => {
      const settle: Settle = (error) => {
        clearTimeout(timer);
        if (client !== undefined) departuresOf(client).delete(leave);
        waiting -= 1;
        user.queue.delete(settle);
        if (user.queue.size === 0) ring.delete(key);
        forgetIdle(key, user);
        if (error === undefined) resolve();
        else reject(error);
      };
      // No client hears of it.
      const leave = () =>
        settle(new ProblemError('too_many_requests', 'The client left before its turn came.'));
      const expire = () =>
        settle(new QueueTimeoutError(`Its turn did not come within ${waitMs ?? 0} ms.`));
      const timer = waitMs === undefined ? undefined : setTimeout(expire, waitMs);
      if (client !== undefined) departuresOf(client).add(leave);
      waiting += 1;
      user.queue.add(settle);
      ring.add(key);
      if (client?.destroyed === true) leave();
    });
  }

  function forgetIdle(key: string, { held, queue }: User): void {
    if (held === 0 && queue.size === 0) users.delete(key);
  }

  function release(key: string): void {
    const user = userOf(key);
    user.held -= 1;
    forgetIdle(key, user);
    grantAll();
  }

  /** @throws ProblemError too_many_requests where as many of the user's askers wait as may */
  function requireRoom(key: string): void {
    if ((users.get(key)?.queue.size ?? 0) < maxQueued) return;
    throw new ProblemError(
      'too_many_requests',
      `${maxQueued} requests of this user wait already: wait for their answers, then try again.`,
    );
  }

  /** Takes a slot if the user may have one now. */
  function takeFree(key: string): boolean {
    const user = userOf(key);
    const isFree = free > 0 && user.held < perUser && user.queue.size === 0;
    if (isFree) {
      free -= 1;
      user.held += 1;
    }
    forgetIdle(key, user);
    return isFree;
  }

  /** Makes the function that gives a slot back. */
  function giver(key: string): () => void {
    let isTaken = true;
    return () => {
      if (isTaken) queue.give(key);
      isTaken = false;
    };
  }

  const queue = {
    /** Askers that wait. */
    get waiting() {
      return waiting;
    },
    /** Slots that a user holds. */
    heldBy: (key: string): number => users.get(key)?.held ?? 0,
    requireRoom,
    /** Takes a slot if the user may have one now. @returns what gives it back and may be called twice, or null */
    tryTake: (key: string): (() => void) | null => (takeFree(key) ? giver(key) : null),
    /** Takes a slot as `take` does. @returns what gives it back and may be called twice */
    async hold(asker: Asker): Promise<() => void> {
      await queue.take(asker);
      return giver(asker.user);
    },
    /**
     * Resolves once the asker has a slot, which `give` must take back.
     *
     * @throws ProblemError too_many_requests where it is limited and its user's queue is full, or its client left;
     *   QueueTimeoutError
     */
    async take(asker: Asker): Promise<void> {
      if (takeFree(asker.user)) return;
      if (asker.isLimited === true) requireRoom(asker.user);
      await wait(asker);
    },
    /**
     * Runs `work` with a slot. Other events are served before the slot goes to the next asker, because much of the work keeps the
     * processor busy.
     *
     * @throws as `take`, and what `work` throws
     */
    async run<T>(asker: Asker, work: () => Promise<T>): Promise<T> {
      await queue.take(asker);
      try {
        return await work();
      } finally {
        setImmediate(() => queue.give(asker.user));
      }
    },
    /**
     * Takes a slot back.
     *
     * @param restMs milliseconds for which it still counts as the user's, while others may have it
     */
    give(key: string, restMs = 0): void {
      free += 1;
      if (restMs > 0) setTimeout(() => release(key), restMs).unref();
      if (restMs > 0) grantAll();
      else release(key);
    },
  };
  return queue;
}

export type FairQueue = ReturnType<typeof makeFairQueue>;
