import type pg from 'pg';
import { ConfigError, loadProcessConfig, type Config } from '../../config/config.ts';
import { makePool } from '../../postgres/pool.ts';
import { withEmbeddedPostgres } from '../../postgres/embedded/attach.ts';
import { makeLogger } from '../../lib/log.ts';
import { withDatabase } from '../../postgres/setup.ts';

/** As whom a command works: an auditor reads the trail, the worker and the owner change things. */
export type Login = 'auditor' | 'worker' | 'owner';

/** The variables that hold a login's address, the first that is set counting; and the role that it becomes. */
const LOGINS = {
  auditor: {
    addresses: [
      ['AUDITOR_DATABASE_URL', 'auditorDatabaseUrl'],
      ['AUTH_DATABASE_URL', 'authDatabaseUrl'],
    ],
    role: 'halyard_auditor',
    become: true,
  },
  worker: {
    addresses: [['WORKER_DATABASE_URL', 'workerDatabaseUrl']],
    role: 'halyard_worker',
    become: false,
  },
  owner: { addresses: [['DATABASE_URL', 'databaseUrl']], role: 'halyard_owner', become: false },
} as const;

/** A command asks a few questions at a time; a verification some chunks of the trail side by side. */
const MAX_CONNECTIONS = 4;

/**
 * Runs `work` on a pool of the login's, which ends behind it. Without an address, outside production, the database is the
 * embedded one of the data folder: the one that runs, or one started for this.
 *
 * Statements have no time limit: a command may read the whole trail, and whoever typed it can stop it.
 *
 * @param command the command that asks, which checks its own configuration and is named in the connections
 * @throws ConfigError when the configuration is not valid or, in production, lacks the address; EmbeddedPostgresError; what
 *   `work` throws
 */
export async function withLogin<T>(
  login: Login,
  work: (pool: pg.Pool, config: Config) => Promise<T>,
  command: 'audit' | 'settings' = 'audit',
): Promise<T> {
  const config = loadProcessConfig(command);
  // Warnings and errors only: how an embedded server comes and goes is no part of the answer.
  const log = makeLogger({ ...config, logLevel: quiet(config.logLevel) }, command);
  const { addresses, role, become } = LOGINS[login];
  const url = addresses.map(([, key]) => config[key]).find((address) => address !== null);
  const run = async (address: string) => {
    // Verifying and proving only read: a standby can spare the primary that.
    const pool = makePool(address, {
      name: `halyard ${command}`,
      max: MAX_CONNECTIONS,
      standby: true,
      log,
    });
    try {
      return await work(pool, config);
    } finally {
      await pool.end();
    }
  };
  if (url !== undefined) return run(withStartup(url, become ? role : null));
  if (config.nodeEnv === 'production') {
    const names = addresses.map(([name]) => name).join(' or ');
    throw new ConfigError([`Set ${names}: this command works on the database as ${role}.`]);
  }
  return withEmbeddedPostgres({ dataDir: config.dataDir, log }, (superuserUrl) =>
    run(withStartup(withDatabase(superuserUrl, 'halyard'), role)),
  );
}

function quiet(level: string): string {
  return level === 'info' || level === 'debug' || level === 'trace' ? 'warn' : level;
}

/** In the start-up packet, so that every connection of the pool has it from its first statement on. */
function withStartup(address: string, role: string | null): string {
  const url = new URL(address);
  const settings = [
    ...(role === null ? [] : [`role=${role}`]),
    'statement_timeout=0',
    'idle_in_transaction_session_timeout=0',
  ].map((setting) => `-c ${setting}`);
  const given = url.searchParams.get('options');
  url.searchParams.set('options', [...(given === null ? [] : [given]), ...settings].join(' '));
  return url.href;
}
