import type { Logger } from '../lib/log.ts';

/** Signals closer together than this are one: a terminal signals the whole group, and npm may pass it on again. */
const SAME_SIGNAL_MS = 1_000;

/**
 * Ends the process in order at SIGTERM or SIGINT; at a second signal at once.
 *
 * @param close stops everything; when it rejects, the exit status is 1.
 * @returns a function that starts the same orderly end from within, with an exit status of 1.
 */
export function onShutdown(log: Logger, close: () => Promise<void>): (reason: string) => void {
  let begunAt: number | null = null;

  function begin(reason: string, status: number): void {
    if (begunAt !== null) {
      if (performance.now() - begunAt < SAME_SIGNAL_MS) return;
      log.warn({ reason }, 'stopping at once');
      process.exit(1);
    }
    begunAt = performance.now();
    log.info({ reason }, 'stopping');
    close().then(
      () => process.exit(status),
      (error: unknown) => {
        log.error({ err: error }, 'stopping in order failed');
        process.exit(1);
      },
    );
  }

  process.on('SIGTERM', () => begin('SIGTERM', 0));
  process.on('SIGINT', () => begin('SIGINT', 0));
  return (reason) => begin(reason, 1);
}
