import { useRef } from 'preact/hooks';
import { density } from '../settings.ts';
import { Axis, Grid, NowLine } from './axis.tsx';
import { Lane } from './lane.tsx';
import type { Row } from './model.ts';
import { Overview } from './overview.tsx';
import type { Range } from './range.ts';
import { useWidth, useWindow } from './use_size.ts';

interface Props {
  readonly rows: readonly Row[];
  readonly range: Range;
  readonly chosen: string;
  /** Rows that are folded away, as they have no change in view. */
  readonly hidden: number;
  readonly onShowAll: () => void;
}

const ROW = { comfortable: 46, dense: 32 } as const;

/** All flags over time: a row each, of which those near the screen are in the document. */
export function Chart({ rows, range, chosen, hidden, onShowAll }: Props) {
  const axis = useRef<HTMLDivElement>(null);
  const body = useRef<HTMLDivElement>(null);
  const height = density.value === 'dense' ? ROW.dense : ROW.comfortable;
  const width = useWidth(axis, 720).value;
  const { first, last } = useWindow(body, rows.length, height);
  const failed = rows.filter(({ marks }) => marks.some(({ status }) => status === 'failed'));
  const environments = Map.groupBy(rows, ({ environment }) => environment);
  const drawn = rows.slice(first, last);
  return (
    <div class="chart">
      <div class="measure" ref={axis} />
      <Overview range={range} />
      <Axis range={range} width={width} />
      <div class="lanes" ref={body}>
        <Grid range={range} width={width} />
        <div style={{ height: `${first * height}px` }} />
        {drawn.flatMap((row, i) => [
          i === 0 || drawn[i - 1]?.environment !== row.environment ? (
            <div key={row.environment} class="group">
              {row.environment} · {flags(environments.get(row.environment)?.length ?? 0)}
              {hidden > 0 ? ' with changes in view' : ''}
            </div>
          ) : null,
          <Lane
            key={`${row.environment} ${row.flagKey}`}
            {...{ row, range, width, height, chosen }}
          />,
        ])}
        <div style={{ height: `${Math.max(0, rows.length - last) * height}px` }} />
        <NowLine range={range} />
      </div>
      {(hidden > 0 || failed.length > 0) && (
        <div class="more">
          {hidden > 0 && (
            <button type="button" class="link" onClick={onShowAll}>
              Show {flags(hidden)} without changes here
            </button>
          )}
          {failed.length > 0 && <span class="push">{failed.length} with a failed change</span>}
        </div>
      )}
    </div>
  );
}

const flags = (n: number): string => (n === 1 ? '1 flag' : `${n} flags`);
