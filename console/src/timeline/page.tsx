import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { announce } from '../announce.ts';
import { isAdmin } from '../data/person.ts';
import { refetchEach } from '../data/resource.ts';
import { useKeys } from '../keys.ts';
import { Failure, Note, Waiting } from '../parts/note.tsx';
import { Purged } from '../parts/purged.tsx';
import { navigate, param, setParams, withParams } from '../router.ts';
import { parseSearch } from '../search.ts';
import { isPhone } from '../settings.ts';
import { Agenda } from './agenda.tsx';
import { Chart } from './chart.tsx';
import { ChangesTable } from './table.tsx';
import { Empty } from './empty.tsx';
import { FILTERS, matches } from './filter.ts';
import { Inspector, Next } from './inspector.tsx';
import { Legend } from './legend.tsx';
import type { Row } from './model.ts';
import { usePlanTitles } from './plan_titles.ts';
import { Head, schedulePath } from './head.tsx';
import { followNow, isFollowing, move, zoom } from './range.ts';
import { useRows } from './use_rows.ts';

const NO_ROWS: readonly Row[] = [];

/** The rows that the filter asks for, those of them that change, and all their marks by time. */
function fittingOf(rows: readonly Row[], filter: string) {
  const fitting = rows.filter((row) => matches(row, filter));
  const changing = fitting.filter((row) => row.marks.length > 0);
  const marks = fitting.flatMap((row) => row.marks).sort((a, b) => a.at - b.at);
  return { fitting, changing, marks };
}

export function TimelinePage() {
  const { found, error, last, isCut } = useRows();
  const [showsAll, setShowsAll] = useState(false);
  const filter = param('q');
  const chosen = param('sel');
  const search = useRef<HTMLInputElement>(null);
  useKeys({
    '[': () => move(-1),
    ']': () => move(1),
    '+': () => zoom(1),
    '=': () => zoom(1),
    '-': () => zoom(-1),
    t: followNow,
    '/': () => search.current?.focus(),
    ...(isAdmin.value ? { n: () => navigate(schedulePath()) } : {}),
    Escape: () => setParams({ sel: null }),
  });
  const rows = last?.rows ?? NO_ROWS;
  const { fitting, changing, marks } = useMemo(() => fittingOf(rows, filter), [rows, filter]);
  usePlanTitles(marks);
  const selected = rows.flatMap((row) => row.marks).find(({ id }) => id === chosen) ?? null;
  const pending = marks.filter(({ status }) => status === 'pending').length;
  useEffect(() => {
    if (last !== null) announce(`${marks.length} changes in view, ${pending} pending`);
  }, [marks.length, pending]);
  const isEmpty = last !== null && marks.length === 0 && filter === '' && isFollowing.value;
  const shown = showsAll || changing.length === 0 ? fitting : changing;
  return (
    <>
      <Head search={search} />
      <div class="notes">
        <Failure error={error} refetch={() => refetchEach(found)} />
        {last !== null && <Purged from={last.range.from} />}
        {isCut && (
          <Note tone="conflict">
            There is more in this span than 10,000 changes: the last of them are left out. Zoom in
            to see all.
          </Note>
        )}
        {parseSearch(filter, FILTERS).unknown.map((what) => (
          <Note key={what} tone="quiet">
            unknown: {what}
          </Note>
        ))}
      </div>
      <div class="split">
        <section class="card" aria-label="Timeline">
          {last === null ? (
            <Waiting rows={10} />
          ) : (
            <>
              {isPhone.value ? (
                <Agenda marks={marks} />
              ) : (
                <Chart
                  {...{
                    rows: shown,
                    range: last.range,
                    chosen,
                    hidden: fitting.length - shown.length,
                  }}
                  onShowAll={() => setShowsAll(true)}
                />
              )}
              {isEmpty ? <Empty rows={rows} /> : <Legend />}
              {fitting.length === 0 && filter !== '' && (
                <p class="more">
                  No flag matches; {rows.length} without the filter.{' '}
                  <a href={withParams({ q: null })}>Show all</a>
                </p>
              )}
            </>
          )}
        </section>
        {!isPhone.value && (
          <aside class="stack inspector" aria-label="Selected change">
            <Inspector mark={selected} chosen={chosen} />
            {last !== null && <Next marks={marks} />}
          </aside>
        )}
      </div>
      {last !== null && !isEmpty && !isPhone.value && <ChangesTable marks={marks} />}
    </>
  );
}
