import type { WriteStream } from 'node:tty';

/** How often a long run says how far it is: where nobody rewrites lines, more seldom. */
const TTY_EVERY_MS = 200;
const LINE_EVERY_MS = 5_000;

/** Tells on a stream how far a long run is. */
export interface Progress {
  tell(text: string): void;
  /** Takes the line away that a terminal shows. */
  end(): void;
}

/**
 * Progress for a person: one line that is rewritten on a terminal, else a line every few seconds, and none of a short run.
 *
 * @param now milliseconds, for tests
 */
export function makeProgress(
  stream: Pick<WriteStream, 'isTTY' | 'write'>,
  now: () => number = Date.now,
): Progress {
  const every = stream.isTTY ? TTY_EVERY_MS : LINE_EVERY_MS;
  let last = now();
  let shown = false;
  return {
    tell(text) {
      if (now() - last < every) return;
      last = now();
      shown = true;
      stream.write(stream.isTTY ? `\r\u001b[K${text}` : `${text}\n`);
    },
    end() {
      if (shown && stream.isTTY) stream.write('\r\u001b[K');
    },
  };
}
