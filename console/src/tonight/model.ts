import { shortName } from '../data/person.ts';
import { isConflict, updatesText, type FlagState, type FlagUpdates } from '../parts/flag_state.tsx';
import type { Pending, Upcoming } from './documents.ts';

/** One schedule's change. */
export interface Change {
  readonly scheduleId: string | null;
  /** As `50%`. */
  readonly label: string;
  readonly updates: FlagUpdates;
  /** Null for viewers, and where it isn't known. */
  readonly by: string | null;
  readonly reason: string | null;
  /** It failed so many times and is tried again. */
  readonly attempts: number;
  readonly planId: string | null;
  /** What the plan is called; null for viewers. */
  readonly plan: { readonly title: string } | null;
}

/** What happens to one flag at one instant. */
export interface Item {
  readonly id: string;
  readonly environment: string;
  readonly flagKey: string;
  readonly at: number;
  /** In the order in which they count: the last one wins. */
  readonly changes: readonly [Change, ...Change[]];
  /** Null where it isn't known. */
  readonly before: FlagState | null;
  readonly after: FlagState;
  /** Several set a field to different values, or one will not find what it expects: someone had better decide. */
  readonly isConflict: boolean;
}

/**
 * Makes the list of one environment: changes of one flag at one instant are one item.
 *
 * @param upcoming in the order in which they come
 * @param pending what is known of their schedules
 */
export function itemsOf(
  environment: string,
  upcoming: readonly Upcoming[],
  pending: readonly Pending[],
): Item[] {
  const asked = new Map(pending.map((schedule) => [schedule.id, schedule]));
  const states = new Map<string, FlagState>();
  for (const { flag } of pending) if (flag !== null) states.set(flag.flagKey, flag);
  const groups = Map.groupBy(upcoming, ({ at, flagKey }) => `${Date.parse(at)} ${flagKey}`);
  const items: Item[] = [];
  for (const group of groups.values()) {
    const changes = group.map((change): Change => {
      const schedule = asked.get(change.scheduleId ?? '');
      return {
        scheduleId: change.scheduleId,
        label: updatesText(change.updates),
        updates: change.updates,
        by: shortName(schedule?.requestedBy ?? schedule?.createdBy) || null,
        reason: schedule?.reason ?? null,
        attempts: schedule?.attempts ?? 0,
        planId: change.planId,
        plan: schedule?.plan ?? null,
      };
    });
    const [first] = changes;
    const last = group.at(-1);
    if (first === undefined || last === undefined) continue;
    const { flagKey, enabled, rolloutPercentage } = last;
    const after = { enabled, rolloutPercentage };
    items.push({
      ...{
        id: `${environment} ${flagKey} ${last.at}`,
        environment,
        flagKey,
        at: Date.parse(last.at),
      },
      ...{ changes: [first, ...changes.slice(1)], before: states.get(flagKey) ?? null, after },
      isConflict:
        isConflict(changes.map(({ updates }) => updates)) ||
        group.some(({ inConflict }) => inConflict),
    });
    states.set(flagKey, after);
  }
  return items;
}

/** What an item does, in words: `50%`, `30% or 0%`; what combines is joined. */
export function labelOf({ changes, isConflict: isUndecided }: Item): string {
  return changes.map(({ label }) => label).join(isUndecided ? ' or ' : ' and ');
}

/** Who asked for most of it, and for how many; null where no person is known. */
export function mostAsked(
  items: readonly Item[],
): { readonly by: string; readonly count: number } | null {
  const counts = new Map<string, number>();
  for (const { by } of items.flatMap(({ changes }) => changes))
    if (by !== null) counts.set(by, (counts.get(by) ?? 0) + 1);
  const [first] = [...counts].sort((a, b) => b[1] - a[1] || a[0].localeCompare(b[0]));
  return first === undefined ? null : { by: first[0], count: first[1] };
}

/** Two people, or more, in a sentence: `alice and bob`. */
export const namesOf = ({ changes }: Item): string =>
  [...new Set(changes.flatMap(({ by }) => by ?? []))].join(' and ');
