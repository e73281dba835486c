import { closeSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { EmbeddedPostgresError } from './error.ts';
import { isErrno } from '../../lib/errno.ts';
import {
  openForAppending,
  readOwnFile,
  replaceFile,
  UntrustedPathError,
} from '../../lib/own_files.ts';

const SQLITE_BUSY = 5;

/** Keeps the handles alive: a garbage-collected one would give up its lock. */
const held = new Set<DatabaseSync>();

/**
 * Takes the lock of a data folder, the right to be the only Halyard on it, at once or not at all.
 *
 * It is a lock of the kernel's, through SQLite (Node has no flock), so it ends with the process however that dies. A file with
 * a process id would outlive kill -9, and ids are used again.
 *
 * @returns gives the lock back; may be called twice
 * @throws EmbeddedPostgresError DATA_DIR_IN_USE (names the process), DATA_DIR_UNUSABLE; UntrustedPathError
 */
export function takeLock(dataDir: string): () => void {
  const file = join(dataDir, 'halyard.lock');
  const pidFile = join(dataDir, 'halyard.pid');
  makeLockFile(file, dataDir);
  const database = new DatabaseSync(file, { timeout: 0 });
  try {
    database.exec('pragma journal_mode = memory; begin exclusive');
  } catch (error) {
    database.close();
    throw explain(error, dataDir, pidFile);
  }
  held.add(database);
  const unlock = () => {
    if (held.delete(database)) database.close();
  };
  try {
    replaceFile(pidFile, `${process.pid}\n`, 0o644);
  } catch (error) {
    // The disk may be full. The next try in this process must find the folder free.
    unlock();
    throw error;
  }
  return unlock;
}

/** SQLite would make the file itself, but says less when it may not. */
function makeLockFile(file: string, dataDir: string): void {
  try {
    closeSync(openForAppending(file, 0o600));
  } catch (error) {
    if (error instanceof UntrustedPathError) throw error;
    throw new EmbeddedPostgresError(
      'DATA_DIR_UNUSABLE',
      `${dataDir} can't be written to (${isErrno(error) ? error.code : 'unknown reason'}); another user may have ` +
        'made it. Start Halyard as that user, or give it another folder with HALYARD_DATA_DIR.',
      { cause: error },
    );
  }
}

function explain(error: unknown, dataDir: string, pidFile: string): EmbeddedPostgresError {
  const busy = error instanceof Error && 'errcode' in error && error.errcode === SQLITE_BUSY;
  if (!busy) {
    const message = `${dataDir}/halyard.lock can't be locked. Remove the file, or set HALYARD_DATA_DIR to a folder on a local disk.`;
    return new EmbeddedPostgresError('DATA_DIR_UNUSABLE', message, { cause: error });
  }
  return new EmbeddedPostgresError(
    'DATA_DIR_IN_USE',
    `Halyard already runs on ${dataDir}, in process ${readOwnFile(pidFile)?.trim() ?? 'unknown'}. ` +
      'Stop that one, or give this one a folder of its own with HALYARD_DATA_DIR.',
  );
}
