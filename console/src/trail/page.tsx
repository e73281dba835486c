import { useEffect, useLayoutEffect, useMemo, useRef, useState } from 'preact/hooks';
import { liveness } from '../data/live.ts';
import { useResource } from '../data/resource.ts';
import { useKeys } from '../keys.ts';
import { Failure, Note, Waiting } from '../parts/note.tsx';
import { link, match, navigate, param } from '../router.ts';
import { Badge } from './badge.tsx';
import { TRAIL_STATUS } from './documents.ts';
import { EventCard, useEvent } from './event.tsx';
import { ExportDialog } from './export.tsx';
import { countText } from './feed.ts';
import { EventList, focusedEvent, openEvent, step } from './list.tsx';
import { NoEvents } from './no_events.tsx';
import { Older } from './older.tsx';
import { SearchField } from './search_field.tsx';
import { isNarrow, NEAR_TOP, useFeed, useHold } from './use_feed.ts';

/** How often the trail's state is asked for where no event comes. */
const STATUS_MS = 60_000;

export function TrailPage() {
  const { search, feed, looks } = useFeed();
  const opened = match('/trail/:eventId')?.eventId ?? '';
  const { isAsked, isPointed } = useHold(feed, opened !== '');
  const [isExporting, setExporting] = useState(false);
  const openedEvent = useEvent(opened, looks);
  const status = useResource(TRAIL_STATUS, {});
  const field = useRef<HTMLInputElement>(null);
  const list = useRef<HTMLOListElement>(null);
  const place = useRef(0);
  const last = useRef('');
  const close = (): void => navigate(link('/trail', { q: param('q') }), { keepScroll: true });
  useEffect(() => {
    if (looks > 0) void status.refetch();
  }, [looks]);
  // A problem may come without an event.
  useEffect(() => {
    const timer = setInterval(() => {
      if (document.visibilityState === 'visible') void status.refetch();
    }, STATUS_MS);
    return () => clearInterval(timer);
  }, [status]);
  // On a narrow screen an event is a page of its own, and Back returns to the place in the list.
  useLayoutEffect(() => {
    if (!isNarrow()) return undefined;
    if (opened === '') {
      scrollTo(0, place.current);
      list.current
        ?.querySelector<HTMLElement>(`a[data-event="${CSS.escape(last.current)}"]`)
        ?.focus({ preventScroll: true });
    } else scrollTo(0, 0);
    last.current = opened;
    const keep = (): void => {
      if (opened === '') place.current = scrollY;
    };
    addEventListener('scroll', keep, { passive: true });
    return () => removeEventListener('scroll', keep);
  }, [opened]);
  const toggleHold = (): void => {
    isAsked.value = !isAsked.value;
  };
  useKeys({
    '/': () => field.current?.focus(),
    j: () => step(list.current, 1),
    k: () => step(list.current, -1),
    ' ': toggleHold,
    c: () => copyLink(opened),
    Escape: () => {
      if (opened !== '') close();
    },
  });
  const { shown, waiting } = feed.listed.value;
  const people = useMemo(
    () => [...new Set(shown.flatMap(({ adminEmail }) => adminEmail ?? []))],
    [shown],
  );
  const total = status.data.value?.trailStatus?.lastSeq ?? null;
  const isLive = liveness.value.kind === 'live';
  const show = (): void => {
    feed.show();
    if (scrollY > NEAR_TOP) scrollTo(0, 0);
  };
  return (
    <div class={opened === '' ? 'trail' : 'trail opened'}>
      <div class="head">
        <h1>Trail</h1>
        <span class="muted deskonly">
          Who did what, when, and why. Nothing here can be changed.
        </span>
        <button type="button" class="btn push" onClick={() => setExporting(true)}>
          Export…
        </button>
      </div>
      <Badge
        found={status}
        events={openedEvent.event === null ? shown : [openedEvent.event, ...shown]}
      />
      {isExporting && <ExportDialog search={search} onClose={() => setExporting(false)} />}
      <div class={opened === '' ? 'split even one' : 'split even'}>
        <section class="card list" aria-labelledby="events">
          <SearchField field={field} people={people} />
          {search.problems.length > 0 && (
            <div class="stack problems">
              {search.problems.map((problem) => (
                <Note key={problem} tone="quiet">
                  {problem}
                </Note>
              ))}
            </div>
          )}
          <header class="between tail">
            <h2 id="events">
              {feed.isStarted.value ? heading(shown.length, feed.hasMore.value) : 'Events'}
            </h2>
            <span class="row" aria-live="off">
              {waiting.length > 0 ? (
                <button type="button" class="btn primary" onClick={show}>
                  {countText(waiting.length)}, show
                </button>
              ) : isAsked.value ? (
                <span class="live quiet">Held</span>
              ) : (
                <span class={isLive ? 'live' : 'live quiet'}>
                  {isLive ? 'Following' : 'Not live'}
                </span>
              )}
            </span>
            <button
              type="button"
              class="btn push"
              aria-pressed={isAsked.value}
              onClick={toggleHold}
            >
              {isAsked.value ? 'Let them go on' : 'Hold new events'}
            </button>
          </header>
          <Failure
            error={feed.error}
            refetch={async () =>
              feed.isReady.value && shown.length > 0 ? feed.look() : feed.more()
            }
          />
          {!feed.isReady.value && <Waiting rows={10} />}
          <EventList
            {...{ events: shown, opened, list }}
            onPointer={(isInside) => (isPointed.value = isInside)}
          />
          {feed.isStarted.value && shown.length === 0 && (
            <NoEvents
              where={search.condition.environment}
              {...{ total, hasMore: feed.hasMore.value }}
            />
          )}
          <Older feed={feed} isSearch={search.words.length > 0 || search.person !== null} />
        </section>
        {opened !== '' && (
          <div class="openedevent">
            <EventCard key={opened} opened={openedEvent} onClose={close} />
          </div>
        )}
      </div>
    </div>
  );
}

const heading = (n: number, hasMore: boolean): string =>
  n === 1 ? '1 event' : `${hasMore ? 'Newest ' : ''}${n} events`;

/** By the opened event's own button, or of the row that has the focus. */
function copyLink(opened: string): void {
  const focused = focusedEvent();
  if (focused !== null && focused !== opened) openEvent(focused);
  // The button comes with the event.
  const press = (tries: number): void => {
    const button = document.getElementById('copy-link');
    if (button !== null) button.click();
    else if (tries > 0) setTimeout(() => press(tries - 1), 100);
  };
  press(20);
}
