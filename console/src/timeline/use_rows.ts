import { useMemo, useRef } from 'preact/hooks';
import { sinceHorizon } from '../data/horizon.ts';
import { shownEnvironments } from '../data/person.ts';
import { useFirstError, useResources } from '../data/resource.ts';
import { AHEAD, PAST, SCHEDULES } from './documents.ts';
import { rowsOf, type Row } from './model.ts';
import { ahead, coarseNow, range, type Range } from './range.ts';

const asText = (at: number): string => new Date(at).toISOString();

/** What the server answers at most of each list. */
const MOST = 10_000;

const isFull = (answer: object | null): boolean =>
  Object.values(answer ?? {}).some((list: unknown) => Array.isArray(list) && list.length >= MOST);

/** The rows of all environments that are shown, by what the server last said. */
export function useRows() {
  const { from, to } = range.value;
  // Of a span that was purged whole there is nothing to ask.
  const kept = Math.min(sinceHorizon(from), to);
  const names = kept < to ? shownEnvironments.value : [];
  const each = (since: number) =>
    names.map((environment) => ({ environment, from: asText(since), to: asText(to) }));
  const past = useResources(PAST, each(kept));
  const upcoming = useResources(AHEAD, each(Math.max(kept, ahead.value)));
  const schedules = useResources(SCHEDULES, each(kept));
  const found = [...past, ...upcoming, ...schedules];
  const error = useFirstError(found);
  const upTo = coarseNow.value;
  const answers = found.map(({ data }) => data.value);
  const rows = useMemo((): Row[] | null => {
    const all: Row[] = [];
    for (const [i, environment] of names.entries()) {
      const was = past[i]?.data.value ?? null;
      const will = upcoming[i]?.data.value ?? null;
      const asked = schedules[i]?.data.value ?? null;
      if (was === null || will === null || asked === null) return null;
      all.push(
        ...rowsOf(environment, { ...was, ...will, ...asked }, { from: kept, to, now: upTo }),
      );
    }
    return all;
  }, [...answers, upTo, kept, to]);
  const shown = useMemo((): Range => ({ from, to }), [from, to]);
  // While another span is asked for, the one before stays.
  const last = useRef<{ readonly rows: Row[]; readonly range: Range } | null>(null);
  if (rows !== null) last.current = { range: shown, rows };
  const isCut = found.some(({ data }) => isFull(data.value));
  return { found, error, last: last.current, isCut };
}
