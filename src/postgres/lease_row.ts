import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import type pg from 'pg';
import { ExplainedError } from '../lib/explained.ts';
import type { TimedQuery } from './session.ts';

/** Often enough that one renewal may fail or come late. */
export const RENEWALS_PER_LEASE = 5;
/** The holder stops after this part of the lease: what it does must have ended when another process begins. */
const USED_SHARE = 0.8;

/** The statements of a lease; `$1` is its name. */
export interface LeaseStatements {
  /** `$2` the holder, `$3` milliseconds; a row with the `token`, which is null while another process has it. */
  readonly take: string;
  /** `$2` the token, `$3` milliseconds; a row with `held`. */
  readonly renew: string;
  /** `$2` the token. */
  readonly release: string;
}

/** The statements of the worker's leases: migrations/fixtures/platform/leases.sql. */
export const WORKER_LEASES: LeaseStatements = {
  take: 'select app_private.take_lease($1, $2, $3) as token',
  renew: 'select app_private.renew_lease($1, $2, $3) as held',
  release: 'select app_private.release_lease($1, $2)',
};

/** Runs a statement within a time in milliseconds, on any connection. */
export type Ask = <R extends pg.QueryResultRow>(
  text: string,
  values: readonly unknown[],
  waitMs: number,
) => Promise<R[]>;

/** Runs statements on a connection, or on any of a pool. */
export function askOn(client: { query: pg.ClientBase['query'] }): Ask {
  return async <R extends pg.QueryResultRow>(
    text: string,
    values: readonly unknown[],
    waitMs: number,
  ) => {
    const query: TimedQuery = { text, values: [...values], query_timeout: waitMs };
    return (await client.query<R>(query)).rows;
  };
}

/** The lease was not renewed in time. */
export class LeaseEndedError extends ExplainedError {
  override readonly name = 'LeaseEndedError';
}

/**
 * Takes a lease, and renews it until it is stopped.
 *
 * @param options.ask where the statements run; each waits no longer than the lease has left
 * @param options.statements by default those of the worker's leases
 * @param options.onLost takes the LeaseEndedError
 * @returns its token and what ends the renewals, or null when another process has it
 * @throws the database's error
 */
export async function takeLease(options: {
  readonly ask: Ask;
  readonly name: string;
  readonly leaseMs: number;
  readonly statements?: LeaseStatements;
  readonly onLost: (error: Error) => void;
}): Promise<{ token: string; stop: () => void } | null> {
  const { ask, name, leaseMs, statements = WORKER_LEASES, onLost } = options;
  // From before the question on: the database counts from a later moment.
  let since = performance.now();
  // Names the process to a person, and the take to the database.
  const holder = `${hostname()}, process ${process.pid}, ${randomUUID()}`;
  const values = [name, holder, leaseMs];
  const [taken] = await ask<{ token: string | null }>(statements.take, values, leaseMs);
  const token = taken?.token ?? null;
  if (token === null) return null;
  let renewing = false;
  const left = () => since + leaseMs * USED_SHARE - performance.now();

  async function renew(): Promise<void> {
    const sentAt = performance.now();
    const waitMs = Math.max(1, left());
    const [row] = await ask<{ held: boolean }>(statements.renew, [name, token, leaseMs], waitMs);
    if (row?.held === true) since = sentAt;
    else end('Another process has taken the lease');
  }

  function end(reason: string): void {
    clearInterval(timer);
    onLost(new LeaseEndedError(`${reason}: ${name}.`));
  }

  function beat(): void {
    if (left() <= 0) end('The lease could not be renewed in time');
    else if (!renewing && left() < leaseMs * (USED_SHARE - 1 / RENEWALS_PER_LEASE)) {
      renewing = true;
      // A renewal that fails is tried again until the lease ends.
      void renew()
        .catch(() => undefined)
        .finally(() => (renewing = false));
    }
  }

  const timer = setInterval(beat, leaseMs / RENEWALS_PER_LEASE / 4);
  return { token, stop: () => clearInterval(timer) };
}
