import { useMemo, useRef } from 'preact/hooks';
import { now } from '../data/clock.ts';
import { shownEnvironments } from '../data/person.ts';
import { useFirstError, useResources } from '../data/resource.ts';
import { AHEAD, PAST, SCHEDULES } from './documents.ts';
import { rowsOf, type Row } from './model.ts';
import { range, type Range } from './range.ts';

const asText = (at: number): string => new Date(at).toISOString();

/** The rows of all environments that are shown, by what the server last said. */
export function useRows() {
  const { from, to } = range.value;
  const names = shownEnvironments.value;
  // What lies ahead begins with this minute: what is overdue since stands among the schedules.
  const ahead = Math.min(Math.max(from, Math.floor(now.value / 60_000) * 60_000), to - 1);
  const each = (since: number) =>
    names.map((environment) => ({ environment, from: asText(since), to: asText(to) }));
  const past = useResources(PAST, each(from));
  const upcoming = useResources(AHEAD, each(ahead));
  const schedules = useResources(SCHEDULES, each(from));
  const found = [...past, ...upcoming, ...schedules];
  const error = useFirstError(found);
  // Bands change their look at now: a step that is less than a pixel is enough.
  const step = (to - from) / 1_000;
  const upTo = Math.floor(now.value / step) * step;
  const answers = found.map(({ data }) => data.value);
  const rows = useMemo((): Row[] | null => {
    const all: Row[] = [];
    for (const [i, environment] of names.entries()) {
      const was = past[i]?.data.value ?? null;
      const will = upcoming[i]?.data.value ?? null;
      const asked = schedules[i]?.data.value ?? null;
      if (was === null || will === null || asked === null) return null;
      all.push(...rowsOf(environment, { ...was, ...will, ...asked }, { from, to, now: upTo }));
    }
    return all;
  }, [...answers, upTo, from, to]);
  const shown = useMemo((): Range => ({ from, to }), [from, to]);
  // While another span is asked for, the one before stays.
  const last = useRef<{ readonly rows: Row[]; readonly range: Range } | null>(null);
  if (rows !== null) last.current = { range: shown, rows };
  return { found, error, last: last.current };
}
