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
