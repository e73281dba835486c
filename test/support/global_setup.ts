import { randomBytes } from 'node:crypto';
import pg from 'pg';
import type { TestProject } from 'vitest/node';
import { withConnection } from '../../src/postgres/connection.ts';
import { loginsTo, makeMigrated } from './migrated.ts';
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
  try {
    if (server.embedded) await hashPasswordAgain(server.rootUrl);
    await makeMigrated(server.rootUrl, loginsTo(server.rootUrl, password, template));
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

/** The administrator's password is hashed as often as by default: initdb doesn't know the server's settings. */
async function hashPasswordAgain(rootUrl: string): Promise<void> {
  await withConnection(rootUrl, 'halyard test', async (client) => {
    const password = client.escapeLiteral(new URL(rootUrl).password);
    await client.query(`alter role current_user password ${password}`);
  });
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
