import { readFileSync } from 'node:fs';
import type pg from 'pg';
import { ConfigError } from '../config/error.ts';
import { isErrno } from '../lib/errno.ts';
import type { Logger } from '../lib/log.ts';
import { RefusedError } from './error.ts';

/** The list of what Halyard counts on: a query. */
const LIST = readFileSync(new URL('../../migrations/role_settings.sql', import.meta.url), 'utf8');

/** A setting of a role that a session began without. */
interface Deviation {
  readonly role: string;
  readonly setting: string;
  readonly found: string;
  readonly expected: string;
  /** Whether the session has it now. */
  readonly set: boolean;
  /** Whether it is a setting of the role in this database, which setup leaves alone. */
  readonly in_database: boolean;
  /** The statement, for an administrator, that mends it. */
  readonly mend: string;
}

interface Session {
  /** Whether the server is a standby, which takes no changes. */
  readonly standby: boolean;
  /** The settings that the session's role lacks; none for roles that aren't Halyard's. */
  readonly deviations: readonly Deviation[];
}

/** pg knows a time-out for each query, 0 for none; its types know it for a whole connection only. */
export type TimedQuery = pg.QueryConfig & { query_timeout: number };

/** Whether a setting that isn't in pg_settings is one of this role in this database. */
const IS_IN_DATABASE = `exists (
  select
  from pg_db_role_setting r cross join unnest(r.setconfig) as c (pair)
  where r.setrole = session_user::regrole
    and r.setdatabase = (select oid from pg_database where datname = current_database())
    and lower(split_part(c.pair, '=', 1)) = lower(s.name))`;

/** A setting's source, and whether this role may set it: one row, looked up only for settings that differ. */
const KNOWN = `lateral (
  select
    coalesce(max(p.source), case when ${IS_IN_DATABASE} then 'database user' else 'user' end) as source,
    coalesce(bool_and(p.context = 'user' or has_parameter_privilege(p.name, 'SET')), true) as settable
  from pg_settings p where p.name = s.name offset 0) as k`;

/** Halyard's own logins, whose settings are the roles'. */
const LOGINS = `'{halyard_owner,halyard_authenticator,halyard_worker}'::text[]`;

/**
 * What differs is found before it is set. What the connection's address sets (source client), such as a command's
 * time-outs, is deliberate. Compiling this one query can take seconds, so jit is off before it: of that setting no lack is named.
 *
 * An administrator's session finds no operator in `public` either, not even in this query: a superuser would run what another login
 * has put there. The roles of Halyard's logins have this setting from setup on.
 */
const prepare = (asOwner: boolean) => `
  set jit = off;
  ${asOwner ? 'set search_path = pg_catalog;' : ''}
  with differing as materialized (
    select s.*, current_setting(s.name) as found, k.source, k.settable
    from (${LIST}) as s
    cross join ${KNOWN}
    where current_setting(s.name, true) <> all (s.also || s.value)
      and (s.by_session or session_user = any (s.roles) or (${asOwner} and 'halyard_owner' = any (s.roles)))
  )
  select
    pg_is_in_recovery() as standby,
    array(
      select set_config(d.name, d.value, false)
      from differing d
      where d.settable and (d.by_session or session_user <> all (${LOGINS}))),
    array(
      select jsonb_build_object(
        'role', session_user, 'setting', d.name, 'found', d.found, 'expected', d.value,
        'set', d.settable and d.by_session, 'in_database', d.source = 'database user',
        'mend', case d.source
          when 'database user' then format('alter role %I in database %I reset %s', session_user, current_database(), d.name)
          else format(case d.name when 'role' then 'alter role %I reset %s' else 'alter role %I set %s = %L' end, session_user, d.name, d.value)
        end)
      from differing d
      where session_user = any (d.roles) and d.source not in ('client', 'session')
      order by d.name) as deviations`;

/**
 * Sets what Halyard counts on for this session, as far as its role may, and says what its role lacks. One round trip.
 *
 * @param options.waitMs milliseconds that the answer may take; no limit by default
 * @param options.asOwner whether a login that isn't Halyard's gets the owner's settings, time-outs included
 * @throws Error when the server gives no answer, or its error; RefusedError when it is too old
 */
export async function prepareSession(
  client: pg.ClientBase,
  { waitMs = 0, asOwner = false }: { waitMs?: number; asOwner?: boolean | undefined } = {},
): Promise<Session> {
  const query: TimedQuery = { text: prepare(asOwner), query_timeout: waitMs };
  const results: unknown = await client.query(query).catch((error: unknown) => {
    // undefined_function: what 15 has brought.
    if (!isErrno(error) || error.code !== '42883') throw error;
    throw new RefusedError('Halyard needs PostgreSQL 15 or later.', { cause: error });
  });
  // Several statements have several results, which pg's types don't know.
  const row = (results as pg.QueryResult<Session>[]).at(-1)?.rows[0];
  if (row === undefined) throw new Error('The server gave no answer about its session.');
  return row;
}

