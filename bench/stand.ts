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

/** Starts the server; everything is removed by `stop`. */
export async function startStand(): Promise<Stand> {
  const log = pino({ level: 'warn' }, pino.destination({ dest: 2, sync: true }));
  const dataDir = await makeDataDir();
  const server = await startEmbeddedPostgres({ dataDir, log });
  const password = randomBytes(12).toString('hex');
  const ask = (sql: string) =>
    withConnection(server.superuserUrl, NAME, (client) =>
      client.query<{ server_version: string }>(sql),
    );
  const { rows } = await ask('show server_version');

  async function makeDatabase(): Promise<BenchDatabase> {
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
    version: rows[0]?.server_version ?? 'unknown',
    makeDatabase,
    async stop() {
      await server.stop();
      await removeDataDir(dataDir, server.dataDir);
    },
  };
}
