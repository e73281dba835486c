import type { FlagState } from '../parts/flag_state.tsx';
import type { Status } from '../parts/marks.tsx';
import type { ActionableSchedule } from '../schedules/actions.tsx';

/** One line of a flag's history: of the trail, of what is pending, or for viewers of what changed. */
export interface Entry {
  readonly key: string;
  /** Milliseconds since 1970. */
  readonly at: number;
  readonly status: Status;
  readonly title: string;
  /** Null where the state isn't known or does not change. */
  readonly before: FlagState | null;
  readonly after: FlagState | null;
  /** Who, and in whose name; '' where it isn't for the person, or unknown. */
  readonly by: string;
  readonly reason: string | null;
  readonly lateMs: number | null;
  readonly scheduleId: string | null;
  /** The event of the trail. Null for viewers, and for what is ahead. */
  readonly event: {
    readonly id: string;
    /** When it happened, to the microsecond, as the trail has it. */
    readonly occurredAt: string;
    /** Null while it has none. `problem`: the event isn't what was sealed. */
    readonly seal: { readonly number: string; readonly problem: string | null } | null;
  } | null;
  /** A change of the state, or what somebody asked for. */
  readonly kind: 'change' | 'decision';
  /** More of it, as `try 2 of 5`. */
  readonly note: string;
  /** What decides what one can do about its schedule: a plan, a pause. */
  readonly held?: Omit<ActionableSchedule, 'id' | 'status'>;
}

/** What a change of state is called: `Turned on for 10%`, `Set to 25%`. */
export function titleOf(before: FlagState | null, after: FlagState): string {
  if (before === null) return 'Created';
  const share = after.rolloutPercentage;
  if (before.enabled !== after.enabled)
    return !after.enabled ? 'Turned off' : share === 100 ? 'Turned on' : `Turned on for ${share}%`;
  return before.rolloutPercentage === share ? 'Applied: nothing changed' : `Set to ${share}%`;
}

export const SHOWN = [
  ['all', 'All'],
  ['changes', 'Changes'],
  ['decisions', 'Decisions'],
] as const;

/** Whether an entry is of the kind that is shown. */
export const isShown = ({ kind }: Entry, shown: string): boolean =>
  shown === 'changes' ? kind === 'change' : shown === 'decisions' ? kind === 'decision' : true;
