import { chmod, lstat, mkdir, realpath } from 'node:fs/promises';
import { canEnter, currentUser, type Account } from './os_user.ts';
import { EmbeddedPostgresError } from './error.ts';
import { isErrno } from '../../lib/errno.ts';

/** The folders that PostgreSQL's user can reach when the checkout is closed to it. Some systems sweep /var/tmp after weeks. */
export const FALLBACK_DIRS: readonly string[] = ['/var/lib/halyard', '/var/tmp/halyard-0'];

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
export async function makeOwnFolder(folder: string): Promise<string | null> {
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
