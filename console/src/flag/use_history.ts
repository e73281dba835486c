import { useMemo } from 'preact/hooks';
import { now } from '../data/clock.ts';
import { sinceHorizon } from '../data/horizon.ts';
import { readsTrail } from '../data/person.ts';
import { useResource, type Resource } from '../data/resource.ts';
import { zone } from '../settings.ts';
import { shortText } from '../time/format.ts';
import { DAY } from '../time/zone.ts';
import { rowOfFlag, type ShownFlag } from './day_chart.tsx';
import { FLAG_EVENTS, FLAG_SPAN } from './documents.ts';
import { aheadOf, pastOf, suspendedOf, type Foreseen } from './entries.ts';
import type { Entry } from './entry.ts';
import { entriesOf } from './events.ts';

/** How far back viewers see, who read no trail. */
const BACK = 30 * DAY;
/** The server answers 10,000 rows a query: changes and schedules. */
const MOST_CHANGES = 5_000;
/** The server's pages have so many events at most. */
export const MOST_EVENTS = 100;

interface FoundHistory {
  readonly ahead: readonly Entry[];
  readonly past: readonly Entry[];
  readonly resource: Resource<unknown>;
  /** Whether the trail has earlier events than these. */
  readonly hasMore: boolean;
}

/**
 * What is pending and what happened: from the trail for those who read it, else from the changes that everybody may see.
 *
 * @param count of events at most
 */
export function useHistory(
  flag: ShownFlag,
  foreseen: Foreseen | null,
  count: number,
): FoundHistory {
  const { environment, flagKey } = flag;
  const reads = readsTrail.value;
  const trail = useResource(
    FLAG_EVENTS,
    reads ? { environment, flagKey, first: Math.min(count, MOST_EVENTS) } : null,
  );
  // A whole day, so that it is asked for once.
  const to = (Math.floor(now.value / DAY) + 1) * DAY;
  const from = sinceHorizon(to - BACK);
  const changes = useResource(
    FLAG_SPAN,
    reads
      ? null
      : {
          ...{ environment, flagKey, first: MOST_CHANGES },
          ...{ from: new Date(from).toISOString(), to: new Date(to).toISOString() },
        },
  );
  const minute = Math.floor(now.value / 60_000) * 60_000;
  const events = trail.data.value?.auditEvents ?? null;
  const facts = changes.data.value;
  const past = useMemo((): readonly Entry[] => {
    if (events !== null)
      return entriesOf(events.nodes, (at) => shortText(Date.parse(at), zone.value, minute));
    if (facts === null) return [];
    return pastOf(rowOfFlag(flag, facts, { from, to, now: minute }).marks, minute);
  }, [events, facts, minute, zone.value]);
  const ahead = useMemo(
    () => [
      ...aheadOf(flag, flag.pending.nodes, foreseen),
      ...suspendedOf(environment, flag, flag.suspended.nodes),
    ],
    [flag, foreseen],
  );
  return {
    ...{ ahead, past },
    resource: reads ? trail : changes,
    hasMore: events?.pageInfo.hasNextPage === true && count < MOST_EVENTS,
  };
}
