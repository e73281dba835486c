import { shortName } from '../data/person.ts';
import { applyUpdates, isConflict, updatesText, type FlagState } from '../parts/flag_state.tsx';
import type { Status } from '../parts/marks.tsx';
import { effectsOf, type Effect, type Pending } from '../schedules/effect.ts';
import { differencesIn, differenceText, suspendedWord } from '../schedules/guard.ts';
import type { Facts, Mark } from '../timeline/model.ts';
import { titleOf, type Entry } from './entry.ts';

/** A pending schedule, as the page reads it; persons and reasons are missing for viewers. */
export interface PendingOfFlag extends Pending {
  readonly status: string;
  readonly createdAt: string;
  readonly createdBy?: string | null;
  readonly requestedBy?: string | null;
  readonly reason?: string | null;
  readonly attempts: number;
  readonly maxAttempts: number;
  readonly nextAttemptAt: string | null;
  readonly errorMessage?: string | null;
  readonly planId: string | null;
  readonly plan?: { readonly title: string } | null;
}

/** One that came due, and waits for a person. */
export interface SuspendedOfFlag extends Pending {
  readonly createdBy?: string | null;
  readonly requestedBy?: string | null;
  readonly reason?: string | null;
  readonly suspendedFor: string | null;
  readonly suspendedDetails?: unknown;
  readonly planId: string | null;
  readonly plan?: { readonly title: string } | null;
}

/** What comes of a flag, as the server foresees it. */
export type Foreseen = Facts['upcomingChanges'];

/** As the name of what will be: `Turn on`, `Set to 50%`. */
const ahead = (title: string): string =>
  title.replace(/^Turned/, 'Turn').replace(/^Applied/, 'Applies');

interface Ahead extends Effect<PendingOfFlag> {
  readonly inConflict: boolean;
}

/** What each pending schedule will change: as the server foresees it, else by their times alone. */
function foresee(
  state: FlagState,
  list: readonly PendingOfFlag[],
  foreseen: Foreseen | null,
): Ahead[] {
  const rest = new Map(list.map((schedule) => [schedule.id, schedule]));
  let before = state;
  const effects: Ahead[] = [];
  for (const { scheduleId, enabled, rolloutPercentage, inConflict } of foreseen ?? []) {
    const schedule = rest.get(scheduleId ?? '');
    const after = { enabled, rolloutPercentage };
    if (schedule !== undefined) effects.push({ schedule, before, after, inConflict });
    rest.delete(scheduleId ?? '');
    before = after;
  }
  const others = effectsOf(before, [...rest.values()]);
  return [...effects, ...others.map((effect) => ({ ...effect, inConflict: false }))];
}

/** What is pending, as lines of the history: the latest first, as the history goes on downwards. */
export function aheadOf(
  state: FlagState,
  list: readonly PendingOfFlag[],
  foreseen: Foreseen | null = null,
): Entry[] {
  const effects = foresee(state, list, foreseen);
  return effects.map((effect, i) => aheadEntry(effect, isTogether(effect, effects, i))).reverse();
}

/** Whether another is pending for the same instant that sets it to something else. */
const isTogether = (
  { schedule }: Effect<PendingOfFlag>,
  effects: readonly Effect<PendingOfFlag>[],
  i: number,
): boolean =>
  [effects[i - 1], effects[i + 1]].some(
    (other) =>
      other?.schedule.scheduledAt === schedule.scheduledAt &&
      isConflict([schedule.updates, other.schedule.updates]),
  );

/** What came due and waits, the latest first. */
export const suspendedOf = (
  environment: string,
  state: FlagState,
  list: readonly SuspendedOfFlag[],
): Entry[] =>
  list
    .map((schedule): Entry => {
      const { id, scheduledAt, updates, reason, suspendedFor, suspendedDetails } = schedule;
      const after = applyUpdates(state, updates);
      return {
        ...{ key: id, at: Date.parse(scheduledAt), status: 'suspended', before: state, after },
        title: ahead(titleOf(state, after)),
        by: shortName(schedule.requestedBy ?? schedule.createdBy),
        reason: reason ?? null,
        ...{ lateMs: null, scheduleId: id, event: null, kind: 'change' },
        note: [suspendedWord(suspendedFor), differenceText(differencesIn(suspendedDetails))]
          .filter(Boolean)
          .join('; '),
        held: { ...schedule, environment },
      };
    })
    .reverse();

function aheadEntry(effect: Ahead, together: boolean): Entry {
  const { schedule, before, after, inConflict } = effect;
  const isNothing =
    inConflict &&
    before.enabled === after.enabled &&
    before.rolloutPercentage === after.rolloutPercentage;
  const { attempts, maxAttempts, errorMessage } = schedule;
  const asked = shortName(schedule.requestedBy ?? schedule.createdBy);
  const isRetrying = attempts > 0;
  return {
    ...{ key: schedule.id, at: Date.parse(schedule.scheduledAt), before },
    after: isNothing ? null : after,
    status: together || inConflict ? 'conflict' : isRetrying ? 'uncertain' : 'pending',
    title: isNothing
      ? `Would change nothing: ${updatesText(schedule.updates)}`
      : ahead(titleOf(before, after)),
    by: asked,
    reason: schedule.reason ?? null,
    ...{ lateMs: null, scheduleId: schedule.id, event: null, kind: 'change' },
    note: [
      isRetrying ? `try ${attempts} of ${maxAttempts} failed: ${errorMessage ?? ''}` : '',
      together ? 'another change at the same instant: which of them wins is chance' : '',
      inConflict && !together ? 'as things stand it will not find what it expects' : '',
    ]
      .filter(Boolean)
      .join('; '),
    held: { planId: schedule.planId, plan: schedule.plan ?? null },
  };
}

/** What comes of pending schedules, as the timeline's model takes it. */
export const upcomingOf = (
  flagKey: string,
  state: FlagState,
  list: readonly PendingOfFlag[],
  now: number,
): Facts['upcomingChanges'] =>
  effectsOf(state, list).map(({ schedule, after }) => ({
    // What is overdue comes with its next try.
    at: new Date(
      Math.max(Date.parse(schedule.nextAttemptAt ?? schedule.scheduledAt), now),
    ).toISOString(),
    ...{ flagKey, scheduleId: schedule.id },
    ...{ enabled: after.enabled, rolloutPercentage: after.rolloutPercentage },
    ...{ certain: true, inConflict: false },
  }));

/** What stands among what is ahead. */
const AHEAD: readonly Status[] = ['pending', 'conflict', 'suspended'];

/** For viewers, who read no trail: the marks of the past, newest first. */
export const pastOf = (marks: readonly Mark[], now: number): Entry[] =>
  marks
    .filter(({ at, status }) => at <= now && !AHEAD.includes(status))
    .map((mark) => ({
      ...{ key: mark.id, at: mark.at, status: mark.status, lateMs: mark.lateMs },
      ...{ before: mark.before, after: mark.after, by: '', reason: null, event: null, note: '' },
      ...{ scheduleId: mark.scheduleId, kind: 'change' as const },
      title:
        mark.status === 'cancelled'
          ? 'Cancelled'
          : mark.status === 'skipped'
            ? 'Skipped'
            : mark.status === 'failed'
              ? 'Failed'
              : mark.after === null
                ? 'Applied'
                : titleOf(mark.before, mark.after),
    }))
    .reverse();
