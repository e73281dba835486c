import { makeFairQueue, QueueTimeoutError, type Asker } from '../lib/fair_queue.ts';
import { ProblemError } from '../lib/errors.ts';

/** A shorter planning delays others no more than any request does. */
const SHORT_MS = 5;
/** An operation may take as long. */
const WAIT_MS = 15_000;
/** Large answers that may be made, or wait for their clients, at once: in all, and of one user. */
const MAX_LARGE = { slots: 8, perUser: 2 } as const;

/**
 * Shares the event loop out by user, where GraphQL takes much of it: documents are parsed, validated and planned in one go, 100 ms
 * for the worst that the limits allow, and nothing else is served meanwhile.
 *
 * @param maxQueued operations of one user that may wait for each of the two turns
 */
export function makePlanning(maxQueued: number) {
  const limits = { maxQueued, waitMs: WAIT_MS };
  const plannings = makeFairQueue({ slots: 1, perUser: 1, ...limits });
  const large = makeFairQueue({ ...MAX_LARGE, ...limits });

  return {
    /**
     * Runs `work` when it is the user's turn. Behind work that took long, the event loop serves what else there is, and the user's
     * next turn comes no sooner than after as long again: so one user takes half of the time at most.
     *
     * @param work must give the event loop back only when it is done
     * @throws ProblemError too_many_requests where the user's queue is full or the client left, timeout; and what `work` throws
     */
    async run<T>(asker: Asker, work: () => T): Promise<Awaited<T>> {
      await plannings.take(asker).catch(asProblem);
      const startedAt = performance.now();
      try {
        return await work();
      } finally {
        const ms = performance.now() - startedAt;
        if (ms < SHORT_MS) plannings.give(asker.user);
        else setImmediate(() => plannings.give(asker.user, ms));
      }
    },
    /**
     * Resolves when a large answer of the user may be made. Until it has gone out it is in memory, and so it counts until then.
     *
     * @returns what ends the turn
     * @throws as `run`
     */
    beginLarge: (asker: Asker): Promise<() => void> => large.hold(asker).catch(asProblem),
  };
}

export type Planning = ReturnType<typeof makePlanning>;

function asProblem(error: unknown): never {
  if (!(error instanceof QueueTimeoutError)) throw error;
  throw new ProblemError(
    'timeout',
    'Its turn did not come in time, so nothing was done: try again.',
  );
}
