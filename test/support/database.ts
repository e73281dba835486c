import { randomBytes } from 'node:crypto';
import pg from 'pg';
import { afterAll, beforeAll, inject } from 'vitest';
import { withDatabase } from '../../src/postgres/setup.ts';
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
  await cloneMigrated(rootUrl, template, name, 'file_copy');
  return {
    name,
    rootUrl: withDatabase(rootUrl, name),
    ...loginsTo(rootUrl, inject('password'), name),
    drop: () =>
      withClient(rootUrl, async (client) => {
        await client.query(`drop database if exists ${name} with (force)`);
      }),
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

/** A connection for the length of `work`. */
export async function withClient<T>(
  url: string,
  work: (client: pg.Client) => Promise<T>,
): Promise<T> {
  const client = new pg.Client({ connectionString: url, application_name: 'halyard test' });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
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
