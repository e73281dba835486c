import { DAY, HOUR, instantOf, wallAt } from './zone.ts';

const MINUTE = 60_000;
/** Steps between ticks: what divides a day, then days. */
const STEPS = [
  ...[1, 2, 5, 10, 15, 30].map((n) => n * MINUTE),
  ...[1, 2, 3, 6, 12].map((n) => n * HOUR),
  ...[1, 2, 7, 14, 28, 56].map((n) => n * DAY),
];

export interface Tick {
  readonly at: number;
  /** Midnight of the zone. */
  readonly isDay: boolean;
}

/**
 * The ticks of a time axis, at round times of the zone's clocks: an axis of Kathmandu has 09:00 and not 09:15.
 *
 * @param from milliseconds since 1970
 * @param to as `from`, behind it
 * @param most ticks at most, about
 */
export function ticksBetween(from: number, to: number, zone: string, most: number): Tick[] {
  const step = STEPS.find((one) => (to - from) / one <= most) ?? 112 * DAY;
  const ticks: Tick[] = [];
  const last = wallAt(to, zone).getTime();
  for (
    let wall = Math.ceil(wallAt(from, zone).getTime() / step) * step;
    wall <= last;
    wall += step
  ) {
    const at = instantOf(wall, zone);
    const isDay = wall % DAY === 0;
    // Where clocks are set forward, the walls of the gap and those behind it are the same instants.
    if (at >= from && at <= to && at > (ticks.at(-1)?.at ?? -Infinity)) ticks.push({ at, isDay });
  }
  return ticks;
}
