/**
 * Runs `work` on request: one run at a time, and at most one in `intervalMs`. However many requests come during a run or an
 * interval, one run follows for all of them.
 *
 * @param work handles its own errors: it must not reject
 * @param intervalMs milliseconds from the start of one run to the start of the next; 0 for no limit
 */
export function coalesce(work: () => Promise<void>, intervalMs: number) {
  let requested = false;
  let closed = false;
  let timer: NodeJS.Timeout | null = null;
  let running: Promise<void> | null = null;
  let startedAt = Number.NEGATIVE_INFINITY;

  function start(): void {
    if (!requested || closed || running !== null || timer !== null) return;
    const waitMs = startedAt + intervalMs - performance.now();
    if (waitMs > 0) {
      timer = setTimeout(() => {
        timer = null;
        start();
      }, waitMs);
      return;
    }
    requested = false;
    startedAt = performance.now();
    running = work().finally(() => {
      running = null;
      start();
    });
  }

  return {
    /** Asks for a run that begins after this call: at once, or as soon as the interval allows. */
    request(): void {
      requested = true;
      start();
    },
    /** Starts no more runs; resolves once the one in progress has ended. */
    async close(): Promise<void> {
      closed = true;
      if (timer !== null) clearTimeout(timer);
      await running;
    },
  };
}
