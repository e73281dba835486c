import type { Random } from '../../test/support/chaos/random.ts';

/** What benchmarks of the API schedule on: enough flags that requests seldom meet on one. */
export const FLAGS = 300;
export const flagKey = (n: number): string => `flag-${n}`;

/** A change to schedule, drawn at random: a flag, and a time far ahead, so that nothing falls due meanwhile. */
export interface Change {
  readonly flagKey: string;
  readonly scheduledAt: string;
  readonly enabled: boolean;
  readonly rolloutPercentage: number;
}

const FAR_AHEAD_MS = Date.UTC(2100, 0, 1);

export function drawChange(random: Random): Change {
  return {
    flagKey: flagKey(random.between(1, FLAGS)),
    scheduledAt: new Date(FAR_AHEAD_MS + random.between(0, 1e9)).toISOString(),
    enabled: random.next() < 0.5,
    rolloutPercentage: random.between(0, 100),
  };
}
