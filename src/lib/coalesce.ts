/** Work that many hints ask for and that is done once for all of them. */
export interface Paced {
  /** Asks for a run that begins after this call: now, or as soon as the pace allows. */
  readonly request: () => void;
  /** Ends it, once the run in hand is over. */
  readonly close: () => Promise<void>;
}

/**
 * Runs `work` on request: at once when it rests, one run at a time, and at most one in `intervalMs`. However many
 * requests come meanwhile, one run follows for them all.
 *
 * @param work handles its own errors: it must not reject
 */
export function makePaced(work: () => Promise<void>, intervalMs: number): Paced {
  let requested = false;
  let closed = false;
  let timer: NodeJS.Timeout | null = null;
  let running: Promise<void> | null = null;
  let lastBegan = Number.NEGATIVE_INFINITY;

  function begin(): void {
    if (!requested || closed || running !== null || timer !== null) return;
    const restMs = lastBegan + intervalMs - performance.now();
    if (restMs > 0) {
      timer = setTimeout(() => {
        timer = null;
        begin();
      }, restMs);
      return;
    }
    requested = false;
    lastBegan = performance.now();
    running = work().finally(() => {
      running = null;
      begin();
    });
  }

  return {
    request() {
      requested = true;
      begin();
    },
    async close() {
      closed = true;
      if (timer !== null) clearTimeout(timer);
      await running;
    },
  };
}
