import { closeSync } from 'node:fs';
import { open, rename } from 'node:fs/promises';
import { ifExists } from '../../lib/errno.ts';
import { openForAppending } from '../../lib/own_files.ts';

const TAIL_BYTES = 4096;
const TAIL_LINES = 25;

/** Begins a new log, and keeps the one before as `<file>.1`: two starts at most, so that it doesn't grow without end. */
export async function rotateLog(file: string): Promise<void> {
  await ifExists(rename(file, `${file}.1`));
  // Only for its owner: with an error the server logs the statement, values included.
  closeSync(openForAppending(file, 0o600));
}

/** The log's last lines, for the message of an error. */
export async function tail(file: string): Promise<string> {
  await using handle = await open(file, 'r');
  const { size } = await handle.stat();
  const start = Math.max(0, size - TAIL_BYTES);
  const { buffer, bytesRead } = await handle.read(Buffer.alloc(TAIL_BYTES), 0, TAIL_BYTES, start);
  const lines = buffer.toString('utf8', 0, bytesRead).trimEnd().split('\n');
  return lines.slice(-TAIL_LINES).join('\n');
}

/**
 * What a program of PostgreSQL says that it failed for, in one line; null where it says nothing of the kind.
 *
 * @param text the end of its log
 */
export function failureIn(text: string): string | null {
  const line = text.split('\n').find((one) => /(?:FATAL|PANIC|error): /.test(one));
  return line?.replace(/^.*?(?:FATAL|PANIC|error): +/, '') ?? null;
}
