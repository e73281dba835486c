import pg from 'pg';
import { expect } from 'vitest';
import type { TestDatabase } from '../database.ts';
import { one } from '../factory.ts';

/** A point inside the database at which whoever comes along has to wait. */
export interface Hold {
  /** Waits until somebody stands there; gives the process id of the server's backend. */
  reached(): Promise<number>;
  /** Ends that backend's session, and with it the transaction that it is in. */
  terminate(backend: number): Promise<void>;
  /** Lets everybody pass, and takes the hold away. */
  release(): Promise<void>;
}

const KEY = 4_711;

/**
 * Stops every transaction that writes to a table, by a trigger that waits for a lock of the test's.
 *
 * @param when before a row is written, or as the transaction commits
 */
export async function holdAt(
  database: TestDatabase,
  table: string,
  when: 'before insert' | 'before update' | 'at commit',
): Promise<Hold> {
  const client = new pg.Client({ connectionString: database.rootUrl });
  await client.connect();
  await client.query('select pg_advisory_lock($1)', [KEY]);
  await client.query(
    `create function public.chaos_hold() returns trigger language plpgsql security definer as $$
     begin
       perform pg_advisory_xact_lock_shared(${KEY});
       return new;
     end $$`,
  );
  await client.query(
    when === 'at commit'
      ? `create constraint trigger chaos_hold after update on ${table} deferrable initially deferred
         for each row execute function public.chaos_hold()`
      : `create trigger _050_chaos_hold ${when} on ${table}
         for each row execute function public.chaos_hold()`,
  );
  const waiting = async () => {
    const { rows } = await client.query<{ pid: number }>(
      `select pid from pg_locks where locktype = 'advisory' and objid = $1 and not granted`,
      [KEY],
    );
    return rows;
  };
  return {
    async reached() {
      await expect.poll(waiting, { timeout: 10_000, interval: 10 }).toHaveLength(1);
      return one(await waiting()).pid;
    },
    async terminate(backend) {
      await client.query('select pg_terminate_backend($1, 5000)', [backend]);
    },
    async release() {
      await client.query('select pg_advisory_unlock($1)', [KEY]);
      await client.query('drop function public.chaos_hold() cascade');
      await client.end();
    },
  };
}
