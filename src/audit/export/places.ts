import { makeFairQueue, QueueTimeoutError, type Client } from '../../lib/fair_queue.ts';
import { ProblemError } from '../../lib/errors.ts';

/** How many exports may be open at a process at once: what each holds in memory is bounded, and so is what all hold. */
export interface ExportLimits {
  readonly streams: number;
  readonly streamsPerUser: number;
  /** Milliseconds after which a client that reads nothing is cut off. */
  readonly streamWriteMs: number;
}

/** As long as a request waits for a connection. */
const WAIT_MS = 5_000;

/**
 * Reads at a time, in all and of one user: what is read is made into text at once, a megabyte in some 10 ms, and a dozen of them in
 * a row would hold up all other requests.
 */
const READS = { slots: 4, perUser: 2 } as const;
/** A read of a stream that has begun waits for long before it gives up. */
const READ_WAIT_MS = 60_000;

/** The places of exports: of streams, which are refused where there is none, and of pages, which wait for one. */
export function makePlaces({ streams, streamsPerUser }: ExportLimits) {
  const places = () => makeFairQueue({ slots: streams, perUser: streamsPerUser, waitMs: WAIT_MS });
  const ofStreams = places();
  const ofPages = places();
  const reads = makeFairQueue({ ...READS, waitMs: READ_WAIT_MS });

  function refusal(user: string): ProblemError {
    if (ofStreams.heldBy(user) < streamsPerUser)
      return new ProblemError(
        'too_many_streams',
        `This process has ${streams} exports open, and no more than that: try again later, or at another process.`,
        { status: 503 },
      );
    return new ProblemError(
      'too_many_streams',
      `You have ${streamsPerUser} exports open, and no more than that: end one, or try again later.`,
    );
  }

  return {
    /** Runs `work`, which reads, in its user's turn; other requests are served before the next. @throws what `work` throws */
    read: <T>(user: string, client: Client, work: () => Promise<T>): Promise<T> =>
      reads.run({ user, client }, work),
    /** A place for a stream. @returns what gives it back @throws ProblemError too_many_streams */
    openStream(user: string): () => void {
      const giveBack = ofStreams.tryTake(user);
      if (giveBack === null) throw refusal(user);
      return giveBack;
    },
    /** A place for a page, which it gives back when the answer has gone out. @throws ProblemError too_many_streams, after 5 seconds */
    async openPage(user: string, client: Client): Promise<void> {
      try {
        await ofPages.take({ user, client });
      } catch (error) {
        throw error instanceof QueueTimeoutError ? refusal(user) : error;
      }
      if (client.destroyed) ofPages.give(user);
      else client.once('close', () => ofPages.give(user));
    },
  };
}

export type Places = ReturnType<typeof makePlaces>;
