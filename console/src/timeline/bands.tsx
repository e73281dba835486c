import { shareOf } from '../parts/flag_state.tsx';
import type { Segment } from './model.ts';
import type { Range } from './range.ts';
import { bandHeight, baseline, percent, x } from './scale.ts';

/** The states of a flag over time, as bands whose height is the share of users. */
export function Bands({
  segments,
  range,
  height,
}: {
  readonly segments: readonly Segment[];
  readonly range: Range;
  readonly height: number;
}) {
  const floor = baseline(height);
  return (
    <>
      <line class="base" x1="0" x2="100%" y1={floor} y2={floor} />
      {segments.map(({ from, to, state, isPlanned, isCertain }) => {
        const tall = bandHeight(shareOf(state), height);
        // What may not come so is a dotted line, also where it is off.
        if (tall === 0 && isCertain) return null;
        const top = floor - tall;
        const width = percent(to, range) - percent(from, range);
        return (
          <g key={`${from} ${isPlanned}`}>
            <rect
              class={isPlanned ? (isCertain ? 'plan' : 'plan unsure') : 'band'}
              x={x(from, range)}
              width={`${width.toFixed(3)}%`}
              y={top}
              height={tall}
            />
            <line
              class={isPlanned ? (isCertain ? 'plantop' : 'plantop unsure') : 'bandtop'}
              x1={x(from, range)}
              x2={x(to, range)}
              y1={top}
              y2={top}
            />
          </g>
        );
      })}
    </>
  );
}
