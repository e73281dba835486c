import type { ComponentChildren } from 'preact';
import { useState } from 'preact/hooks';
import { now } from '../data/clock.ts';
import { isAdmin } from '../data/person.ts';
import { EnvironmentTag } from '../parts/environment.tsx';
import { stateText } from '../parts/flag_state.tsx';
import { MarkIcon, type Status } from '../parts/marks.tsx';
import { ScheduleActions } from '../schedules/actions.tsx';
import { zone } from '../settings.ts';
import { dateText, dayText, relativeText, timeText } from '../time/format.ts';
import { flagPath } from '../timeline/lane.tsx';
import { labelOf, namesOf, type Change, type Item } from './model.ts';

interface EntryProps {
  readonly at: number;
  readonly status: Status;
  readonly environment: string;
  readonly flagKey: string;
  readonly what: ComponentChildren;
  readonly by: string;
  readonly isMany: boolean;
  readonly id?: string;
  readonly children: ComponentChildren;
}

/** What is applied at its time is gone within a second; what isn't waits for something. */
const dueText = (at: number): string => (now.value - at < 5_000 ? 'now' : 'overdue');

/** One line of the night: when, what, who, and what one can do. */
export function Entry({
  at,
  status,
  environment,
  flagKey,
  what,
  by,
  isMany,
  id,
  children,
}: EntryProps) {
  const isToday = dateText(at, zone.value) === dateText(now.value, zone.value);
  const day = isToday ? '' : `${dayText(at, zone.value, now.value)}, `;
  return (
    <li class={status === 'conflict' ? 'hot' : ''} {...(id === undefined ? {} : { id })}>
      <span class="when">
        <strong>
          <time dateTime={new Date(at).toISOString()}>{timeText(at, zone.value)}</time>
        </strong>
        <br />
        <span class="small muted">
          {day}
          {!['failed', 'suspended'].includes(status) && at <= now.value
            ? dueText(at)
            : relativeText(at, now.value)}
        </span>
      </span>
      <MarkIcon status={status} />
      <div class="what stack tight">
        <div class="row between">
          <h3>
            <a href={flagPath({ environment, flagKey })}>{flagKey}</a>: {what}
          </h3>
          <span class="small muted row">
            {isMany && <EnvironmentTag name={environment} />}
            {by}
          </span>
        </div>
        {children}
      </div>
    </li>
  );
}

interface ChoiceProps {
  readonly change: Change;
  readonly flagKey: string;
  readonly children: ComponentChildren;
}

/** What a schedule does and why, and beside it what one can do about it. */
const Choice = ({ change, flagKey, children }: ChoiceProps) => (
  <div class="row between choice">
    <div class="stack tight">
      {children}
      {change.reason !== null && <span class="small muted">{change.reason}</span>}
      {change.plan !== null && <span class="small muted">Part of {change.plan.title}</span>}
      {change.attempts > 0 && (
        <span class="small conflict">
          It failed {change.attempts === 1 ? 'once' : `${change.attempts} times`} and is tried
          again.
        </span>
      )}
    </div>
    {isAdmin.value && change.scheduleId !== null && (
      <div class="row">
        <ScheduleActions
          schedule={{ ...change, id: change.scheduleId, status: 'pending' }}
          what={`${change.label} of ${flagKey}`}
        />
      </div>
    )}
  </div>
);

/** Several at one instant: each with its two answers, and what happens without a decision. */
function Conflict({ item }: { readonly item: Item }) {
  const names = namesOf(item);
  const [first] = item.changes;
  const last = item.changes[item.changes.length - 1] ?? first;
  // The rule: of one instant the greater id is the last, and ids are random.
  const winner = last.by === null ? last.label : `${last.by}’s ${last.label}`;
  return (
    <>
      {item.changes.length === 1 ? (
        <span>
          As things stand it will not find what it expects. If no admin decides, it stays{' '}
          {stateText(item.after).toLowerCase()}.
        </span>
      ) : (
        <span>
          {names.includes(' and ') || names === ''
            ? `${names || 'Several schedules'} set it`
            : `${names} set it twice`}{' '}
          for the same instant. If no admin decides, {winner} wins, by chance:{' '}
          {stateText(item.after).toLowerCase()}.
        </span>
      )}
      {item.changes.map((change) => (
        <Choice key={change.scheduleId} change={change} flagKey={item.flagKey}>
          <span>
            <strong>{change.label}</strong>
            {change.by !== null && <span class="muted"> by {change.by}</span>}
          </span>
        </Choice>
      ))}
    </>
  );
}

/** What it does to the flag: `On for 25% → On for 50%`. */
function Consequence({ item: { before, after } }: { readonly item: Item }) {
  const to = stateText(after);
  if (before === null) return <span>{to} from then on</span>;
  const from = stateText(before);
  return from === to ? (
    <span>stays {to.toLowerCase()}</span>
  ) : (
    <span>
      {from} → <ins>{to}</ins>
    </span>
  );
}

interface Props {
  readonly items: readonly Item[];
  readonly isMany: boolean;
}

/** Lines at first, and with each press of Show more. */
const PAGE = 100;

/** What comes, in order. */
export function Night({ items, isMany }: Props) {
  const [shown, setShown] = useState(PAGE);
  const conflict = items.find(({ isConflict }) => isConflict);
  return (
    <>
      <ol class="hist">
        {items.slice(0, shown).map((item) => (
          <Entry
            {...{ key: item.id, isMany, environment: item.environment, flagKey: item.flagKey }}
            {...{
              at: item.at,
              status: item.isConflict ? 'conflict' : 'pending',
              by: namesOf(item),
            }}
            what={`${labelOf(item)}${item.isConflict ? '?' : ''}`}
            {...(item === conflict ? { id: 'conflict' } : {})}
          >
            {item.isConflict ? (
              <Conflict item={item} />
            ) : (
              item.changes.map((change, i) => (
                <Choice key={change.scheduleId} change={change} flagKey={item.flagKey}>
                  {i === 0 ? <Consequence item={item} /> : <span>{change.label}</span>}
                </Choice>
              ))
            )}
          </Entry>
        ))}
      </ol>
      {items.length > shown && (
        <p class="more">
          <button type="button" class="link" onClick={() => setShown(shown + PAGE)}>
            Show {Math.min(PAGE, items.length - shown)} more of {items.length}
          </button>
        </p>
      )}
    </>
  );
}
