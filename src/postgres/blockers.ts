import type pg from 'pg';
import { sleep } from '../lib/wait.ts';

/** A session that another one waits for. */
export interface Blocker {
  /** 0 stands for a prepared transaction, which has no session. */
  readonly pid: number;
  readonly user: string | null;
  readonly application: string | null;
  /** When its transaction began; null where this login may not see it. */
  readonly since: Date | null;
  /** The beginning of its last statement; null where this login may not see it. */
  readonly query: string | null;
}

/** Often enough to see the shortest wait for a lock, 0.09 s where deadlock_timeout is 0.1 s (migrations/fixtures/platform/locks.sql). */
const POLL_MS = 25;

// A login without pg_read_all_stats reads a constant in place of the query, and null for the times.
const COLUMNS = `p.pid, b.usename as user, nullif(b.application_name, '') as application, b.xact_start as since,
  nullif(nullif(regexp_replace(left(btrim(b.query), 80), '\\s+', ' ', 'g'), '<insufficient privilege>'), '') as query`;

// Behind a row that several sessions wait for, the first of them is in the way of the others: the worker's own sessions would be named.
const blockersBehind = (waiting: string) => `
  with recursive blockers (pid) as (
    ${waiting}
    union
    select unnest(pg_blocking_pids(w.pid)) from blockers w
  )
  select ${COLUMNS}
  from blockers p
  left join pg_stat_activity b on b.pid = p.pid
  where cardinality(pg_blocking_pids(p.pid)) = 0
  order by 1
  limit 10`;
const BLOCKERS = blockersBehind('select unnest(pg_blocking_pids($1))');
const BLOCKERS_OF_ROLE = blockersBehind(`
    select unnest(pg_blocking_pids(m.pid))
    from pg_stat_activity m
    where m.datname = current_database() and m.usename = session_user and starts_with(m.application_name, $1)
      and m.wait_event_type = 'Lock'
    union
    -- One sequencer leaves at once when another transaction has its lock, and waits for none.
    select coalesce(l.pid, 0)
    from pg_locks l
    left join pg_stat_activity h on h.pid = l.pid
    where l.relation = to_regclass('app_private.locks') and l.granted
      and l.database = (select d.oid from pg_database d where d.datname = current_database())
      and coalesce(h.xact_start < now() - interval '10 seconds', true)`);

/** The sessions that session `pid` waits for at this moment and that wait for none themselves, ten at most. @throws the database's error */
export async function blockersOf(pool: pg.Pool, pid: number): Promise<Blocker[]> {
  const { rows } = await pool.query<Blocker>(BLOCKERS, [pid]);
  return rows;
}

/**
 * The sessions that any session of this login waits for at this moment, or that have had a row of app_private.locks for 10 s, and
 * that wait for none themselves; ten at most.
 *
 * @param prefix how the application names of the waiting sessions begin
 * @throws the database's error
 */
export async function blockersOfRole(pool: pg.Pool, prefix: string): Promise<Blocker[]> {
  const { rows } = await pool.query<Blocker>(BLOCKERS_OF_ROLE, [prefix]);
  return rows;
}

const BLOCKERS_OF_OURS = `
  select distinct ${COLUMNS}
  from pg_stat_activity m
  cross join lateral unnest(pg_blocking_pids(m.pid)) as p (pid)
  left join pg_stat_activity b on b.pid = p.pid
  where m.datname = current_database() and m.usename = session_user and starts_with(m.application_name, $1)
    and m.wait_event_type = 'Lock'
  order by 1`;

/**
 * Runs `work`, and watches meanwhile whom its sessions wait for.
 *
 * @param watcher a connection that `work` doesn't use
 * @param prefix how the application names of the sessions begin
 * @param seen takes each blocker, each time that it is seen
 */
export async function watchBlockers<T>(
  watcher: pg.ClientBase,
  prefix: string,
  seen: (blocker: Blocker) => void,
  work: () => Promise<T>,
): Promise<T> {
  const over = new AbortController();
  const watch = async () => {
    while (!over.signal.aborted) {
      const { rows } = await watcher.query<Blocker>(BLOCKERS_OF_OURS, [prefix]);
      for (const row of rows) seen(row);
      await sleep(POLL_MS, over.signal);
    }
  };
  // A query that fails says nothing: the work itself fails when the server is gone.
  const watching = watch().catch(() => undefined);
  try {
    return await work();
  } finally {
    over.abort();
    await watching;
  }
}

/** A blocker in words: process 123 (halyard_auditor, psql, in a transaction since …, "select …"). */
export function describeBlocker({ pid, user, application, since, query }: Blocker): string {
  if (pid === 0) return 'a prepared transaction';
  const parts = [
    user,
    application,
    since && `in a transaction since ${since.toISOString()}`,
    query && `"${query}"`,
  ].filter((part) => part !== null);
  return `process ${pid}${parts.length > 0 ? ` (${parts.join(', ')})` : ''}`;
}
