import pg from 'pg';

/** The right to some work: a lock of the session that these queries run on. */
export interface Lease {
  /**
   * Runs one query after those before it.
   *
   * @throws the lease's loss, or the query's own error
   */
  readonly query: <R extends pg.QueryResultRow>(
    text: string,
    values: readonly unknown[],
  ) => Promise<R[]>;
  /** Raised when the session is gone: somebody else may have the lock by now. */
  readonly lost: AbortSignal;
}

/** A session that is silent for this long is ended by the server, and its lock with it. */
export const LEASE_MS = 15_000;
/** Far more often than the lease ends, so that a slow moment costs nothing. */
const BEATS_PER_LEASE = 7;

const LOCK_KEY = `hashtextextended('halyard.' || $1, 0)`;

/**
 * Runs `work` as the only one with the lease of this name, among all processes.
 *
 * A session that merely stands doesn't show that its process lives: a frozen process, and a host that is gone without a
 * word, keep theirs for hours. So the server ends a session that has asked nothing for the lease, or hasn't taken what it
 * was sent, and a heartbeat keeps the session of a living process that waits for something else.
 *
 * @param name `forward.<destination>` or `reconcile`
 * @param leaseMs milliseconds after which a silent holder is taken for gone, by the server and by itself
 * @returns what `work` returns, or null when somebody else has the lock
 * @throws what `work` throws, and the database's errors
 */
export async function withLease<T>(
  pool: pg.Pool,
  name: string,
  leaseMs: number,
  work: (lease: Lease) => Promise<T>,
): Promise<T | null> {
  const client = await pool.connect();
  const session = holdSession(client, leaseMs);
  try {
    if (!(await tryLock(session, name, leaseMs))) return null;
    try {
      return await work(session);
    } finally {
      // Where the session is lost there is nothing to give back, and the work's own error says more.
      await unlock(session, name).catch(session.lose);
    }
  } finally {
    session.end();
  }
}

function holdSession(client: pg.PoolClient, leaseMs: number) {
  const loss = new AbortController();
  const lose = (error: unknown) => loss.abort(error);
  const ended = () => lose(new Error('The server ended the connection.'));
  let asking = 0;

  /** Waits no longer than the lease for what can only be quick. */
  async function ask<R extends pg.QueryResultRow>(
    text: string,
    values: readonly unknown[],
    waitMs?: number,
  ): Promise<R[]> {
    loss.signal.throwIfAborted();
    asking++;
    try {
      const config = { text, values: [...values], query_timeout: waitMs };
      const { rows } = await client.query<R>(config);
      return rows;
    } catch (error) {
      // Anything else than the server's own answer means that there was none.
      if (!(error instanceof pg.DatabaseError)) lose(error);
      throw error;
    } finally {
      asking--;
    }
  }

  const beat = setInterval(() => {
    if (asking === 0) ask('select 1', [], leaseMs).catch(lose);
  }, leaseMs / BEATS_PER_LEASE);
  client.on('error', lose);
  client.on('end', ended);
  return {
    lost: loss.signal,
    lose,
    ask,
    query: <R extends pg.QueryResultRow>(text: string, values: readonly unknown[]) =>
      ask<R>(text, values),
    end() {
      clearInterval(beat);
      client.off('error', lose);
      client.off('end', ended);
      const lost = loss.signal.aborted;
      // What comes late must not run on a connection that is somebody else's by now.
      lose(new Error('The lease is over.'));
      // Half-open, it would neither take a goodbye nor let the process end.
      if (lost) client.connection.stream.destroy();
      client.release(lost);
    },
  };
}

type Session = ReturnType<typeof holdSession>;

/** The second setting is for a frozen process that was in the middle of reading; elsewhere PostgreSQL would only log it. */
async function tryLock(session: Session, name: string, leaseMs: number): Promise<boolean> {
  const rows = await session.ask<{ locked: boolean }>(
    `select locked, case when locked then set_config('idle_session_timeout', $2, false) end,
       case when locked and version() like '%linux%' then set_config('tcp_user_timeout', $2, false) end
     from (select pg_try_advisory_lock(${LOCK_KEY}) as locked offset 0) as try`,
    [name, String(leaseMs)],
    leaseMs,
  );
  return rows[0]?.locked === true;
}

async function unlock(session: Session, name: string): Promise<void> {
  await session.query(
    `select pg_advisory_unlock(${LOCK_KEY}), set_config('idle_session_timeout', '0', false)`,
    [name],
  );
}
