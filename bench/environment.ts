import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import { pino } from 'pino';
import { withConnection } from '../src/postgres/connection.ts';
import { makePool } from '../src/postgres/pool.ts';
import { startEmbeddedPostgres } from '../src/postgres/embedded/postgres.ts';
import type { Logger } from '../src/lib/log.ts';
import { withDatabase } from '../src/postgres/setup.ts';
import { cloneMigrated, loginsTo, makeMigrated } from '../test/support/migrated.ts';
import { makeDataDir, removeDataDir } from '../test/support/postgres_server.ts';

/** What benchmarks run on: a PostgreSQL with its own default settings, durable, in a fresh folder. */
export interface Environment {
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
/** Migrated once; each benchmark has a clone. Nothing may be connected to it. */
const TEMPLATE = 'bench';

const SETTINGS = [
  'fsync',
  'synchronous_commit',
  'full_page_writes',
  'shared_buffers',
  'max_wal_size',
];

/** Starts the server; everything is removed by `stop`. */
export async function startEnvironment(): Promise<Environment> {
  const log = pino({ level: 'warn' }, pino.destination({ dest: 2, sync: true }));
  const dataDir = await makeDataDir();
  const server = await startEmbeddedPostgres({ dataDir, log });
  const password = randomBytes(12).toString('hex');
  async function stop(): Promise<void> {
    await server.stop();
    await removeDataDir(dataDir, server.dataDir);
  }
  const ask = (sql: string) =>
    withConnection(server.superuserUrl, NAME, (client) =>
      client.query<Record<string, string>>(sql),
    );
  const shown = async (name: string) => (await ask(`show ${name}`)).rows[0]?.[name] ?? 'unknown';
  const version = await shown('server_version');
  const settings: Record<string, string> = {};
  for (const name of SETTINGS) settings[name] = await shown(name);

  const logins = loginsTo(server.superuserUrl, password, TEMPLATE);
  try {
    await makeMigrated(server.superuserUrl, logins, log);
  } catch (error) {
    await stop();
    throw error;
  }

  async function makeDatabase(): Promise<BenchDatabase> {
    const name = `bench_${randomBytes(4).toString('hex')}`;
    await cloneMigrated(server.superuserUrl, TEMPLATE, name, 'wal_log');
    const rootUrl = withDatabase(server.superuserUrl, name);
    const { authenticatorUrl, workerUrl } = loginsTo(server.superuserUrl, password, name);
    const root = makePool(rootUrl, { name: NAME, log });
    const worker = makePool(workerUrl, { name: NAME, log });
    return {
      rootUrl,
      workerUrl,
      authenticatorUrl,
      root,
      worker,
      async drop() {
        await Promise.all([root.end(), worker.end()]);
        await ask(`drop database ${name} with (force)`);
      },
    };
  }

  return { log, version, settings, makeDatabase, stop };
}
