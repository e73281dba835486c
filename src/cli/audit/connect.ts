import type pg from 'pg';
import { ConfigError, loadProcessConfig, type Command, type Config } from '../../config/config.ts';
import { ConnectionError, NotMigratedError, RefusedError } from '../../postgres/error.ts';
import { isErrno } from '../../lib/errno.ts';
import { latestMigration } from '../../postgres/migrate.ts';
import { makePool } from '../../postgres/pool.ts';
import type { SessionSettings } from '../../postgres/session.ts';
import { withEmbeddedPostgres } from '../../postgres/embedded/postgres.ts';
import { makeLogger } from '../../lib/log.ts';
import { withDatabase } from '../../postgres/setup.ts';
import { logWarnings } from '../process_log.ts';

/** The variables that hold the address of a login, the role halyard_…; the first that is set counts. */
const ADDRESSES = {
  auditor: [
    ['AUDITOR_DATABASE_URL', 'auditorDatabaseUrl'],
    ['AUTH_DATABASE_URL', 'authDatabaseUrl'],
  ],
  owner: [['DATABASE_URL', 'databaseUrl']],
} as const;

/** A command asks a few questions at a time; a verification some chunks of the trail side by side. */
const MAX_CONNECTIONS = 4;
const NO_TIME_LIMIT = { statement_timeout: '0', idle_in_transaction_session_timeout: '0' };

/**
 * Runs `work` on a pool of the login's. Without an address, outside production, the database is the data folder's embedded one,
 * started for this if need be. Statements have no time limit: a command may read the whole trail, and can be stopped.
 *
 * @throws ConfigError when the configuration is not valid or, in production, lacks the address; EmbeddedPostgresError;
 *   ConnectionError; NotMigratedError where no migration ever ran; what `work` throws
 */
export async function withLogin<T>(
  login: keyof typeof ADDRESSES,
  work: (pool: pg.Pool, config: Config) => Promise<T>,
  command: Extract<
    Command,
    'audit' | 'settings' | 'restore' | 'plan' | 'stop' | 'resume'
  > = 'audit',
): Promise<T> {
  const config = loadProcessConfig(command);
  // Warnings and errors only: how an embedded server starts and stops is no part of the answer.
  const isChatty = ['info', 'debug', 'trace'].includes(config.logLevel);
  const log = makeLogger({ ...config, ...(isChatty && { logLevel: 'warn' }) }, command);
  logWarnings(log);
  const addresses = ADDRESSES[login];
  const role = `halyard_${login}`;
  const url = addresses.map(([, key]) => config[key]).find((address) => address !== null);
  const run = async (address: string, settings: SessionSettings) => {
    const pool = makePool(address, {
      name: `halyard ${command}`,
      max: MAX_CONNECTIONS,
      // Verifying and proving only read: a standby can spare the primary that.
      standby: true,
      // A DBA's own login may have any time limits.
      asOwner: true,
      settings: { ...settings, ...NO_TIME_LIMIT },
      log,
    });
    try {
      await assertUsable(pool, address);
      return await work(pool, config).catch(nameLogin(login));
    } finally {
      await pool.end();
    }
  };
  // The other logins have the role themselves.
  if (url !== undefined) return run(url, login === 'auditor' ? { role } : {});
  if (config.nodeEnv === 'production') {
    const names = addresses.map(([name]) => name).join(' or ');
    throw new ConfigError([`Set ${names}: this command works on the database as ${role}.`]);
  }
  return withEmbeddedPostgres({ dataDir: config.dataDir, log }, (superuserUrl) =>
    run(withDatabase(superuserUrl, 'halyard'), { role }),
  );
}

/** insufficient_privilege, and a change on a standby or in a session that is read only. */
const REFUSED = '42501';
const READ_ONLY = '25006';

/** Turns the database's refusal of a login, or of changes, into a sentence that says what to do. Rethrows other errors. */
function nameLogin(login: keyof typeof ADDRESSES): (error: unknown) => never {
  return (error) => {
    if (!isErrno(error) || (error.code !== REFUSED && error.code !== READ_ONLY)) throw error;
    const names = ADDRESSES[login].map(([name]) => name).join(' or ');
    const role = `halyard_${login}`;
    const whose = login === 'owner' ? role : `a login that is granted ${role}`;
    const advice =
      error.code === REFUSED
        ? `Set ${names} to the address of ${whose}.`
        : `${names} must lead to the primary, and its sessions must be allowed to write.`;
    const reason = error.message.replace(/\.$/, '');
    throw new RefusedError(`The database refuses: ${reason}. ${advice}`, { cause: error });
  };
}

/** Checks first, so that what is wrong with the database is one sentence. Whether it is up to date, not all roles may read. */
async function assertUsable(pool: pg.Pool, address: string): Promise<void> {
  const client = await pool.connect().catch((error: unknown) => {
    throw new ConnectionError(address, error);
  });
  try {
    const { rowCount } = await client.query(`select from pg_namespace where nspname = 'audit'`);
    if (rowCount === 0) throw new NotMigratedError(null, await latestMigration());
  } finally {
    client.release();
  }
}
