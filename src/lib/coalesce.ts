import { sleep } from './wait.ts';

/**
 * Runs `work` on request, one run at a time. For all requests that come during a run or an interval one run follows.
 *
 * @param work handles its own errors: it must not reject
 * @param intervalMs milliseconds from the start of one run to the start of the next; 0 for no limit
 */
export function coalesce(work: () => Promise<void>, intervalMs: number) {
  const closing = new AbortController();
  let requested = false;
  let running: Promise<void> | null = null;

  async function run(): Promise<void> {
    while (requested && !closing.signal.aborted) {
      requested = false;
      const nextAt = performance.now() + intervalMs;
      await work();
      const waitMs = nextAt - performance.now();
      if (waitMs > 0) await sleep(waitMs, closing.signal);
    }
    running = null;
  }

  return {
    /** Asks for a run that begins after this call: at once, or as soon as the interval allows. */
    request: (): void => {
      requested = true;
      running ??= run();
    },
    /** Starts no more runs; resolves once the one in progress has ended. */
    close: async (): Promise<void> => {
      closing.abort();
      await running;
    },
  };
}

/** Shares `work`: calls while it runs get the same promise. */
export function singleFlight<T>(work: () => Promise<T>): () => Promise<T> {
  let running: Promise<T> | null = null;
  return () => (running ??= work().finally(() => (running = null)));
}
