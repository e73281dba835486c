import { afterAll, describe, expect, test, vi } from 'vitest';
import { horizon, learnHorizon, sinceHorizon } from '../../../console/src/data/horizon.ts';

await vi.hoisted(async () => (await import('./browser.ts')).stubBrowser());
const { ApiError } = await import('../../../console/src/data/request.ts');

describe('a trail that was purged', () => {
  afterAll(() => {
    horizon.value = 0;
    vi.unstubAllGlobals();
  });
  const week = Date.parse('2026-10-28T00:00:00Z');
  const refuse = (code: string, up: string) =>
    learnHorizon(
      new ApiError(
        `The audit trail was purged up to ${up}: ask for a time from then on.`,
        code,
        410,
      ),
    );

  test('is asked for all until the server refuses', () => {
    refuse('internal_error', '2026-11-01T00:00:00.000000Z');
    expect(sinceHorizon(week)).toBe(week);
  });

  test('is asked from the horizon on that the refusal names, and not a part of a millisecond before', () => {
    refuse('history_purged', '2026-11-01T00:00:00.000999Z');
    expect(sinceHorizon(week)).toBe(Date.parse('2026-11-01T00:00:00.001Z'));
    const later = Date.parse('2026-11-02T00:00:00Z');
    expect(sinceHorizon(later)).toBe(later);
  });
});
