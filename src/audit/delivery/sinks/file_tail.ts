import { closeSync, fstatSync, read } from 'node:fs';
import { promisify } from 'node:util';
import { openOwnForReading } from '../../../lib/own_files.ts';
import { messagesOf } from '../../verification/copy.ts';
import { joinEnds, readEnd, type StoredRecord, type Tail } from '../tail.ts';

/** Read at a time, from the end backwards. At most 1,000 events lie between two seals, about a megabyte. */
const CHUNK_BYTES = 1_048_576;
/** The most that is read. */
const MAX_BYTES = 8 * CHUNK_BYTES;
const NEWLINE = 0x0a;
const readBytes = promisify(read);

/**
 * What a file holds of a trail at its end, so far back as a seal of the trail. A file that isn't there holds nothing.
 *
 * @param trail the trail's id
 * @throws UntrustedPathError; the system's errors; the signal's reason
 */
export async function readFileTail(
  file: string,
  trail: string,
  signal: AbortSignal,
): Promise<Tail> {
  const fd = openOwnForReading(file);
  if (fd === null) return joinEnds(trail, []);
  try {
    const { size } = fstatSync(fd);
    let bytes = Buffer.alloc(0);
    for (;;) {
      const start = Math.max(0, size - bytes.length - CHUNK_BYTES);
      const chunk = Buffer.alloc(size - bytes.length - start);
      const { bytesRead } = await readBytes(fd, chunk, 0, chunk.length, start);
      signal.throwIfAborted();
      bytes = Buffer.concat([chunk.subarray(0, bytesRead), bytes]);
      const end = readEnd(recordsIn(bytes, start === 0), trail);
      if (start === 0 || end.seals.length > 0) return joinEnds(trail, [end]);
      if (bytes.length >= MAX_BYTES)
        return {
          ...joinEnds(trail, [end]),
          unsure: `The end of ${file} holds no seal of this trail.`,
        };
    }
  } finally {
    closeSync(fd);
  }
}

/** The records in the lines of a part of a file; a first line that begins before it is passed over. */
function recordsIn(bytes: Buffer, isWhole: boolean): StoredRecord[] {
  const lines = (isWhole ? bytes : bytes.subarray(bytes.indexOf(NEWLINE) + 1)).toString();
  // Events have a time of their own.
  return lines
    .split('\n')
    .flatMap(messagesOf)
    .map((message) => ({ message, storedAt: Number.NaN }));
}
