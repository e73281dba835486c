/** What the list needs of an event. */
interface Item {
  readonly id: string;
  readonly occurredAt: string;
}

/** The events that are shown, newest first, and those that came meanwhile. */
export interface Listed<Event extends Item> {
  readonly shown: readonly Event[];
  /** New ones that aren't shown yet, so that no row moves. */
  readonly waiting: readonly Event[];
  /** Whether so many came that those between the shown and the waiting ones aren't known. */
  readonly hasGap: boolean;
}

export const NOTHING: Listed<never> = { shown: [], waiting: [], hasGap: false };

const newestFirst = <Event extends Item>(events: readonly Event[]): Event[] =>
  events.toSorted((a, b) => Date.parse(b.occurredAt) - Date.parse(a.occurredAt));

/** The same list with what is known newer of its events: their seals. */
function renewed<Event extends Item>(list: readonly Event[], by: ReadonlyMap<string, Event>) {
  return list.map((event) => by.get(event.id) ?? event);
}

/**
 * Takes in the newest page: what is known is renewed in its place, what is new waits, or comes on top.
 *
 * @param found of the newest page, newest first
 * @param joins whether the page reaches back to what is known
 */
export function takeNewest<Event extends Item>(
  { shown, waiting, hasGap }: Listed<Event>,
  found: readonly Event[],
  joins: boolean,
  isHeld: boolean,
): Listed<Event> {
  const byId = new Map(found.map((event) => [event.id, event]));
  const known = new Set([...shown, ...waiting].map(({ id }) => id));
  const fresh = found.filter(({ id }) => !known.has(id));
  if (!joins && !isHeld) return { shown: newestFirst(found), waiting: [], hasGap: false };
  const kept = renewed(shown, byId);
  const held = newestFirst([...fresh, ...renewed(waiting, byId)]);
  const listed = { shown: kept, waiting: held, hasGap: hasGap || !joins };
  return isHeld ? listed : showWaiting(listed);
}

/** Puts what waits on top. Across a gap the older ones go: the list has no hole. */
export function showWaiting<Event extends Item>({
  shown,
  waiting,
  hasGap,
}: Listed<Event>): Listed<Event> {
  return {
    shown: newestFirst(hasGap ? waiting : [...waiting, ...shown]),
    waiting: [],
    hasGap: false,
  };
}

/** Adds an older page at the end. */
export function takeOlder<Event extends Item>(
  listed: Listed<Event>,
  found: readonly Event[],
): Listed<Event> {
  const known = new Set([...listed.shown, ...listed.waiting].map(({ id }) => id));
  return { ...listed, shown: [...listed.shown, ...found.filter(({ id }) => !known.has(id))] };
}
