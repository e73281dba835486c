import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import type { TrailEvent } from '../../../console/src/trail/documents.ts';
import { makeFeed, MOST_LISTED } from '../../../console/src/trail/feed.ts';
import { readSearch } from '../../../console/src/trail/search.ts';
import { event } from './trail_event.ts';

await vi.hoisted(async () => (await import('./browser.ts')).stubBrowser());

/** The trail, newest first; a cursor is a number of events. */
let trail: TrailEvent[] = [];
const add = (count: number): void => {
  const from = trail.length;
  const fresh = Array.from({ length: count }, (_, i) =>
    event({ id: String(from + i), occurredAt: new Date((from + i) * 1_000).toISOString() }),
  );
  trail = [...fresh.toReversed(), ...trail];
};

interface Body {
  readonly variables: { readonly first: number; readonly after: string | null };
}

beforeAll(() => {
  vi.useFakeTimers();
  vi.stubGlobal('fetch', (_path: string, { body }: { readonly body: string }) => {
    const { first, after } = (JSON.parse(body) as Body).variables;
    const from = Number(after ?? 0);
    const auditEvents = {
      nodes: trail.slice(from, from + first),
      pageInfo: { hasNextPage: from + first < trail.length, endCursor: String(from + first) },
    };
    return Promise.resolve(Response.json({ data: { auditEvents } }));
  });
});
afterAll(async () => {
  // What was announced is over.
  await vi.advanceTimersByTimeAsync(10_000);
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

test('a list that is followed for days begins again before it is too long', async () => {
  add(MOST_LISTED + 150);
  const feed = makeFeed(
    readSearch('', { zone: 'UTC', now: 0, environment: null }),
    () => undefined,
  );
  const length = () => feed.listed.value.shown.length;
  while (length() <= MOST_LISTED) await feed.more();
  const read = length();
  feed.hold(true);
  add(1);
  feed.look();
  await vi.advanceTimersByTimeAsync(1_000);
  // One who reads keeps the rows.
  expect([length(), feed.listed.value.waiting.length]).toEqual([read, 1]);
  feed.hold(false);
  await vi.advanceTimersByTimeAsync(1_000);
  expect(length()).toBe(100);
  expect(feed.listed.value.shown[0]?.id).toBe(trail[0]?.id);
  // Nothing is left out between this page and the next.
  await feed.more();
  expect(feed.listed.value.shown.map(({ id }) => id)).toEqual(
    trail.slice(0, 200).map(({ id }) => id),
  );
  feed.end();
});
