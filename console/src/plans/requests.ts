import { flagAddress, reasonPart, type RestRequest } from '../data/rest.ts';
import type { Fields } from './model.ts';

export type OnConflict = 'suspend' | 'keep' | 'overwrite';

/** A change of one flag, as the REST API takes and gives it. */
export interface RestChange {
  readonly flag_key: string;
  readonly environment: string;
  readonly updates: Fields;
  readonly expects?: Fields;
  readonly on_conflict?: string;
}

/** A plan's body: what is asked of it. `at` in milliseconds since 1970. */
export interface Asked {
  readonly title: string;
  readonly at: number | null;
  readonly reason: string;
  readonly changes: readonly RestChange[];
}

const PLANS = '/api/admin/plans';

/** A plan, and the revision of it that the person has seen. */
export interface SeenPlan {
  readonly id: string;
  readonly revision: number;
}

/** As the API writes instants: with milliseconds only where there are any. */
export const iso = (at: number): string => new Date(at).toISOString().replace('.000Z', 'Z');

const startsAt = (at: number | null): { starts_at?: string } =>
  at === null ? {} : { starts_at: iso(at) };

const bodyOf = ({ title, at, reason, changes }: Asked) => ({
  ...{ title, ...startsAt(at), ...reasonPart(reason), steps: [{ changes }] },
});

export const createRequest = (asked: Asked): RestRequest => ({
  ...{ method: 'POST', path: PLANS, body: bodyOf(asked) },
});

/**
 * Tries it. Where it has no title yet, the dry run needs one all the same.
 *
 * @param id the plan that is edited: a plan of its own would be in conflict with that
 */
export const dryRunRequest = (asked: Asked, id: string | null = null): RestRequest => ({
  ...{
    method: 'POST',
    path: id === null || asked.at === null ? `${PLANS}/dry-run` : `${PLANS}/${id}/dry-run`,
  },
  body: bodyOf({ ...asked, title: asked.title === '' ? 'New plan' : asked.title }),
});

export const editRequest = ({ id, revision }: SeenPlan, asked: Asked): RestRequest => ({
  ...{ method: 'PATCH', path: `${PLANS}/${id}` },
  body: { ...bodyOf(asked), expected_revision: revision },
});

/** All of it now, in one transaction. */
export const changeRequest = ({ changes, reason }: Asked): RestRequest => ({
  ...{ method: 'POST', path: '/api/admin/changes', body: { changes, ...reasonPart(reason) } },
});

export const planRequest = (
  action: 'cancel' | 'retry',
  { id, revision }: SeenPlan,
  reason: string,
): RestRequest => ({
  ...{ method: 'POST', path: `${PLANS}/${id}/${action}` },
  body: { ...reasonPart(reason), expected_revision: revision },
});

/** A schedule, with the flag that it belongs to. */
export interface ScheduleOfFlag {
  readonly id: string;
  readonly flagKey: string;
  readonly environment: string;
}

const scheduleAddress = ({ id, flagKey, environment }: ScheduleOfFlag, action: string): string =>
  flagAddress(environment, flagKey, `/schedule/${id}/${action}`);

/** Lets what is suspended go on: of a plan's schedule with the whole point. */
export const resumeRequest = (schedule: ScheduleOfFlag, reason: string): RestRequest => ({
  ...{ method: 'POST', path: scheduleAddress(schedule, 'resume'), body: { reason: reason.trim() } },
});

/** What is taken back. */
export type Source =
  | { readonly kind: 'plan'; readonly id: string }
  | ({ readonly kind: 'schedule' } & ScheduleOfFlag)
  | {
      readonly kind: 'span';
      readonly environment: string;
      readonly from: string;
      readonly to: string;
      readonly flags: readonly string[];
    };

const revertAddress = (source: Source): string => {
  switch (source.kind) {
    case 'plan':
      return `${PLANS}/${source.id}/revert`;
    case 'schedule':
      return scheduleAddress(source, 'revert');
    case 'span':
      return `/api/admin/environments/${encodeURIComponent(source.environment)}/revert`;
  }
};

interface Revert {
  readonly source: Source;
  readonly onConflict: OnConflict;
  /** Null: now. */
  readonly at: number | null;
  readonly reason: string;
}

/** Takes back what was changed. `isDry` tries it. */
export function revertRequest(
  { source, onConflict, at, reason }: Revert,
  isDry = false,
): RestRequest {
  const span =
    source.kind === 'span' ? { from: source.from, to: source.to, flags: source.flags } : {};
  const [path, query] = revertAddress(source).split('?');
  const address = `${path ?? ''}${isDry ? '/dry-run' : ''}${query === undefined ? '' : `?${query}`}`;
  return {
    ...{ method: 'POST', path: address },
    body: {
      ...{ ...span, on_conflict: onConflict, ...(at === null ? {} : { at: iso(at) }) },
      ...reasonPart(reason),
    },
  };
}
