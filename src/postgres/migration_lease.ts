import type pg from 'pg';
import { isErrno } from '../lib/errno.ts';
import { sleep } from '../lib/wait.ts';
import { describeBlocker, type Blocker } from './blockers.ts';
import { askOn, takeLease, type Ask, type LeaseStatements } from './lease_row.ts';

/** A killed migration keeps others out for so long; a migration is renewed while it waits for locks, too. */
const LEASE_MS = 10_000;
/** How often a second migration asks again, and for how long, before it says that it waits. */
const ASK_AGAIN_MS = 100;
const TRIES = 10;

const NAME = 'migrate';

/** graphile-migrate's schema is the owner's alone, and no migration locks a table in it: renewals don't wait for one. */
const TABLE = `
  create schema if not exists graphile_migrate;
  create table if not exists graphile_migrate.halyard_leases (
    name text primary key,
    holder text not null,
    backend integer not null,
    token bigint not null,
    expires_at timestamptz not null
  )`;

const END = `clock_timestamp() + $3::integer * interval '1 ms'`;

/** The statements of app_private.take_lease() and its like, which an empty database lacks. */
const STATEMENTS: LeaseStatements = {
  take: `
    with taken as (
      insert into graphile_migrate.halyard_leases as l (name, holder, backend, token, expires_at)
      values ($1, $2, pg_backend_pid(), (extract(epoch from clock_timestamp()) * 1000000)::bigint, ${END})
      on conflict (name) do update
      set holder = excluded.holder, backend = excluded.backend, token = greatest(l.token + 1, excluded.token), expires_at = excluded.expires_at
      where l.expires_at <= clock_timestamp() or l.expires_at > clock_timestamp() + interval '10 minutes'
      returning l.token
    )
    select token from taken`,
  renew: `
    with renewed as (
      update graphile_migrate.halyard_leases set expires_at = ${END}
      where name = $1 and token = $2 and expires_at > clock_timestamp()
      returning 1
    )
    select exists (select from renewed) as held`,
  release: `update graphile_migrate.halyard_leases set expires_at = '-infinity' where name = $1 and token = $2`,
};

const HOLDER = `
  select l.backend as pid, a.usename as user, nullif(a.application_name, '') as application, a.xact_start as since, null as query
  from graphile_migrate.halyard_leases l
  left join pg_stat_activity a on a.pid = l.backend and a.application_name like 'halyard migrate%'
  where l.name = $1`;

/** Another migration is at work. Its code is lock_not_available's: it is waited for as a lock is. */
export class MigratingError extends Error {
  override readonly name = 'MigratingError';
  readonly code = '55P03';
  readonly blocker: Blocker;

  constructor(blocker: Blocker) {
    super(`Another migration is at work: ${describeBlocker(blocker)}.`);
    this.blocker = blocker;
  }
}

/**
 * Runs `work` as the only migration of its database.
 *
 * @param holder a connection for this alone
 * @param spare another one, for giving the lease back when the first is lost
 * @param retry runs a step, and again while it is in the way of other sessions: waits for the migration before
 * @param work is given a signal that is raised when the lease is lost: then it begins nothing more
 * @throws the loss, what `work` and `retry` throw, and the database's errors
 */
export async function withMigrationLease(
  { holder, spare }: { readonly holder: pg.Client; readonly spare: pg.Client },
  retry: (step: () => Promise<unknown>) => Promise<void>,
  work: (lost: AbortSignal) => Promise<void>,
): Promise<void> {
  const loss = new AbortController();
  const onLost = (error: unknown) => loss.abort(error);
  holder.on('error', onLost);
  await retry(() => makeTable(holder));
  let lease: { token: string; stop: () => void } | undefined;
  await retry(async () => {
    lease = await take(askOn(holder), onLost);
  });
  try {
    await work(loss.signal);
    loss.signal.throwIfAborted();
  } finally {
    lease?.stop();
    const client = loss.signal.aborted ? spare : holder;
    // A lease that can't be given back ends by itself, and the work's own error says more.
    await askOn(client)(STATEMENTS.release, [NAME, lease?.token], LEASE_MS).catch(() => undefined);
    holder.off('error', onLost);
  }
}

async function take(ask: Ask, onLost: (error: unknown) => void) {
  const options = { ask, name: NAME, leaseMs: LEASE_MS, statements: STATEMENTS, onLost };
  for (let tries = 0; tries < TRIES; tries++) {
    const lease = await takeLease(options);
    if (lease !== null) return lease;
    await sleep(ASK_AGAIN_MS, new AbortController().signal);
  }
  const [blocker] = await ask<Blocker & pg.QueryResultRow>(HOLDER, [NAME], LEASE_MS);
  throw new MigratingError(
    blocker ?? { pid: 0, user: null, application: null, since: null, query: null },
  );
}

/** Two that begin at once on an empty database get in each other's way, once. */
async function makeTable(client: pg.Client): Promise<void> {
  try {
    await client.query(TABLE);
  } catch (error) {
    if (!isErrno(error) || !['23505', '42P06', '42P07'].includes(error.code)) throw error;
    await client.query(TABLE);
  }
}
