import { useRef } from 'preact/hooks';
import { now } from '../data/clock.ts';
import { shownEnvironments } from '../data/person.ts';
import { useResources } from '../data/resource.ts';
import { zone } from '../settings.ts';
import { dateText, dayText } from '../time/format.ts';
import { DAY, instantOf, wallAt } from '../time/zone.ts';
import { OVERVIEW } from './documents.ts';
import { showFrom, span, type Range } from './range.ts';
import { percent, x } from './scale.ts';

const DAYS_BEHIND = 7;
const DAYS_AHEAD = 28;
const HEIGHT = 24;

/** Five weeks around now, from midnight to midnight of the zone. */
function stripOf(at: number): Range {
  const today = Math.floor(wallAt(at, zone.value).getTime() / DAY) * DAY;
  return {
    from: instantOf(today - DAYS_BEHIND * DAY, zone.value),
    to: instantOf(today + DAYS_AHEAD * DAY, zone.value),
  };
}

/** Changes per day, and which part of it the chart shows. A press or a drag shows another. */
export function Overview({ range }: { readonly range: Range }) {
  const strip = stripOf(now.value);
  const span_ = { from: new Date(strip.from).toISOString(), to: new Date(strip.to).toISOString() };
  const found = useResources(
    OVERVIEW,
    shownEnvironments.value.map((environment) => ({ environment, ...span_, zone: zone.value })),
  );
  const svg = useRef<SVGSVGElement>(null);
  const perDay = new Map<string, { changes: number; failed: number; pending: number }>();
  for (const { data } of found)
    for (const { day, changes, failed, pending } of data.value?.changesPerDay ?? []) {
      const sum = perDay.get(day) ?? { changes: 0, failed: 0, pending: 0 };
      perDay.set(day, {
        ...{
          changes: sum.changes + changes,
          failed: sum.failed + failed,
          pending: sum.pending + pending,
        },
      });
    }
  const most = Math.max(
    1,
    ...[...perDay.values()].map((one) => one.changes + one.failed + one.pending),
  );
  const days = Array.from({ length: DAYS_BEHIND + DAYS_AHEAD }, (_, i) => {
    const wall = wallAt(strip.from, zone.value).getTime() + i * DAY;
    return instantOf(wall, zone.value);
  });
  const show = (event: PointerEvent): void => {
    const box = svg.current?.getBoundingClientRect();
    if (box === undefined || (event.type === 'pointermove' && event.buttons !== 1)) return;
    const at = strip.from + ((event.clientX - box.left) / box.width) * (strip.to - strip.from);
    showFrom(at - span.value / 2);
  };
  const from = Math.max(0, Math.min(99, percent(range.from, strip)));
  const to = Math.min(100, Math.max(1, percent(range.to, strip)));
  return (
    <div class="lane axis mini">
      <div class="name">
        <span class="small muted">
          {dayText(strip.from, zone.value, now.value).slice(4)} to{' '}
          {dayText(strip.to - 1, zone.value, now.value).slice(4)}
        </span>
      </div>
      <svg
        {...{ ref: svg, role: 'img', onPointerDown: show, onPointerMove: show }}
        aria-label="Changes per day, seven days back to four weeks ahead"
      >
        {days.map((at) => {
          const one = perDay.get(dateText(at, zone.value));
          if (one === undefined) return null;
          const tall = (n: number): number => (n === 0 ? 0 : Math.max(2, (n / most) * HEIGHT));
          const done = tall(one.changes + one.failed);
          const ahead = tall(one.pending);
          return (
            <g key={at}>
              <rect
                class="dens"
                x={x(at + 0.15 * DAY, strip)}
                width="2%"
                y={HEIGHT - done}
                height={done}
              />
              <rect
                class="densf"
                x={x(at + 0.15 * DAY, strip)}
                width="2%"
                y={HEIGHT - done - ahead}
                height={ahead}
              />
            </g>
          );
        })}
        {to > from && (
          <rect
            class="brush"
            x={`${from}%`}
            width={`${Math.max(0.8, to - from)}%`}
            y="1"
            height="26"
            rx="3"
          />
        )}
      </svg>
    </div>
  );
}
