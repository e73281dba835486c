import pg from 'pg';
import { backOff } from '../lib/backoff.ts';
import type { Logger } from '../lib/log.ts';
import { makeOutage } from '../lib/outage.ts';
import { raceAbort, sleep } from '../lib/wait.ts';
import { CONNECT_TIMEOUT_MS } from './connection.ts';
import {
  ConnectionError,
  isConnectionLoss,
  isPassing,
  NotMigratedError,
  placeOf,
  RefusedError,
  StandbyError,
} from './error.ts';
import { assertMigrated } from './migrate.ts';
import { prepareSession } from './session.ts';

const BACK_OFF = { baseMs: 200, capMs: 3_000 };
const DATABASE = { failing: 'waiting for the database', back: 'the database is there' };
/** A server that is there answers in milliseconds. One that is silent must not keep a process from serving /healthz. */
const DELAYED_MS = 1_000;
/** In development a person waits, who may not know that there is something to run. */
const UNMIGRATED_MS = 30_000;

/** Which role a login must be, and the setting that has its address. */
type DatabaseLogin = Readonly<Record<'role' | 'setting', string>>;

export const API_LOGIN = { role: 'halyard_authenticator', setting: 'AUTH_DATABASE_URL' };
export const WORKER_LOGIN = { role: 'halyard_worker', setting: 'WORKER_DATABASE_URL' };

interface WaitOptions {
  readonly log: Logger;
  /** Ends the waiting: what waits rejects with its reason. */
  readonly signal: AbortSignal;
  /** Called when a try has failed, so that what can go on without the database does. */
  readonly onWaiting?: () => void;
  /** The log's sentences; by default those of the database. */
  readonly says?: Parameters<typeof makeOutage>[1];
  readonly limits?: Parameters<typeof backOff>[1];
}

/** The database's state, for a part that starts without it. */
export interface DatabaseWait {
  /** Resolves once the database is there; rejects when it never will be. */
  readonly ready: Promise<unknown>;
  /** Resolves once it turns out that this takes longer. */
  readonly delayed: Promise<unknown>;
}

/** A caller passes this when the database is there, or when the part retries by itself. */
export const NO_WAIT: DatabaseWait = {
  ready: Promise.resolve(),
  delayed: new Promise(() => undefined),
};

/**
 * Lets a promise reject before anything waits for it: what waits may be a step further on, or have failed by itself.
 *
 * @returns the same promise
 */
export function mayRejectEarly<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => undefined);
  return promise;
}

/**
 * Runs `work` again and again while it fails because the database is away. The log has a line when that begins, one a minute,
 * and one when it is over.
 *
 * @param work may be repeated
 * @param isWorthWaiting which of its errors pass; by default those of connections
 * @throws its other errors, and the signal's reason
 */
export async function retryWhileAway<T>(
  work: () => Promise<T>,
  { log, signal, onWaiting, says = DATABASE, limits = BACK_OFF }: WaitOptions,
  isWorthWaiting = isPassing,
): Promise<T> {
  const outage = makeOutage(log, says);
  for (let failures = 0; ; failures++) {
    try {
      signal.throwIfAborted();
      const result = await raceAbort(work(), signal);
      outage.back();
      return result;
    } catch (error) {
      if (signal.aborted || !isWorthWaiting(error)) throw error;
      outage.failed(error, {}, error instanceof Error ? error.name : '');
      onWaiting?.();
    }
    await sleep(backOff(failures, limits), signal);
  }
}

/**
 * Waits until the database is there: it takes connections, is a primary, and is migrated. In development it waits 30 s for
 * migrations, in production for as long as it takes.
 *
 * @param options.url the login with which it is asked
 * @param options.name what pg_stat_activity shows as application_name
 * @param options.login the role that it must be
 * @param options.onWaiting called also when the first try takes longer than a second
 * @throws ConnectionError and RefusedError at once for what waiting doesn't mend, NotMigratedError, and the signal's reason
 */
export function waitForDatabase({
  url,
  name,
  nodeEnv,
  login,
  unmigratedMs = nodeEnv === 'development' ? UNMIGRATED_MS : Infinity,
  ...options
}: WaitOptions & {
  readonly url: string;
  readonly name: string;
  readonly nodeEnv: string;
  readonly login?: DatabaseLogin;
  readonly unmigratedMs?: number;
}): Promise<void> {
  const givesUpAt = performance.now() + unmigratedMs;
  const log = options.log.child({ database: placeOf(url) });
  const delayed = setTimeout(() => options.onWaiting?.(), DELAYED_MS);
  const isWorthWaiting = (error: unknown) =>
    error instanceof NotMigratedError ? performance.now() < givesUpAt : isPassing(error);
  const there = retryWhileAway(() => ask(url, name, login), { ...options, log }, isWorthWaiting);
  return mayRejectEarly(there.finally(() => clearTimeout(delayed)));
}

/** On a connection of its own, which takes no goodbye: a server that is frozen would never answer it. */
async function ask(url: string, name: string, login?: DatabaseLogin): Promise<void> {
  let client: pg.Client | undefined;
  let reached = false;
  try {
    const timeouts = {
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
      query_timeout: CONNECT_TIMEOUT_MS,
    };
    client = new pg.Client({ connectionString: url, application_name: name, ...timeouts });
    client.on('error', () => undefined);
    await client.connect();
    const session = await prepareSession(client, { waitMs: CONNECT_TIMEOUT_MS });
    if (session.standby) throw new StandbyError();
    reached = true;
    if (login !== undefined) await assertLogin(client, login);
    await assertMigrated(client);
  } catch (error) {
    // The database's own refusals too: a lock or a time-out passes, a missing grant doesn't.
    const refused = isConnectionLoss(error) || error instanceof pg.DatabaseError;
    throw reached && !refused ? error : new ConnectionError(url, error);
  } finally {
    client?.connection.stream.destroy();
  }
}

/** Attribution goes by the login, and another one has other rights: it would fail at each request, without an end. */
async function assertLogin(client: pg.Client, { role, setting }: DatabaseLogin): Promise<void> {
  const { rows } = await client.query<{ login: string }>('select session_user as login');
  const found = rows[0]?.login ?? role;
  if (found !== role)
    throw new RefusedError(
      `${setting} must log in as ${role}, and it logs in as ${found}: put that login's user and password into the address.`,
    );
}
