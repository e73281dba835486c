import type { FlagState, FlagUpdates } from '../parts/flag_state.tsx';
import { applyUpdates, isConflict, shortState, updatesText } from '../parts/flag_state.tsx';
import { statusOf, type Status } from '../parts/marks.tsx';

/** What the server says of one environment and span: see documents.ts. */
export interface Facts {
  readonly flagStateAt: readonly (FlagState & { readonly flagKey: string })[];
  readonly flagChanges: readonly {
    readonly at: string;
    readonly flagKey: string;
    readonly enabled: boolean;
    readonly rolloutPercentage: number;
    /** The flag is gone since. */
    readonly deleted: boolean;
    readonly wasEnabled: boolean | null;
    readonly wasRolloutPercentage: number | null;
    readonly scheduleId: string | null;
  }[];
  readonly upcomingChanges: readonly (FlagState & {
    readonly at: string;
    readonly flagKey: string;
    readonly scheduleId: string | null;
    /** Whether it will come so: not where it is overdue, or its environment is paused. */
    readonly certain: boolean;
    /** It finds another value than it expects, or another change of the field comes at its instant. */
    readonly inConflict: boolean;
  })[];
  readonly schedulesBetween: readonly {
    readonly id: string;
    readonly flagKey: string;
    readonly at: string;
    readonly updates: FlagUpdates;
    readonly status: string;
    readonly appliedAt: string | null;
    /** The plan that it belongs to; null for a change by itself. */
    readonly planId: string | null;
  }[];
}

export interface Segment {
  readonly from: number;
  readonly to: number;
  readonly state: FlagState;
  /** Behind now: what will be, if nothing else happens. */
  readonly isPlanned: boolean;
  /** Of what will be: nothing makes it doubtful. */
  readonly isCertain: boolean;
}

export interface Mark {
  /** The schedule's id, or a name made of flag and time for a change that no schedule made. */
  readonly id: string;
  readonly environment: string;
  readonly flagKey: string;
  readonly scheduleId: string | null;
  readonly planId: string | null;
  readonly at: number;
  readonly status: Status;
  /** The state before and after; `after` is null where nothing changes, as for a cancelled schedule. */
  readonly before: FlagState | null;
  readonly after: FlagState | null;
  /** What the schedule sets; null for a change that no schedule made. */
  readonly updates: FlagUpdates | null;
  /** Beside the mark, as `50%`. */
  readonly label: string;
  /** Of a conflict: whether several changes come at its instant. Else the flag will have another value than it expects. */
  readonly isTogether: boolean;
  /** Milliseconds from the instant that was asked for to the change; null where it doesn't apply. */
  readonly lateMs: number | null;
}

export interface Row {
  readonly environment: string;
  readonly flagKey: string;
  /** As of now; null for a flag that isn't there yet. */
  readonly current: FlagState | null;
  readonly segments: readonly Segment[];
  readonly marks: readonly Mark[];
}

export interface Span {
  readonly from: number;
  readonly to: number;
  readonly now: number;
}

const same = (a: FlagState, b: FlagState): boolean =>
  a.enabled === b.enabled && a.rolloutPercentage === b.rolloutPercentage;

const grouped = <T extends { readonly flagKey: string }>(list: readonly T[]) =>
  Map.groupBy(list, ({ flagKey }) => flagKey);

/** Makes the rows of the chart of one environment, by flag key: states over time, and marks. */
export function rowsOf(environment: string, facts: Facts, span: Span): Row[] {
  const states = new Map(facts.flagStateAt.map((state) => [state.flagKey, state]));
  const changes = grouped(facts.flagChanges);
  const upcoming = grouped(facts.upcomingChanges);
  const schedules = grouped(facts.schedulesBetween);
  const keys = new Set([
    ...states.keys(),
    ...changes.keys(),
    ...upcoming.keys(),
    ...schedules.keys(),
  ]);
  return [...keys].sort().map((flagKey) =>
    rowOf(environment, flagKey, span, {
      start: states.get(flagKey) ?? null,
      changes: changes.get(flagKey) ?? [],
      upcoming: upcoming.get(flagKey) ?? [],
      schedules: schedules.get(flagKey) ?? [],
    }),
  );
}

interface FlagFacts {
  readonly start: FlagState | null;
  readonly changes: Facts['flagChanges'];
  readonly upcoming: Facts['upcomingChanges'];
  readonly schedules: Facts['schedulesBetween'];
}

function rowOf(environment: string, flagKey: string, span: Span, facts: FlagFacts): Row {
  const { from, to } = span;
  const past = facts.changes.map((change) => ({ at: Date.parse(change.at), change }));
  const future = facts.upcoming.map((change) => ({ at: Date.parse(change.at), change }));
  // `now` may be some seconds behind: what has happened is no plan.
  const now = Math.max(span.now, past.at(-1)?.at ?? 0);
  const steps: { at: number; state: FlagState | null; isCertain: boolean }[] = [
    ...past.map(({ at, change }) => ({
      ...{ at, state: change.deleted ? null : change, isCertain: true },
    })),
    ...future.map(({ at, change }) => ({
      at,
      state: change,
      isCertain: change.certain && !change.inConflict,
    })),
  ];
  const segments: Segment[] = [];
  let state = facts.start;
  let isCertain = true;
  let since = from;
  const close = (until: number): void => {
    if (state === null || until <= since) return;
    // The band changes its look at now.
    const middle = Math.min(Math.max(now, since), until);
    if (middle > since)
      segments.push({ from: since, to: middle, state, isPlanned: false, isCertain: true });
    if (until > middle)
      segments.push({ from: middle, to: until, state, isPlanned: true, isCertain });
  };
  for (const step of steps) {
    if (step.at > to) break;
    const isSame = state !== null && step.state !== null && same(state, step.state);
    if (isSame && step.isCertain === isCertain) continue;
    close(Math.max(step.at, from));
    since = Math.max(step.at, from);
    ({ state, isCertain } = step);
  }
  close(to);
  const place = { environment, flagKey };
  return {
    ...place,
    current: lastState(facts),
    segments,
    marks: marksOf(place, facts, span),
  };
}

