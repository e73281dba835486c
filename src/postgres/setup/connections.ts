import type pg from 'pg';
import { isErrno } from '../../lib/errno.ts';
import type { Logger } from '../../lib/log.ts';

/** How many connections a login may have at a time; 0 for no limit, null for what fits the server. */
export interface ConnectionLimits {
  readonly api: number | null;
  readonly worker: number | null;
  /** The limit of each login that is granted halyard_admin, halyard_viewer or halyard_auditor and has no limit yet. */
  readonly reader: number;
}

/** Connections that one of the two logins leaves at least, for a process of the other one and the owner's commands. */
const LEFT = 20;

/**
 * Limits the connections of each login, so that none takes the slots of the others. Changes only what differs.
 *
 * @param client of an administrator
 * @throws the database's error
 */
export async function limitConnections(
  client: pg.Client,
  limits: ConnectionLimits,
  log: Logger,
): Promise<void> {
  const { rows } = await client.query<{ fitting: number }>(
    `select greatest(current_setting('max_connections')::int
       - current_setting('superuser_reserved_connections')::int - ${LEFT}, ${LEFT}) as fitting`,
  );
  const fitting = rows[0]?.fitting ?? 0;
  await limitLogin(client, 'halyard_authenticator', limits.api ?? fitting);
  await limitLogin(client, 'halyard_worker', limits.worker ?? fitting);
  await limitReaders(client, limits.reader, log);
}

async function limitLogin(client: pg.Client, role: string, limit: number): Promise<void> {
  const value = limit === 0 ? -1 : limit;
  const differs = 'select from pg_roles where rolname = $1 and rolconnlimit <> $2';
  const { rowCount } = await client.query(differs, [role, value]);
  if (rowCount === 1) await client.query(`alter role ${role} connection limit ${value}`);
}

/**
 * Logins of people and programs that read in SQL. They are others' roles: a limit that one has stays. Since PostgreSQL 16 an
 * administrator is a member of each role that it made, and can't work as it.
 */
const READERS = `
  select r.rolname as name
  from pg_roles r
  where r.rolcanlogin and not r.rolsuper and r.rolconnlimit = -1
    and r.rolname not in ('halyard_owner', 'halyard_authenticator', 'halyard_worker', current_user)
    and exists (
      select
      from unnest('{halyard_admin,halyard_viewer,halyard_auditor}'::name[]) as g (name)
      where pg_has_role(r.oid, g.name, 'usage')
        or pg_has_role(
          r.oid, g.name, case when current_setting('server_version_num')::int >= 160000 then 'set' else 'member' end))
  order by 1`;

async function limitReaders(client: pg.Client, limit: number, log: Logger): Promise<void> {
  if (limit === 0) return;
  const { rows } = await client.query<{ name: string }>(READERS);
  const unlimited: string[] = [];
  for (const { name } of rows)
    try {
      await client.query(`alter role ${client.escapeIdentifier(name)} connection limit ${limit}`);
    } catch (error) {
      if (!isErrno(error) || error.code !== '42501') throw error;
      unlimited.push(name);
    }
  if (unlimited.length > 0)
    log.warn(
      { roles: unlimited },
      `these logins may take all connections of the server, and the administrator may not limit them: alter role … connection limit ${limit}`,
    );
}
