import { constants } from 'node:fs';
import { lstat, open, rename, rm, type FileHandle } from 'node:fs/promises';
import { UsageError } from './exit_with.ts';

/** Creates the file itself: opens neither what a link leads to nor another user's file. */
const NEW = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;

/**
 * Checks the name that `--out` gives.
 *
 * @param force whether a file that is there may be replaced
 * @throws UsageError when it is the name of something else than a file, or of a file that may not be replaced
 */
export async function assertWritable(out: string, force: boolean): Promise<void> {
  const there = await lstat(out).catch(() => null);
  if (there === null) return;
  // Not even by force: for root the name of a device would then be that of the export.
  if (there.isSymbolicLink())
    throw new UsageError(`${out} is a link: give --out the name of a file.`);
  if (!there.isFile()) throw new UsageError(`${out} is no file: give --out the name of one.`);
  if (!force) throw new UsageError(`${out} is there already: give --force to replace it.`);
}

/**
 * Writes a file under another name until it is whole. Only its owner may read it, as it holds names.
 *
 * @param write closes the file, or leaves that to this
 * @throws what `write` throws, and the system's errors; nothing is left then
 */
export async function writeWhole(
  out: string,
  write: (file: FileHandle) => Promise<void>,
): Promise<void> {
  const partial = `${out}.partial`;
  // A killed run may have left it; of a link this removes the link.
  await rm(partial, { force: true });
  const file = await open(partial, NEW, 0o600);
  try {
    await write(file);
    await file.close();
    await rename(partial, out);
  } catch (error) {
    await file.close().catch(() => undefined);
    await rm(partial, { force: true });
    throw error;
  }
}
