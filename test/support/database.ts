import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import { afterAll, beforeAll, inject } from 'vitest';
import { withDatabase } from '../../src/postgres/setup.ts';
import { endIdle, returnClient, takeClient } from './connections.ts';
import { cloneMigrated, loginsTo } from './migrated.ts';
import type { Logins } from './migrated.ts';

/** A database of a test file's own: a clone of the migrated template. */
export interface TestDatabase extends Logins {
  readonly name: string;
  readonly rootUrl: string;
  drop(): Promise<void>;
}

/** Clones the template, or another database that nobody is connected to, file by file: about 20 ms in memory. */
export async function cloneDatabase(template = inject('template')): Promise<TestDatabase> {
  const name = `${inject('template')}_${randomBytes(4).toString('hex')}`;
  const rootUrl = inject('rootUrl');
  await endIdle(template);
  await cloneMigrated(rootUrl, template, name, 'file_copy');
  return {
    name,
    rootUrl: withDatabase(rootUrl, name),
    ...loginsTo(rootUrl, inject('password'), name),
    drop: async () => {
      await endIdle(name);
      await withClient(rootUrl, (client) =>
        client.query(`drop database if exists ${name} with (force)`),
      );
    },
  };
}

/** A clone for the whole test file, dropped at its end. */
export function useDatabase(): TestDatabase {
  let database: TestDatabase | undefined;
  beforeAll(async () => {
    database = await cloneDatabase();
  });
  afterAll(async () => {
    await database?.drop();
  });
  const current = () => {
    if (database === undefined) throw new Error('The test database exists only inside tests.');
    return database;
  };
  return {
    get name() {
      return current().name;
    },
    get rootUrl() {
      return current().rootUrl;
    },
    get ownerUrl() {
      return current().ownerUrl;
    },
    get authenticatorUrl() {
      return current().authenticatorUrl;
    },
    get workerUrl() {
      return current().workerUrl;
    },
    drop: () => current().drop(),
  };
}

/** A session for the length of `work`, which may have been another one's before: see connections.ts. */
export async function withClient<T>(
  url: string,
  work: (client: pg.Client) => Promise<T>,
): Promise<T> {
  const client = await takeClient(url);
  try {
    return await work(client);
  } finally {
    await returnClient(url, client);
  }
}

/** A connection as the owner in a transaction that is rolled back: the default for tests of SQL. */
export async function withRollback<T>(
  database: TestDatabase,
  work: (client: pg.Client) => Promise<T>,
): Promise<T> {
  return withClient(database.ownerUrl, async (client) => {
    await client.query('begin');
    try {
      return await work(client);
    } finally {
      await client.query('rollback');
    }
  });
}
