import type { Logger } from './log.ts';

/** An outage that goes on is in the log this often, in milliseconds. */
const REPEAT_MS = 60_000;

/** The outages of one part, as the log shows them. */
export type Outage = ReturnType<typeof makeOutage>;

/**
 * Keeps the log readable in an outage, in which the same thing fails again and again: a warning when it begins, one a minute
 * while it lasts, and one line when it is over. The failures between are there at debug level.
 *
 * @param says.failing what the warnings say
 * @param says.back what the last line says; it has the outage's length as `afterSeconds`
 * @param details in each line
 * @param limits.everyMs milliseconds from one warning of an outage to the next
 * @param limits.calmMs milliseconds without a failure after which it is over, for what now works and now doesn't; 0 by default
 */
export function makeOutage(
  log: Logger,
  says: { readonly failing: string; readonly back: string },
  details: object = {},
  { everyMs = REPEAT_MS, calmMs = 0 } = {},
) {
  let since: number | null = null;
  let calm: NodeJS.Timeout | null = null;
  let saidAt = 0;
  let saidKind = '';

  return {
    /** Whether the last that was heard is a failure. */
    active: () => since !== null,
    /**
     * Notes a failure.
     *
     * @param more in this line only
     * @param kind another kind of failure than the one before gets a warning of its own
     * @param level of the lines that aren't left out
     */
    failed(error: unknown, more: object = {}, kind = '', level: 'warn' | 'error' = 'warn'): void {
      if (calm !== null) clearTimeout(calm);
      calm = null;
      const now = performance.now();
      const isDue = since === null || kind !== saidKind || now - saidAt >= everyMs;
      const lasting = since === null ? {} : { forSeconds: seconds(now - since) };
      since ??= now;
      if (isDue) {
        saidAt = now;
        saidKind = kind;
      }
      log[isDue ? level : 'debug']({ ...details, ...more, ...lasting, err: error }, says.failing);
    },
    /** Notes that it works. Says so if it did not before. */
    back(): void {
      if (since === null || calm !== null) return;
      const afterSeconds = seconds(performance.now() - since);
      const end = () => {
        since = null;
        calm = null;
        log.info({ ...details, afterSeconds }, says.back);
      };
      if (calmMs === 0) end();
      else calm = setTimeout(end, calmMs).unref();
    },
  };
}

function seconds(ms: number): number {
  return Math.round(ms / 100) / 10;
}
