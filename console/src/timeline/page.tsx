import { useComputed } from '@preact/signals';
import type { RefObject } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { announce } from '../announce.ts';
import { chosenEnvironment, isAdmin } from '../data/person.ts';
import { refetchEach } from '../data/resource.ts';
import { useKeys } from '../keys.ts';
import { Failure, Note, Waiting } from '../parts/note.tsx';
import { link, navigate, param, setParams, withParams } from '../router.ts';
import { parseSearch } from '../search.ts';
import { density } from '../settings.ts';
import { Agenda } from './agenda.tsx';
import { Chart } from './chart.tsx';
import { ChangesTable } from './table.tsx';
import { Empty } from './empty.tsx';
import { FILTERS, matches } from './filter.ts';
import { Inspector, Next } from './inspector.tsx';
import { Legend } from './legend.tsx';
import { followNow, isFollowing, move, span, SPANS, zoom, zoomTo } from './range.ts';
import { useRows } from './use_rows.ts';

export function TimelinePage() {
  const { found, error, last } = useRows();
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
  const rows = last?.rows ?? [];
  const fitting = rows.filter((row) => matches(row, filter));
  const changing = fitting.filter(({ marks }) => marks.length > 0);
  const marks = fitting.flatMap((row) => row.marks).sort((a, b) => a.at - b.at);
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
              <Chart
                {...{
                  rows: shown,
                  range: last.range,
                  chosen,
                  hidden: fitting.length - shown.length,
                }}
                onShowAll={() => setShowsAll(true)}
              />
              {isEmpty ? <Empty rows={rows} /> : <Legend />}
              <Agenda marks={marks} />
              {fitting.length === 0 && filter !== '' && (
                <p class="more">
                  No flag matches; {rows.length} without the filter.{' '}
                  <a href={withParams({ q: null })}>Show all</a>
                </p>
              )}
            </>
          )}
        </section>
        <aside class="stack inspector" aria-label="Selected change">
          <Inspector mark={selected} chosen={chosen} />
          <Next marks={marks} />
        </aside>
      </div>
      {last !== null && !isEmpty && <ChangesTable marks={marks} />}
    </>
  );
}

const schedulePath = (): string =>
  link('/flags', { form: 'schedule', env: chosenEnvironment.value });

function Head({ search }: { readonly search: RefObject<HTMLInputElement | null> }) {
  const isDense = useComputed(() => density.value === 'dense');
  return (
    <div class={isDense.value ? 'head dense' : 'head'}>
      <h1>Timeline</h1>
      {isAdmin.value && (
        <a class="btn primary mobonly push" href={schedulePath()}>
          Schedule
        </a>
      )}
      <span class="row nowrap" role="group" aria-label="Range">
        <button type="button" class="btn" aria-label="Earlier" onClick={() => move(-1)}>
          ‹
        </button>
        <button type="button" class="btn" aria-pressed={isFollowing.value} onClick={followNow}>
          Now
        </button>
        <button type="button" class="btn" aria-label="Later" onClick={() => move(1)}>
          ›
        </button>
      </span>
      <span class="seg" role="group" aria-label="Zoom">
        {SPANS.map(([name, text, ms]) => (
          <button
            key={name}
            type="button"
            aria-pressed={ms === span.value}
            onClick={() => zoomTo(name, ms)}
          >
            {text}
          </button>
        ))}
      </span>
      <span class="deskonly grow" />
      <input
        {...{ ref: search, class: 'input search deskonly', type: 'search', value: param('q') }}
        {...{ 'aria-label': 'Filter', placeholder: 'Filter, such as is:failed' }}
        onInput={({ currentTarget }) => setParams({ q: currentTarget.value })}
      />
      <a class="btn deskonly" href="#table">
        As a table
      </a>
      {isAdmin.value && (
        <a class="btn primary deskonly" href={schedulePath()}>
          Schedule a change
        </a>
      )}
    </div>
  );
}
