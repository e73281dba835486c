import type { Logger } from './log.ts';

const EVERY_MS = 60_000;

/**
 * Counts what any client can make happen as often as it likes, and keeps the log short: a warning for the first, and then one a minute
 * that says how many more there were, as `count`.
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

  /** Writes a line, and the next one in a minute if there are more by then. */
  function sayAndWait(): void {
    timer = null;
    if (total === said) return;
    say();
    timer = setTimeout(sayAndWait, EVERY_MS).unref();
  }

  return {
    add(): void {
      total += 1;
      if (timer === null) sayAndWait();
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
