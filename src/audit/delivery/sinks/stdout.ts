import type { Writable } from 'node:stream';
import { withDeadline } from '../../../lib/wait.ts';
import { defineSink } from './kind.ts';
import { makeStreamOutput, openStdout } from './output.ts';
import type { Sink } from '../sink.ts';
import { cutSlices } from './slices.ts';

/** Standard output. */
export const stdout = defineSink({
  name: 'stdout',
  title: 'Standard output',
  settings: {},
  destination: () => 'stdout',
  make: () => Promise.resolve(makeStdoutSink()),
});

/**
 * A sink that prints one line an event, exactly its message. `send` resolves when the operating system has taken every line,
 * and rejects when the stream fails (EPIPE: the reader is gone) or takes no slice for `stallTimeoutMs`. A stalled slice stays
 * in the stream, since half of it may have been read, and the next `send` waits for it: so a reader that is gone for long
 * costs one slice of memory, and no line is ever cut in two.
 *
 * @param stream standard output by default; it belongs to the caller and stays open when the sink closes
 */
export function makeStdoutSink(stream?: Writable, { stallTimeoutMs = 10_000 } = {}): Sink {
  const output = stream === undefined ? openStdout() : makeStreamOutput(stream);
  const expired = `Nothing has taken the audit events from standard output for ${stallTimeoutMs} ms`;
  const closing = new AbortController();
  let leftover: Promise<unknown> = Promise.resolve();

  return {
    async send(events, caller, confirmed) {
      const signal = AbortSignal.any([caller, closing.signal]);
      await withDeadline(() => leftover, stallTimeoutMs, expired, signal);
      for (const { text, count } of cutSlices(events)) {
        const written = output.write(text);
        // The send that wrote it reports its failure; the next one only waits for its end.
        leftover = written.catch(() => undefined);
        await withDeadline(() => written, stallTimeoutMs, expired, signal);
        confirmed?.(count);
      }
    },
    close() {
      closing.abort(new Error('The stdout sink is closed'));
      void leftover.then(output.release);
      return Promise.resolve();
    },
  };
}
