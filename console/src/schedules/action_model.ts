import type { RestRequest } from '../data/rest.ts';
import type { FlagState, FlagUpdates } from '../parts/flag_state.tsx';
import { cancelRequest, moveRequest, resumeRequest, retryRequest } from './requests.ts';

export type ActionKind = 'move' | 'cancel' | 'retry' | 'resume';

/** A schedule as it was read. */
export interface ReadAction {
  readonly id: string;
  readonly status: string;
  readonly scheduledAt: string;
  readonly revision: number;
  readonly attempts: number;
  readonly errorMessage: string | null;
  readonly suspendedFor: string | null;
  /** What it expected, and what it found in its place. */
  readonly suspendedDetails: unknown;
  /** The plan that it belongs to: what is done about it is done about all that the plan changes at its instant. */
  readonly plan: { readonly title: string } | null;
  readonly updates: FlagUpdates;
  readonly flag: (FlagState & { readonly flagKey: string; readonly environment: string }) | null;
}

interface Words {
  readonly title: string;
  /** Leaves it as it is. */
  readonly back: string;
  readonly done: string;
  /** What the button does: of a change as `50%`, and a time as `18:00`. */
  readonly button: (change: string, when: string) => string;
}

export const ACTION_WORDS: Readonly<Record<ActionKind, Words>> = {
  move: {
    title: 'Move the change',
    back: 'Leave it',
    done: 'Moved',
    button: (_change, when) => `Move to ${when}`,
  },
  cancel: {
    title: 'Cancel the change',
    back: 'Keep it',
    done: 'Cancelled',
    button: (change, when) => `Cancel ${change} at ${when}`,
  },
  retry: {
    title: 'Try the change again',
    back: 'Leave it',
    done: 'To be tried again',
    button: (change) => `Try again now: ${change}`,
  },
  resume: {
    title: 'Resume the change',
    back: 'Leave it',
    done: 'Resumed',
    button: (change) => `Apply now: ${change}`,
  },
};

/**
 * The request that does it; null while there is none.
 *
 * @param at where it is moved to
 */
export function requestOf(
  kind: ActionKind,
  { id, revision, flag }: ReadAction,
  at: number | null,
  reason: string,
): RestRequest | null {
  if (flag === null) return null;
  const schedule = { id, revision, flagKey: flag.flagKey, environment: flag.environment };
  switch (kind) {
    case 'move':
      return at === null ? null : moveRequest(schedule, at, reason);
    case 'cancel':
      return cancelRequest(schedule, reason);
    case 'retry':
      return retryRequest(schedule, reason);
    case 'resume':
      return resumeRequest(schedule, reason);
  }
}
