import { applyUpdates, type FlagState, type FlagUpdates } from '../parts/flag_state.tsx';

/** A schedule that is to be applied. */
export interface Pending {
  readonly id: string;
  readonly scheduledAt: string;
  readonly updates: FlagUpdates;
}

export interface Effect<P extends Pending> {
  readonly schedule: P;
  readonly before: FlagState;
  readonly after: FlagState;
}

/** The order in which schedules of a flag are applied, and which decides: by time, then by id. */
export const inOrder = (a: Pending, b: Pending): number =>
  Date.parse(a.scheduledAt) - Date.parse(b.scheduledAt) || (a.id < b.id ? -1 : 1);

/** What each pending schedule of one flag will change, if nothing else happens: for each field the one with the latest time decides. */
export function effectsOf<P extends Pending>(state: FlagState, list: readonly P[]): Effect<P>[] {
  let before = state;
  return list.toSorted(inOrder).map((schedule) => {
    const after = applyUpdates(before, schedule.updates);
    const effect = { schedule, before, after };
    before = after;
    return effect;
  });
}

/** A flag just before an instant: all that is pending until then, and at it, applied. */
export const stateAt = (state: FlagState, list: readonly Pending[], at: number): FlagState =>
  list
    .filter((one) => Date.parse(one.scheduledAt) <= at)
    .toSorted(inOrder)
    .reduce((so, one) => applyUpdates(so, one.updates), state);

const setsTheSame = (a: FlagUpdates, b: FlagUpdates): boolean =>
  (given(a.enabled) && given(b.enabled)) ||
  (given(a.rolloutPercentage) && given(b.rolloutPercentage));
const given = (value: unknown): boolean => value !== null && value !== undefined;

/** How a new change stands among the pending ones of its flag. */
export interface Neighbours<P extends Pending> {
  /** The flag just before it and just after it. */
  readonly before: FlagState;
  readonly after: FlagState;
  /** At the same instant, with a field that it sets too. */
  readonly together: readonly P[];
  /** Behind it, the first that sets a field that it sets, and to what state. */
  readonly next: { readonly schedule: P; readonly state: FlagState } | null;
  /** How many more come behind that. */
  readonly more: number;
}

/** @param at of the new change, in milliseconds since 1970 */
export function neighboursOf<P extends Pending>(
  state: FlagState,
  list: readonly P[],
  at: number,
  updates: FlagUpdates,
): Neighbours<P> {
  const order = list.toSorted(inOrder);
  const due = (one: P): number => Date.parse(one.scheduledAt);
  const earlier = order.filter((one) => due(one) <= at);
  const before = stateAt(state, list, at);
  const after = applyUpdates(before, updates);
  const together = earlier.filter((one) => due(one) === at && setsTheSame(one.updates, updates));
  let reached = after;
  let next: Neighbours<P>['next'] = null;
  let more = 0;
  for (const schedule of order.filter((one) => due(one) > at)) {
    reached = applyUpdates(reached, schedule.updates);
    if (next !== null) more += 1;
    else if (setsTheSame(schedule.updates, updates)) next = { schedule, state: reached };
  }
  return { before, after, together, next, more };
}
