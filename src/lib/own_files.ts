import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readFileSync,
  realpathSync,
  writeFileSync,
} from 'node:fs';
import { resolve } from 'node:path';
import { isErrno } from './errno.ts';
import { ExplainedError } from './explained.ts';

/** A file or folder that another user may have put there or changed. The message is a sentence for the person who named it. */
export class UntrustedPathError extends ExplainedError {
  override readonly name = 'UntrustedPathError';
  readonly code = 'UNTRUSTED_PATH';
}

const { O_WRONLY, O_RDWR, O_RDONLY, O_APPEND, O_TRUNC, O_CREAT, O_NOFOLLOW, O_NONBLOCK } =
  constants;
const APPEND = O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW;
const REPLACE = O_WRONLY | O_TRUNC | O_CREAT | O_NOFOLLOW;
// A pipe in the file's place must not make the reader wait for a writer, nor the writer for a reader.
const READ_AND_APPEND = O_RDWR | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK;
const READ = O_RDONLY | O_NOFOLLOW | O_NONBLOCK;

/** Write permission, as in a mode. */
const OTHERS_WRITE = 0o002;
const GROUP_OR_OTHERS_WRITE = 0o022;

/**
 * Makes sure that no other user can have put files into a folder. A folder of the user's own that a group may write to is
 * trusted unless the user is root: where the umask is 002 each user has a group of its own.
 *
 * @param name an existing folder, or a link to one
 * @returns its real path
 * @throws UntrustedPathError when the folder, or the link, is another user's, or others may write to it
 */
export function requireOwnFolder(name: string): string {
  // A slash at the end would lead through it.
  const link = lstatSync(resolve(name));
  if (link.isSymbolicLink() && !isTrusted(link.uid))
    throw untrusted(name, `it is a link of user ${link.uid}`);
  const folder = realpathSync(name);
  const { uid, mode } = lstatSync(folder);
  if (!isTrusted(uid))
    throw new UntrustedPathError(
      `${folder} belongs to user ${uid}, and what is in it decides who may do what: start Halyard as that user, or set HALYARD_DATA_DIR to a folder of your own.`,
    );
  if ((mode & (currentUid() === 0 ? GROUP_OR_OTHERS_WRITE : OTHERS_WRITE)) !== 0)
    throw new UntrustedPathError(
      `Other users may write to ${folder}, and what is in it decides who may do what: make sure that all of it is yours and run chmod go-w on it, or set HALYARD_DATA_DIR to a folder of your own.`,
    );
  return folder;
}

/**
 * Reads a file that only the user, or root, can have written.
 *
 * @returns null when there is none
 * @throws UntrustedPathError when it is a link, no file, another user's, or others may write to it; the system's other errors
 */
export function readOwnFile(file: string): string | null {
  const fd = openOwnForReading(file);
  if (fd === null) return null;
  try {
    return readFileSync(fd, 'utf8');
  } finally {
    closeSync(fd);
  }
}

/**
 * Opens a file for appending that only the user, or root, can have written; it is made where there is none.
 *
 * @param mode of a file that is made
 * @returns the descriptor, by which it can be read as well
 * @throws UntrustedPathError as readOwnFile; the system's other errors
 */
export function openOwnForAppending(file: string, mode: number): number {
  return requireOwn(file, open(file, READ_AND_APPEND, mode));
}

/**
 * Opens a file for reading that only the user, or root, can have written.
 *
 * @returns the descriptor; null when there is none
 * @throws UntrustedPathError as readOwnFile; the system's other errors
 */
export function openOwnForReading(file: string): number | null {
  try {
    return requireOwn(file, open(file, READ));
  } catch (error) {
    if (isErrno(error) && error.code === 'ENOENT') return null;
    throw error;
  }
}

/**
 * Opens a file for appending, and never what a link in its place leads to.
 *
 * @param mode of a file that is made
 * @returns the descriptor
 * @throws UntrustedPathError when it is a link; the system's other errors
 */
export function openForAppending(file: string, mode: number): number {
  return open(file, APPEND, mode);
}

/** Writes a text in place of what a file holds, as openForAppending opens one. */
export function replaceFile(file: string, text: string, mode: number): void {
  const fd = open(file, REPLACE, mode);
  try {
    writeFileSync(fd, text);
  } finally {
    closeSync(fd);
  }
}

function open(file: string, flags: number, mode?: number): number {
  try {
    return openSync(file, flags, mode);
  } catch (error) {
    throw isLink(error) ? untrusted(file, 'it is a link') : error;
  }
}

function requireOwn(file: string, fd: number): number {
  const stats = fstatSync(fd);
  const problem = !stats.isFile()
    ? 'it is no file'
    : !isTrusted(stats.uid)
      ? `it belongs to user ${stats.uid}`
      : (stats.mode & GROUP_OR_OTHERS_WRITE) !== 0
        ? 'other users may write to it'
        : null;
  if (problem === null) return fd;
  closeSync(fd);
  throw untrusted(file, problem);
}

/** O_NOFOLLOW fails with ELOOP; on FreeBSD it is EMLINK. */
function isLink(error: unknown): boolean {
  return isErrno(error) && (error.code === 'ELOOP' || error.code === 'EMLINK');
}

function untrusted(file: string, problem: string): UntrustedPathError {
  return new UntrustedPathError(
    `${file} can't be trusted: ${problem}. Make sure that it is yours and holds what you put there, or remove it.`,
  );
}

function isTrusted(uid: number): boolean {
  return uid === 0 || uid === currentUid();
}

function currentUid(): number {
  // Undefined on Windows only, which has no embedded server and no such owners.
  return process.getuid?.() ?? 0;
}
