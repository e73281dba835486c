import { readFile } from 'node:fs/promises';
import type pg from 'pg';
import type { Logger } from '../../lib/log.ts';
import { withConnection } from '../connection.ts';

const DATABASE_SQL = new URL('../../../migrations/database.sql', import.meta.url);

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
    await inside.query(await readFile(DATABASE_SQL, 'utf8'));
  });
}
