import { now } from '../data/clock.ts';
import { zone as displayZone } from '../settings.ts';
import {
  dateText,
  dayText,
  longDayText,
  offsetTextAt,
  relativeText,
  timeText,
} from '../time/format.ts';
import { cityOf, otherZone } from './other_zone.ts';

/** With its day where that is another than in the first zone. */
const alsoIn = (at: number, zone: string, first: string): string =>
  dateText(at, zone) === dateText(at, first)
    ? timeText(at, zone, 'second')
    : `${dayText(at, zone, at)} ${timeText(at, zone, 'second')}`;

/** What an instant is: its weekday, the offset of that day, in how long, in UTC and in one more zone. */
export function Echo({ at, zone }: { readonly at: number; readonly zone: string }) {
  const browser = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const other = otherZone(zone, displayZone.value, browser);
  return (
    <div class="echo small">
      <strong>
        {longDayText(at, zone, now.value)}, {timeText(at, zone, 'second')}, {offsetTextAt(at, zone)}
      </strong>{' '}
      · {relativeText(at, now.value)}
      <br />
      {alsoIn(at, 'UTC', zone)} UTC
      {other !== null && ` · ${alsoIn(at, other, zone)} ${cityOf(other)}`}
    </div>
  );
}
