import type pg from 'pg';

/** A session that holds, or waits ahead for, a lock that another one waits for. */
export interface Blocker {
  /** 0 for a prepared transaction, which has no session. */
  readonly pid: number;
  readonly user: string | null;
  readonly applicationName: string | null;
  /** The beginning of its statement; of another role's session only where this role has pg_read_all_stats. */
  readonly query: string | null;
}

const BLOCKERS = `
  select distinct on (b.pid) b.pid, a.usename as "user", a.application_name as "applicationName", left(a.query, 100) as query
  from unnest(pg_blocking_pids($1)) as b (pid)
  left join pg_stat_activity a on a.pid = b.pid
  order by b.pid
  limit 10`;

/**
 * The sessions that a session waits for at this moment, ten at most.
 *
 * @param pid the waiting session's
 * @throws the database's error
 */
export async function blockersOf(pool: pg.Pool, pid: number): Promise<Blocker[]> {
  const { rows } = await pool.query<Blocker>(BLOCKERS, [pid]);
  return rows;
}
