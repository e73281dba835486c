import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { announce } from '../announce.ts';
import { now } from '../data/clock.ts';
import { environment } from '../data/person.ts';
import { errorOf } from '../data/request.ts';
import { refetchEach } from '../data/resource.ts';
import { useKeys } from '../keys.ts';
import { StatusTag } from '../parts/marks.tsx';
import { Failure, Note, Waiting } from '../parts/note.tsx';
import { Purged } from '../parts/purged.tsx';
import { param } from '../router.ts';
import { zone } from '../settings.ts';
import { relativeText, shortText } from '../time/format.ts';
import { Basis, Take } from './aside.tsx';
import { MomentFields, showAt } from './fields.tsx';
import { differs, neighbours } from './model.ts';
import { Scale } from './scale.tsx';
import { changeBefore, changeBehind } from './steps.ts';
import { Between, StateTable } from './table.tsx';
import { useStateAt } from './use_state_at.ts';

/** Of the flags that differ, and of those that don't, so many are shown before one asks for all. */
const MOST = 200;

/** The instant in the address; null for now, and for what is none. */
function chosenAt(): number | null {
  const at = Date.parse(param('at'));
  return Number.isNaN(at) ? null : at;
}

export function StatePage() {
  const chosen = chosenAt();
  const { at, names, found, error, isReady, rows, answers, deciders, scale } = useStateAt(chosen);
  const [showsAll, setShowsAll] = useState(false);
  const date = useRef<HTMLInputElement>(null);
  const near = neighbours(scale.marks, at);
  const isPast = at <= now.value;
  /** In view first; else the server is asked. */
  const step = async (direction: -1 | 1): Promise<void> => {
    const seen = direction < 0 ? near.before : near.behind;
    try {
      const time =
        seen ??
        (direction < 0 ? await changeBefore(at, now.value) : await changeBehind(at, now.value));
      if (time === null)
        announce(direction < 0 ? 'No change before' : 'No change is scheduled behind');
      else showAt(time);
    } catch (failure) {
      announce(errorOf(failure).message);
    }
  };
  useKeys({
    '[': () => void step(-1),
    ']': () => void step(1),
    t: () => showAt(null),
    d: () => {
      date.current?.focus();
      date.current?.select();
    },
  });
  // What was to come has come: the trail has it now.
  useEffect(() => {
    if (isPast && chosen !== null) void refetchEach(found);
  }, [isPast]);
  const differing = useMemo(() => rows.filter(differs), [rows]);
  const same = useMemo(() => rows.filter((row) => !differs(row)), [rows]);
  const shownDiffering = useMemo(
    () => (showsAll ? differing : differing.slice(0, MOST)),
    [differing, showsAll],
  );
  const shownSame = useMemo(() => (showsAll ? same : same.slice(0, MOST)), [same, showsAll]);
  const title = titleOf(chosen, at, differing.length, rows.length);
  useEffect(() => {
    if (isReady && chosen !== null) announce(title);
  }, [isReady, title]);
  const isMany = names.length > 1;
  const minute = Math.floor(at / 60_000) * 60_000;
  const table = { at: chosen ?? minute, isChosen: chosen !== null, isPast, isMany, deciders };
  const isOpen = showsAll || chosen === null || differing.length === 0;
  return (
    <>
      <div class="head">
        <h1>State at</h1>
        <MomentFields at={at} date={date} />
        <span class="small muted">
          {shortText(at, 'UTC', now.value, 'second')} UTC <br />
          {chosen === null ? 'now' : relativeText(at, now.value)}
        </span>
        <span class="grow deskonly" />
        <span class="row" role="group" aria-label="Step through changes">
          <button type="button" class="btn" onClick={() => void step(-1)}>
            ‹ {near.before === null ? 'Change before' : `Change at ${short(near.before)}`}
          </button>
          {chosen !== null && (
            <button type="button" class="btn" onClick={() => showAt(null)}>
              Now
            </button>
          )}
          <button type="button" class="btn" onClick={() => void step(1)}>
            {near.behind === null ? 'Next change' : `Change at ${short(near.behind)}`} ›
          </button>
        </span>
      </div>
      <div class="stack">
        {param('at') !== '' && chosen === null && (
          <Note tone="quiet">No instant: “{param('at')}”. Shown is now.</Note>
        )}
        <Failure error={error} refetch={() => refetchEach(found)} />
        {error.value?.code !== 'history_purged' && <Purged from={scale.range.from} />}
        <Scale {...{ at, isChosen: chosen !== null, range: scale.range, marks: scale.marks }} />
        {scale.error.value !== null && error.value === null && (
          <Note tone="quiet">
            The changes around it can’t be shown. {scale.error.value.message}
          </Note>
        )}
      </div>
      <div class="cols state-at">
        <section class="card" aria-labelledby="flags">
          <header class="between">
            <h2 id="flags">{isReady ? title : `State in ${environment.value}`}</h2>
            {!isReady ? null : isPast ? (
              <StatusTag status="applied">
                {chosen === null ? 'Fact, as of now' : 'Fact, from the trail'}
              </StatusTag>
            ) : (
              <StatusTag status="pending">Projection, not fact</StatusTag>
            )}
          </header>
          {!isReady && error.value === null && <Waiting />}
          {isReady && (
            <>
              {differing.length > 0 && (
                <StateTable {...table} rows={shownDiffering} label="Flags that differ" />
              )}
              {isOpen && same.length > 0 && (
                <StateTable
                  {...table}
                  rows={shownSame}
                  label={chosen === null ? 'Flags' : 'Flags that are the same'}
                />
              )}
              {!showsAll && (differing.length > MOST || (isOpen && same.length > MOST)) && (
                <p class="more">
                  <button type="button" class="link" onClick={() => setShowsAll(true)}>
                    Show all {rows.length}
                  </button>
                </p>
              )}
              {same.length > 0 && differing.length > 0 && (
                <p class="more">
                  <button
                    {...{ type: 'button', class: 'link', 'aria-expanded': isOpen }}
                    onClick={() => setShowsAll(!showsAll)}
                  >
                    {isOpen ? 'Hide' : 'Show'} the {same.length} that{' '}
                    {isPast ? 'were as now' : 'stay the same'}
                  </button>
                </p>
              )}
              {rows.length === 0 && <p class="body">There are no flags in {names.join(', ')}.</p>}
              <Between rows={rows} />
            </>
          )}
        </section>
        <div class="stack">
          <Basis at={at} />
          {isReady && <Take {...{ at, names, answers }} />}
        </div>
      </div>
    </>
  );
}

const short = (at: number): string =>
  shortText(at, zone.value, now.value, at % 60_000 === 0 ? 'minute' : 'second');

function titleOf(chosen: number | null, at: number, differing: number, all: number): string {
  const flags = all === 1 ? '1 flag' : `${all} flags`;
  if (chosen === null) return `${flags} now`;
  const isPast = at <= now.value;
  if (differing === 0) return isPast ? `All ${flags} were as now` : `All ${flags} stay as now`;
  const are = isPast ? (differing === 1 ? 'was' : 'were') + ' different from' : 'will differ from';
  return `${differing} of ${flags} ${are} now`;
}
