import { now } from '../data/clock.ts';
import { zone } from '../settings.ts';
import { dayText, timeText } from '../time/format.ts';
import { ticksBetween } from '../time/ticks.ts';
import { DAY } from '../time/zone.ts';
import type { Range } from './range.ts';
import { percent, x } from './scale.ts';

/** Pixels that a tick with its label needs. */
const TICK_WIDTH = 72;

export const ticksOf = (range: Range, width: number) =>
  ticksBetween(range.from, range.to, zone.value, Math.max(2, Math.floor(width / TICK_WIDTH)));

interface Props {
  readonly range: Range;
  readonly width: number;
}

/** Times at round hours of the display zone's clocks, and now. */
export function Axis({ range, width }: Props) {
  const shown = zone.value;
  const at = now.value;
  const isNowSeen = at >= range.from && at <= range.to;
  const isNear = (tick: number): boolean => percent(tick, range) < 3 || percent(tick, range) > 97;
  return (
    <div class="lane axis">
      <div class="name">
        <span class="small muted">{shown}</span>
      </div>
      <svg
        role="img"
        aria-label={`Time axis in ${shown}${isNowSeen ? `; now is ${timeText(at, shown)}` : ''}`}
      >
        {ticksOf(range, width)
          .filter((tick) => !isNear(tick.at))
          .map((tick) => (
            <text
              {...{
                key: tick.at,
                class: tick.isDay ? 'tlab d' : 'tlab',
                x: x(tick.at, range),
                y: '34',
              }}
              text-anchor="middle"
            >
              {tick.isDay ? dayText(tick.at, shown, at) : timeText(tick.at, shown)}
            </text>
          ))}
        {isNowSeen && (
          <svg x={x(at, range)} overflow="visible">
            <rect class="nowpill" x="-38" y="1" width="76" height="17" rx="8.5" />
            <text class="nowtext" y="13.5" text-anchor="middle">
              now {timeText(at, shown)}
            </text>
          </svg>
        )}
      </svg>
    </div>
  );
}

/** The ticks behind all rows, drawn once. */
export const Grid = ({ range, width }: Props) => (
  <svg class="grid" aria-hidden="true">
    {ticksOf(range, width).map(({ at, isDay }) => (
      <line
        key={at}
        class={isDay && range.to - range.from <= 8 * DAY ? 'day' : 'tick'}
        x1={x(at, range)}
        x2={x(at, range)}
        y1="0"
        y2="100%"
      />
    ))}
  </svg>
);

/** Now, in front of all rows. */
export function NowLine({ range }: { readonly range: Range }) {
  const at = now.value;
  if (at < range.from || at > range.to) return null;
  return (
    <svg class="grid front" aria-hidden="true">
      <line class="nowline" x1={x(at, range)} x2={x(at, range)} y1="0" y2="100%" />
    </svg>
  );
}
