import { randomUUID } from 'node:crypto';
import { mkdir, open, readFile, readdir, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { giveTo, type Account } from './os_user.ts';
import type { Binaries } from './binaries.ts';
import { EmbeddedPostgresError } from './error.ts';
import { ifExists } from '../../lib/errno.ts';
import { spawnWatched, whenOver } from './watchdog.ts';
import { writeSecret } from './password.ts';
import { failureIn, tail } from './server_log.ts';

/** Everything needed to make or check one cluster. */
export interface Cluster {
  readonly pgdata: string;
  readonly binaries: Binaries;
  readonly account: Account;
  readonly logFile: string;
}

const PARTIAL = 'postgres.partial-';
const PASSWORD = 'postgres.initdb-password-';

/**
 * Checks that an existing cluster can be served.
 *
 * @returns false when there is none yet
 * @throws EmbeddedPostgresError DATA_DIR_UNUSABLE, OTHER_VERSION
 */
export async function checkCluster({ pgdata, binaries, account }: Cluster): Promise<boolean> {
  const stats = await ifExists(stat(pgdata));
  if (!stats) return false;
  if (stats.uid !== account.uid)
    throw new EmbeddedPostgresError(
      'DATA_DIR_UNUSABLE',
      `${pgdata} belongs to user ${stats.uid}, and PostgreSQL would run as user ${account.uid}. Start Halyard as ` +
        'the user (or root) who made it, or give it another folder with HALYARD_DATA_DIR.',
    );
  const made = (await ifExists(readFile(join(pgdata, 'PG_VERSION'), 'utf8')))?.trim() ?? 'unknown';
  const ours = binaries.version.split('.')[0];
  if (made === ours) return true;
  throw new EmbeddedPostgresError(
    'OTHER_VERSION',
    `${pgdata} was made by PostgreSQL version ${made}, and this Halyard brings version ${ours ?? '?'}, which can't read it. ` +
      `Dump it with the old version, or set HALYARD_DATA_DIR to another folder to begin with an empty database.`,
  );
}

/**
 * Makes a new cluster, which appears by a rename once it is whole. What a killed initdb left is removed first.
 *
 * @param durable false skips the sync, for data that need not outlive the machine
 * @throws EmbeddedPostgresError INITDB_FAILED
 */
export async function makeCluster(cluster: Cluster, password: string, durable: boolean) {
  const home = dirname(cluster.pgdata);
  await removeLeftovers(home);
  const partial = join(home, PARTIAL + randomUUID());
  const passwordFile = join(home, PASSWORD + randomUUID());
  await mkdir(partial, { mode: 0o700 });
  await giveTo(cluster.account, partial);
  try {
    await writeSecret(passwordFile, `${password}\n`);
    await giveTo(cluster.account, passwordFile);
    await initdb(cluster, partial, [`--pwfile=${passwordFile}`, ...(durable ? [] : ['--no-sync'])]);
  } finally {
    await rm(passwordFile, { force: true });
  }
  await rename(partial, cluster.pgdata);
  if (!durable) return;
  // Makes the rename survive a power cut.
  await using handle = await open(home, 'r');
  await handle.sync();
}

/** The builtin C.UTF-8, of PostgreSQL 17 and later, knows Unicode and is the same on every system; libc and ICU are not. */
async function initdb(cluster: Cluster, pgdata: string, options: readonly string[]): Promise<void> {
  const { binaries, account, logFile } = cluster;
  const hasBuiltinLocale = Number(binaries.version.split('.')[0]) >= 17;
  const args = [
    ...[`--pgdata=${pgdata}`, '--username=postgres', '--auth=scram-sha-256'],
    ...['--encoding=UTF8', '--no-locale', '--no-instructions'],
    ...(hasBuiltinLocale ? ['--locale-provider=builtin', '--builtin-locale=C.UTF-8'] : []),
    ...options,
  ];
  const program = join(binaries.root, 'bin', 'initdb');
  const child = await spawnWatched({ program, args, account, logFile });
  if ((await whenOver(child)) === 0) return;
  const end = await tail(logFile);
  const failure = failureIn(end);
  throw new EmbeddedPostgresError(
    'INITDB_FAILED',
    failure === null
      ? `PostgreSQL could not make its data folder. Its log, ${logFile}, ends with:\n${end}`
      : `PostgreSQL could not make its data folder: ${failure}. Its log, ${logFile}, says more.`,
  );
}

async function removeLeftovers(home: string): Promise<void> {
  for (const name of await readdir(home)) {
    if (!name.startsWith(PARTIAL) && !name.startsWith(PASSWORD)) continue;
    // An initdb whose parent was killed a moment ago may still be writing there.
    await rm(join(home, name), { recursive: true, force: true, maxRetries: 20, retryDelay: 50 });
  }
}
