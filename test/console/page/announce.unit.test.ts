import { afterEach, beforeEach, expect, test, vi } from 'vitest';

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

test('a sentence is said at most once in five seconds, and again later', async () => {
  // Other tests of this process may have said something.
  vi.resetModules();
  const { announce, announcement } = await import('../../../console/src/announce.ts');
  const heard: string[] = [];
  const stop = announcement.subscribe((sentence) => {
    if (sentence !== '') heard.push(sentence);
  });
  for (const sentence of ['Copied', 'Copied', '1 new event', '2 new events']) announce(sentence);
  expect(heard).toEqual(['Copied']);
  vi.advanceTimersByTime(5_000);
  expect(heard).toEqual(['Copied', '2 new events']);
  vi.advanceTimersByTime(5_000);
  announce('2 new events');
  expect(heard).toEqual(['Copied', '2 new events', '2 new events']);
  stop();
});
