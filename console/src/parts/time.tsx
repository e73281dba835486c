import { now } from '../data/clock.ts';
import { zone } from '../settings.ts';
import {
  instantText,
  offsetTextAt,
  relativeText,
  shortText,
  timeText,
  type Precision,
} from '../time/format.ts';

interface At {
  /** Milliseconds since 1970, or as the API writes it. */
  readonly at: number | string;
  readonly precision?: Precision;
}

export const millis = (at: number | string): number =>
  typeof at === 'number' ? at : Date.parse(at);

/** A time in the display zone: with its day where that isn't today's. */
export const Time = ({ at, precision = 'minute' }: At) => (
  <time dateTime={new Date(millis(at)).toISOString()}>
    {shortText(millis(at), zone.value, now.value, precision)}
  </time>
);

/** Its day and its seconds. */
export const FullTime = ({ at, precision = 'second' }: At) => (
  <time dateTime={new Date(millis(at)).toISOString()}>
    {instantText(millis(at), zone.value, now.value, precision)}
  </time>
);

/** How long from now, or since. */
export const Relative = ({ at }: At) => <>{relativeText(millis(at), now.value)}</>;

/** The zone of the instant's day and the time in UTC: as `Europe/Paris, UTC+1 · 17:00:00 UTC`. */
export const InZones = ({ at }: At) => (
  <>
    {zone.value}, {offsetTextAt(millis(at), zone.value)}
    {zone.value === 'UTC' ? '' : ` · ${shortText(millis(at), 'UTC', now.value, 'second')} UTC`}
  </>
);

/** The time alone, for a column of one day. */
export const ClockTime = ({ at, precision = 'second' }: At) => (
  <time dateTime={new Date(millis(at)).toISOString()}>
    {timeText(millis(at), zone.value, precision)}
  </time>
);
