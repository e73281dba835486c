import { useMemo, useRef } from 'preact/hooks';
import { Grid, NowLine } from './axis.tsx';
import { Lane } from './lane.tsx';
import type { Row } from './model.ts';
import type { Range } from './range.ts';
import { useWindow } from './use_size.ts';

interface Props {
  readonly rows: readonly Row[];
  readonly range: Range;
  /** Of the axis, and of a row, in pixels. */
  readonly width: number;
  readonly height: number;
  readonly chosen: string;
  /** Whether flags without changes are left out. */
  readonly isFolded: boolean;
}

/** As `1 flag`. */
export const countText = (n: number): string => (n === 1 ? '1 flag' : `${n} flags`);

/** A row for each flag, of which those near the screen are in the document. A scroll draws this part of the chart alone. */
export function Lanes({ rows, range, width, height, chosen, isFolded }: Props) {
  const body = useRef<HTMLDivElement>(null);
  const { first, last } = useWindow(body, rows.length, height);
  const environments = useMemo(() => Map.groupBy(rows, ({ environment }) => environment), [rows]);
  const drawn = rows.slice(first, last);
  return (
    <div class="lanes" ref={body}>
      <Grid range={range} width={width} />
      <div style={{ height: `${first * height}px` }} />
      {drawn.flatMap((row, i) => [
        i === 0 || drawn[i - 1]?.environment !== row.environment ? (
          <div key={row.environment} class="group">
            {row.environment} · {countText(environments.get(row.environment)?.length ?? 0)}
            {isFolded ? ' with changes in view' : ''}
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
  );
}
