import { now } from '../data/clock.ts';
import { shortName } from '../data/person.ts';
import { memo } from '../parts/memo.ts';
import { dottedState, Meter } from '../parts/flag_state.tsx';
import { StatusTag } from '../parts/marks.tsx';
import { link } from '../router.ts';
import { zone } from '../settings.ts';
import { dateText, dayText, durationText, timeText } from '../time/format.ts';
import type { FlagRow, ListedFlag, NextChange } from './model.ts';

const pathOf = ({ environment, flagKey }: ListedFlag): string =>
  link(`/flags/${encodeURIComponent(environment)}/${encodeURIComponent(flagKey)}`);

/** In whole minutes, so that a row isn't drawn each second. */
const sinceText = (ms: number): string =>
  ms < 60_000 ? 'just now' : durationText(Math.floor(ms / 60_000) * 60_000);

/** The time where it is today's, else the day. */
function DayOrTime({ at, long = false }: { readonly at: number; readonly long?: boolean }) {
  const current = now.value;
  const isToday = dateText(at, zone.value) === dateText(current, zone.value);
  const day = dayText(at, zone.value, current);
  return (
    <time dateTime={new Date(at).toISOString()}>
      {isToday ? timeText(at, zone.value) : long ? `${day} ${timeText(at, zone.value)}` : day}
      {isToday && !long && at <= current && <span class="muted"> ({sinceText(current - at)})</span>}
    </time>
  );
}

const Next = ({ next }: { readonly next: NextChange }) => (
  <>
    <StatusTag status={next.status}>
      {next.status === 'failed' && 'Failed '}
      {next.status === 'uncertain' && 'Retrying '}
      {next.status === 'suspended' && 'Suspended '}
      <DayOrTime at={next.at} long />
    </StatusTag>{' '}
    <span>{next.text}</span>
  </>
);

interface Props {
  readonly row: FlagRow;
  /** Persons are named; not for viewers. */
  readonly hasPersons: boolean;
}

/** A flag of the list: it opens the flag, and changes nothing itself. */
export const Row = memo(function Row({ row, hasPersons }: Props) {
  const { flag, next, group } = row;
  const changed = Date.parse(flag.lastChange?.at ?? flag.createdAt);
  const by = shortName(flag.lastChange?.by);
  const tone = group !== 'someone' ? '' : next?.status === 'failed' ? 'bad' : 'bad warn';
  return (
    <tr role="row" class={tone}>
      <th role="rowheader" scope="row">
        <a href={pathOf(flag)} title={flag.flagKey} data-row>
          {flag.flagKey}
        </a>
      </th>
      <td role="cell">
        <span class="now">
          <Meter state={flag} small />
          {flag.enabled ? <strong>{dottedState(flag)}</strong> : <span class="muted">Off</span>}
        </span>
      </td>
      <td role="cell">
        <DayOrTime at={changed} />
      </td>
      <td role="cell">
        {next === null ? <span class="muted">Nothing ahead</span> : <Next next={next} />}
      </td>
      {hasPersons && <td role="cell">{by === '' ? <span class="muted">unknown</span> : by}</td>}
    </tr>
  );
});
