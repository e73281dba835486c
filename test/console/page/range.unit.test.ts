import { afterAll, describe, expect, test, vi } from 'vitest';
import { navigate } from '../../../console/src/router.ts';
import {
  followNow,
  isFollowing,
  move,
  range,
  showFrom,
  span,
  zoom,
} from '../../../console/src/timeline/range.ts';
import { DAY, HOUR } from '../../../console/src/time/zone.ts';

await vi.hoisted(async () => (await import('./browser.ts')).stubBrowser());

afterAll(() => {
  vi.unstubAllGlobals();
});

describe('the range', () => {
  const open = (search: string) => navigate(`/console/timeline${search}`);

  test('follows now, with most of a day ahead', () => {
    open('');
    const { from, to } = range.value;
    expect([span.value, to - from, isFollowing.value]).toEqual([DAY, DAY, true]);
    expect(to - Date.now()).toBeGreaterThan(0.7 * DAY);
    expect(Date.now() - from).toBeGreaterThan(0.2 * DAY);
  });

  test('is what the address says', () => {
    open('?from=2026-11-26T08:00Z&span=6h');
    expect(range.value).toEqual({
      from: Date.parse('2026-11-26T08:00Z'),
      to: Date.parse('2026-11-26T14:00Z'),
    });
    expect(isFollowing.value).toBe(false);
  });

  test.each([
    ['?span=900d', 400 * DAY],
    ['?span=-6h', DAY],
    ['?span=long', DAY],
    ['?span=90m', 1.5 * HOUR],
  ])('of “%s” is one that the server takes', (search, ms) => {
    open(search);
    expect(span.value).toBe(ms);
  });

  test('moves by half of itself, and comes back to now', () => {
    open('?from=2026-11-26T08:00Z&span=6h');
    move(1);
    expect(range.value.from).toBe(Date.parse('2026-11-26T11:00Z'));
    move(-1);
    expect(range.value.from).toBe(Date.parse('2026-11-26T08:00Z'));
    followNow();
    expect(isFollowing.value).toBe(true);
  });

  test('zooms around its middle, and not beyond the first and the last span', () => {
    open('?from=2026-11-26T08:00Z&span=24h');
    zoom(1);
    expect([span.value, range.value.from]).toEqual([6 * HOUR, Date.parse('2026-11-26T17:00Z')]);
    zoom(1);
    expect(span.value).toBe(6 * HOUR);
    for (let i = 0; i < 5; i += 1) zoom(-1);
    expect(span.value).toBe(30 * DAY);
    showFrom(Date.parse('2026-11-26T08:00:29Z'));
    expect(range.value.from).toBe(Date.parse('2026-11-26T08:00Z'));
  });
});
