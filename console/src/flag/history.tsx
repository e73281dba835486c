import { now } from '../data/clock.ts';
import { Diff } from '../parts/flag_state.tsx';
import { MarkIcon, STATUS } from '../parts/marks.tsx';
import { SealTag } from '../parts/seal_tag.tsx';
import { link, param, setParams } from '../router.ts';
import { RevertButton } from '../plans/revert_button.tsx';
import { ScheduleActions } from '../schedules/actions.tsx';
import type { FlagName } from '../schedules/requests.ts';
import type { Source } from '../plans/requests.ts';
import { zone } from '../settings.ts';
import { dateText, dayText, durationText, relativeText, timeText } from '../time/format.ts';
import { isShown, SHOWN, type Entry } from './entry.ts';
import { sourceOf } from './revert_source.ts';

interface Props {
  readonly flag: FlagName;
  readonly ahead: readonly Entry[];
  readonly past: readonly Entry[];
  /** Pending ones that come later still, and aren't listed. */
  readonly unlisted: number;
  /** Schedules that failed and wait for someone. */
  readonly failed: ReadonlySet<string>;
  readonly more: (() => void) | null;
  /** Whether the trail is read: viewers have no decisions. */
  readonly hasDecisions: boolean;
  readonly children?: preact.ComponentChildren;
}

/** What will happen, now, and what happened: before and after, who, why, how late, and sealed by what. */
export function History(props: Props) {
  const { flag, ahead, past, unlisted, failed, more, hasDecisions, children } = props;
  const shown = param('show') || 'all';
  const upcoming = ahead.filter((entry) => isShown(entry, shown));
  const happened = past.filter((entry) => isShown(entry, shown));
  return (
    <section class="card" aria-labelledby="history">
      <header class="between">
        <h2 id="history">What happens and happened</h2>
        {hasDecisions && (
          <span class="seg" role="group" aria-label="Show">
            {SHOWN.map(([name, text]) => (
              <button
                {...{ key: name, type: 'button', 'aria-pressed': name === shown }}
                onClick={() => setParams({ show: name === 'all' ? null : name })}
              >
                {text}
              </button>
            ))}
          </span>
        )}
      </header>
      {unlisted > 0 && <p class="more">{unlisted} more are pending for later.</p>}
      <ol class="hist">
        {upcoming.map((entry) => (
          <Line
            key={entry.key}
            entry={entry}
            status={entry.status === 'suspended' ? 'suspended' : 'pending'}
          />
        ))}
        <li class="nowrow">
          Now {timeText(now.value, zone.value)}
          {upcoming.length === 0 && <span class="muted"> · nothing ahead</span>}
        </li>
        {happened.map((entry) => (
          <Line
            key={entry.key}
            entry={entry}
            source={sourceOf(flag, entry)}
            status={entry.status === 'failed' && failed.has(entry.scheduleId ?? '') ? 'failed' : ''}
          />
        ))}
      </ol>
      {more !== null && (
        <p class="more">
          <button type="button" class="link" onClick={more}>
            Show earlier
          </button>
        </p>
      )}
      {children}
    </section>
  );
}

interface LineProps {
  readonly entry: Entry;
  /** Of the schedule, for what one can do about it; '' where that is over. */
  readonly status: string;
  /** How what it changed is taken back; null where it changed nothing. */
  readonly source?: Source | null;
}

function Line({ entry, status, source = null }: LineProps) {
  const { at, title, before, after, event, scheduleId, note } = entry;
  const isChosen = scheduleId !== null && scheduleId === param('sel');
  const word = STATUS[entry.status].word;
  return (
    <li class={isChosen ? 'sel' : ''} {...(isChosen ? { 'data-chosen': 'yes' } : {})}>
      <span class="when">
        <time dateTime={new Date(at).toISOString()}>
          <strong>{timeText(at, zone.value, at % 60_000 === 0 ? 'minute' : 'second')}</strong>
        </time>
        <br />
        <span class="small muted">{whenNote(entry)}</span>
      </span>
      <MarkIcon status={entry.status} />
      <div class="what stack tight">
        <div class="row between">
          <h3>
            <span class="vh">{word}: </span>
            {title}
          </h3>
          {event !== null && (
            <a class="push" href={link(`/trail/${event.id}`)}>
              <SealTag seal={event.seal} />
            </a>
          )}
          {scheduleId !== null && status !== '' && (
            <span class="row">
              <ScheduleActions
                schedule={{ ...entry.held, id: scheduleId, status }}
                what={`${title}, ${timeText(at, zone.value)}`}
              />
            </span>
          )}
        </div>
        {after !== null && <Diff before={before} after={after} short />}
        <div class="row between">
          <Who entry={entry} />
          {source !== null && <RevertButton source={source} what={title} />}
        </div>
        {note !== '' && <span class="small">{note}</span>}
      </div>
    </li>
  );
}

/** Who asked for it or did it, and why. */
function Who({ entry }: { readonly entry: Entry }) {
  const { by, reason, event } = entry;
  if (by === '' && reason === null) return null;
  const said = reason === null ? '' : `“${reason}”`;
  const who = by === '' ? '' : event === null ? `Asked by ${by}` : `By ${by}`;
  return <span class="small muted">{[who, said].filter(Boolean).join(', ')}</span>;
}

/** The day where it isn't today, how late it was, or in how long it is. */
function whenNote({ at, lateMs, status, event }: Entry): string {
  const current = now.value;
  const isToday = dateText(at, zone.value) === dateText(current, zone.value);
  const day = isToday ? '' : dayText(at, zone.value, current);
  const late = lateMs === null ? '' : `${durationText(lateMs)} late`;
  const rest = at > current ? relativeText(at, current) : late;
  const parts = [day, rest].filter(Boolean);
  if (parts.length > 0) return parts.join(', ');
  return ['pending', 'uncertain', 'conflict', 'suspended'].includes(status) && event === null
    ? 'overdue'
    : 'today';
}
