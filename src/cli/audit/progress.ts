import type { WriteStream } from 'node:tty';

/** How often a long run shows how far it is: less often where lines can't be rewritten. */
const TTY_EVERY_MS = 200;
const LINE_EVERY_MS = 5_000;

/** Progress for a person: one line that is rewritten on a terminal, else a line every few seconds, and none of a short run. */
export function makeProgress(stream: Pick<WriteStream, 'isTTY' | 'write'>) {
  const every = stream.isTTY ? TTY_EVERY_MS : LINE_EVERY_MS;
  let last = Date.now();
  let shown = false;
  return {
    show: (text: string): void => {
      const now = Date.now();
      if (now - last < every) return;
      last = now;
      shown = true;
      stream.write(stream.isTTY ? `\r\u001b[K${text}` : `${text}\n`);
    },
    /** Takes the line away that a terminal shows. */
    end(): void {
      if (shown && stream.isTTY) stream.write('\r\u001b[K');
    },
  };
}

/** Runs work that shows its progress on stderr. */
export async function withProgress<T>(
  work: (show: (text: string) => void) => Promise<T>,
): Promise<T> {
  const progress = makeProgress(process.stderr);
  try {
    return await work(progress.show);
  } finally {
    progress.end();
  }
}
