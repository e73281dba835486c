import { now } from '../data/clock.ts';
import { environment } from '../data/person.ts';
import { durationText, relativeText, shortText } from '../time/format.ts';
import { zone } from '../settings.ts';
import { EnvironmentTag } from '../parts/environment.tsx';
import { Diff } from '../parts/flag_state.tsx';
import { StatusTag } from '../parts/marks.tsx';
import { Note } from '../parts/note.tsx';
import { FullTime, InZones } from '../parts/time.tsx';
import { link } from '../router.ts';
import { Details } from './details.tsx';
import { flagPath } from './lane.tsx';
import type { Mark } from './model.ts';

interface Props {
  readonly mark: Mark | null;
  /** The id in the address; it may be of a change out of view. */
  readonly chosen: string;
}

/** The chosen change: what, when, who, why, and what one can do about it. */
export function Inspector({ mark, chosen }: Props) {
  if (mark === null)
    return (
      <section class="card">
        <div class="body">
          <p class="muted">
            {chosen === ''
              ? 'Choose a mark to see the change: what, when, who asked for it, how late it was.'
              : 'The chosen change isn’t in view.'}
          </p>
        </div>
      </section>
    );
  return (
    <section class="card" aria-label={`${mark.flagKey}, chosen change`}>
      <header>
        <h2>
          <a href={flagPath(mark)}>{mark.flagKey}</a>
        </h2>
        <EnvironmentTag name={mark.environment} />
      </header>
      <div class="body stack">
        <StatusTag status={mark.status} />
        {mark.after !== null && <Diff before={mark.before} after={mark.after} />}
        {mark.status === 'conflict' && (
          <Note tone="conflict">
            {mark.isTogether
              ? 'Two changes at the same instant set it to different values. Which of them wins is chance: move one, or cancel it.'
              : 'As things stand it will not find what it expects.'}
          </Note>
        )}
        <When mark={mark} />
        {mark.scheduleId === null ? (
          <div class="row">
            <a class="btn" href={flagPath(mark)}>
              Open
            </a>
          </div>
        ) : (
          <Details id={mark.scheduleId} mark={mark} />
        )}
      </div>
    </section>
  );
}

const When = ({ mark }: { readonly mark: Mark }) => (
  <dl class="dl">
    <dt>When</dt>
    <dd>
      <strong>
        <FullTime at={mark.at} />
      </strong>
      <br />
      {mark.lateMs === null
        ? relativeText(mark.at, now.value)
        : `applied ${durationText(mark.lateMs)} late`}
      <br />
      <span class="small muted">
        <InZones at={mark.at} />
      </span>
    </dd>
  </dl>
);

const NEXT_SHOWN = 4;

/** What comes next of what is in view. */
export function Next({ marks }: { readonly marks: readonly Mark[] }) {
  const ahead = marks.filter(
    ({ at, status }) => at > now.value && (status === 'pending' || status === 'conflict'),
  );
  return (
    <section class="card" aria-label="Next">
      <header class="between">
        <h2>Next</h2>
        <a class="small" href={link('/tonight')}>
          Tonight
        </a>
      </header>
      {ahead.length === 0 ? (
        <p class="body muted">Nothing is scheduled in {environment.value} in this span.</p>
      ) : (
        <ol class="next">
          {ahead.slice(0, NEXT_SHOWN).map((mark) => (
            <li key={mark.id}>
              <strong>{shortText(mark.at, zone.value, now.value)}</strong>
              <span>
                {mark.flagKey} → {mark.label}
              </span>
              <StatusTag status={mark.status}>{durationText(mark.at - now.value)}</StatusTag>
            </li>
          ))}
        </ol>
      )}
    </section>
  );
}
