import { sinceHorizon } from '../data/horizon.ts';
import { ApiError, run } from '../data/request.ts';
import { shownEnvironments } from '../data/person.ts';
import { DAY } from '../time/zone.ts';
import { CHANGE_BEHIND, CHANGE_DAYS, CHANGES, CHANGES_AHEAD } from './documents.ts';

/** As far as one looks for a change: the server takes 400 days. */
const FAR = 398 * DAY;

const asText = (at: number): string => new Date(at).toISOString();

/** The time of the next change behind an instant, from now on; null where none is scheduled. */
export async function changeBehind(at: number, now: number): Promise<number | null> {
  const from = Math.max(at, now);
  const found = await Promise.all(
    shownEnvironments.value.map((environment) =>
      run(CHANGE_BEHIND, { environment, from: asText(from), to: asText(from + FAR) }),
    ),
  );
  const times = found
    .flatMap(({ upcomingChanges }) => upcomingChanges.map((change) => Date.parse(change.at)))
    .filter((time) => time > at);
  return times.length === 0 ? null : Math.min(...times);
}

/** The time of the last change of the past before an instant; null where the trail has none within 400 days. */
async function pastBefore(at: number): Promise<number | null> {
  try {
    return await lastBefore(at);
  } catch (error) {
    if (!(error instanceof ApiError) || error.code !== 'history_purged') throw error;
    // The refusal named the horizon.
    return lastBefore(at);
  }
}

async function lastBefore(at: number): Promise<number | null> {
  const from = sinceHorizon(at - FAR);
  if (at - 1 <= from) return null;
  const times = await Promise.all(
    shownEnvironments.value.map(async (environment) => {
      // The instant may be the millisecond behind a change itself.
      const to = asText(at - 1);
      const { changesPerDay } = await run(CHANGE_DAYS, {
        ...{ environment, from: asText(from), to },
      });
      const day = changesPerDay.findLast(({ changes }) => changes > 0)?.day;
      if (day === undefined) return null;
      const { flagChanges } = await run(CHANGES, {
        ...{ environment, from: asText(sinceHorizon(Date.parse(day))), to },
      });
      const last = flagChanges.at(-1);
      return last === undefined ? null : Date.parse(last.at) + 1;
    }),
  );
  const known = times.filter((time) => time !== null);
  return known.length === 0 ? null : Math.max(...known);
}

/** The time of the last change before an instant: of what is scheduled, else of the past; null where there is none within 400 days. */
export async function changeBefore(at: number, now: number): Promise<number | null> {
  if (at <= now) return pastBefore(at);
  const to = Math.min(at, now + FAR);
  const found = await Promise.all(
    shownEnvironments.value.map((environment) =>
      run(CHANGES_AHEAD, { environment, from: asText(now), to: asText(to) }),
    ),
  );
  const times = found
    .flatMap(({ upcomingChanges }) => upcomingChanges.map((change) => Date.parse(change.at)))
    .filter((time) => time < at);
  return times.length === 0 ? pastBefore(now) : Math.max(...times);
}
