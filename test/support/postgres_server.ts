import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { pino } from 'pino';
import { startEmbeddedPostgres } from '../../src/embedded/postgres.ts';

/** The server that the tests run on. */
export interface TestServer {
  /** An administrator's URL. */
  readonly rootUrl: string;
  readonly embedded: boolean;
  stop(): Promise<void>;
}

/** Nothing here outlives the run, so nothing waits for a disk. */
const SETTINGS = {
  fsync: 'off',
  synchronous_commit: 'off',
  full_page_writes: 'off',
  max_connections: '200',
};

/**
 * The server that DATABASE_URL names (an administrator's URL), else an embedded one in a fresh folder, which `stop`
 * removes.
 */
export async function startTestServer(): Promise<TestServer> {
  const url = process.env.DATABASE_URL;
  if (url !== undefined && url !== '') {
    return { rootUrl: url, embedded: false, stop: () => Promise.resolve() };
  }

  const dataDir = await makeDataDir();
  const log = pino({ level: 'warn' }, pino.destination({ dest: 2, sync: true }));
  const server = await startEmbeddedPostgres({ dataDir, log, settings: SETTINGS }).catch(
    async (error: unknown) => {
      await removeDataDir(dataDir, join(dataDir, 'postgres'));
      throw error;
    },
  );
  return {
    rootUrl: server.superuserUrl,
    embedded: true,
    async stop() {
      await server.stop();
      await removeDataDir(dataDir, server.dataDir);
    },
  };
}

/** A fresh folder that PostgreSQL's user may enter too: mkdtemp makes them for one user, who may be root. */
export async function makeDataDir(): Promise<string> {
  const dataDir = await mkdtemp(join(tmpdir(), 'halyard-test-'));
  await chmod(dataDir, 0o711);
  return dataDir;
}

/** Removes a data folder and its cluster, which lies elsewhere when the temporary folder is closed to others. */
export async function removeDataDir(dataDir: string, pgdata: string): Promise<void> {
  await rm(dirname(pgdata), { recursive: true, force: true });
  await rm(dataDir, { recursive: true, force: true });
}
