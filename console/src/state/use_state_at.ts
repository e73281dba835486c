import { useMemo, useRef } from 'preact/hooks';
import { now } from '../data/clock.ts';
import { sinceHorizon } from '../data/horizon.ts';
import { readsTrail, shownEnvironments } from '../data/person.ts';
import { useFirstError, useResources } from '../data/resource.ts';
import { AHEAD, PAST, SCHEDULES } from '../timeline/documents.ts';
import { rowsOf, type Mark } from '../timeline/model.ts';
import { HOUR } from '../time/zone.ts';
import { DECIDERS, STATE_AT, STATE_NOW, type StateAt } from './documents.ts';
import { stateRows, statesNow, type StateRow } from './model.ts';
import { windowOf } from './window.ts';

const asText = (at: number): string => new Date(at).toISOString();

/** The last value that there was, while another one is asked for; another key begins again. */
function useKept<T>(key: string, value: T | null): T | null {
  const kept = useRef<{ readonly key: string; readonly value: T | null }>({ key, value });
  if (value !== null || kept.current.key !== key) kept.current = { key, value };
  return kept.current.value;
}

/** The marks around now and the instant, of each environment. */
function useMarks(at: number) {
  const range = windowOf(now.value, at);
  const { to } = range;
  const from = Math.min(sinceHorizon(range.from), to);
  const names = from < to ? shownEnvironments.value : [];
  // What lies ahead begins with this quarter: what is overdue stands among the schedules.
  const ahead = Math.min(Math.max(from, Math.floor(now.value / 900_000) * 900_000), to - 1);
  const each = (since: number) =>
    names.map((environment) => ({ environment, from: asText(since), to: asText(to) }));
  const past = useResources(PAST, each(from));
  const upcoming = useResources(AHEAD, each(ahead));
  const schedules = useResources(SCHEDULES, each(from));
  const found = [...past, ...upcoming, ...schedules];
  const error = useFirstError(found);
  const answers = found.map(({ data }) => data.value);
  const marks = useMemo((): Mark[][] | null => {
    const all: Mark[][] = [];
    for (const [i, environment] of names.entries()) {
      const was = past[i]?.data.value ?? null;
      const will = upcoming[i]?.data.value ?? null;
      const asked = schedules[i]?.data.value ?? null;
      if (was === null || will === null || asked === null) return null;
      const rows = rowsOf(environment, { ...was, ...will, ...asked }, { from, to, now: now.value });
      all.push(rows.flatMap((row) => row.marks).sort((a, b) => a.at - b.at));
    }
    return all;
  }, [...answers, from, to]);
  return { range, marks: useKept(names.join(' '), marks), error, found };
}

/** Who asked for a schedule, and why. */
export interface Decider {
  readonly by: string | null;
  readonly reason: string | null;
  /** What its plan is called. */
  readonly plan: string | null;
}

/** Who asked for the pending schedules between now and the instant: of the last hundred. */
function useDeciders(at: number): ReadonlyMap<string, Decider> {
  const names = shownEnvironments.value;
  const isAsked = readsTrail.value && at > now.value;
  const from = Math.floor(now.value / HOUR) * HOUR;
  const found = useResources(
    DECIDERS,
    isAsked
      ? names.map((environment) => ({ environment, from: asText(from), to: asText(at + 1) }))
      : [],
  );
  const answers = found.map(({ data }) => data.value);
  return useMemo(() => {
    const deciders = new Map<string, Decider>();
    for (const answer of answers)
      for (const { id, requestedBy, createdBy, reason, plan } of answer?.featureFlagSchedules
        ?.nodes ?? [])
        deciders.set(id, {
          ...{ by: requestedBy ?? createdBy, reason, plan: plan?.title ?? null },
        });
    return deciders;
  }, answers);
}

/**
 * All flags at an instant, beside what they are now.
 *
 * @param chosen milliseconds since 1970; null for now
 */
export function useStateAt(chosen: number | null) {
  const names = shownEnvironments.value;
  const at = chosen ?? now.value;
  const base = Math.floor(now.value / HOUR) * HOUR;
  const present = useResources(
    STATE_NOW,
    names.map((environment) => ({
      ...{ environment, from: asText(base), to: asText(base + 2 * HOUR) },
    })),
  );
  const then = useResources(
    STATE_AT,
    chosen === null ? [] : names.map((environment) => ({ environment, at: asText(chosen) })),
  );
  const found = [...present, ...then];
  const error = useFirstError(found);
  const scale = useMarks(at);
  const deciders = useDeciders(at);
  const facts = present.map(({ data }) => data.value);
  const states = useMemo(
    () => (facts.every((one) => one !== null) ? facts.map((one) => statesNow(one)) : null),
    facts,
  );
  const nowStates = useKept(names.join(' '), states);
  const answers: (StateAt | null)[] = then.map(({ data }) => data.value?.flagStateAt ?? null);
  const isReady = nowStates !== null && answers.every((answer) => answer !== null);
  // Not with each second: which changes lie between now and then is a matter of minutes.
  const minute = Math.floor(now.value / 60_000) * 60_000;
  const rows = useMemo((): StateRow[] => {
    if (!isReady) return [];
    const span = { now: minute, at: chosen ?? minute };
    return names.flatMap((environment, i) =>
      stateRows(
        environment,
        nowStates[i] ?? new Map(),
        answers[i] ?? null,
        scale.marks?.[i] ?? [],
        span,
      ),
    );
  }, [nowStates, scale.marks, minute, chosen, isReady, ...answers]);
  const marks = useMemo(
    () => (scale.marks ?? []).flat().sort((a, b) => a.at - b.at),
    [scale.marks],
  );
  return { at, names, found, error, isReady, rows, answers, deciders, scale: { ...scale, marks } };
}
