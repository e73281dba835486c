import type pg from 'pg';
import { latestMigration } from './migrate.ts';

/**
 * Makes sure that the database is at least as new as this version of Halyard. A newer one is fine: migrations
 * keep the version before them working, so that a deployment can migrate first.
 *
 * @throws Error that says what to run
 */
export async function assertMigrated(pool: pg.Pool): Promise<void> {
  const needed = await latestMigration();
  const found = await schemaVersion(pool);
  if (found === null || found < needed)
    throw new Error(
      `The database is at ${found ?? 'no migration at all'} and this version needs ${needed}: ` +
        'run "npm run halyard -- migrate" first, with DATABASE_URL set to the owner of the same database.',
    );
}

async function schemaVersion(pool: pg.Pool): Promise<string | null> {
  const { rows } = await pool.query<{ installed: boolean }>(
    `select to_regprocedure('app_private.schema_version()') is not null as installed`,
  );
  if (rows[0]?.installed !== true) return null;
  const version = await pool.query<{ version: string | null }>(
    'select app_private.schema_version() as version',
  );
  return version.rows[0]?.version ?? null;
}
