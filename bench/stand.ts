import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import { pino } from 'pino';
import { withConnection } from '../src/connection.ts';
import { makePool } from '../src/db.ts';
import { startEmbeddedPostgres } from '../src/embedded/postgres.ts';
import type { Logger } from '../src/log.ts';
import { migrate } from '../src/migrate.ts';
import { setUp } from '../src/setup.ts';
import { makeDataDir, removeDataDir } from '../test/support/postgres_server.ts';

/** What benchmarks run on: a PostgreSQL with its own default settings, durable, in a fresh folder. */
export interface Stand {
  readonly log: Logger;
  /** `SHOW server_version`. */
  readonly version: string;
  /** PostgreSQL's settings that figures hang on. */
  readonly settings: Readonly<Record<string, string>>;
  /** A migrated database of the benchmark's own. */
  makeDatabase(): Promise<BenchDatabase>;
  stop(): Promise<void>;
}

export interface BenchDatabase {
  /** An administrator's. */
  readonly rootUrl: string;
  readonly workerUrl: string;
  readonly authenticatorUrl: string;
  /** An administrator, who may fill tables past the triggers. */
  readonly root: pg.Pool;
  /** As the worker connects. */
  readonly worker: pg.Pool;
  drop(): Promise<void>;
}

/** What pg_stat_activity shows. */
const NAME = 'halyard bench';

const SETTINGS = [
  'fsync',
  'synchronous_commit',
  'full_page_writes',
  'shared_buffers',
  'max_wal_size',
];

/** Starts the server; everything is removed by `stop`. */
export async function startStand(): Promise<Stand> {
  const log = pino({ level: 'warn' }, pino.destination({ dest: 2, sync: true }));
  const dataDir = await makeDataDir();
  const server = await startEmbeddedPostgres({ dataDir, log });
  const password = randomBytes(12).toString('hex');
  const ask = (sql: string) =>
    withConnection(server.superuserUrl, NAME, (client) =>
      client.query<Record<string, string>>(sql),
    );
  const shown = async (name: string) => (await ask(`show ${name}`)).rows[0]?.[name] ?? 'unknown';
  const version = await shown('server_version');
  const settings: Record<string, string> = {};
  for (const name of SETTINGS) settings[name] = await shown(name);

  // One at a time: setting up changes roles, which are the server's.
  let made: Promise<unknown> = Promise.resolve();
  function makeDatabase(): Promise<BenchDatabase> {
    const database = made.then(makeNext);
    made = database.catch(() => undefined);
    return database;
  }

  async function makeNext(): Promise<BenchDatabase> {
    const name = `bench_${randomBytes(4).toString('hex')}`;
    const url = (role: string) => server.url(role, password, name);
    const urls = {
      ownerUrl: url('halyard_owner'),
      authenticatorUrl: url('halyard_authenticator'),
      workerUrl: url('halyard_worker'),
    };
    await setUp({ rootUrl: server.superuserUrl, ...urls, log });
    await migrate(urls.ownerUrl, log);
    const rootUrl = new URL(server.superuserUrl);
    rootUrl.pathname = `/${name}`;
    const root = makePool(rootUrl.href, { name: NAME, log });
    const worker = makePool(urls.workerUrl, { name: NAME, log });
    return {
      rootUrl: rootUrl.href,
      workerUrl: urls.workerUrl,
      authenticatorUrl: urls.authenticatorUrl,
      root,
      worker,
      async drop() {
        await Promise.all([root.end(), worker.end()]);
        await ask(`drop database ${name} with (force)`);
      },
    };
  }

  return {
    log,
    version,
    settings,
    makeDatabase,
    async stop() {
      await server.stop();
      await removeDataDir(dataDir, server.dataDir);
    },
  };
}
