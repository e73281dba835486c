import type { Logger } from './log.ts';

const EVERY_MS = 60_000;

/** Counts what anyone can make happen as often as they like, and keeps the log short. */
export type Tally = ReturnType<typeof makeTally>;

/**
 * Counts, with a warning for the first and then one a minute that says how many more there were, as `count`.
 *
 * @param message what each line says
 * @param details in each line
 */
export function makeTally(log: Logger, message: string, details: object = {}) {
  let total = 0;
  let said = 0;
  let timer: NodeJS.Timeout | null = null;

  function say(): void {
    const count = total - said;
    said = total;
    log.warn({ ...details, count }, message);
  }

  function wait(): void {
    timer = setTimeout(() => {
      timer = null;
      if (total === said) return;
      say();
      wait();
    }, EVERY_MS).unref();
  }

  return {
    add(): void {
      total += 1;
      if (timer !== null) return;
      say();
      wait();
    },
    /** How many there were since the start. */
    get total() {
      return total;
    },
    /** Says what was counted since the last line. */
    close(): void {
      if (timer !== null) clearTimeout(timer);
      if (total > said) say();
    },
  };
}
