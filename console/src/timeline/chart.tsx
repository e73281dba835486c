import { useRef } from 'preact/hooks';
import { density } from '../settings.ts';
import { Axis } from './axis.tsx';
import { countText, Lanes } from './lanes.tsx';
import type { Row } from './model.ts';
import { Overview } from './overview.tsx';
import type { Range } from './range.ts';
import { useWidth } from './use_size.ts';

interface Props {
  readonly rows: readonly Row[];
  readonly range: Range;
  readonly chosen: string;
  /** Rows that are folded away, as they have no change in view. */
  readonly hidden: number;
  readonly onShowAll: () => void;
}

const ROW = { comfortable: 46, dense: 32 } as const;

/** All flags over time. */
export function Chart({ rows, range, chosen, hidden, onShowAll }: Props) {
  const axis = useRef<HTMLDivElement>(null);
  const height = density.value === 'dense' ? ROW.dense : ROW.comfortable;
  const width = useWidth(axis, 720).value;
  const failed = rows.filter(({ marks }) => marks.some(({ status }) => status === 'failed'));
  return (
    <div class="chart">
      <div class="measure" ref={axis} />
      <Overview range={range} />
      <Axis range={range} width={width} />
      <Lanes {...{ rows, range, width, height, chosen }} isFolded={hidden > 0} />
      {(hidden > 0 || failed.length > 0) && (
        <div class="more">
          {hidden > 0 && (
            <button type="button" class="link" onClick={onShowAll}>
              Show {countText(hidden)} without changes here
            </button>
          )}
          {failed.length > 0 && <span class="push">{failed.length} with a failed change</span>}
        </div>
      )}
    </div>
  );
}
