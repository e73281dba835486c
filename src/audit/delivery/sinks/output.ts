import { fstatSync, write } from 'node:fs';
import type { Writable } from 'node:stream';
import { promisify } from 'node:util';

/** Where lines go. */
export interface Output {
  /** Resolves once the operating system has taken all of the text. One at a time. @throws Error with its error as the cause */
  readonly write: (text: string) => Promise<void>;
  /** Takes away what it has hung on a stream, once nothing of it is under way. */
  readonly release: () => void;
}

const STDOUT = 1;
const STDOUT_NAME = 'Standard output';
const NEWLINE = 0x0a;
const writeBytes = promisify(write);

/** Standard output. Behind a pipe or terminal it is Node's own stream, which doesn't block a process that no one reads. */
export function openStdout(): Output {
  return fstatSync(STDOUT).isFile() ? makeFileOutput(STDOUT) : makeStreamOutput(process.stdout);
}

/**
 * A file. Node's own stream takes a short write (a disk filling up) for success, and none of its streams works again
 * after an error; this does as soon as there is room. A line that was cut short by the failure is ended first.
 *
 * @param options.name what it is, for errors; standard output by default
 * @param options.torn whether the file ends in the middle of a line
 */
export function makeFileOutput(fd: number, { name = STDOUT_NAME, torn = false } = {}): Output {
  return {
    async write(text) {
      const bytes = Buffer.from(torn ? `\n${text}` : text);
      let taken = 0;
      try {
        while (taken < bytes.length)
          taken += (await writeBytes(fd, bytes, taken, bytes.length - taken)).bytesWritten;
        torn = false;
      } catch (error) {
        if (taken > 0) torn = bytes[taken - 1] !== NEWLINE;
        throw refused(name, error);
      }
    },
    release: () => undefined,
  };
}

/** A stream that belongs to the caller, and stays open. */
export function makeStreamOutput(stream: Writable): Output {
  // Each failure reaches its write's callback. The event repeats it, and without a listener EPIPE would end the process.
  const heard = () => undefined;
  stream.on('error', heard);
  return {
    write: (text) =>
      new Promise((resolve, reject) => {
        stream.write(text, (error) => {
          if (error) reject(refused(STDOUT_NAME, error));
          else resolve();
        });
      }),
    // A failure's event comes a tick after its callback.
    release: () => void setImmediate(() => stream.off('error', heard)),
  };
}

function refused(name: string, cause: unknown): Error {
  return new Error(`${name} does not take the audit events`, { cause });
}
