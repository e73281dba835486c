import pg from 'pg';

import type { Claims } from '../auth/claims.ts';
import { Client } from './connection.ts';
import { pipeline, type Statement } from './pipeline.ts';
import { prepareSession, warnOfDeviations } from './session.ts';
import { setSession, type SessionSettings } from './session_override.ts';
import type { Logger } from '../lib/log.ts';
import { makeOutage, type Outage } from '../lib/outage.ts';
import { StandbyError } from './error.ts';

/** How long a caller waits for a connection, free or new, before it is told that there is none. */
const CONNECT_TIMEOUT_MS = 5_000;

/** The token is good, but names no role that may do anything: 403. */
export class NoRoleError extends Error {
  override readonly name = 'NoRoleError';
  readonly status = 403;
  readonly code = 'role_missing';

  constructor() {
    super('Ask for a token with the role admin, auditor or viewer: this one has none of them.');
  }
}

/** No connection was to be had in time, or it was lost on the way: 503. */
export class DatabaseUnavailableError extends Error {
  override readonly name = 'DatabaseUnavailableError';
  readonly status = 503;
  readonly code = 'database_unavailable';

  constructor(cause: unknown) {
    super("The database can't be reached now: try again.", { cause });
  }
}

/** The settings of one transaction, which migrations/fixtures/platform/claims.sql reads: who asks, and in which role. */
const SETTINGS = [
  'role',
  'jwt.claims.user_id',
  'jwt.claims.email',
  'jwt.claims.role',
  'jwt.claims.environments',
  'halyard.request_id',
] as const;

export type Settings = Readonly<Record<(typeof SETTINGS)[number], string>>;

/**
 * The settings of a request's transaction, for GraphQL and REST both. '' means unknown, and all environments. Statement
 * timeouts are settings of the roles, not of this.
 *
 * @throws NoRoleError when the claims have no role, so that nothing runs as the login itself
 */
export function pgSettings(claims: Claims, requestId: string): Settings {
  if (claims.role === null) throw new NoRoleError();
  return {
    role: `halyard_${claims.role}`,
    'jwt.claims.user_id': claims.userId ?? '',
    'jwt.claims.email': claims.email ?? '',
    'jwt.claims.role': claims.role,
    'jwt.claims.environments':
      claims.environments === null ? '' : JSON.stringify(claims.environments),
    'halyard.request_id': requestId,
  };
}

/**
 * A pool whose lost connections and database warnings reach the log, and end no process.
 *
 * Its connections are to a primary: after a failover a name may lead to the server that is a standby now, for a moment, and a
 * connection that is kept would refuse every change for as long as it is used. Each has the settings that Halyard counts on, and what
 * its role lacks of them is a warning, once for each log.
 *
 * @param options.name what pg_stat_activity and the trail show as application_name
 * @param options.max connections at most; 10 by default
 * @param options.standby whether a standby will do, for what only reads; by default it is refused as no database at all
 * @param options.asOwner whether a login that isn't Halyard's gets the owner's settings, as that it has no time limit
 * @param options.settings what each session has set, before it is used
 * @param options.answerMs milliseconds after which a query fails whose answer has not come, and its connection is given up
 *   for lost; by default the operating system's patience, some 15 minutes
 * @param options.holdMs milliseconds after which a connection that is still in use is cut, because its server is frozen or
 *   out of reach; whoever waits for it gets an error, and isLost knows it
 */
