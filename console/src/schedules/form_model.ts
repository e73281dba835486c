import { dateText } from '../time/format.ts';
import { readWhen, type When, type WhenText } from '../time/when.ts';
import type { FlagState, FlagUpdates } from '../parts/flag_state.tsx';
import { updatesOf, type ChangeText } from './change.ts';
import { neighboursOf, stateAt, type Neighbours, type Pending } from './effect.ts';

/** All that a person has typed into the form of a schedule. */
export interface ScheduleText extends ChangeText, WhenText {
  readonly flagKey: string;
  readonly environment: string;
  readonly reason: string;
  readonly [name: string]: unknown;
}

/** What a new form says: today, at no time yet. */
export const newSchedule = (
  environment: string,
  flagKey: string,
  zone: string,
  now: number,
): ScheduleText => ({
  ...{ environment, flagKey, zone, date: dateText(now, zone), time: '', choice: '' },
  ...{ kind: 'on', share: '', turnsOn: true, reason: '' },
});

/** A flag with what is pending, as far as it is known. */
export interface KnownFlag<P extends Pending> extends FlagState {
  readonly flagKey: string;
  readonly pending: readonly P[];
}

export interface ReadSchedule<P extends Pending> {
  readonly when: When;
  /** Null until there is an instant. */
  readonly at: number | null;
  /** Null while a share can't be read. */
  readonly updates: FlagUpdates | null;
  /** Whether the flag is off just before it. */
  readonly isOff: boolean;
  readonly neighbours: Neighbours<P> | null;
}

/** What the form says. */
export function readSchedule<P extends Pending>(
  text: ScheduleText,
  flag: KnownFlag<P> | null,
  now: number,
): ReadSchedule<P> {
  const when = readWhen(text, now);
  const at = when.kind === 'instant' ? when.at : null;
  const before = flag === null ? null : at === null ? flag : stateAt(flag, flag.pending, at);
  const updates = updatesOf(text, before);
  return {
    ...{ when, at, updates, isOff: before?.enabled === false },
    neighbours:
      flag === null || at === null || updates === null
        ? null
        : neighboursOf(flag, flag.pending, at, updates),
  };
}
