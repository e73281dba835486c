import { useMemo } from 'preact/hooks';
import { now } from '../data/clock.ts';
import { useResource } from '../data/resource.ts';
import { isStopped } from '../stop/stops.ts';
import { AHEAD } from '../timeline/documents.ts';
import { DAY, HOUR } from '../time/zone.ts';
import type { Foreseen, PendingOfFlag } from './entries.ts';

/** The server takes a span of 400 days. */
const LONGEST = 399 * DAY;

/**
 * What comes of a flag by the server's rule, where more decides than its own schedules: a plan, whose other flags may keep all of it from
 * being applied, or a pause. Null where its own schedules say it, and until the server has answered.
 */
export function useForeseen(
  environment: string,
  flagKey: string,
  pending: readonly PendingOfFlag[],
): Foreseen | null {
  const isAsked = pending.some(({ planId }) => planId !== null) || isStopped(environment);
  const from = Math.floor(now.value / HOUR) * HOUR;
  const last = Math.max(from, ...pending.map(({ scheduledAt }) => Date.parse(scheduledAt)));
  const to = Math.min(last + HOUR, from + LONGEST);
  const found = useResource(
    AHEAD,
    isAsked && pending.length > 0
      ? { environment, from: new Date(from).toISOString(), to: new Date(to).toISOString() }
      : null,
  );
  const answer = found.data.value;
  return useMemo(
    () => answer?.upcomingChanges.filter((change) => change.flagKey === flagKey) ?? null,
    [answer, flagKey],
  );
}
