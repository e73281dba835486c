import pg from 'pg';
import { raceAbort } from '../lib/wait.ts';
import {
  askOn,
  LeaseEndedError,
  RENEWALS_PER_LEASE,
  takeLease,
  WORKER_LEASES,
} from './lease_row.ts';
import type { Ask } from './lease_row.ts';

/** The right to some work, for as long as it is renewed. */
export interface Lease {
  /** The database's token for it. Writes under the lease name the token, and are refused once another process has the lease. */
  readonly token: string;
  /**
   * Runs one query after those before it.
   *
   * @throws the lease's loss, or the query's own error
   */
  readonly query: <R extends pg.QueryResultRow>(
    text: string,
    values: readonly unknown[],
  ) => Promise<R[]>;
  /** Raised before the lease ends without having been renewed, and when the connection is lost. */
  readonly lost: AbortSignal;
}

/** How long a lease lasts from its last renewal: a killed holder keeps its place for so long. */
export const LEASE_MS = 5_000;

/**
 * Runs `work` as the only one with the lease of this name, among all processes.
 *
 * The lease is a row that expires, so no session stands for it: a process that is killed, frozen or cut off loses it when it
 * hasn't renewed it for the lease's time, and stops by itself before that. Only the owner and the worker reach the row.
 *
 * @param name `forward.<destination>` or `reconcile`
 * @param leaseMs milliseconds from a renewal to the lease's end
 * @returns what `work` returns, or null when another process has the lease
 * @throws what `work` throws, and the database's errors
 */
export async function withLease<T>(
  pool: pg.Pool,
  name: string,
  leaseMs: number,
  work: (lease: Lease) => Promise<T>,
): Promise<T | null> {
  const session = holdSession(await pool.connect());
  const ask: Ask = (text, values, waitMs) =>
    session.isIdle() ? session.query(text, values, waitMs) : askOn(pool)(text, values, waitMs);
  try {
    const lease = await takeLease({ ask, name, leaseMs, onLost: session.lose });
    if (lease === null) return null;
    const { token, stop } = lease;
    try {
      return await work({ token, lost: session.lost, query: session.query });
    } finally {
      stop();
      await session.settled();
      await release(pool, session, { name, token, leaseMs });
    }
  } finally {
    session.end();
  }
}

/** Gives the lease back, unless it has ended: then the next process takes it by itself. */
async function release(
  pool: pg.Pool,
  session: Session,
  { name, token, leaseMs }: { name: string; token: string; leaseMs: number },
): Promise<void> {
  if (session.lost.reason instanceof LeaseEndedError) return;
  const values = [name, token];
  // Where a connection was lost, others may lead nowhere too.
  const waitMs = leaseMs / RENEWALS_PER_LEASE;
  const released = session.lost.aborted
    ? askOn(pool)(WORKER_LEASES.release, values, waitMs)
    : session.query(WORKER_LEASES.release, values, leaseMs);
  // The work's own error says more, and the lease ends by itself.
  await released.catch(session.lose);
}

function holdSession(client: pg.PoolClient) {
  const loss = new AbortController();
  const lose = (error: unknown) => loss.abort(error);
  const ended = () => lose(new Error('The server ended the connection.'));
  const asking = new Set<Promise<unknown>>();

  /** @param waitMs 0 for no limit */
  async function query<R extends pg.QueryResultRow>(
    text: string,
    values: readonly unknown[],
    waitMs = 0,
  ): Promise<R[]> {
    loss.signal.throwIfAborted();
    const asked = askOn(client)<R>(text, values, waitMs);
    asking.add(asked);
    try {
      return await raceAbort(asked, loss.signal);
    } catch (error) {
      // Anything else than the server's own answer means that there was none.
      if (!(error instanceof pg.DatabaseError)) lose(error);
      throw error;
    } finally {
      asking.delete(asked);
    }
  }

  client.on('error', lose);
  client.on('end', ended);
  return {
    lost: loss.signal,
    lose,
    isIdle: () => asking.size === 0 && !loss.signal.aborted,
    query,
    /** Resolves once no query is in hand any more, or the session is lost. */
    async settled(): Promise<void> {
      await raceAbort(Promise.allSettled(asking), loss.signal).catch(() => undefined);
    },
    end() {
      client.off('error', lose);
      client.off('end', ended);
      const lost = loss.signal.aborted;
      // What comes late must not run on a connection that serves something else by now.
      lose(new Error('The lease is over.'));
      // Half-open, it would neither take a goodbye nor let the process end.
      if (lost) client.connection.stream.destroy();
      client.release(lost);
    },
  };
}

type Session = ReturnType<typeof holdSession>;
