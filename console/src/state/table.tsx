import type { ComponentChildren } from 'preact';
import { databaseNow } from '../data/clock.ts';
import { readsTrail, shortName } from '../data/person.ts';
import { EnvironmentTag } from '../parts/environment.tsx';
import { stateText, type FlagState } from '../parts/flag_state.tsx';
import { StatusTag } from '../parts/marks.tsx';
import { memo } from '../parts/memo.ts';
import { link } from '../router.ts';
import { zone } from '../settings.ts';
import { isStopped } from '../stop/stops.ts';
import { shortText } from '../time/format.ts';
import { flagPath } from '../timeline/lane.tsx';
import { HOUR } from '../time/zone.ts';
import { differs, type StateRow } from './model.ts';
import type { Decider } from './use_state_at.ts';

const timeOf = (at: string): string =>
  shortText(
    Date.parse(at),
    zone.value,
    databaseNow(),
    databaseNow() - Date.parse(at) > 0 ? 'second' : 'minute',
  );

/** The schedule on the timeline. */
const schedulePath = (id: string, at: string): string =>
  link('/timeline', { sel: id, from: new Date(Date.parse(at) - 6 * HOUR).toISOString() });

interface BecauseProps {
  readonly row: StateRow;
  readonly isPast: boolean;
  readonly deciders: ReadonlyMap<string, Decider>;
}

/** What decides: the event of the past, the schedules of the future. */
function Because({ row, isPast, deciders }: BecauseProps) {
  const { sources, then } = row;
  const { event, schedules } = sources;
  if (then === null) return <>{isPast ? 'It was created later.' : 'It is gone by then.'}</>;
  if (event !== null) {
    const at = timeOf(event.at);
    const name = event.isAfter ? `the change of ${at} says what was before it` : `since ${at}`;
    return readsTrail.value ? <a href={link(`/trail/${event.id}`)}>{name}</a> : <>{name}</>;
  }
  if (schedules.length === 0)
    return <>{isPast ? 'The trail has no change of it.' : 'No change of it is pending.'}</>;
  return (
    <>
      {schedules.map(({ id, at, planId }, i) => {
        const decider = deciders.get(id);
        const by = shortName(decider?.by);
        return (
          <span key={id}>
            {i > 0 && ', '}
            {timeOf(at)}{' '}
            <a href={schedulePath(id, at)}>{by === '' ? 'schedule' : `schedule of ${by}`}</a>
            {planId !== null && readsTrail.value && (
              <>
                {' '}
                of <a href={link(`/plans/${planId}`)}>{decider?.plan ?? 'a plan'}</a>
              </>
            )}
            {typeof decider?.reason === 'string' && <span class="muted"> “{decider.reason}”</span>}
          </span>
        );
      })}
      {row.conflict !== null && '. Of those at the same instant one wins by chance'}
    </>
  );
}

function Sure({ row, isPast }: { readonly row: StateRow; readonly isPast: boolean }) {
  if (row.conflict !== null) return <StatusTag status="conflict">Uncertain</StatusTag>;
  if (!row.certain)
    return (
      <span>
        <StatusTag status="uncertain">Uncertain</StatusTag>
        <br />
        <span class="small muted">
          {isPast
            ? 'the trail isn’t enough'
            : isStopped(row.environment)
              ? `${row.environment} is paused`
              : 'a schedule of it is overdue, or what it finds may differ'}
        </span>
      </span>
    );
  return <StatusTag status="applied">{isPast ? 'Fact' : 'Certain'}</StatusTag>;
}

/** A flag that is off either way differs by the share that it would have. */
function textOf(state: FlagState, { now: is, then }: StateRow): string {
  const isOff = is?.enabled === false && then?.enabled === false;
  return isOff && is.rolloutPercentage !== then.rolloutPercentage
    ? `Off, share ${state.rolloutPercentage}%`
    : stateText(state);
}

interface StateProps {
  readonly state: FlagState | null;
  readonly row: StateRow;
  /** Where there is no such flag. */
  readonly none: string;
}

const State = ({ state, row, none }: StateProps) =>
  state === null ? <span class="muted">{none}</span> : <>{textOf(state, row)}</>;

interface Props {
  readonly rows: readonly StateRow[];
  readonly at: number;
  /** Whether another instant than now is chosen. */
  readonly isChosen: boolean;
  readonly isPast: boolean;
  readonly isMany: boolean;
  readonly deciders: ReadonlyMap<string, Decider>;
  readonly label: string;
}

/**
 * Flags now and then, with why and how sure: drawn again when they change, and not with each second. Roles are written out, as a phone
 * shows rows as blocks.
 */
export const StateTable = memo(function StateTable(props: Props) {
  const { rows, at, isChosen, isPast, isMany, deciders, label } = props;
  const head = [
    'Flag',
    `Now, ${shortText(databaseNow(), zone.value, databaseNow())}`,
    ...(isChosen
      ? [
          shortText(at, zone.value, databaseNow(), at % 60_000 === 0 ? 'minute' : 'second'),
          'Because',
          'How sure',
        ]
      : []),
  ];
  return (
    <table class="rows st" role="table" aria-label={label}>
      <thead role="rowgroup">
        <tr role="row">
          {head.map((name) => (
            <th key={name} role="columnheader" scope="col">
              {name}
            </th>
          ))}
        </tr>
      </thead>
      <tbody role="rowgroup">
        {rows.map((row) => (
          <tr key={`${row.environment} ${row.flagKey}`} role="row">
            <th role="rowheader" scope="row">
              <a href={flagPath(row)}>{row.flagKey}</a>{' '}
              {isMany && <EnvironmentTag name={row.environment} />}
            </th>
            <Cell>
              <State state={row.now} row={row} none="not there any more" />
            </Cell>
            {isChosen && (
              <>
                <Cell>
                  {differs(row) && row.then !== null ? (
                    <ins>{textOf(row.then, row)}</ins>
                  ) : (
                    <State
                      state={row.then}
                      row={row}
                      none={isPast ? 'did not exist' : 'not there'}
                    />
                  )}
                  {row.conflict !== null && <span class="muted"> ({row.conflict})</span>}
                </Cell>
                <Cell>
                  <Because {...{ row, isPast, deciders }} />
                </Cell>
                <Cell>
                  <Sure row={row} isPast={isPast} />
                </Cell>
              </>
            )}
          </tr>
        ))}
      </tbody>
    </table>
  );
});

const Cell = ({ children }: { readonly children: ComponentChildren }) => (
  <td role="cell">{children}</td>
);

/** Flags that are as they are now, but were not all the time between: a window would be invisible without it. */
export function Between({ rows }: { readonly rows: readonly StateRow[] }) {
  const changed = rows.filter(({ between }) => between.length > 0);
  if (changed.length === 0) return null;
  return (
    <div class="echo small inset">
      Changed and back again in between:{' '}
      {changed.map(({ environment, flagKey, between }, i) => (
        <span key={`${environment} ${flagKey}`}>
          {i > 0 && '; '}
          <strong>{flagKey}</strong>{' '}
          {between
            .map((mark) => `${mark.label} ${shortText(mark.at, zone.value, databaseNow())}`)
            .join(', ')}
        </span>
      ))}
      .
    </div>
  );
}
