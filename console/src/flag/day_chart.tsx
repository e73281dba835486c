import { useMemo, useRef } from 'preact/hooks';
import { now } from '../data/clock.ts';
import { useResource } from '../data/resource.ts';
import { shareOf, type FlagState } from '../parts/flag_state.tsx';
import { Failure } from '../parts/note.tsx';
import { param } from '../router.ts';
import { zone } from '../settings.ts';
import { DAY, HOUR } from '../time/zone.ts';
import { Axis, Grid, NowLine } from '../timeline/axis.tsx';
import { Marks } from '../timeline/lane.tsx';
import { rowsOf, type Facts, type Row } from '../timeline/model.ts';
import type { Range } from '../timeline/range.ts';
import { baseline, bandHeight } from '../timeline/scale.ts';
import { useWidth } from '../timeline/use_size.ts';
import { FLAG_SPAN } from './documents.ts';
import { upcomingOf, type Foreseen, type PendingOfFlag, type SuspendedOfFlag } from './entries.ts';

/** The flag of the page. */
export interface ShownFlag extends FlagState {
  readonly flagKey: string;
  readonly environment: string;
  readonly createdAt: string;
  readonly pending: { readonly nodes: readonly PendingOfFlag[] };
  readonly suspended: { readonly nodes: readonly SuspendedOfFlag[] };
}

const HEIGHT = 84;
/** Changes of a day that are drawn. */
const MOST = 1_000;
const BEHIND = 9 * HOUR;

/** A day around now, from a whole hour on. */
const dayAround = (at: number): Range => {
  const from = Math.floor((at - BEHIND) / HOUR) * HOUR;
  return { from, to: from + DAY };
};

/** The state at the beginning of a span: before its first change, or as it is now. */
function startOf(flag: ShownFlag, changes: Facts['flagChanges'], from: number): FlagState | null {
  const [first] = changes;
  if (first === undefined) return Date.parse(flag.createdAt) <= from ? flag : null;
  const { wasEnabled: enabled, wasRolloutPercentage: rolloutPercentage } = first;
  return enabled === null || rolloutPercentage === null ? null : { enabled, rolloutPercentage };
}

/** The row of one flag, by what the server says of its past and what is pending. */
export function rowOfFlag(
  flag: ShownFlag,
  { flagChanges, schedulesBetween }: Pick<Facts, 'flagChanges' | 'schedulesBetween'>,
  span: Range & { readonly now: number },
  foreseen: Foreseen | null = null,
): Row {
  const { environment, flagKey } = flag;
  const start = startOf(flag, flagChanges, span.from);
  const facts: Facts = {
    flagStateAt: start === null ? [] : [{ ...start, flagKey }],
    ...{ flagChanges, schedulesBetween },
    upcomingChanges: foreseen ?? upcomingOf(flagKey, flag, flag.pending.nodes, span.now),
  };
  const [row] = rowsOf(environment, facts, span);
  return row ?? { environment, flagKey, current: flag, segments: [], marks: [] };
}

interface Props {
  readonly flag: ShownFlag;
  /** Null where the flag's own schedules say what comes. */
  readonly foreseen: Foreseen | null;
}

/** The flag's states from some hours ago to some hours ahead. */
export function DayChart({ flag, foreseen }: Props) {
  const measure = useRef<HTMLDivElement>(null);
  const width = useWidth(measure, 720).value;
  const { from, to } = dayAround(now.value);
  const range = useMemo(() => ({ from, to }), [from, to]);
  const { environment, flagKey } = flag;
  const found = useResource(FLAG_SPAN, {
    ...{ environment, flagKey, first: MOST },
    ...{ from: new Date(from).toISOString(), to: new Date(to).toISOString() },
  });
  const facts = found.data.value;
  // A band that ends at now moves by a pixel in a minute.
  const minute = Math.floor(now.value / 60_000) * 60_000;
  const row = useMemo(
    () => (facts === null ? null : rowOfFlag(flag, facts, { ...range, now: minute }, foreseen)),
    [facts, flag, range, minute, foreseen],
  );
  return (
    <div class="chart">
      <Failure isPart error={found.error} refetch={found.refetch} />
      <div class="measure" ref={measure} />
      <Axis range={range} width={width} />
      <div class="lanes">
        <Grid range={range} width={width} />
        <div class="lane tall">
          <div class="name">
            <strong>Share of users</strong>
            <span class="small muted">{shareOf(flag)}% now</span>
          </div>
          {row === null ? (
            <svg aria-hidden="true" />
          ) : (
            <Marks {...{ row, range, width, height: HEIGHT, chosen: param('sel') }}>
              {[50, 100].map((share) => (
                <Level key={share} share={share} />
              ))}
            </Marks>
          )}
        </div>
        <NowLine range={range} />
      </div>
      <span class="vh">All times in {zone.value}</span>
    </div>
  );
}

/** A line at a share of users, with its name. */
function Level({ share }: { readonly share: number }) {
  const y = baseline(HEIGHT) - bandHeight(share, HEIGHT);
  return (
    <>
      <line class="tick" x1="0" x2="100%" y1={y} y2={y} />
      <text class="tlab sc" x="4" y={share === 100 ? y - 3 : y + 4}>
        {share}%
      </text>
    </>
  );
}
