import { chmod, mkdtemp, rm, statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { pino } from 'pino';
import { startEmbeddedPostgres } from '../../src/postgres/embedded/postgres.ts';

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

/** A login hashes its password as often: a fifth of what a new session costs. PostgreSQL 15 has no such setting. */
const QUICK_LOGIN = { scram_iterations: '1' };

/**
 * The server that DATABASE_URL names (an administrator's URL), else an embedded one in a fresh folder, which `stop`
 * removes.
 */
export async function startTestServer(): Promise<TestServer> {
  const url = process.env.DATABASE_URL;
  if (url !== undefined && url !== '') {
    return { rootUrl: url, embedded: false, stop: () => Promise.resolve() };
  }

  return startOwnServer({ settings: { ...SETTINGS, ...QUICK_LOGIN } });
}

/**
 * An embedded server in a fresh folder, which `stop` removes.
 *
 * @param options.release the registry package that brings PostgreSQL; by default the product's
 */
export async function startOwnServer({
  release,
  settings = SETTINGS,
}: { release?: string; settings?: Readonly<Record<string, string>> } = {}): Promise<TestServer> {
  const dataDir = await makeDataDir(await memoryFolder());
  const log = pino({ level: 'warn' }, pino.destination({ dest: 2, sync: true }));
  const server = await startEmbeddedPostgres({
    dataDir,
    log,
    settings,
    ...(release && { release }),
  }).catch(async (error: unknown) => {
    await removeDataDir(dataDir, join(dataDir, 'postgres'));
    throw error;
  });
  return {
    rootUrl: server.superuserUrl,
    embedded: true,
    async stop() {
      await server.stop();
      await removeDataDir(dataDir, server.dataDir);
    },
  };
}

const TMPFS = 0x01021994;
/** Clones are small and soon dropped; most of it is the server's log. */
const ROOM = 4 * 2 ** 30;

/**
 * Where files are in memory, on a machine that has such a place with enough room, else the temporary folder: a run makes
 * hundreds of databases of hundreds of files each, and making a file is what a disk's file system is slow at.
 */
export async function memoryFolder(): Promise<string> {
  const { type, bavail, bsize } = await statfs('/dev/shm').catch(() => statfs(tmpdir()));
  return type === TMPFS && bavail * bsize >= ROOM ? '/dev/shm' : tmpdir();
}

/** A fresh folder that PostgreSQL's user may enter too: mkdtemp makes them for one user, who may be root. */
export async function makeDataDir(parent = tmpdir()): Promise<string> {
  const dataDir = await mkdtemp(join(parent, 'halyard-test-'));
  await chmod(dataDir, 0o711);
  return dataDir;
}

/** Removes a data folder and its cluster, which lies elsewhere when the temporary folder is closed to others. */
export async function removeDataDir(dataDir: string, pgdata: string): Promise<void> {
  await rm(dirname(pgdata), { recursive: true, force: true });
  await rm(dataDir, { recursive: true, force: true });
}
