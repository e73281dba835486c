import { Fragment } from 'preact';
import { useState } from 'preact/hooks';
import { now } from '../data/clock.ts';
import { zone } from '../settings.ts';
import { dateText, longDayText, relativeText, timeText } from '../time/format.ts';
import { MarkIcon, STATUS } from '../parts/marks.tsx';
import { ChangeText, noteOf } from './change_text.tsx';
import { flagPath } from './lane.tsx';
import type { Mark } from './model.ts';

/** Past changes of today that stay in sight, so that Now stands in the upper half. */
const PAST_SHOWN = 2;
const MOST = 100;

function Item({ mark }: { readonly mark: Mark }) {
  const isAhead = mark.at > now.value;
  const note =
    isAhead && mark.status === 'pending' ? relativeText(mark.at, now.value) : noteOf(mark);
  return (
    <li>
      <span class="muted">{timeText(mark.at, zone.value)}</span>
      <MarkIcon status={mark.status} />
      <div>
        <a href={flagPath(mark)}>{mark.flagKey}</a> <ChangeText mark={mark} />
        <div class="small muted">
          {STATUS[mark.status].word}
          {note === '' ? '' : `, ${note}`}
        </div>
      </div>
    </li>
  );
}

/** On a phone: the changes as a list by day, with Now between them. */
export function Agenda({ marks }: { readonly marks: readonly Mark[] }) {
  const [showsPast, setShowsPast] = useState(false);
  const [showsAll, setShowsAll] = useState(false);
  const past = marks.filter(({ at }) => at <= now.value);
  const folded = showsPast ? 0 : Math.max(0, past.length - PAST_SHOWN);
  const listed = marks.slice(folded, showsAll ? undefined : folded + MOST);
  const days = [...Map.groupBy(listed, ({ at }) => dateText(at, zone.value)).values()];
  let isNowShown = false;
  const nowRow = (at: number) => {
    if (isNowShown || at <= now.value) return null;
    isNowShown = true;
    return <li class="nowrow">Now {timeText(now.value, zone.value)}</li>;
  };
  return (
    <div class="agenda">
      {folded > 0 && (
        <p class="more">
          <button type="button" class="link" onClick={() => setShowsPast(true)}>
            Show {folded} earlier
          </button>
        </p>
      )}
      {days.map((day) => (
        <section key={day[0]?.id} aria-label={longDayText(day[0]?.at ?? 0, zone.value, now.value)}>
          <h2>{longDayText(day[0]?.at ?? 0, zone.value, now.value)}</h2>
          <ol>
            {day.map((mark) => (
              <Fragment key={mark.id}>
                {nowRow(mark.at)}
                <Item mark={mark} />
              </Fragment>
            ))}
          </ol>
        </section>
      ))}
      {listed.length < marks.length - folded && (
        <p class="more">
          <button type="button" class="link" onClick={() => setShowsAll(true)}>
            Show {marks.length - folded - listed.length} more
          </button>
        </p>
      )}
    </div>
  );
}
