import { readFile } from 'node:fs/promises';
import type pg from 'pg';
import { ConfigError } from '../config/error.ts';
import { withConnection } from './connection.ts';
import type { Logger } from '../lib/log.ts';
import { RefusedError, StandbyError } from './error.ts';
import { explainRefusal } from './preconditions.ts';
import { PIN_ROLE_SETTINGS } from './session.ts';
import { limitConnections, type ConnectionLimits } from './setup/connections.ts';
import { createDatabase, restrictDatabase } from './setup/database.ts';
import { setPassword, type Login } from './setup/passwords.ts';

/** The URLs of the logins of the owner, the API and the worker. */
export interface Logins {
  /** Names the database, too. */
  readonly ownerUrl: string;
  readonly authenticatorUrl: string;
  readonly workerUrl: string;
}

/** The server that `setUp` prepares, and the logins whose passwords it sets. */
interface SetupOptions extends Logins {
  /** An administrator's URL, to any database of the server. */
  readonly rootUrl: string;
  /** How many connections the logins may have; by default what fits the server. */
  readonly limits?: ConnectionLimits;
  readonly log: Logger;
}

/** An administrator's session has settings of its own; it gets the owner's. */
const AS_OWNER = { name: 'halyard setup', asOwner: true };
const ADMINISTRATOR =
  'The login of ROOT_DATABASE_URL must be a superuser, or have CREATEROLE and CREATEDB and the ADMIN option on roles of Halyard that are there already.';
const DEFAULT_LIMITS: ConnectionLimits = { api: null, worker: null, reader: 5 };
const ROLES_SQL = new URL('../../migrations/roles.sql', import.meta.url);

/**
 * Prepares a PostgreSQL server: roles, their settings, passwords and limits, the database. Needs an administrator, once. Repeated, it
 * changes only what differs, and so needs no right to the rest.
 *
 * @throws ConfigError when a URL names another role than the one it is for; RefusedError when the administrator lacks a privilege; StandbyError
 */
export async function setUp(options: SetupOptions): Promise<void> {
  const { rootUrl, log, limits = DEFAULT_LIMITS } = options;
  const logins = [
    login(options.ownerUrl, 'DATABASE_URL', 'halyard_owner'),
    login(options.authenticatorUrl, 'AUTH_DATABASE_URL', 'halyard_authenticator'),
    login(options.workerUrl, 'WORKER_DATABASE_URL', 'halyard_worker'),
  ];
  const database = databaseOf(options.ownerUrl);
  const prepareServer = async (client: pg.Client) => {
    await assertWritable(client);
    await client.query(await readFile(ROLES_SQL, 'utf8'));
    await client.query(PIN_ROLE_SETTINGS);
    for (const login of logins) await setPassword(client, rootUrl, login);
    await limitConnections(client, limits, log);
    await createDatabase(client, database);
    await restrictDatabase(client, { url: withDatabase(rootUrl, database), database, log });
  };
  await explainRefusal(() => withConnection(rootUrl, AS_OWNER, prepareServer), ADMINISTRATOR);
  log.info({ database }, 'roles and database are set up');
}

async function assertWritable(client: pg.Client): Promise<void> {
  const { rows } = await client.query<{ standby: boolean; read_only: boolean }>(
    `select pg_is_in_recovery() as standby, current_setting('transaction_read_only') = 'on' as read_only`,
  );
  if (rows[0]?.standby === true) throw new StandbyError();
  if (rows[0]?.read_only === true)
    throw new RefusedError(
      "The administrator's sessions are read only: set default_transaction_read_only to off.",
    );
}

/** The URL of another database on the same server. */
export function withDatabase(url: string, database: string): string {
  const changed = new URL(url);
  changed.pathname = `/${encodeURIComponent(database)}`;
  return changed.href;
}

function databaseOf(url: string): string {
  const name = decodeURIComponent(new URL(url).pathname.slice(1));
  if (name === '')
    throw new ConfigError([
      'DATABASE_URL must name a database, as in postgres://halyard_owner@host/halyard.',
    ]);
  return name;
}

function login(url: string, variable: string, role: string): Login {
  const parsed = new URL(url);
  if (decodeURIComponent(parsed.username) !== role)
    throw new ConfigError([`${variable} must log in as ${role}: the roles' names are fixed.`]);
  return { role, password: decodeURIComponent(parsed.password) };
}