function marksOf(
  place: { readonly environment: string; readonly flagKey: string },
  facts: FlagFacts,
  span: Span,
): Mark[] {
  const marks: Mark[] = [];
  const made = new Map<string, { before: FlagState | null; after: FlagState; at: number }>();
  for (const change of facts.changes) {
    const at = Date.parse(change.at);
    const { wasEnabled, wasRolloutPercentage } = change;
    const before =
      wasEnabled === null || wasRolloutPercentage === null
        ? null
        : { enabled: wasEnabled, rolloutPercentage: wasRolloutPercentage };
    const after = { enabled: change.enabled, rolloutPercentage: change.rolloutPercentage };
    if (change.scheduleId !== null) made.set(change.scheduleId, { before, after, at });
    // A description that changes, or what changes nothing, is no step of the band.
    else if (change.deleted || before === null || !same(before, after))
      marks.push({
        ...place,
        ...{
          id: `${place.environment}:${place.flagKey}:${change.at}`,
          ...{ scheduleId: null, planId: null, at, status: 'changed', isTogether: false },
        },
        ...{
          before,
          after,
          updates: null,
          label: change.deleted ? 'deleted' : shortState(after),
          lateMs: null,
        },
      });
  }
  const planned = new Map<string, Effect>();
  let state: FlagState | null = lastState(facts);
  for (const change of facts.upcoming) {
    const after = { enabled: change.enabled, rolloutPercentage: change.rolloutPercentage };
    const { scheduleId, inConflict } = change;
    if (scheduleId !== null) planned.set(scheduleId, { before: state, after, inConflict });
    state = after;
  }
  for (const schedule of facts.schedules) {
    const { id, appliedAt } = schedule;
    const stays = appliedAt === null ? null : lastState(facts, Date.parse(appliedAt));
    const effect = made.get(id) ?? planned.get(id) ?? (stays && { before: stays, after: stays });
    marks.push(scheduleMark(place, schedule, effect));
  }
  return conflictsOf(marks.sort((a, b) => a.at - b.at)).filter(
    ({ at }) => at >= span.from && at <= span.to,
  );
}

/** The state by then; what was applied and made no change left it so. */
function lastState({ start, changes }: FlagFacts, at = Infinity): FlagState | null {
  const last = changes.findLast((change) => Date.parse(change.at) <= at);
  if (last === undefined) return start;
  return last.deleted ? null : last;
}

/** What a schedule did, or will do. */
interface Effect {
  readonly before: FlagState | null;
  readonly after: FlagState;
  readonly inConflict?: boolean;
}

/** What comes to nothing is named by its status alone. */
const NAMED: readonly Status[] = ['cancelled', 'failed', 'skipped'];

function scheduleMark(
  place: { readonly environment: string; readonly flagKey: string },
  { id, at, updates, status, appliedAt, planId }: Facts['schedulesBetween'][number],
  effect: Effect | null,
): Mark {
  const due = Date.parse(at);
  const found = statusOf(status);
  const shown = found === 'pending' && effect?.inConflict === true ? 'conflict' : found;
  const label = NAMED.includes(found) ? found : updatesText(updates);
  return {
    ...place,
    ...{ id, scheduleId: id, planId, at: due, status: shown, updates, label, isTogether: false },
    before: effect?.before ?? null,
    after: effect?.after ?? null,
    lateMs: appliedAt === null ? null : Math.max(0, Date.parse(appliedAt) - due),
  };
}

const isAhead = ({ status }: Mark): boolean => status === 'pending' || status === 'conflict';

/** Marks two pending changes of one instant that set a field to different values: the one with the greater id wins, which is chance. */
function conflictsOf(marks: Mark[]): Mark[] {
  return marks.map((mark, i) => {
    const other = [marks[i - 1], marks[i + 1]].find(
      (one) =>
        one?.at === mark.at &&
        isAhead(one) &&
        isAhead(mark) &&
        isConflict([mark.updates ?? {}, one.updates ?? {}]),
    );
    if (other === undefined) return mark;
    const label = `${mark.label} or ${other.label}`;
    return { ...mark, status: 'conflict', label, isTogether: true };
  });
}

/** What a person reads of a mark, and a screen reader: flag, environment, status, change. The time follows. */
export const markText = ({ flagKey, environment, status, label }: Mark, word: string): string =>
  `${flagKey} in ${environment}: ${word}${NAMED.includes(status) ? '' : `, ${label}`}`;

/** The state that a schedule's change makes of one. */
export const afterUpdates = (before: FlagState | null, updates: FlagUpdates): FlagState | null =>
  before === null ? null : applyUpdates(before, updates);
