import { useRef } from 'preact/hooks';
import { now } from '../data/clock.ts';
import { Shape, STATUS } from '../parts/marks.tsx';
import { zone } from '../settings.ts';
import { dayText, shortText, timeText } from '../time/format.ts';
import { ticksOf } from '../timeline/axis.tsx';
import { groupMarks } from '../timeline/groups.ts';
import type { Mark } from '../timeline/model.ts';
import type { Range } from '../timeline/range.ts';
import { percent, x } from '../timeline/scale.ts';
import { useWidth } from '../timeline/use_size.ts';
import { showAt } from './fields.tsx';

const MINUTE = 60_000;

interface Props {
  readonly at: number;
  /** Whether another instant than now is chosen. */
  readonly isChosen: boolean;
  readonly range: Range;
  /** Of all flags, by time. */
  readonly marks: readonly Mark[];
}

interface PillProps {
  readonly at: number;
  readonly range: Range;
  readonly name: 'now' | 'chosen';
  readonly text: string;
  /** Pixels that it stands beside its line, where another is near. */
  readonly shift: number;
}

const Pill = ({ at, range, name, text, shift }: PillProps) => (
  <>
    <line class={`${name}line`} x1={x(at, range)} x2={x(at, range)} y1="20" y2="56" />
    <svg x={`${Math.min(Math.max(percent(at, range), 4), 96).toFixed(3)}%`} overflow="visible">
      <rect class={`${name}pill`} x={shift - 40} y="3" width="80" height="17" rx="8.5" />
      <text class={`${name}text`} x={shift} y="15.5" text-anchor="middle">
        {text}
      </text>
    </svg>
  </>
);

/** Now, the chosen instant, and the changes around them. A press on it chooses another one. */
export function Scale({ at, isChosen, range, marks }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const width = useWidth(box, 960).value;
  const between = marks.filter(
    (mark) => mark.at > Math.min(now.value, at) && mark.at <= Math.max(now.value, at),
  );
  const groups = groupMarks(marks, range, width);
  const isSeen = (time: number): boolean => time >= range.from && time <= range.to;
  const apart = ((percent(at, range) - percent(now.value, range)) / 100) * width;
  const shift = isChosen && Math.abs(apart) < 84 ? Math.sign(apart) * 41 : 0;
  const chosenText = shortText(at, zone.value, now.value);
  const label = isChosen
    ? `Now is ${timeText(now.value, zone.value)}, the chosen moment is ${chosenText}, ${between.length} changes between`
    : `Now is ${timeText(now.value, zone.value)}, ${marks.length} changes around it`;
  const choose = (event: MouseEvent): void => {
    const rect = box.current?.getBoundingClientRect();
    if (rect === undefined) return;
    const time = range.from + ((event.clientX - rect.left) / rect.width) * (range.to - range.from);
    showAt(Math.round(time / MINUTE) * MINUTE);
  };
  return (
    <section class="card" aria-label="Where in time">
      <div ref={box}>
        <svg class="scale" role="img" aria-label={label} onClick={choose}>
          {ticksOf(range, width).map((tick) => (
            <g key={tick.at}>
              <line
                class={tick.isDay ? 'day' : 'tick'}
                x1={x(tick.at, range)}
                x2={x(tick.at, range)}
                y1="22"
                y2="56"
              />
              {percent(tick.at, range) > 3 && percent(tick.at, range) < 97 && (
                <text
                  class={tick.isDay ? 'tlab d' : 'tlab'}
                  x={x(tick.at, range)}
                  y="72"
                  text-anchor="middle"
                >
                  {tick.isDay
                    ? dayText(tick.at, zone.value, tick.at)
                    : timeText(tick.at, zone.value)}
                </text>
              )}
            </g>
          ))}
          <line class="base" x1="0" x2="100%" y1="40" y2="40" />
          {isChosen && (
            <rect
              class="between"
              x={x(Math.max(Math.min(now.value, at), range.from), range)}
              width={`${(percent(Math.min(Math.max(now.value, at), range.to), range) - percent(Math.max(Math.min(now.value, at), range.from), range)).toFixed(3)}%`}
              y="36"
              height="8"
            />
          )}
          {isSeen(now.value) && (
            <Pill
              {...{
                at: now.value,
                range,
                shift: -shift,
                name: 'now',
                text: `now ${timeText(now.value, zone.value)}`,
              }}
            />
          )}
          {groups.map(({ marks: group }) => {
            const worst =
              group.find(({ status }) => status === 'failed' || status === 'conflict') ?? group[0];
            return (
              <svg
                {...{ key: group[0].id, x: x(group[0].at, range), y: '40', overflow: 'visible' }}
                class={STATUS[worst.status].tone}
              >
                <circle class="halo" r="8" />
                <Shape status={worst.status} />
                {group.length > 1 && (
                  <text class="count" x="9" y="-6">
                    {group.length}
                  </text>
                )}
              </svg>
            );
          })}
          {isChosen && isSeen(at) && (
            <Pill {...{ at, range, shift, name: 'chosen', text: timeText(at, zone.value) }} />
          )}
        </svg>
      </div>
    </section>
  );
}
