import { chmod, lstat, mkdir, readlink, realpath, rename, rm, writeFile } from 'node:fs/promises';
import { createHash } from 'node:crypto';
import { dirname, join } from 'node:path';
import type { Logger } from '../../lib/log.ts';
import { EmbeddedPostgresError } from './error.ts';
import { canEnter, currentUser, type Account } from './os_user.ts';
import { ifExists, isErrno } from '../../lib/errno.ts';

/** The location of a data folder's cluster. `<dataDir>/postgres` always leads there: it is the folder itself or a link. */
interface DataLocation {
  readonly pgdata: string;
  /** The link to make once the cluster exists; null when none is needed. */
  readonly link: string | null;
}

/**
 * Where the cluster is or, for a new one, is to be: in the data folder when PostgreSQL's user may enter it, else in a shelter.
 *
 * @param dataDir real path
 * @throws EmbeddedPostgresError DATA_DIR_UNUSABLE, NO_SHELTER
 */
export async function locateData(
  dataDir: string,
  account: Account,
  log: Logger,
): Promise<DataLocation> {
  const inside = join(dataDir, 'postgres');
  const entry = await ifExists(lstat(inside));
  if (entry?.isSymbolicLink()) return followLink(dataDir, inside, log);

  const reachable = !account.switched || (await canEnter(dataDir, account));
  if (reachable) return { pgdata: inside, link: null };
  if (!entry) return useFallbackDir(dataDir, inside, account, log);
  throw new EmbeddedPostgresError(
    'DATA_DIR_UNUSABLE',
    `PostgreSQL's data is in ${inside}, which user ${account.uid}, as whom it runs, may no longer enter: a folder ` +
      'above it is closed to others. Open that one (chmod o+x), or set HALYARD_DATA_DIR to another folder.',
  );
}

/** Trusts only a link that an earlier start on this very folder has made. */
async function followLink(dataDir: string, link: string, log: Logger): Promise<DataLocation> {
  const pgdata = await readlink(link);
  const shelters = await Promise.all(
    FALLBACK_DIRS.map(async (shelter) => (await ifExists(realpath(shelter))) ?? shelter),
  );
  if (!shelters.some((shelter) => pgdata === join(homeIn(shelter, dataDir), 'postgres')))
    throw new EmbeddedPostgresError(
      'DATA_DIR_UNUSABLE',
      `${link} leads to ${pgdata}, which is not this folder's database: the folder was moved or copied. Move it ` +
        `back, or remove ${link} and postgres.password beside it to begin with an empty database.`,
    );
  if (await ifExists(lstat(pgdata))) return { pgdata, link: null };

  log.warn(
    { pgdata },
    'the database that this data folder had is gone; beginning with an empty one',
  );
  await rm(link);
  return { pgdata, link };
}

/** Prepares a home for a new cluster in a shelter. */
async function useFallbackDir(
  dataDir: string,
  link: string,
  account: Account,
  log: Logger,
): Promise<DataLocation> {
  const home = homeIn(await openFallbackDir(account), dataDir);
  const reason = await makeOwnFolder(home);
  if (reason !== null)
    throw new EmbeddedPostgresError(
      'NO_SHELTER',
      `PostgreSQL's data can't go to ${home}: ${reason}. Remove it.`,
    );
  await writeFile(
    join(home, 'README'),
    `The database of ${dataDir}; its log and password are there.\n`,
  );
  const pgdata = join(home, 'postgres');
  await archivePrevious(pgdata, log);
  return { pgdata, link };
}

/** A cluster that no data folder knows of any more belonged to one that was removed. The last one is kept, in case of need. */
async function archivePrevious(pgdata: string, log: Logger): Promise<void> {
  if (!(await ifExists(lstat(pgdata)))) return;
  const previous = join(dirname(pgdata), 'postgres.previous');
  await rm(previous, { recursive: true, force: true });
  await rename(pgdata, previous);
  log.warn(
    { previous },
    'the data folder was removed since the last start; set its database aside',
  );
}

/** Two data folders never share a home, and one always finds its own again. */
function homeIn(shelter: string, dataDir: string): string {
  return join(shelter, createHash('sha256').update(dataDir).digest('hex').slice(0, 12));
}

/** The folders that PostgreSQL's user can reach when the checkout is closed to it. Some systems sweep /var/tmp after weeks. */
const FALLBACK_DIRS: readonly string[] = ['/var/lib/halyard', '/var/tmp/halyard-0'];

/**
 * Opens the first shelter that can be used, making it if need be.
 *
 * @returns its real path
 * @throws EmbeddedPostgresError NO_SHELTER, with the reason for each
 */
export async function openFallbackDir(account: Account, shelters = FALLBACK_DIRS): Promise<string> {
  const reasons: string[] = [];
  for (const folder of shelters) {
    const reason = await makeOwnFolder(folder);
    if (reason !== null) reasons.push(`${folder}: ${reason}`);
    else if (await canEnter(folder, account)) return realpath(folder);
    else reasons.push(`${folder}: user ${account.uid} may not enter it`);
  }
  throw new EmbeddedPostgresError(
    'NO_SHELTER',
    `PostgreSQL runs as user ${account.uid}, who may not enter Halyard's own folder, and no other place can be used ` +
      `(${reasons.join('; ')}). Start Halyard as an ordinary user, or set DATABASE_URL to a PostgreSQL server of your own.`,
  );
}

/** Makes, or checks, a folder that others may enter and only we may change. @returns null, or why it can't be used */
async function makeOwnFolder(folder: string): Promise<string | null> {
  try {
    await mkdir(folder);
    await chmod(folder, 0o755); // mkdir's mode would pass through the umask
    return null;
  } catch (error) {
    if (!isErrno(error)) throw error;
    return error.code === 'EEXIST' ? verifyOwnership(folder) : error.code;
  }
}

/** Why an existing folder may hold what others have put there, such as programs; null when only we can write to it. */
export async function verifyOwnership(folder: string): Promise<string | null> {
  const stats = await lstat(folder);
  if (!stats.isDirectory()) return 'it is not a folder';
  if (stats.uid !== currentUser().uid) return `it belongs to user ${stats.uid}`;
  return (stats.mode & 0o022) === 0 ? null : 'others may write to it';
}
