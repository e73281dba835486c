import type { Range } from './range.ts';

/** The place of an instant on the axis, as a percentage of its width: the chart needs no measuring to be drawn. */
export const percent = (at: number, { from, to }: Range): number =>
  ((at - from) / (to - from)) * 100;

/** As `41.7%`. */
export const x = (at: number, range: Range): string => `${percent(at, range).toFixed(3)}%`;

const TOP = 10;
const BASELINE = 6;

/**
 * The height of a band: 6 px as soon as the flag is on for anyone, the rest in proportion.
 *
 * @param share of users, 0 to 100
 * @param height of the row in pixels
 */
export function bandHeight(share: number, height: number): number {
  if (share <= 0) return 0;
  const most = height - BASELINE - TOP - 4;
  return Math.round(6 + ((most - 6) * share) / 100);
}

export const baseline = (height: number): number => height - BASELINE;

/** Where a mark stands: on the band of the state that it makes. */
export const markTop = (share: number, height: number): number => {
  const band = bandHeight(share, height);
  return Math.max(baseline(height) - (band === 0 ? 8 : band), 15);
};
