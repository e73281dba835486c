import { expect } from 'vitest';
import type { Load } from '../support/chaos/load.ts';

/** The longest time in which no change succeeded. */
export interface Outage {
  /** The last success before and the first behind it, in milliseconds since 1970. */
  readonly from: number;
  readonly to: number;
}

const SAMPLE_MS = 10;
/** Shorter than that is no outage: under load every machine pauses. */
const SHORTEST_MS = 500;
/** So many changes show that it is over. */
const ENOUGH = 50;
const DEADLINE_MS = 90_000;

/** Waits until that many more changes have succeeded. */
export async function promiseMore(load: Load, count: number): Promise<void> {
  const enough = load.promised() + count;
  await expect
    .poll(() => load.promised(), { timeout: DEADLINE_MS, interval: 20 })
    .toBeGreaterThan(enough);
}

/**
 * Does something under load, and measures for how long it keeps changes from succeeding. Resolves when they succeed again.
 */
export async function measureOutage(
  load: Load,
  fault: () => void | Promise<void>,
): Promise<Outage> {
  let last = { at: Date.now(), promised: load.promised() };
  let longest: Outage = { from: last.at, to: last.at };
  let since = 0;
  const sample = () => {
    const [at, promised] = [Date.now(), load.promised()];
    if (promised === last.promised) return;
    if (at - last.at > longest.to - longest.from) {
      longest = { from: last.at, to: at };
      since = promised;
    }
    last = { at, promised };
  };
  const sampling = setInterval(sample, SAMPLE_MS);
  try {
    await fault();
    const isOver = () => longest.to - longest.from > SHORTEST_MS && last.promised - since > ENOUGH;
    await expect.poll(isOver, { timeout: DEADLINE_MS, interval: 50 }).toBe(true);
    return longest;
  } finally {
    clearInterval(sampling);
  }
}
