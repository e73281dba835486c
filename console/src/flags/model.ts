import { isConflict, updatesText, type FlagState, type FlagUpdates } from '../parts/flag_state.tsx';
import type { Status } from '../parts/marks.tsx';
import { parseSearch } from '../search.ts';

/** A flag, as the list reads it. */
export interface ListedFlag extends FlagState {
  readonly id: string;
  readonly flagKey: string;
  readonly environment: string;
  readonly createdAt: string;
  /** `by` is missing for viewers. */
  readonly lastChange: { readonly at: string; readonly by?: string | null } | null;
}

export interface ListedSchedule {
  readonly id: string;
  readonly scheduledAt: string;
  readonly attempts: number;
  readonly updates: FlagUpdates;
}

type WithFlag = ListedSchedule & { readonly flag: ListedFlag | null };

/** What the server said so far. */
export interface Listed {
  /** Schedules that came due and wait for a person, the latest first. */
  readonly suspended: readonly (WithFlag & { readonly suspendedFor: string | null })[];
  /** Schedules that failed lately. */
  readonly failed: readonly WithFlag[];
  /** The pending ones that come first, by time. */
  readonly pending: readonly WithFlag[];
  /** Flags by key, as far as their pages are loaded. */
  readonly flags: readonly (ListedFlag & { readonly nextSchedule: ListedSchedule | null })[];
}

/** What comes next of a flag, or what is wrong with it. */
export interface NextChange {
  readonly status: Status;
  readonly at: number;
  /** As `50%`, or `on, after 5 tries`. */
  readonly text: string;
}

export interface FlagRow {
  readonly flag: ListedFlag;
  readonly next: NextChange | null;
  readonly group: 'someone' | 'ahead' | 'rest';
}

/** What the filter of the list knows: `is:on`, `is:off`, `is:failed`, `is:suspended`, `is:conflict`, `is:pending`. */
export const FILTERS = ['is'] as const;

/** Whether a failure still waits for someone: the flag has not been changed since. */
const isOpen = ({ scheduledAt, flag }: WithFlag): boolean =>
  Date.parse(flag?.lastChange?.at ?? '') > Date.parse(scheduledAt) ? false : flag !== null;

const timeOf = ({ scheduledAt }: ListedSchedule): number => Date.parse(scheduledAt);

function nextOf(schedule: ListedSchedule, together: ListedSchedule | undefined): NextChange {
  const { attempts, updates } = schedule;
  const text = updatesText(updates);
  const at = timeOf(schedule);
  if (together !== undefined && isConflict([updates, together.updates]))
    return {
      status: 'conflict',
      at,
      text: `${text} or ${updatesText(together.updates)}: two changes`,
    };
  return attempts > 0
    ? { status: 'uncertain', at, text: `${text}, tried ${attempts} times` }
    : { status: 'pending', at, text };
}

/** The rows of one environment: what needs someone, then what changes by its time, then the others by key. */
export function rowsOf({ failed, suspended, pending, flags }: Listed): FlagRow[] {
  const rows = new Map<string, FlagRow>();
  const asked = Map.groupBy(pending, ({ flag }) => flag?.id ?? '');
  for (const [first, second] of asked.values()) {
    const flag = first?.flag ?? null;
    if (first === undefined || flag === null) continue;
    const together = second?.scheduledAt === first.scheduledAt ? second : undefined;
    const next = nextOf(first, together);
    rows.set(flag.id, { flag, next, group: next.status === 'conflict' ? 'someone' : 'ahead' });
  }
  for (const { nextSchedule, ...flag } of flags) {
    const known = rows.get(flag.id);
    const next = known?.next ?? (nextSchedule === null ? null : nextOf(nextSchedule, undefined));
    rows.set(flag.id, { flag, next, group: known?.group ?? (next === null ? 'rest' : 'ahead') });
  }
  for (const schedule of suspended.toReversed()) {
    const { flag, updates, suspendedFor } = schedule;
    if (flag === null) continue;
    const next: NextChange = {
      ...{ status: 'suspended', at: timeOf(schedule) },
      text: `${updatesText(updates)}, ${suspendedFor === 'conflict' ? 'for a conflict' : 'by the pause'}`,
    };
    rows.set(flag.id, { flag, next, group: 'someone' });
  }
  // The last failure of each stands first in the list, so the earlier ones are set before it.
  for (const schedule of failed.filter(isOpen).toReversed()) {
    if (schedule.flag === null) continue;
    const { updates, attempts } = schedule;
    const then = rows.get(schedule.flag.id)?.next ?? null;
    const again =
      then === null || PAST.includes(then.status) ? '' : `; ${then.text} is scheduled again`;
    rows.set(schedule.flag.id, {
      ...{ flag: schedule.flag, group: 'someone' },
      next: {
        status: 'failed',
        at: timeOf(schedule),
        text: `${updatesText(updates)}, after ${attempts} ${attempts === 1 ? 'try' : 'tries'}${again}`,
      },
    });
  }
  return [...rows.values()].sort(compare);
}

const GROUPS = ['someone', 'ahead', 'rest'] as const;

function compare(a: FlagRow, b: FlagRow): number {
  const group = GROUPS.indexOf(a.group) - GROUPS.indexOf(b.group);
  const failed = Number(b.next?.status === 'failed') - Number(a.next?.status === 'failed');
  return (
    group ||
    failed ||
    (a.next?.at ?? 0) - (b.next?.at ?? 0) ||
    (a.flag.flagKey < b.flag.flagKey ? -1 : 1)
  );
}

/** What was to be, and needs someone. */
const PAST: readonly Status[] = ['failed', 'suspended'];

/** Whether a row is what the filter asks for: each word is part of the key, and each `is:` holds. */
export function matches({ flag, next }: FlagRow, text: string): boolean {
  const { words, filters } = parseSearch(text, FILTERS);
  const key = flag.flagKey.toLowerCase();
  return (
    words.every((word) => key.includes(word)) &&
    (filters.get('is') ?? []).every((value) => {
      const is = value.toLowerCase();
      if (is === 'on') return flag.enabled;
      if (is === 'off') return !flag.enabled;
      if (is === 'pending') return next !== null && !PAST.includes(next.status);
      return next?.status === is;
    })
  );
}

/** What of the filter the server does: the longest word, and on or off. */
export function serverFilter(text: string): { text?: string; enabled?: boolean } {
  const { words, filters } = parseSearch(text, FILTERS);
  const [word] = words.toSorted((a, b) => b.length - a.length);
  const is = (filters.get('is') ?? []).map((value) => value.toLowerCase());
  return {
    ...(word === undefined ? {} : { text: word }),
    ...(is.includes('on') ? { enabled: true } : is.includes('off') ? { enabled: false } : {}),
  };
}

/** The heading of a group. */
export function groupName(group: FlagRow['group'], count: number, before: boolean): string {
  if (group === 'someone') return count === 1 ? '1 needs someone' : `${count} need someone`;
  if (group === 'ahead') return `${count}${before ? ' more' : ''} with changes ahead`;
  return `${count} with nothing ahead`;
}
