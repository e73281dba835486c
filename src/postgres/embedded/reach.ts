import type { Stats } from 'node:fs';
import { realpath, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Account } from './account.ts';

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
