import { shortName } from '../data/person.ts';
import { isConflict, type FlagState } from '../parts/flag_state.tsx';
import { effectsOf, type Effect, type Pending } from '../schedules/effect.ts';
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
}

/** As the name of what will be: `Turn on`, `Set to 50%`. */
const ahead = (title: string): string =>
  title.replace(/^Turned/, 'Turn').replace(/^Applied/, 'Applies');

/** What is pending, as lines of the history: the latest first, as the history goes on downwards. */
export function aheadOf(state: FlagState, list: readonly PendingOfFlag[]): Entry[] {
  const effects = effectsOf(state, list);
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

function aheadEntry(effect: Effect<PendingOfFlag>, together: boolean): Entry {
  const { schedule, before, after } = effect;
  const { attempts, maxAttempts, errorMessage } = schedule;
  const asked = shortName(schedule.requestedBy ?? schedule.createdBy);
  const isRetrying = attempts > 0;
  return {
    ...{ key: schedule.id, at: Date.parse(schedule.scheduledAt), before, after },
    status: together ? 'conflict' : isRetrying ? 'uncertain' : 'pending',
    title: ahead(titleOf(before, after)),
    by: asked,
    reason: schedule.reason ?? null,
    ...{ lateMs: null, scheduleId: schedule.id, event: null, kind: 'change' },
    note: [
      isRetrying ? `try ${attempts} of ${maxAttempts} failed: ${errorMessage ?? ''}` : '',
      together ? 'another change at the same instant: which of them wins is chance' : '',
    ]
      .filter(Boolean)
      .join('; '),
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
  }));

/** For viewers, who read no trail: the marks of the past, newest first. */
export const pastOf = (marks: readonly Mark[], now: number): Entry[] =>
  marks
    .filter(({ at, status }) => at <= now && status !== 'pending' && status !== 'conflict')
    .map((mark) => ({
      ...{ key: mark.id, at: mark.at, status: mark.status, lateMs: mark.lateMs },
      ...{ before: mark.before, after: mark.after, by: '', reason: null, event: null, note: '' },
      ...{ scheduleId: mark.scheduleId, kind: 'change' as const },
      title:
        mark.status === 'cancelled'
          ? 'Cancelled'
          : mark.status === 'failed'
            ? 'Failed'
            : mark.after === null
              ? 'Applied'
              : titleOf(mark.before, mark.after),
    }))
    .reverse();
