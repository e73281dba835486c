import type pg from 'pg';
import type { Logger } from '../../lib/log.ts';
import { withConnection } from '../connection.ts';

/**
 * Makes the database, or hands one that is there to halyard_owner.
 *
 * @param client of an administrator; one that is no superuser becomes a member of halyard_owner for it
 * @throws the database's error
 */
export async function createDatabase(client: pg.Client, database: string): Promise<void> {
  const { rows } = await client.query<{ owner: string }>(
    'select pg_get_userbyid(datdba) as owner from pg_database where datname = $1',
    [database],
  );
  if (rows[0]?.owner === 'halyard_owner') return;
  await client.query(BECOME_OWNER);
  const name = client.escapeIdentifier(database);
  await client.query(
    rows.length === 0
      ? // A server that was made without a locale defaults to SQL_ASCII, in which texts are counted and cut by their bytes.
        `create database ${name} owner halyard_owner encoding 'UTF8' template template0`
      : `alter database ${name} owner to halyard_owner`,
  );
}

/** An administrator who is no superuser has to be a member of the role that it hands the database to, and that may restrict it. */
const BECOME_OWNER = `do $$ begin
    if not pg_has_role(current_user, 'halyard_owner', 'usage') then
      execute format('grant halyard_owner to %I', current_user);
    end if;
  end $$`;

/** Whether others than Halyard's roles have a right to the database, or one of these may not connect. */
const IS_OPEN = `
  select
    exists (
      select from aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) as a where a.grantee = 0)
    or not (
      select bool_and(has_database_privilege(r.name, d.oid, 'connect'))
      from unnest('{halyard_authenticator,halyard_worker,halyard_auditor}'::name[]) as r (name)) as open,
    has_database_privilege(d.oid, 'connect') as entered
  from pg_database d
  where d.datname = $1`;

/**
 * Only Halyard's roles may connect, and only the owner may create anything in `public`. Functions of PostgreSQL's that every
 * login may call need a superuser to forbid.
 *
 * @param client of an administrator, connected to another database
 * @param url the administrator's, to the database
 * @throws the database's error
 */
export async function restrictDatabase(
  client: pg.Client,
  { url, database, log }: { url: string; database: string; log: Logger },
): Promise<void> {
  const { rows } = await client.query<{ open: boolean; entered: boolean }>(IS_OPEN, [database]);
  if (rows[0]?.open === true) {
    await client.query(BECOME_OWNER);
    const name = client.escapeIdentifier(database);
    await client.query(`revoke all on database ${name} from public`);
    await client.query(
      `grant connect on database ${name} to halyard_authenticator, halyard_worker, halyard_auditor`,
    );
  } else if (rows[0]?.entered === false) {
    log.warn(
      { database },
      'the administrator may not connect to the database: what is inside of it is left as it is',
    );
    return;
  }
  await withConnection(url, { name: 'halyard setup', asOwner: true }, async (inside) => {
    await inside.query(CLOSE_SCHEMA_PUBLIC);
    await inside.query(FORBID_FUNCTIONS);
  });
}

const CLOSE_SCHEMA_PUBLIC = `do $$ begin
    if exists (
      select
      from pg_namespace n cross join aclexplode(n.nspacl) as a
      where n.nspname = 'public' and a.grantee = 0 and a.privilege_type = 'CREATE'
    ) then
      revoke create on schema public from public;
    end if;
  end $$`;

/**
 * Functions that nothing of Halyard's calls, and with which any login that may connect could stop the others: large objects and
 * pg_logical_emit_message() fill the disk, the latter as fast as it writes, and advisory locks fill the table that all locks share.
 */
const FORBID_FUNCTIONS = `do $$
  declare
    v_function regprocedure;
  begin
    if not (select rolsuper from pg_roles where rolname = current_user) then
      return;
    end if;
    for v_function in
      select p.oid
      from pg_proc p
      where p.pronamespace = 'pg_catalog'::regnamespace
        and (
          p.proname in (
            'lo_creat', 'lo_create', 'lo_from_bytea', 'lo_import', 'lo_put', 'lowrite', 'lo_truncate', 'lo_truncate64',
            'pg_logical_emit_message')
          or p.proname ~ '^pg_(try_)?advisory_(xact_)?lock(_shared)?$')
        and has_function_privilege('halyard_viewer', p.oid, 'execute')
    loop
      execute format('revoke execute on function %s from public', v_function);
    end loop;
    -- The command line of graphile-migrate takes one when a migration is developed.
    if not has_function_privilege('halyard_owner', 'pg_try_advisory_lock(bigint)', 'execute') then
      grant execute on function pg_try_advisory_lock(bigint) to halyard_owner;
    end if;
  end $$`;
