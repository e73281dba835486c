import { readFile, readdir } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import type pg from 'pg';
import { ConfigError } from '../config/error.ts';
import { runCommitted } from './committed.ts';
import { withConnection } from './connection.ts';
import { ConnectionError, isConnectionLoss, NotMigratedError, StandbyError } from './error.ts';
import { assertMigratable, explainRefusal } from './preconditions.ts';
import { withMigrationLease } from './migration_lease.ts';
import { makeRetry } from './retry.ts';
import { setSession } from './session.ts';
import { installWorkerSchema } from './worker_schema.ts';
import type { Logger } from '../lib/log.ts';

const MIGRATIONS_FOLDER = fileURLToPath(new URL('../../migrations', import.meta.url));
/** What pg_stat_activity shows. */
const NAME = 'halyard migrate';

/** How long a migration tries to get the locks that it needs. */
const PATIENCE_MS = 5 * 60_000;

const OWN_ALL =
  'What Halyard made must belong to halyard_owner, and graphile-worker to halyard_worker: see the owners of schemas and tables, or restore with them.';

interface MigrateOptions {
  /** The folder of `committed/`; Halyard's by default. */
  readonly folder?: string;
  /** Milliseconds for which other sessions' locks may be in the way; 5 minutes by default. */
  readonly patienceMs?: number;
}

/**
 * Brings a database up to date: graphile-worker's schema, the committed migrations, the trail's partitions. Harmless when
 * there is nothing to do. A second call at the same time waits for the first, as for any lock: a lease that is renewed (migration_lease.ts). Each migration is one transaction, which waits a
 * second at most for its locks and is tried again; requests wait no longer.
 *
 * @param databaseUrl the owner's URL.
 * @throws RefusedError when the login lacks a role or a privilege, or the database isn't in UTF-8; ConfigError when it ran a migration that
 *   has changed since, as those do that aren't released, or another role owns graphile-worker's tables; StandbyError; ConnectionError when one of
 *   its sessions is lost; MigrationBlockedError when other sessions' locks were in the way for too long
 */
export async function migrate(
  databaseUrl: string,
  log: Logger,
  { folder = MIGRATIONS_FOLDER, patienceMs = PATIENCE_MS }: MigrateOptions = {},
): Promise<void> {
  const migrating = withConnection(databaseUrl, { name: NAME, log }, async (client) => {
    const retryStep = makeRetry({ watcher: client, prefix: `${NAME} `, patienceMs, log });
    const retry = (step: () => Promise<unknown>) => retryStep(() => explainRefusal(step, OWN_ALL));
    await withConnection(databaseUrl, `${NAME} lock`, async (holder) => {
      await setSession(holder, { lock_timeout: '1s' });
      await assertMigratable(holder);
      await withMigrationLease({ holder, spare: client }, retry, async (lost) => {
        await explainRefusal(() => assertUnchanged(holder), OWN_ALL);
        for (const step of [
          () => installWorkerSchema(databaseUrl, log),
          () => runCommitted(holder, databaseUrl, folder, log),
          () => makePartitions(databaseUrl),
        ]) {
          lost.throwIfAborted();
          await retry(step);
        }
      });
    });
    const needed = await latestMigration();
    const version = await schemaVersion(client);
    // An older version may be about to be deployed again.
    if (version === null || version <= needed)
      log.info({ version: needed }, 'the database is migrated');
    else
      log.warn(
        { version, needed },
        'a newer version has migrated the database: it is left as it is',
      );
  });
  await migrating.catch((error: unknown) => {
    // A session that isn't withConnection()'s.
    const isNamed = error instanceof ConnectionError || error instanceof StandbyError;
    throw isNamed || !isConnectionLoss(error) ? error : new ConnectionError(databaseUrl, error);
  });
}

/** To attach a partition waits for index builds and vacuums, and holds up no request. */
function makePartitions(databaseUrl: string): Promise<void> {
  return withConnection(databaseUrl, `${NAME} partitions`, async (client) => {
    await setSession(client, { lock_timeout: '1s' });
    await client.query('select app_private.ensure_audit_partitions()');
  });
}

/** graphile-migrate looks at the newest file name alone, and would take a database of another history for one that is up to date. */
async function assertUnchanged(client: pg.Client): Promise<void> {
  if (!(await isTrue(client, `to_regclass('graphile_migrate.migrations') is not null`))) return;
  const { rows } = await client.query<{ filename: string; hash: string }>(
    'select filename, hash from graphile_migrate.migrations order by filename',
  );
  const files = await committedFiles();
  for (const { filename, hash } of rows) {
    const file = files.find((name) => name.startsWith(filename.slice(0, 6)));
    if (file === undefined) continue;
    const text = await readFile(`${MIGRATIONS_FOLDER}/committed/${file}`, 'utf8');
    if (!text.includes(`--! Hash: ${hash}\n`))
      throw new ConfigError([
        `The database ran another ${filename} than this version has, one that was never released. ` +
          'Start with an empty database; for npm start, remove the folder that its first line calls pgdata.',
      ]);
  }
}

/** The newest migration that this version of Halyard comes with, as graphile-migrate records it but for its message: `000003.sql`. */
export async function latestMigration(): Promise<string> {
  const latest = (await committedFiles()).at(-1);
  if (latest === undefined)
    throw new Error('migrations/committed is empty: this copy of Halyard is incomplete.');
  return `${latest.slice(0, 6)}.sql`;
}

async function committedFiles(): Promise<string[]> {
  const files = await readdir(`${MIGRATIONS_FOLDER}/committed`);
  return files.filter((name) => name.endsWith('.sql')).toSorted();
}

/**
 * Makes sure that the database is at least as new as this version of Halyard: migrations keep the version before them working.
 *
 * @throws NotMigratedError
 */
export async function assertMigrated(client: pg.ClientBase): Promise<void> {
  const needed = await latestMigration();
  const found = await schemaVersion(client);
  if (found === null || found < needed) throw new NotMigratedError(found, needed);
}

async function schemaVersion(client: pg.ClientBase): Promise<string | null> {
  if (!(await isTrue(client, `to_regprocedure('app_private.schema_version()') is not null`)))
    return null;
  const { rows } = await client.query<{ version: string | null }>(
    'select app_private.schema_version() as version',
  );
  return rows[0]?.version ?? null;
}

async function isTrue(client: pg.ClientBase, condition: string): Promise<boolean> {
  const { rows } = await client.query<{ holds: boolean }>(`select ${condition} as holds`);
  return rows[0]?.holds === true;
}
