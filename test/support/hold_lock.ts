import pg from 'pg';
import { onTestFinished } from 'vitest';
import { value } from './actors.ts';
import type { TestDatabase } from './database.ts';

/** How many sessions wait for a row of app_private.locks. Not of pg_stat_activity, which stands still in a transaction. */
export const WAITING = `
  select count(distinct w.pid)::int
  from pg_locks w
  join pg_locks t on t.pid = w.pid and t.relation = 'app_private.locks'::regclass
  where not w.granted and t.database = (select oid from pg_database where datname = current_database())`;

/**
 * Holds a row of app_private.locks as the owner, so that what works under this lock waits.
 *
 * @returns the process id of the server's backend that holds it, and what gives it back; the test's end does too
 */
export async function holdLock(
  database: TestDatabase,
  name: string,
): Promise<{ pid: number; release: () => Promise<void> }> {
  const client = new pg.Client({ connectionString: database.ownerUrl });
  client.on('error', () => undefined);
  await client.connect();
  const release = () => client.end();
  onTestFinished(release);
  await client.query('begin');
  await client.query('select from app_private.locks where name = $1 for update', [name]);
  return { pid: await value<number>(client, 'select pg_backend_pid()'), release };
}
