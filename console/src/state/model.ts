import type { FlagState } from '../parts/flag_state.tsx';
import type { Mark } from '../timeline/model.ts';
import type { NowFacts, StateAt } from './documents.ts';

/** What decides a flag's state at an instant. */
export interface Sources {
  /** Of the future: the schedules, and when they come. */
  readonly schedules: readonly {
    readonly id: string;
    readonly at: string;
    /** The plan that it belongs to. */
    readonly planId: string | null;
  }[];
  /** Of the past: the event. `isAfter`: the first event after the instant, which says what was before it. */
  readonly event: { readonly id: string; readonly at: string; readonly isAfter: boolean } | null;
}

export interface StateRow {
  readonly environment: string;
  readonly flagKey: string;
  /** Null for a flag that isn't there any more. */
  readonly now: FlagState | null;
  /** Null for a flag that wasn't there yet. */
  readonly then: FlagState | null;
  readonly certain: boolean;
  readonly sources: Sources;
  /** What it may be, as `30% or 0%`: two changes at the instant that decides, of which one wins by its id. */
  readonly conflict: string | null;
  /** Changes between now and then that are undone by then. */
  readonly between: readonly Mark[];
}

type Json = Readonly<Record<string, unknown>>;

const isRecord = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const text = (value: unknown): string => (typeof value === 'string' ? value : '');

/** Reads `sources` of the API: an event of the past, or a schedule for each field that one will have changed. */
export function readSources(value: unknown): Sources {
  if (!isRecord(value)) return { schedules: [], event: null };
  const { event, ...fields } = value;
  const schedules = new Map<string, Sources['schedules'][number]>();
  for (const field of Object.values(fields))
    if (isRecord(field) && typeof field.schedule_id === 'string')
      schedules.set(field.schedule_id, {
        ...{ id: field.schedule_id, at: text(field.at) },
        planId: text(field.plan_id) || null,
      });
  return {
    schedules: [...schedules.values()].sort((a, b) => Date.parse(a.at) - Date.parse(b.at)),
    event: isRecord(event)
      ? { id: text(event.id), at: text(event.at), isAfter: event.is_after === true }
      : null,
  };
}

/** The states as of now, by flag key: those of a while ago, and what happened since. */
export function statesNow({ flagStateAt, flagChanges }: NowFacts): Map<string, FlagState> {
  const states = new Map<string, FlagState>(flagStateAt.map((state) => [state.flagKey, state]));
  for (const { flagKey, deleted, ...state } of flagChanges) {
    if (deleted) states.delete(flagKey);
    else states.set(flagKey, state);
  }
  return states;
}

const same = (a: FlagState | null, b: FlagState | null): boolean =>
  a?.enabled === b?.enabled && a?.rolloutPercentage === b?.rolloutPercentage;

export const differs = ({ now, then }: Pick<StateRow, 'now' | 'then'>): boolean => !same(now, then);

/** Whether a mark is a change of state, and not of a schedule alone. */
export const isChange = ({ before, after, status }: Mark): boolean =>
  after !== null && status !== 'cancelled' && !same(before, after);

interface Span {
  readonly now: number;
  readonly at: number;
}

/**
 * The flags of one environment now and at an instant: those that differ first, then by key.
 *
 * @param then null while it isn't known: nothing differs from now
 * @param marks of the environment, by time
 */
export function stateRows(
  environment: string,
  present: ReadonlyMap<string, FlagState>,
  then: StateAt | null,
  marks: readonly Mark[],
  { now, at }: Span,
): StateRow[] {
  const found = new Map((then ?? []).map((state) => [state.flagKey, state]));
  const keys = [...new Set([...present.keys(), ...found.keys()])].sort();
  const from = Math.min(now, at);
  const to = Math.max(now, at);
  const changes = Map.groupBy(
    marks.filter((mark) => mark.at > from && mark.at <= to && isChange(mark)),
    ({ flagKey }) => flagKey,
  );
  const rows = keys.map((flagKey): StateRow => {
    const state = found.get(flagKey) ?? null;
    const is = present.get(flagKey) ?? null;
    const was = then === null ? is : state;
    const sources = readSources(state?.sources);
    const ids = new Set(sources.schedules.map(({ id }) => id));
    const undecided = marks.find((mark) => mark.isTogether && ids.has(mark.id));
    return {
      ...{ environment, flagKey, now: is, then: was, sources },
      certain: state?.certain ?? true,
      conflict: undecided?.label ?? null,
      between: same(is, was) ? (changes.get(flagKey) ?? []) : [],
    };
  });
  return rows.sort(
    (a, b) => Number(differs(b)) - Number(differs(a)) || a.flagKey.localeCompare(b.flagKey),
  );
}

/**
 * From when on a change holds: of the past a millisecond behind it, as the database's clock has microseconds; of the future the time that
 * it is scheduled for.
 */
export const changeTime = ({
  at,
  lateMs,
  status,
}: Pick<Mark, 'at' | 'lateMs' | 'status'>): number =>
  status === 'applied' || status === 'changed' ? at + (lateMs ?? 0) + 1 : at;

/** The changes nearest to an instant, before and behind it; null where the marks have none. */
export function neighbours(marks: readonly Mark[], at: number) {
  const times = marks
    .filter(isChange)
    .map(changeTime)
    .sort((a, b) => a - b);
  return {
    before: times.findLast((time) => time < at) ?? null,
    behind: times.find((time) => time > at) ?? null,
  };
}

/**
 * The answer as the REST API writes it.
 *
 * @param at milliseconds since 1970, as is `now`
 */
export const jsonOf = (environment: string, states: StateAt, { now, at }: Span): unknown => ({
  ...{ environment, at: new Date(at).toISOString(), kind: at <= now ? 'fact' : 'projection' },
  flags: states.map(({ flagKey, enabled, rolloutPercentage, certain, sources }) => ({
    ...{ flag_key: flagKey, enabled, rollout_percentage: rolloutPercentage, certain, sources },
  })),
});
