import type { Logger } from '../lib/log.ts';
import { logEverything } from './process_log.ts';

/** Signals closer together than this are one: a terminal signals the whole group, and npm may pass it on again. */
const SAME_SIGNAL_MS = 1_000;

/** What a service starts with. */
export interface Service {
  /** What it has started, disposed of in the opposite order at the end. */
  readonly running: AsyncDisposableStack;
  /** Raised when the end begins, or the start has failed: what is being started must then reject soon. */
  readonly signal: AbortSignal;
  /** Begins the end from within, with an exit status of 1. */
  readonly stop: (reason: string) => void;
}

/**
 * Runs a service until SIGTERM or SIGINT, which end it in order with status 0, also while it starts; a second signal ends it at
 * once with status 1. From here on stderr has only lines of the log.
 *
 * @param start resolves when all of it runs
 * @throws what `start` rejects with, once what it has started is closed
 */
export async function serve(
  log: Logger,
  start: (service: Service) => Promise<void>,
): Promise<void> {
  logEverything(log);
  const running = new AsyncDisposableStack();
  const ending = new AbortController();
  const { signal } = ending;
  const settled = Promise.withResolvers<undefined>();
  const stop = onShutdown(log, async () => {
    ending.abort(new Error('The process is stopping.'));
    await settled.promise;
    await running.disposeAsync();
  });
  try {
    await start({ running, signal, stop });
  } catch (error) {
    // What was being started fails when it is stopped: no news, and the process is about to end.
    if (signal.aborted) return;
    ending.abort(error);
    await running.disposeAsync();
    throw error;
  } finally {
    settled.resolve(undefined);
  }
}

/**
 * Ends the process in order at SIGTERM or SIGINT; at a second signal at once.
 *
 * @param close stops everything; when it rejects, the exit status is 1.
 * @returns a function that starts the same orderly end from within, with an exit status of 1.
 */
function onShutdown(log: Logger, close: () => Promise<void>): (reason: string) => void {
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

  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    const earlier = process.listeners(signal);
    // In place of main.ts's own, and before they go: a signal that has come already would be lost between two handlers.
    process.on(signal, () => begin(signal, 0));
    for (const listener of earlier) process.off(signal, listener);
  }
  return (reason) => begin(reason, 1);
}
