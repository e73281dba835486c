import { createWriteStream, fstatSync } from 'node:fs';
import type { Writable } from 'node:stream';
import { pino } from 'pino';
import { withDeadline } from '../deadline.ts';
import type { AuditEvent, Sink } from './sink.ts';

export interface StdoutSinkOptions {
  /** Milliseconds without a slice being taken before `send` gives up; default 10,000. */
  readonly stallTimeoutMs?: number;
}

/**
 * Characters handed to the stream at a time, about what a pipe holds: progress and a stall show
 * after each slice.
 */
const SLICE_LENGTH = 65_536;

/**
 * A sink that prints one line an event, exactly its message, for whatever collects the process's
 * output.
 *
 * `send` resolves when the operating system has taken every line. It rejects when the stream fails
 * (EPIPE: the reader is gone) and when nobody reads for `stallTimeoutMs`. A stalled slice can't be
 * taken back, since half of it may have been read; it stays in the stream, and the next `send`
 * waits for it before it writes. So a reader that is gone for long costs one slice of memory, and
 * no line is ever cut in two.
 *
 * @param stream stays open when the sink closes, for it belongs to the caller
 */
export function makeStdoutSink(
  stream: Writable = ownStdout(),
  options: StdoutSinkOptions = {},
): Sink {
  const { stallTimeoutMs = 10_000 } = options;
  const expired = `Nothing has taken the audit events from standard output for ${stallTimeoutMs} ms`;
  const closing = new AbortController();
  const toLine = makeLineRenderer();
  let leftover: Promise<unknown> = Promise.resolve();

  // Each failure reaches its write's callback, and through it `send`. The event repeats it, and
  // without a listener EPIPE would end the process.
  const heard = () => undefined;
  stream.on('error', heard);

  return {
    async send(events, caller) {
      const signal = AbortSignal.any([caller, closing.signal]);
      await withDeadline(() => leftover, signal, stallTimeoutMs, expired);
      const ordered = events.toSorted((a, b) => a.seq - b.seq);
      for (const slice of cutSlices(ordered, toLine)) {
        const written = write(stream, slice);
        // The send that wrote it reports its failure; to the next one it only matters that it is
        // over.
        leftover = written.catch(() => undefined);
        await withDeadline(() => written, signal, stallTimeoutMs, expired);
      }
    },
    close() {
      closing.abort(new Error('The stdout sink is closed'));
      // A failure's event comes a tick after its callback.
      void leftover.then(() => setImmediate(() => stream.off('error', heard)));
      return Promise.resolve();
    },
  };
}

/**
 * Standard output. Behind a pipe or terminal that is Node's own stream, which doesn't hold up the
 * process when nobody reads. For a file Node writes once and takes a short write (a disk filling
 * up) for success, so a file gets a stream that writes on; after an error that one stays failed
 * until the process is restarted.
 */
function ownStdout(): Writable {
  return fstatSync(1).isFile()
    ? createWriteStream('', { fd: 1, autoClose: false })
    : process.stdout;
}

/**
 * Renders lines with a pino of their own, whatever the level and fields of the process's log. pino
 * can only print JSON that it made itself, so the hook takes the ready text out again; the round
 * trip through a JSON string gives back the same text.
 */
function makeLineRenderer(): (event: AuditEvent) => string {
  let line = '';
  const printer = pino(
    { level: 'info', base: null, timestamp: false, hooks: { streamWrite: messageOf } },
    { write: (text) => (line = text) },
  );
  return ({ message }) => {
    printer.info({ message });
    return line;
  };
}

function messageOf(rendered: string): string {
  const { message } = JSON.parse(rendered) as { message: string };
  return `${message}\n`;
}

function* cutSlices(
  events: readonly AuditEvent[],
  toLine: (event: AuditEvent) => string,
): Generator<string> {
  let slice = '';
  for (const event of events) {
    slice += toLine(event);
    if (slice.length >= SLICE_LENGTH) {
      yield slice;
      slice = '';
    }
  }
  if (slice !== '') yield slice;
}

function write(stream: Writable, text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.write(text, (error) => {
      if (error)
        reject(new Error('Standard output does not take the audit events', { cause: error }));
      else resolve();
    });
  });
}
