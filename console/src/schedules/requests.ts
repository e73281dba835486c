import { flagAddress, reasonPart, type RestRequest } from '../data/rest.ts';
import type { FlagUpdates } from '../parts/flag_state.tsx';
import { restUpdates } from './change.ts';

/** The flag that a schedule belongs to. */
export interface FlagName {
  readonly environment: string;
  readonly flagKey: string;
}

const iso = (at: number): string => new Date(at).toISOString().replace('.000Z', 'Z');

export const scheduleRequest = (
  { environment, flagKey }: FlagName,
  at: number,
  updates: FlagUpdates,
  reason: string,
): RestRequest => ({
  method: 'POST',
  path: flagAddress(environment, flagKey, '/schedule'),
  body: { scheduled_at: iso(at), updates: restUpdates(updates), ...reasonPart(reason) },
});

/** A schedule, and the revision of it that the person has seen. */
export interface SeenSchedule extends FlagName {
  readonly id: string;
  readonly revision: number;
}

const scheduleAddress = ({ environment, flagKey, id }: SeenSchedule, below = ''): string =>
  flagAddress(environment, flagKey, `/schedule/${id}${below}`);

export const moveRequest = (schedule: SeenSchedule, at: number, reason: string): RestRequest => ({
  method: 'PATCH',
  path: scheduleAddress(schedule),
  body: {
    scheduled_at: iso(at),
    ...reasonPart(reason),
    expected_revision: schedule.revision,
  },
});

export const cancelRequest = (schedule: SeenSchedule, reason: string): RestRequest => ({
  method: 'DELETE',
  path: scheduleAddress(schedule),
  body: { ...reasonPart(reason), expected_revision: schedule.revision },
});

export const retryRequest = (schedule: SeenSchedule, reason: string): RestRequest => ({
  method: 'POST',
  path: scheduleAddress(schedule, '/retry'),
  body: { ...reasonPart(reason), expected_revision: schedule.revision },
});

/** Goes on with a suspended schedule, and of a plan's with all of its point. */
export const resumeRequest = (schedule: SeenSchedule, reason: string): RestRequest => ({
  method: 'POST',
  path: scheduleAddress(schedule, '/resume'),
  body: reasonPart(reason),
});

/** A flag, and the revision of it that the person has seen. */
export interface SeenFlag extends FlagName {
  readonly revision: number;
}

export const changeRequest = (
  { environment, flagKey, revision }: SeenFlag,
  change: Readonly<Record<string, unknown>>,
  reason: string,
): RestRequest => ({
  method: 'PATCH',
  path: flagAddress(environment, flagKey),
  body: { ...change, ...reasonPart(reason), expected_revision: revision },
});