/** The warnings that each log has: a process warns of a setting once, and not for each connection. */
const named = new WeakMap<Logger, Set<string>>();

/** Names each setting that a role lacks, once for each log. */
export function warnOfDeviations(log: Logger, deviations: readonly Deviation[]): void {
  const before = named.get(log) ?? new Set();
  named.set(log, before);
  for (const { set, in_database, ...deviation } of deviations) {
    const key = `${deviation.role} ${deviation.setting} ${deviation.found}`;
    if (before.has(key)) continue;
    before.add(key);
    const { role, setting, found, expected, mend } = deviation;
    log.warn(
      deviation,
      `${role} begins its sessions with ${setting} = '${found}', and Halyard counts on '${expected}'` +
        `${set ? ' (this process sets it for its own sessions)' : ''}: ` +
        `${in_database ? '' : 'run "npm run halyard -- setup" again or, '}as an administrator, ${mend}`,
    );
  }
}

/** Which of the settings a request depends on differ in this session: the reason why it isn't ready, or null. For other queries. */
export const DIFFERING_SETTINGS = `(
  select string_agg(format('%s = %L', s.name, current_setting(s.name)), ', ' order by s.name)
  from (${LIST}) as s
  where s.by_session and current_setting(s.name, true) <> all (s.also || s.value))`;

/**
 * The settings that any role may set for its sessions, with their values: for sessions that a library opens.
 *
 * @throws the database's error
 */
export async function sessionSettings(client: pg.ClientBase): Promise<Record<string, string>> {
  const { rows } = await client.query<{ name: string; value: string }>(
    `select s.name, s.value from (${LIST}) as s
     where s.by_session
       and coalesce((select p.context from pg_settings p where p.name = s.name), 'user') = 'user'`,
  );
  return Object.fromEntries(rows.map(({ name, value }) => [name, value]));
}

/**
 * Makes each a setting of its roles, in every database. Keeps a value that does as well, of the role's or the server's. What the
 * administrator may not set (session_replication_role without the right to it) is left out: the processes name it where it matters. So
 * is role, for which no server has a default, and which would then stay 'none' after a session sets it.
 */
export const PIN_ROLE_SETTINGS = `do $pin$
declare
  v_setting record;
begin
  for v_setting in
    select s.name, r.role, case when p.reset_val = any (s.also) then p.reset_val else s.value end as value
    from (${LIST}) as s
    cross join unnest(s.roles) as r (role)
    left join pg_settings p on p.name = s.name
    where (p.context = 'user' or has_parameter_privilege(s.name, 'SET'))
      and (p.name is not null or s.name like '%.%')
      and not exists (
        select
        from pg_db_role_setting d
        cross join unnest(d.setconfig) as c (pair)
        where d.setdatabase = 0 and d.setrole = r.role::regrole
          and lower(split_part(c.pair, '=', 1)) = lower(s.name) and split_part(c.pair, '=', 2) = any (s.also || s.value))
  loop
    execute format('alter role %I set %s = %L', v_setting.role, v_setting.name, v_setting.value);
  end loop;
end
$pin$`;

/** Settings of a session by name, the role among them, with values as PostgreSQL shows them. */
export type SessionSettings = Readonly<Record<string, string>>;

/**
 * Sets a session's settings. Not in the start-up packet: PgBouncer refuses its `options`, or ignores them.
 *
 * @throws ConfigError when they don't hold for the next statement, as behind a pooler that lends a connection for a transaction
 */
export async function setSession(
  client: Pick<pg.ClientBase, 'query'>,
  settings: SessionSettings,
): Promise<void> {
  const names = Object.keys(settings);
  const values = [names, Object.values(settings)];
  const wanted = 'unnest($1::text[], $2::text[]) as s (name, value)';
  await client.query(`select set_config(s.name, s.value, false) from ${wanted}`, values);
  const { rows } = await client.query<{ name: string }>(
    `select s.name from ${wanted} where current_setting(s.name) is distinct from s.value`,
    values,
  );
  if (rows.length > 0)
    throw new ConfigError([
      `The database doesn't keep the session's ${rows.map(({ name }) => name).join(', ')}: connect to PostgreSQL itself, ` +
        'or by a pooler in session mode.',
    ]);
}
