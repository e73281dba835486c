import { closeSync, fstatSync, fsync, fsyncSync, openSync, readSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { ConfigError } from '../../../config/error.ts';
import { isErrno } from '../../../lib/errno.ts';
import { openOwnForAppending, UntrustedPathError } from '../../../lib/own_files.ts';
import type { Sink } from '../sink.ts';
import { readFileTail } from './file_tail.ts';
import { defineSink } from './kind.ts';
import { makeFileOutput } from './output.ts';
import { cutSlices } from './slices.ts';

/** Only for its owner: events name people. */
const MODE = 0o600;
const NEWLINE = 0x0a;
const sync = promisify(fsync);

/** The copy of the trail in a data folder. */
export const trailFile = (dataDir: string): string => join(dataDir, 'trail.log');

/** The file in the data folder, by which the embedded server delivers. A cursor's name hasn't its folder, which may be moved. */
export const file = defineSink({
  name: 'file',
  title: 'The file',
  settings: {},
  isInDataDir: true,
  destination: ({ dataDir }) => `file:${basename(trailFile(dataDir))}`,
  make: ({ dataDir }) => new Promise((resolve) => resolve(makeFileSink(trailFile(dataDir)))),
});

/**
 * A sink that appends one line an event to a file, exactly its message. `send` resolves when all lines are on disk. What a crash
 * or a full disk cuts short is ended as a line of its own, which is no event, and the events are sent again.
 *
 * The file is opened for each send, so that one that was moved away or removed meanwhile is made again.
 *
 * @param file its folder must be the user's own, and exist
 * @throws UntrustedPathError when the file is a link, or others may have written to it; ConfigError when it can't be written to
 */
export function makeFileSink(file: string): Sink {
  checkFile(file);
  return {
    async send(events, signal) {
      const { fd, torn } = openFile(file);
      try {
        const output = makeFileOutput(fd, { name: file, torn });
        for (const { text } of cutSlices(events)) {
          signal.throwIfAborted();
          await output.write(text);
        }
        await sync(fd);
      } finally {
        closeSync(fd);
      }
    },
    readTail: (trail, signal) => readFileTail(file, trail, signal),
    close: () => Promise.resolve(),
  };
}

/** At start, and not at the first event, which may be hours later. */
function checkFile(file: string): void {
  try {
    closeSync(openFile(file).fd);
  } catch (error) {
    if (error instanceof UntrustedPathError || !isErrno(error)) throw error;
    throw new ConfigError([
      `Make room for ${file}, and let this user write to it: it can't be opened (${error.code}).`,
    ]);
  }
}

function openFile(file: string): { fd: number; torn: boolean } {
  const fd = openOwnForAppending(file, MODE);
  try {
    const { size } = fstatSync(fd);
    // A new file's name must outlive a crash as well.
    if (size === 0) syncFolder(dirname(file));
    const last = Buffer.alloc(1);
    const torn = size > 0 && readSync(fd, last, 0, 1, size - 1) === 1 && last[0] !== NEWLINE;
    return { fd, torn };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function syncFolder(folder: string): void {
  const fd = openSync(folder, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
