import { now } from '../data/clock.ts';
import { readsTrail, shownEnvironments } from '../data/person.ts';
import { useFirstError, useResources } from '../data/resource.ts';
import { zone } from '../settings.ts';
import { shortText } from '../time/format.ts';
import { DAY, HOUR, instantOf, wallAt } from '../time/zone.ts';
import { ASKED, UPCOMING } from './documents.ts';
import { itemsOf } from './model.ts';

/** Changes of an environment that are asked for. */
const MOST = 1_000;
/** At night what failed in the evening needs someone still. */
const LOOK_BACK = 12 * HOUR;

/** From when on a failure counts: midnight, or some hours ago where that is earlier; and how that is called. */
function failedSince(): { readonly since: number; readonly name: string } {
  const at = Math.floor(now.value / HOUR) * HOUR;
  const today = instantOf(Math.floor(wallAt(at, zone.value).getTime() / DAY) * DAY, zone.value);
  if (today <= at - LOOK_BACK) return { since: today, name: 'today' };
  const since = at - LOOK_BACK;
  return { since, name: `since ${shortText(since, zone.value, now.value)}` };
}

/** What comes until the end of the shift, of all environments that are shown. */
export function useNight(until: number) {
  const names = shownEnvironments.value;
  const to = new Date(until).toISOString();
  // What is overdue comes now: the hour only has to be past, and so the question stays the same for an hour.
  const from = new Date(Math.floor(now.value / HOUR) * HOUR).toISOString();
  const { since, name } = failedSince();
  const upcoming = useResources(
    UPCOMING,
    names.map((environment) => ({ environment, from, to })),
  );
  const asked = useResources(
    ASKED,
    names.map((environment) => ({
      ...{ environment, since: new Date(since).toISOString(), to, asks: readsTrail.value },
    })),
  );
  const found = [...upcoming, ...asked];
  const error = useFirstError(found);
  const isReady = found.every(({ data }) => data.value !== null);
  const items = names
    .flatMap((environment, i) =>
      itemsOf(
        environment,
        upcoming[i]?.data.value?.upcomingChanges ?? [],
        asked[i]?.data.value?.pending?.nodes ?? [],
      ),
    )
    .sort((a, b) => a.at - b.at);
  const failed = names.flatMap((environment, i) =>
    (asked[i]?.data.value?.failed?.nodes ?? []).map((one) => ({ ...one, environment })),
  );
  const suspended = names.flatMap((environment, i) =>
    (asked[i]?.data.value?.suspended?.nodes ?? []).map((one) => ({ ...one, environment })),
  );
  const isCut = upcoming.some(({ data }) => data.value?.upcomingChanges.length === MOST);
  const unknown = asked.some(
    ({ data }) => (data.value?.pending?.totalCount ?? 0) > (data.value?.pending?.nodes.length ?? 0),
  );
  return { found, error, isReady, names, items, failed, suspended, since: name, isCut, unknown };
}
