import type { Range } from '../timeline/range.ts';
import { DAY, HOUR } from '../time/zone.ts';

const QUARTER = 15 * 60_000;
/** Around the two instants. */
const PAD = 3 * HOUR;
const PARTS = 24;
/** The server takes 400 days, and steps round it up. */
const LONGEST = 360 * DAY;

/**
 * The span that the scale shows: now, the chosen instant, and a little around both. It moves in steps, so that a page asks again some times
 * an hour and not each second. Where they are too far from each other it is around the chosen instant.
 */
export function windowOf(now: number, at: number): Range {
  const low = Math.min(now, at);
  const high = Math.max(now, at);
  const pad = Math.max(PAD, (high - low) * 0.12);
  const isFar = high - low + 2 * pad > LONGEST;
  const from = isFar ? at - 7 * DAY : low - pad;
  const to = isFar ? at + 7 * DAY : high + pad;
  const step = Math.max(QUARTER, Math.ceil((to - from) / PARTS / QUARTER) * QUARTER);
  return { from: Math.floor(from / step) * step, to: Math.ceil(to / step) * step };
}
