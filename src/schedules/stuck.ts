import { backOff } from '../lib/backoff.ts';

const BACK_OFF = { baseMs: 1_000, capMs: 30_000 };
/** Far above the longest wait: a schedule that wasn't stuck again by then has been applied or marked. */
const FORGET_MS = 300_000;

/**
 * Schedules that could neither be applied nor be marked, and when to try each again. They are in memory, because marking them in the
 * database is what fails. Without this each run would try all of them, also while the disk is full.
 */
export function makeStuckSchedules() {
  const entries = new Map<string, { failures: number; retryAt: number }>();
  return {
    /** Those that a run leaves alone now. */
    skipped(): string[] {
      const now = performance.now();
      return [...entries].filter(([, { retryAt }]) => retryAt > now).map(([id]) => id);
    },
    /** Those that were stuck in a batch. */
    add(ids: readonly string[]): void {
      const now = performance.now();
      for (const [id, { retryAt }] of entries) if (retryAt + FORGET_MS < now) entries.delete(id);
      for (const id of ids) {
        const failures = entries.get(id)?.failures ?? 0;
        entries.set(id, { failures: failures + 1, retryAt: now + backOff(failures, BACK_OFF) });
      }
    },
  };
}

export type StuckSchedules = ReturnType<typeof makeStuckSchedules>;