export function makePool(
  url: string,
  options: {
    name: string;
    max?: number;
    standby?: boolean;
    asOwner?: boolean;
    settings?: SessionSettings;
    answerMs?: number;
    holdMs?: number;
    log: Logger;
  },
): pg.Pool {
  const outage = makeOutage(options.log, OUTAGE, { pool: options.name }, { calmMs: CALM_MS });
  const pool = new pg.Pool({
    connectionString: url,
    application_name: options.name,
    max: options.max ?? 10,
    Client,
    ...(options.answerMs === undefined ? {} : { query_timeout: options.answerMs }),
    verify: (client, done) => {
      prepare(client, options).then(() => {
        outage.back();
        done();
      }, done);
    },
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    idleTimeoutMillis: 30_000,
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
  });
  outages.set(pool, outage);
  pool.on('connect', (client) => watch(client, pool, outage, options.log));
  if (options.holdMs !== undefined) limitCheckout(pool, options.holdMs);
  // For idle clients only, whose own listener has logged it; without this one Node ends the process.
  pool.on('error', () => undefined);
  return pool;
}

const OUTAGE = {
  failing: 'a connection to the database was lost, or could not be made',
  back: 'there is a connection to the database again',
};

/** A pool that is used up fails some of those who ask, and serves others. */
const CALM_MS = 5_000;

/** Of each pool, for what takes connections from it. */
const outages = new WeakMap<pg.Pool, Outage>();

/** Once for each new connection: a primary becomes a standby only by a restart, which ends its connections. */
async function prepare(
  client: pg.PoolClient,
  options: { standby?: boolean; asOwner?: boolean; settings?: SessionSettings; log: Logger },
): Promise<void> {
  const { standby = false, asOwner = false, settings, log } = options;
  const session = await prepareSession(client, { waitMs: CONNECT_TIMEOUT_MS, asOwner });
  warnOfDeviations(log, session.deviations);
  if (session.standby && !standby) throw new StandbyError();
  if (settings !== undefined) await setSession(client, settings);
}

/** Clients whose connection is gone. */
const lost = new WeakSet<pg.PoolClient>();

/** Whether a client's connection is gone: what waited for an answer on it gets an error that only says so in words. */
export function isLost(client: pg.PoolClient): boolean {
  return lost.has(client);
}

function limitCheckout(pool: pg.Pool, ms: number): void {
  const timers = new WeakMap<pg.PoolClient, NodeJS.Timeout>();
  pool.on('acquire', (client) => {
    const cut = () =>
      client.connection.stream.destroy(new Error(`The database has not answered in ${ms} ms.`));
    timers.set(client, setTimeout(cut, ms).unref());
  });
  pool.on('release', (_error, client) => clearTimeout(timers.get(client)));
}

/** A client's errors and warnings go to the log, also while it is checked out and the pool doesn't look. */
function watch(client: pg.PoolClient, pool: pg.Pool, outage: Outage, log: Logger): void {
  client.on('error', (error) => {
    lost.add(client);
    // A server that stops just behind a pool that ends may still say goodbye: nothing is lost then.
    if (pool.ending) log.debug({ err: error }, 'a database connection ended with its pool');
    else outage.failed(error);
  });
  client.on('notice', ({ severity, code, message, hint }) => {
    // The severity is in the server's language; class 01 is a warning in any. Details quote rows.
    if (severity === 'WARNING' || code?.startsWith('01'))
      log.warn({ code, hint }, message ?? 'the database raised a warning');
  });
}

const BEGIN: Statement = { name: 'begin', text: 'begin' };

const SET = `select ${SETTINGS.map((name, i) => `set_config('${name}', $${i + 1}, true)`).join(', ')}`;

/** Sets the settings until the end of the transaction. */
function setting(settings: Settings): Statement {
  return { name: 'settings', text: SET, values: SETTINGS.map((name) => settings[name]) };
}

/** Statement names include the role: a cached plan depends on row-level security, so a shared name would plan again at every switch of roles. */
function preparedFor({ role }: Settings, { name, ...statement }: Statement): Statement {
  return name === undefined ? statement : { ...statement, name: `${role}:${name}` };
}

/**
 * cached plan must not change result type; datatype_mismatch: a migration changed a type that the statement returns after it had
 * been planned, in our case while it waited for the migration's lock.
 */
const STALE_PLAN: ReadonlySet<string> = new Set(['0A000', '42804']);

