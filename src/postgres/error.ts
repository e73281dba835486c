import { isErrno, NETWORK_CODES } from '../lib/errno.ts';
import { ExplainedError } from '../lib/explained.ts';
import { reasonOf } from './reason.ts';

/** The database can't be connected to. The message is a sentence for a person: which database, and why. No secret is in it. */
export class ConnectionError extends ExplainedError {
  override readonly name = 'ConnectionError';

  /** @param url the login's URL, of which the message has host, port and database */
  constructor(url: string, cause: unknown) {
    const verb = isPermanent(cause) ? "can't be used" : "can't be reached";
    super(`The database ${placeOf(url)} ${verb}: ${reasonOf(cause)}.`, { cause });
  }
}

/** The database lacks migrations that this version needs. The message says what to run. */
export class NotMigratedError extends ExplainedError {
  override readonly name = 'NotMigratedError';

  /**
   * @param found the newest migration that ran there, null for none
   * @param needed the newest of this version
   */
  constructor(found: string | null, needed: string) {
    super(
      `The database is at ${found ?? 'no migration at all'} and this version needs ${needed}: ` +
        'run "npm run halyard -- migrate" first, with DATABASE_URL set to the owner of the same database.',
    );
  }
}

/** The server is a standby, as for a moment after a failover. */
export class StandbyError extends ExplainedError {
  override readonly name = 'StandbyError';

  constructor() {
    super(
      "The database's address leads to a standby, which takes no changes: it must lead to the primary.",
    );
  }
}

/** The database or its server isn't prepared for what a command does. The message is a sentence that says what is missing. */
export class RefusedError extends ExplainedError {
  override readonly name = 'RefusedError';
}

/** Classes of SQLSTATE that trying again doesn't mend: login, no such database, no right to connect, settings that are refused. */
const PERMANENT_STATES = /^(28|3D|42|22|0A)/;
/** Node's names for what is wrong with a certificate, such as CERT_HAS_EXPIRED, or with TLS. */
const TLS_CODES = /CERT|SIGNATURE|^ERR_(TLS|SSL|OSSL)/;
/** pg gives these no code: SASL is the login. */
const PERMANENT_MESSAGES = /^(SASL:|The server does not support SSL connections$)/;

/** SQLSTATEs of a server that goes away, comes, or has no room: connections are lost, or not to be had for now. */
const LOST_STATES = /^(08|57P0[1-5]|53300)/;
/** pg and pg-pool give these no code either (pg 8.23). */
const LOST_MESSAGES: ReadonlySet<string> = new Set([
  'Connection terminated',
  'Connection terminated unexpectedly',
  'Connection terminated due to connection timeout',
  'Client has encountered a connection error and is not queryable',
  'Client was closed and is not queryable',
  'Query read timeout',
  'timeout expired',
  'timeout exceeded when trying to connect',
]);

/**
 * Whether what kept us from connecting stays until a person mends it: a wrong password, no such database, TLS that is refused.
 * All else passes: a server that is away, starts, recovers, is full or a standby. So does a host name that doesn't resolve,
 * because names of containers do so only once these run.
 */
function isPermanent(error: unknown): boolean {
  if (!(error instanceof Error)) return true;
  if (isDatabaseError(error)) return PERMANENT_STATES.test(error.code);
  // ENOENT of a socket passes, ENOENT of a certificate's file doesn't.
  if (isErrno(error))
    return (
      TLS_CODES.test(error.code) ||
      error.code === 'EISDIR' ||
      Reflect.get(error, 'syscall') === 'open'
    );
  return error instanceof TypeError || PERMANENT_MESSAGES.test(error.message);
}

/** Whether an error means that the database is away for now, and that the same may work later. */
export function isPassing(error: unknown): boolean {
  if (error instanceof ConnectionError) return !isPermanent(error.cause);
  return isConnectionLoss(error) && !isPermanent(error);
}

/** Whether a query failed for want of a connection: there is none, or it was lost on the way. */
export function isConnectionLoss(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if (error instanceof ConnectionError || error instanceof StandbyError) return true;
  // Behind a FATAL the server ends the connection. In some languages the word is another one.
  if (isDatabaseError(error)) return error.severity === 'FATAL' || LOST_STATES.test(error.code);
  return isErrno(error) ? NETWORK_CODES.has(error.code) : LOST_MESSAGES.has(error.message);
}

/** It looks at fields and not the class, so that a process that only prints errors doesn't load pg. */
function isDatabaseError(
  error: Error,
): error is Error & { readonly code: string; readonly severity: unknown } {
  return isErrno(error) && 'severity' in error;
}

/** Host, port and database of a login's URL, as `db.internal:5432/halyard`. */
export function placeOf(url: string): string {
  const { hostname, port, pathname, searchParams } = new URL(url);
  const host = searchParams.get('host') ?? (decodeURIComponent(hostname) || 'localhost');
  return `${host}:${searchParams.get('port') ?? (port || '5432')}${decodeURIComponent(pathname)}`;
}
