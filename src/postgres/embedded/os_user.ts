import type { Stats } from 'node:fs';
import { chown, readFile, realpath, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { EmbeddedPostgresError } from './error.ts';

/** The operating-system user that PostgreSQL runs as. */
export interface Account {
  readonly uid: number;
  readonly gid: number;
  /** True when this process is root and so has to become somebody else: PostgreSQL refuses to run as root. */
  readonly switched: boolean;
}

/** In order of preference. `_postgres` is macOS's; `nobody` exists everywhere, minimal containers included. */
const NAMES = ['postgres', '_postgres', 'nobody'];

/**
 * Finds the user that PostgreSQL runs as: this process's own or, in place of root, the cluster's owner, else one of the users
 * that the system has already (initdb wants a passwd entry).
 *
 * @param cluster the existing data folder's stat, null before the first start
 * @throws EmbeddedPostgresError NO_ACCOUNT
 */
export async function chooseAccount(cluster: Stats | null): Promise<Account> {
  const { uid, gid } = currentUser();
  if (uid !== 0) return { uid, gid, switched: false };
  if (cluster && cluster.uid !== 0) return { uid: cluster.uid, gid: cluster.gid, switched: true };

  const account = findAccount(await readFile('/etc/passwd', 'utf8'));
  if (account) return { ...account, switched: true };
  throw new EmbeddedPostgresError(
    'NO_ACCOUNT',
    `PostgreSQL does not run as root, and /etc/passwd lists none of ${NAMES.join(', ')} to run it as. ` +
      'Start Halyard as an ordinary user, or set DATABASE_URL to a PostgreSQL server of your own.',
  );
}

/** Picks the preferred user from a passwd file's text (name:password:uid:gid:…); null when it has none of them. */
export function findAccount(passwd: string): { uid: number; gid: number } | null {
  const users = passwd.split('\n').map((line) => line.split(':'));
  for (const name of NAMES) {
    const user = users.find((fields) => fields[0] === name);
    const [uid, gid] = [Number(user?.[2]), Number(user?.[3])];
    // macOS writes nobody as -2, which chown and stat know as 4294967294.
    if (Number.isInteger(uid) && uid !== 0) return { uid: uid >>> 0, gid: gid >>> 0 };
  }
  return null;
}

/** The options with which `spawn` starts a process as the account. */
export function spawnAs(account: Account): { uid?: number; gid?: number } {
  // spawn takes signed 32-bit numbers, unlike chown.
  return account.switched ? { uid: account.uid | 0, gid: account.gid | 0 } : {};
}

/** Hands a file or folder that we have just made to the account. */
export async function giveTo(account: Account, path: string): Promise<void> {
  if (account.switched) await chown(path, account.uid, account.gid);
}

/** This process's own user; 0 is root. */
export function currentUser(): { uid: number; gid: number } {
  // Both are undefined on Windows only, where findBinaries has refused before.
  return { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
}

/** Permission bits as in the last digit of a mode. */
const READ = 4;
const ENTER = 1;

/**
 * Whether the account may enter this folder and every folder above it, by their modes; access lists are not looked at.
 *
 * @param folder an existing folder; links in it are resolved first
 */
export async function canEnter(folder: string, account: Account): Promise<boolean> {
  let path = await realpath(folder);
  for (;;) {
    if (!permits(await stat(path), account, ENTER)) return false;
    const parent = dirname(path);
    if (parent === path) return true;
    path = parent;
  }
}

/** Whether the account may run this program. @param file an existing file; links in it are resolved first */
export async function canRun(file: string, account: Account): Promise<boolean> {
  const path = await realpath(file);
  return (
    permits(await stat(path), account, READ | ENTER) && (await canEnter(dirname(path), account))
  );
}

/**
 * The kernel's rule: one of the three classes counts, so an owner without the bit is refused where others have it.
 *
 * @param wanted a sum of 4 (read), 2 (write) and 1 (enter or run)
 */
export function permits(
  stats: Pick<Stats, 'mode' | 'uid' | 'gid'>,
  account: Pick<Account, 'uid' | 'gid'>,
  wanted: number,
): boolean {
  const shift = stats.uid === account.uid ? 6 : stats.gid === account.gid ? 3 : 0;
  return ((stats.mode >> shift) & wanted) === wanted;
}