/**
 * Runs one statement in a transaction of its own, as the role and with the claims of the caller, in one round trip. If the
 * settings can't be set, the statement isn't run. If a migration made its plan stale, it was rolled back and is run again, once.
 *
 * @throws DatabaseUnavailableError when there is no connection or it is lost, and the statement's or the commit's error
 */
export async function queryAs<R extends pg.QueryResultRow>(
  pool: pg.Pool,
  settings: Settings,
  statement: Statement,
): Promise<pg.QueryResult<R>> {
  try {
    return await queryOnce<R>(pool, settings, statement);
  } catch (error) {
    if (!(error instanceof pg.DatabaseError) || !STALE_PLAN.has(error.code ?? '')) throw error;
    return queryOnce<R>(pool, settings, statement);
  }
}

async function queryOnce<R extends pg.QueryResultRow>(
  pool: pg.Pool,
  settings: Settings,
  statement: Statement,
): Promise<pg.QueryResult<R>> {
  const client = await connect(pool);
  try {
    const [, result] = await pipeline(client, [
      setting(settings),
      preparedFor(settings, statement),
    ]);
    client.release(!isIdle(client));
    return result as pg.QueryResult<R>;
  } catch (error) {
    client.release(await awaitReady(client));
    throw isLost(client) ? new DatabaseUnavailableError(error) : error;
  }
}

/**
 * Runs `work` in one transaction as the role and with the claims of the caller: committed when it
 * resolves, rolled back when it rejects. For one statement queryAs is faster.
 *
 * @throws NoRoleError before any connection is taken, DatabaseUnavailableError when there is none or it is
 *   lost, and what `work` or the commit throws
 */
export async function transactionAs<T>(
  pool: pg.Pool,
  claims: Claims,
  requestId: string,
  work: (client: pg.PoolClient) => Promise<T>,
): Promise<T> {
  const settings = pgSettings(claims, requestId);
  const client = await connect(pool);
  let ending = false;
  try {
    await pipeline(client, [BEGIN, setting(settings)]);
    const result = await work(client);
    ending = true;
    await commit(client);
    client.release();
    return result;
  } catch (error) {
    // A commit ends the transaction also when it fails, and may have failed with its connection.
    client.release(ending || (await rollBack(client)));
    throw isLost(client) ? new DatabaseUnavailableError(error) : error;
  }
}

/** A connection, or Halyard's own error for having none to give: the log has that once for each outage of the pool. */
export async function connect(pool: pg.Pool): Promise<pg.PoolClient> {
  const outage = outages.get(pool);
  try {
    const client = await pool.connect();
    outage?.back();
    return client;
  } catch (error) {
    if (!pool.ending) outage?.failed(error);
    throw new DatabaseUnavailableError(error);
  }
}

/** PostgreSQL answers a commit of a failed transaction with a rollback and no error. */
async function commit(client: pg.PoolClient): Promise<void> {
  const { command } = await client.query('commit');
  if (command !== 'COMMIT')
    throw new Error(
      "The transaction was rolled back because a query in it failed; don't swallow that query's error.",
    );
}

/** The error for which the pool must discard the client, if it can't be rolled back. */
async function rollBack(client: pg.PoolClient): Promise<Error | undefined> {
  try {
    await client.query('rollback');
    return undefined;
  } catch (error) {
    return error instanceof Error ? error : new Error('Rolling back failed.', { cause: error });
  }
}

/** Whether no transaction is open. */
function isIdle(client: pg.PoolClient): boolean {
  return client.getTransactionStatus() === 'I';
}

/**
 * Waits until what failed is over, which its error doesn't say: the connection may be about to close behind it.
 *
 * @returns whether the pool must discard the client
 */
async function awaitReady(client: pg.PoolClient): Promise<boolean> {
  try {
    // An empty query; a rollback outside of a transaction block would be warned of.
    await client.query('');
    return !isIdle(client);
  } catch {
    return true;
  }
}
