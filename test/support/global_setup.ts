import { randomBytes } from 'node:crypto';
import pg from 'pg';
import { pino } from 'pino';
import type { TestProject } from 'vitest/node';
import { migrate } from '../../src/migrate.ts';
import { setUp, withDatabase } from '../../src/setup.ts';
import { startTestServer } from './postgres_server.ts';

declare module 'vitest' {
  interface ProvidedContext {
    /** The administrator's URL of the server that the tests use. */
    rootUrl: string;
    /** The migrated database that test databases are cloned from. Nothing may be connected to it. */
    template: string;
    /** The password of Halyard's three logins on that server. */
    password: string;
  }
}

/** Starts a server, unless DATABASE_URL names one, and migrates the template database from zero. */
export default async function globalSetup(project: TestProject): Promise<() => Promise<void>> {
  const server = await startTestServer();
  const template = `halyard_test_${randomBytes(4).toString('hex')}`;
  const password = randomBytes(12).toString('hex');
  const log = pino({ level: 'silent' });
  const url = (role: string) => loginUrl(server.rootUrl, role, password, template);
  try {
    await setUp({
      rootUrl: server.rootUrl,
      ownerUrl: url('halyard_owner'),
      authenticatorUrl: url('halyard_authenticator'),
      workerUrl: url('halyard_worker'),
      log,
    });
    await migrate(url('halyard_owner'), log);
  } catch (error) {
    await server.stop();
    throw error;
  }
  project.provide('rootUrl', server.rootUrl);
  project.provide('template', template);
  project.provide('password', password);
  return async () => {
    if (!server.embedded) await dropDatabases(server.rootUrl, template);
    await server.stop();
  };
}

/** The same server, as one of Halyard's logins. */
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

/** Takes away the template and every clone that a test left behind. */
async function dropDatabases(rootUrl: string, template: string): Promise<void> {
  const client = new pg.Client({ connectionString: rootUrl });
  await client.connect();
  try {
    const { rows } = await client.query<{ name: string }>(
      `select datname as name from pg_database where starts_with(datname, $1)`,
      [template],
    );
    for (const { name } of rows) {
      await client.query(`drop database ${client.escapeIdentifier(name)} with (force)`);
    }
  } finally {
    await client.end();
  }
}
