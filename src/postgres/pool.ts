import pg from 'pg';
import { Client, CONNECT_TIMEOUT_MS } from './connection.ts';
import { prepareSession, setSession, warnOfDeviations, type SessionSettings } from './session.ts';
import type { Logger } from '../lib/log.ts';
import { makeOutage, type Outage } from '../lib/outage.ts';
import { StandbyError } from './error.ts';

/** No connection was to be had in time, or it was lost on the way: 503. */
export class DatabaseUnavailableError extends Error {
  override readonly name = 'DatabaseUnavailableError';
  readonly status = 503;
  readonly code = 'database_unavailable';

  constructor(cause: unknown) {
    super("The database can't be reached now: try again.", { cause });
  }
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
 * @param options.queryTimeoutMs milliseconds after which a query fails whose answer has not come, and its connection is given up
 *   for lost; by default the operating system's patience, some 15 minutes
 * @param options.maxCheckoutMs milliseconds after which a connection that is still in use is cut, because its server is frozen or
 *   out of reach; what waits for it gets an error, and isLost knows it
 */
export function makePool(
  url: string,
  options: {
    name: string;
    max?: number;
    standby?: boolean;
    asOwner?: boolean;
    settings?: SessionSettings;
    queryTimeoutMs?: number;
    maxCheckoutMs?: number;
    log: Logger;
  },
): pg.Pool {
  const { name, max = 10, queryTimeoutMs = 0, maxCheckoutMs, log } = options;
  const outage = makeOutage(log, OUTAGE, { pool: name }, { calmMs: CALM_MS });
  const pool = new pg.Pool({
    connectionString: url,
    application_name: name,
    max,
    Client,
    query_timeout: queryTimeoutMs,
    verify: (client, done) => {
      prepare(client, options).then(() => {
        outage.back();
        done();
      }, done);
    },
    // Also how long a caller waits for one that is free.
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    idleTimeoutMillis: 30_000,
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
  });
  outages.set(pool, outage);
  pool.on('connect', (client) => watch(client, pool, outage, log));
  if (maxCheckoutMs !== undefined) limitCheckout(pool, maxCheckoutMs);
  replaceReadOnly(pool);
  // The pool emits errors of idle clients, which their own listener has logged. Without this listener Node ends the process.
  pool.on('error', () => undefined);
  return pool;
}

const OUTAGE = {
  failing: 'a connection to the database was lost, or could not be made',
  back: 'there is a connection to the database again',
};

/** A pool that is used up fails some of those who ask, and serves others. */
const CALM_MS = 5_000;

/** Each pool's outage; connect() and noConnection() report to it. */
const outages = new WeakMap<pg.Pool, Outage>();

/** Runs once for each new connection: a primary becomes a standby only by a restart, which ends its connections. */
async function prepare(
  client: pg.PoolClient,
  { standby = false, asOwner, settings, log }: Parameters<typeof makePool>[1],
): Promise<void> {
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

/** read_only_sql_transaction: a change in a session that may not write. */
const READ_ONLY = '25006';

/**
 * Closes each connection on which a change was refused as read only, once it is released. A session keeps the default with which it
 * began, also when its role's has changed since, and a connection that is in use every second is never idle long enough to be replaced.
 */
function replaceReadOnly(pool: pg.Pool): void {
  const refused = new WeakSet<pg.PoolClient>();
  pool.on('connect', (client) => {
    client.connection.on('errorMessage', ({ code }: pg.DatabaseError) => {
      if (code === READ_ONLY) refused.add(client);
    });
  });
  // The pool keeps no client whose end has begun.
  pool.on('release', (_error, client) => {
    if (refused.has(client)) void client.end();
  });
}

/**
 * Asks what a session is good for. A connection whose session isn't good is closed, so that the next call sees
 * whether a new one is.
 *
 * @param ask on the connection
 * @param isGood of its answer
 * @returns that answer
 * @throws what `ask` throws, or the pool's error when there is no connection
 */
export async function probe<T>(
  pool: pg.Pool,
  ask: (client: pg.ClientBase) => Promise<T>,
  isGood: (answer: T) => boolean,
): Promise<T> {
  const client = await pool.connect();
  let isKept = false;
  try {
    const answer = await ask(client);
    isKept = isGood(answer);
    return answer;
  } finally {
    client.release(!isKept);
  }
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
    // Each session of a server that stops at once says so, and then its loss is an outage.
    if (code?.startsWith('57P')) log.debug({ code }, message);
    // The severity is in the server's language; class 01 is a warning in any. Details quote rows.
    else if (severity === 'WARNING' || code?.startsWith('01'))
      log.warn({ code, hint }, message ?? 'the database raised a warning');
  });
}

/** A connection, or Halyard's own error for having none to give: the log has that once for each outage of the pool. */
export async function connect(pool: pg.Pool): Promise<pg.PoolClient> {
  const outage = outages.get(pool);
  try {
    const client = await pool.connect();
    outage?.back();
    return client;
  } catch (error) {
    throw noConnection(pool, error);
  }
}

/** Notes in the log that a pool had no connection to give. @returns the error for the request that asked */
export function noConnection(pool: pg.Pool, cause: unknown): DatabaseUnavailableError {
  if (!pool.ending) outages.get(pool)?.failed(cause);
  return new DatabaseUnavailableError(cause);
}
