import { shortName } from '../data/person.ts';
import type { RestRequest } from '../data/rest.ts';
import { isConflict, updatesText } from '../parts/flag_state.tsx';
import type { DueSchedule } from './documents.ts';

/** What becomes of what came due while an environment was paused. */
export type Missed = 'apply' | 'skip';

/** What a person has chosen: for all, and other than that for some, by the item's id. */
export interface Decisions {
  readonly all: Missed;
  readonly others: Readonly<Record<string, Missed>>;
}

/** One decision: a schedule by itself, or what a plan changes at one instant. */
export interface DueItem {
  /** Of its schedule with the least id: it stands for all of them. */
  readonly id: string;
  /** Milliseconds since 1970. */
  readonly at: number;
  readonly schedules: readonly [DueSchedule, ...DueSchedule[]];
  /** Null for a schedule by itself. */
  readonly plan: { readonly id: string; readonly title: string } | null;
  /** Other environments that the plan changes at that instant too. */
  readonly elsewhere: readonly string[];
  /** No other item changes its flags: what it changes is seen from how they are now. */
  readonly isAlone: boolean;
  /** Another item sets a field of the flag to another value at the same instant. */
  readonly isConflict: boolean;
}

/** What the resume decides about: what is suspended because of the pause, and what is due and not suspended yet. */
export const isMissed = ({ scheduledAt, suspendedFor }: DueSchedule, now: number): boolean =>
  suspendedFor === 'stop' || (suspendedFor === null && Date.parse(scheduledAt) <= now);

const inOrder = (a: DueSchedule, b: DueSchedule): number =>
  Date.parse(a.scheduledAt) - Date.parse(b.scheduledAt) || (a.id < b.id ? -1 : 1);

/**
 * Makes the list of what came due, by time.
 *
 * @param list suspended and pending schedules of one environment
 * @param now milliseconds since 1970
 */
export function dueItems(
  environment: string,
  list: readonly DueSchedule[],
  now: number,
): DueItem[] {
  const missed = list.filter((one) => isMissed(one, now)).toSorted(inOrder);
  const points = Map.groupBy(missed, ({ id, planId, occurrenceNo, stepNo }) =>
    planId === null ? id : `${planId} ${occurrenceNo} ${stepNo}`,
  );
  const items = [...points.values()].flatMap((schedules): DueItem[] => {
    const [first, ...rest] = schedules;
    if (first === undefined) return [];
    const { planId, plan } = first;
    return [
      {
        ...{ id: first.id, at: Date.parse(first.scheduledAt), schedules: [first, ...rest] },
        plan: planId === null ? null : { id: planId, title: plan?.title ?? 'A plan' },
        elsewhere: (plan?.environments ?? []).filter((name) => name !== environment),
        isAlone: schedules.every(
          (one) => missed.filter(({ flag }) => flag?.flagKey === one.flag?.flagKey).length === 1,
        ),
        isConflict: schedules.some((one) => hasRival(one, missed)),
      },
    ];
  });
  const keyOf = ({ schedules: [first] }: DueItem): string => first.flag?.flagKey ?? '';
  // Rivals stand beside each other.
  return items.toSorted((a, b) => a.at - b.at || keyOf(a).localeCompare(keyOf(b)));
}

const hasRival = (one: DueSchedule, all: readonly DueSchedule[]): boolean =>
  all.some(
    (other) =>
      other.id !== one.id &&
      other.flag?.flagKey === one.flag?.flagKey &&
      Date.parse(other.scheduledAt) === Date.parse(one.scheduledAt) &&
      isConflict([one.updates, other.updates]),
  );

/** What was chosen for an item. Where which of two wins is chance, neither is applied unless a person says so. */
export const decisionOf = (
  { id, isConflict: isUndecided }: DueItem,
  decisions: Decisions,
): Missed => decisions.others[id] ?? (isUndecided ? 'skip' : decisions.all);

/** The ids with which the other is done than with all. */
export const exceptionsOf = (items: readonly DueItem[], decisions: Decisions): string[] =>
  items.filter((item) => decisionOf(item, decisions) !== decisions.all).map(({ id }) => id);

/** The dry run of the resume. */
export const tryRequest = (
  environment: string,
  items: readonly DueItem[],
  decisions: Decisions,
): RestRequest => ({
  method: 'POST',
  path: `/api/admin/environments/${encodeURIComponent(environment)}/resume/dry-run`,
  body: { missed: decisions.all, except: exceptionsOf(items, decisions) },
});

/**
 * What the button does: `Apply 2, skip 1, resume`.
 *
 * @param isCut there are more than are listed: what is chosen for all holds for them
 */
export function resumeText(
  items: readonly DueItem[],
  decisions: Decisions,
  isCut: boolean,
): string {
  const skipped = items.filter((item) => decisionOf(item, decisions) === 'skip').length;
  const applied = items.length - skipped;
  const count = (n: number, one: Missed): string =>
    isCut && one === decisions.all ? 'the others' : String(n);
  const parts = [
    ...(applied > 0 ? [`apply ${count(applied, 'apply')}`] : []),
    ...(skipped > 0 ? [`skip ${count(skipped, 'skip')}`] : []),
    'resume',
  ];
  const text = parts.join(', ');
  return text.slice(0, 1).toUpperCase() + text.slice(1);
}

/** What an item changes, without its flag: `50%`; of a plan `checkout-v2 50%, promo-banner on`. */
export const changeText = ({ plan, schedules }: DueItem): string =>
  schedules
    .map(({ flag, updates }) =>
      plan === null ? updatesText(updates) : `${flag?.flagKey ?? ''} ${updatesText(updates)}`,
    )
    .join(', ');

/** Who asked for it: '' where that isn't known. */
export const askedBy = ({ schedules: [first] }: DueItem): string =>
  shortName(first.requestedBy ?? first.createdBy);

/** What is named before a resume, as `21:00 checkout-v2`. */
const NAMED = 2;

/**
 * What goes on as planned, in a line; '' where nothing is pending.
 *
 * @param later pending schedules that aren't due yet, by time
 * @param total how many there are of them
 */
export function laterText(
  later: readonly DueSchedule[],
  total: number,
  write: (at: number) => string,
): string {
  const named = later
    .slice(0, NAMED)
    .map(({ scheduledAt, flag }) => `${write(Date.parse(scheduledAt))} ${flag?.flagKey ?? ''}`);
  const more = total - named.length;
  if (named.length === 0) return '';
  return named.join(', ') + (more > 0 ? ` and ${more} more` : '');
}
