import { pino } from 'pino';
import { withConnection } from '../../src/postgres/connection.ts';
import type { Logger } from '../../src/lib/log.ts';
import { migrate } from '../../src/postgres/migrate.ts';
import { setUp, withDatabase } from '../../src/postgres/setup.ts';

/** Halyard's three logins to one database. */
export interface Logins {
  readonly ownerUrl: string;
  readonly authenticatorUrl: string;
  readonly workerUrl: string;
}

/** The same server, as somebody else. */
export function loginUrl(
  rootUrl: string,
  role: string,
  password: string,
  database: string,
): string {
  const url = new URL(withDatabase(rootUrl, database));
  url.username = role;
  url.password = password;
  return url.href;
}

/** The three logins, which have one password. */
export function loginsTo(rootUrl: string, password: string, database: string): Logins {
  const url = (role: string) => loginUrl(rootUrl, role, password, database);
  return {
    ownerUrl: url('halyard_owner'),
    authenticatorUrl: url('halyard_authenticator'),
    workerUrl: url('halyard_worker'),
  };
}

/** Sets the roles up, and makes the database that the logins name, migrated from zero. */
export async function makeMigrated(
  rootUrl: string,
  logins: Logins,
  log: Logger = pino({ level: 'silent' }),
): Promise<void> {
  await setUp({ rootUrl, ...logins, log });
  await migrate(logins.ownerUrl, log);
  await addEnvironments(withDatabase(rootUrl, databaseOf(logins.ownerUrl)));
}

/** Besides production. Tests don't make them first, and the trail begins empty. */
const ENVIRONMENTS = ['staging', 'development', 'elsewhere', 'large', 'listed', 'many', 'pages'];

/** As if they had been there before the trail began, like production. */
async function addEnvironments(rootUrl: string): Promise<void> {
  await withConnection(rootUrl, 'halyard test', async (client) => {
    await client.query(`
      begin;
      alter table app_public.environments disable trigger user;
      insert into app_public.environments (name, created_at)
      select n.name, p.created_at
      from unnest('{${ENVIRONMENTS.join()}}'::text[]) as n (name), app_public.environments p
      where p.name = 'production';
      do $$
      declare v record;
      begin
        for v in select * from app_private.expected_triggers() where table_name = 'app_public.environments' loop
          execute format('alter table %s enable %s trigger %I', v.table_name, case v.enabled when 'A' then 'always' else '' end, v.trigger_name);
        end loop;
      end $$;
      commit`);
  });
}

function databaseOf(url: string): string {
  return new URL(url).pathname.slice(1);
}

/**
 * Makes the database `name` of another one that nobody is connected to.
 *
 * @param strategy file by file is quicker where files are in memory, by the log where they are on a disk
 */
export async function cloneMigrated(
  rootUrl: string,
  template: string,
  name: string,
  strategy: 'file_copy' | 'wal_log',
): Promise<void> {
  await withConnection(rootUrl, 'halyard test', async (client) => {
    await client.query(
      `create database ${name} template ${template} strategy ${strategy} owner halyard_owner`,
    );
    // A clone doesn't take the template's privileges along.
    await client.query(`revoke all on database ${name} from public`);
    await client.query(
      `grant connect on database ${name} to halyard_authenticator, halyard_worker, halyard_auditor`,
    );
  });
}
