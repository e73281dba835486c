import type pg from 'pg';
import { isErrno } from '../lib/errno.ts';
import { RefusedError, StandbyError } from './error.ts';

const RUN_SETUP =
  'Run "npm run halyard -- setup", with ROOT_DATABASE_URL set to an administrator of this server, then migrate again.';

interface Found extends Record<'encoding' | 'login' | 'database_owner', string> {
  readonly standby: boolean;
  readonly read_only: boolean;
  /** Halyard's roles that the server lacks. */
  readonly missing_roles: string[];
  /** Null where the role is missing. */
  readonly becomes_worker: boolean | null;
  /** Whether it may create schemas. */
  readonly creates: boolean;
  /** Objects with names of Halyard's that belong to other roles, each with its owner; null when there are none. */
  readonly foreign: string | null;
}

/**
 * Since PostgreSQL 16 a member may be one that can't SET ROLE. Who owns a schema may drop what is in it, and a trigger of a table's owner
 * runs with the rights of who writes there: a stranger could have made them before the database was Halyard's.
 */
const ASK = `
  select
    current_setting('server_encoding') as encoding,
    current_user as login,
    pg_get_userbyid(d.datdba) as database_owner,
    pg_is_in_recovery() as standby,
    current_setting('transaction_read_only') = 'on' as read_only,
    array(
      select r.name
      from unnest('{halyard_owner,halyard_authenticator,halyard_worker,halyard_admin,halyard_viewer,halyard_auditor}'::text[]) as r (name)
      where to_regrole(r.name) is null) as missing_roles,
    pg_has_role(to_regrole('halyard_worker')::oid, case when current_setting('server_version_num')::int >= 160000 then 'set' else 'member' end)
      as becomes_worker,
    has_database_privilege(d.oid, 'create') as creates,
    (
      select string_agg(format('%s (owner %s)', o.name, pg_get_userbyid(o.owner)), ', ' order by o.name)
      from (
        select n.nspname::text as name, n.nspowner as owner
        from pg_namespace n
        where n.nspname in ('app_public', 'app_private', 'audit', 'graphile_migrate')
        union all
        select c.oid::regclass::text, c.relowner from pg_class c where c.relnamespace = to_regnamespace('graphile_migrate')
      ) as o
      where o.owner <> to_regrole('halyard_owner')) as foreign
  from pg_database d
  where d.datname = current_database()`;

/**
 * Makes sure that a login can migrate its database, before anything is changed.
 *
 * @throws RefusedError that says what is missing and what to run; StandbyError
 */
export async function assertMigratable(client: pg.ClientBase): Promise<void> {
  const [found] = (await client.query<Found>(ASK)).rows;
  if (found === undefined) throw new Error('The server gave no answer about its database.');
  if (found.standby) throw new StandbyError();
  const problem = problemIn(found);
  if (problem !== null) throw new RefusedError(problem);
}

function problemIn(found: Found): string | null {
  const { login, missing_roles: missing } = found;
  if (missing.length > 0) return `The server lacks the roles ${missing.join(', ')}. ${RUN_SETUP}`;
  if (login !== 'halyard_owner')
    return `DATABASE_URL must log in as halyard_owner, because what a migration makes belongs to its login; it is ${login}.`;
  // Names and descriptions are in any script, and events are JSON: both need UTF-8.
  if (found.encoding !== 'UTF8')
    return `The database's encoding is ${found.encoding}, and Halyard needs UTF8: create database … encoding 'UTF8' template template0.`;
  if (found.becomes_worker !== true)
    return `${login} may not become halyard_worker, which owns graphile-worker's tables. ${RUN_SETUP}`;
  if (!found.creates)
    return `${login} may not create schemas in this database, which belongs to ${found.database_owner}. ${RUN_SETUP}`;
  if (found.foreign !== null)
    return `What Halyard makes must belong to ${login}, and others have made ${found.foreign}: drop it, or give it to ${login} if you trust what is in it.`;
  return found.read_only
    ? `Sessions of ${login} are read only: set default_transaction_read_only to off for this role.`
    : null;
}

/** insufficient_privilege, and what roles.sql itself raises. */
const REFUSED: ReadonlySet<string> = new Set(['42501', 'P0001']);

/**
 * Runs a step that needs privileges. What the database refuses becomes a sentence.
 *
 * @param advice what to do about it, as a sentence
 * @throws RefusedError when it is refused, and the step's other errors
 */
export async function explainRefusal<T>(step: () => Promise<T>, advice: string): Promise<T> {
  try {
    return await step();
  } catch (error) {
    if (!isErrno(error) || !REFUSED.has(error.code)) throw error;
    const reason = error.message.replace(/\.$/, '');
    throw new RefusedError(`The database refuses: ${reason}. ${advice}`, { cause: error });
  }
}
