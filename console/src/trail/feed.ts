import { computed, signal, type ReadonlySignal } from '@preact/signals';
import { announce } from '../announce.ts';
import { type ApiError, errorOf, run } from '../data/request.ts';
import { EVENTS, MEANING, PERSON_OF_TRAIL, type TrailEvent } from './documents.ts';
import { NOTHING, showWaiting, takeNewest, takeOlder, type Listed } from './list_model.ts';
import { matches, type Condition, type TrailSearch } from './search.ts';

/** Events of a page: the server gives no more. */
const PAGE = 100;
/** Pages that are read at once for words that the page itself looks for. */
const MOST_PAGES = 10;
/** Events that a search with such words finds before it stops. */
const ENOUGH = 30;
/** Events that are listed before the list begins again: a tab is open for days. */
export const MOST_LISTED = 1_000;
/** The shortest time between two looks for new events. */
const LOOK_MS = 400;
/** How long until an event that isn't sealed is looked at again. */
const SEALING_MS = [1_000, 1_000, 2_000, 4_000, 8_000, 15_000] as const;

/** The events of one search: pages by cursor, and new ones as they come. */
export interface Feed {
  readonly listed: ReadonlySignal<Listed<TrailEvent>>;
  readonly error: ReadonlySignal<ApiError | null>;
  readonly isLoading: ReadonlySignal<boolean>;
  /** Whether the first page was asked for, and is here or failed. */
  readonly isReady: ReadonlySignal<boolean>;
  /** Whether there is a first page. */
  readonly isStarted: ReadonlySignal<boolean>;
  readonly hasMore: ReadonlySignal<boolean>;
  /** The time of the last event that was looked at. */
  readonly searchedTo: ReadonlySignal<string | null>;
  readonly more: () => Promise<void>;
  /** Looks for new events, and for seals of known ones; several calls of a moment are one. */
  readonly look: () => void;
  /** Holds new events back, or lets them go on. */
  readonly hold: (isHeld: boolean) => void;
  /** Shows those that wait. */
  readonly show: () => void;
  readonly end: () => void;
}

/** What the server narrows by, and what the page looks for, once ids and names are known for what they are. */
async function resolve({ condition, words, id, person, types }: TrailSearch) {
  const final: Record<string, string> = { ...condition };
  let left = person;
  if (id !== null) {
    const { event, schedule, request } = await run(MEANING, { id, text: id });
    if ((event?.nodes.length ?? 0) > 0) final.id = id;
    else if ((schedule?.nodes.length ?? 0) > 0) final.scheduleId = id;
    else if ((request?.nodes.length ?? 0) > 0) final.requestId = id;
    else final.id = id;
  }
  if (person !== null) {
    const { auditEvents } = await run(PERSON_OF_TRAIL, { id: person });
    if ((auditEvents?.nodes.length ?? 0) > 0) {
      final.adminUserId = person;
      left = null;
    }
  }
  const isFound = (event: TrailEvent): boolean =>
    matches(event, words, left) && (types.length === 0 || types.includes(event.eventType));
  return {
    condition: final satisfies Condition,
    isFound,
    isExact: words.length === 0 && left === null,
  };
}

/** @param onLooked once new events were looked for: what says how far the trail is sealed is out of date as well */
export function makeFeed(search: TrailSearch, onLooked: () => void): Feed {
  const listed = signal<Listed<TrailEvent>>(NOTHING);
  const error = signal<ApiError | null>(null);
  const isLoading = signal(false);
  const isReady = signal(false);
  const cursor = signal<string | null>(null);
  const searchedTo = signal<string | null>(null);
  const isStarted = signal(false);
  const meaning = resolve(search);
  // Its failure is the first page's.
  meaning.catch(() => undefined);
  let head = new Set<string>();
  let isHeld = false;
  let isEnded = false;
  let due: ReturnType<typeof setTimeout> | null = null;
  let sealing: ReturnType<typeof setTimeout> | undefined;
  let tries = 0;

  async function pageOf(after: string | null) {
    const { condition, isFound } = await meaning;
    const { auditEvents } = await run(EVENTS, { condition, first: PAGE, after });
    const nodes = auditEvents?.nodes ?? [];
    const end = auditEvents?.pageInfo.hasNextPage === true ? auditEvents.pageInfo.endCursor : null;
    return { nodes, end, found: nodes.filter(isFound) };
  }

  async function guarded(work: () => Promise<void>): Promise<void> {
    try {
      await work();
      error.value = null;
    } catch (failure) {
      if (!isEnded) error.value = errorOf(failure);
    }
  }

  async function more(): Promise<void> {
    if (isLoading.value || isEnded || (isStarted.value && cursor.value === null)) return;
    isLoading.value = true;
    await guarded(async () => {
      const { isExact } = await meaning;
      let found = 0;
      for (let page = 0; page < MOST_PAGES && found < ENOUGH; page += 1) {
        const { nodes, end, found: fitting } = await pageOf(cursor.value);
        if (isEnded) return;
        if (!isStarted.value) head = new Set(nodes.map(({ id }) => id));
        isStarted.value = true;
        listed.value = takeOlder(listed.value, fitting);
        cursor.value = end;
        searchedTo.value = nodes.at(-1)?.occurredAt ?? searchedTo.value;
        found += fitting.length;
        if (end === null || isExact) break;
      }
    });
    isLoading.value = false;
    isReady.value = true;
    watchSeals();
  }

  async function lookNow(): Promise<void> {
    // The first page is on its way, or failed.
    if (!isStarted.value || isEnded) return;
    await guarded(async () => {
      const { nodes, end, found } = await pageOf(null);
      if (isEnded) return;
      const isKnown = head.size === 0 || end === null || nodes.some(({ id }) => head.has(id));
      const joins = isKnown && listed.value.shown.length <= MOST_LISTED;
      const before = listed.value.waiting.length;
      const isFirst = head.size === 0 && listed.value.shown.length === 0;
      head = new Set(nodes.map(({ id }) => id));
      listed.value = takeNewest(listed.value, found, joins, isHeld && !isFirst);
      if ((!joins && !isHeld) || isFirst) cursor.value = end;
      const { waiting } = listed.value;
      if (waiting.length > before) announce(countText(waiting.length));
    });
    onLooked();
    watchSeals();
  }

  /** An event is sealed a second after it happened. */
  function watchSeals(): void {
    clearTimeout(sealing);
    if (isEnded || !listed.value.shown.slice(0, PAGE).some(({ seal }) => seal === null)) {
      tries = 0;
      return;
    }
    sealing = setTimeout(look, SEALING_MS[Math.min(tries, SEALING_MS.length - 1)]);
    tries += 1;
  }

  function look(): void {
    if (due !== null || isEnded) return;
    due = setTimeout(() => {
      due = null;
      void lookNow();
    }, LOOK_MS);
  }

  function hold(held: boolean): void {
    isHeld = held;
    if (!held) show();
  }

  function show(): void {
    if (listed.value.waiting.length === 0) return;
    const { hasGap } = listed.value;
    listed.value = showWaiting(listed.value);
    // What was older than the gap is read again from the start.
    if (hasGap) {
      cursor.value = null;
      isStarted.value = false;
      listed.value = NOTHING;
      void more();
    }
  }

  return {
    ...{ listed, error, isLoading, isReady, isStarted, searchedTo, more, look, hold, show },
    hasMore: computed(() => cursor.value !== null),
    end: () => {
      isEnded = true;
      clearTimeout(sealing);
      if (due !== null) clearTimeout(due);
    },
  };
}

/** As `12 new events`. */
export const countText = (n: number): string => (n === 1 ? '1 new event' : `${n} new events`);
