import { onTestFinished } from 'vitest';
import { makePool } from '../../src/postgres/pool.ts';
import { cloneDatabase, withClient, type TestDatabase } from './database.ts';
import { makeTestLog } from './log.ts';
import { sealFlags } from './sealed_trail.ts';

/** The whole trail. */
export const ALL = { from: 1, to: null };

/** What has been shipped to a new destination: the copy outside. */
export async function copyOf({ rootUrl }: TestDatabase): Promise<string[]> {
  return withClient(rootUrl, async (client) => {
    const { rows } = await client.query<{ message: string }>(
      `select message from app_private.undelivered_audit_events('copy', 100000)`,
    );
    return rows.map(({ message }) => message);
  });
}

/** A pool of the superuser, until the test ends. */
export function poolOf({ rootUrl }: TestDatabase) {
  const pool = makePool(rootUrl, { name: 'halyard test', max: 2, log: makeTestLog().log });
  onTestFinished(() => pool.end());
  return pool;
}

/** A database with 25 events in three seals, for one test. */
export async function sealedDatabase(): Promise<TestDatabase> {
  const own = await cloneDatabase();
  onTestFinished(() => own.drop());
  await withClient(own.rootUrl, (client) => sealFlags(client, 25));
  return own;
}
