import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { Logger as GraphileLogger, migrate as runGraphileMigrate } from 'graphile-migrate';
import type { Settings } from 'graphile-migrate';
import { clearAllPools, withClient } from 'graphile-migrate/dist/pgReal.js';
import { parseSettings } from 'graphile-migrate/dist/settings.js';
import type pg from 'pg';
import type { Logger } from '../lib/log.ts';
import { sessionSettings } from './session.ts';

/** What pg_stat_activity shows. */
const NAME = 'halyard migrate pool';
const GMRC = new URL('../../.gmrc', import.meta.url);

/** A migration whose process is frozen or cut off holds the locks of all tables until then. */
const IDLE_TIMEOUT = '10s';

/**
 * Runs the committed migrations that a database lacks, each in a transaction.
 *
 * @param client a connection to the database, for what graphile-migrate's own doesn't do
 * @param databaseUrl the owner's URL
 * @param folder the folder of `committed/`
 * @throws the database's error, or pg's when the session is lost
 */
export async function runCommitted(
  client: pg.Client,
  databaseUrl: string,
  folder: string,
  log: Logger,
): Promise<void> {
  const gmrc = JSON.parse(await readFile(GMRC, 'utf8')) as { pgSettings: Record<string, string> };
  const connection = new URL(databaseUrl);
  connection.searchParams.set('application_name', NAME);
  const settings: Settings = {
    pgSettings: {
      ...(await sessionSettings(client)),
      ...gmrc.pgSettings,
      idle_in_transaction_session_timeout: IDLE_TIMEOUT,
    },
    connectionString: connection.href,
    migrationsFolder: folder,
    logger: migrateLogger(log),
  };
  const losses: Error[] = [];
  try {
    await withClient(connection.href, await parseSettings(settings), (session) => {
      // graphile-migrate doesn't listen for errors of a session that it uses, and a loss would end this process. Its pool gives it this one.
      session.on('error', (error) => losses.push(error));
      // Without this graphile-migrate 2.0.0-rc.3 takes an advisory lock (withAdvisoryLock in pgReal.js), which any login may hold for
      // good. migrate()'s lease keeps other migrations out.
      Reflect.set(session, '__isMockClient', true);
      return Promise.resolve();
    });
    await runGraphileMigrate(settings);
  } catch (error) {
    // An error behind a loss would hide the first one.
    throw losses[0] ?? error;
  } finally {
    await closePool(client);
  }
}

/** graphile-migrate would keep its pool for a moment, and end this process if the server went away in that moment. */
async function closePool(client: pg.Client): Promise<void> {
  clearAllPools();
  // The pool's sessions end a little later than that call; a second is ample.
  for (let attempt = 0; attempt < 100; attempt++) {
    const { rowCount } = await client.query(
      'select from pg_stat_activity where datname = current_database() and application_name = $1',
      [NAME],
    );
    if (rowCount === 0) return;
    await delay(10);
  }
}

/** graphile-migrate's log in ours; its steps are debug lines. */
function migrateLogger(log: Logger): GraphileLogger {
  return new GraphileLogger(() => (level: string, message) => {
    log[level === 'error' ? 'error' : level === 'warning' ? 'warn' : 'debug'](message);
  });
}
