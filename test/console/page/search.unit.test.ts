import { describe, expect, test } from 'vitest';
import { parseSearch, withFilter } from '../../../console/src/search.ts';

describe('a search', () => {
  test('is words, and filters that the field knows', () => {
    expect(parseSearch('Checkout is:failed by:"alice smith" is:on v2', ['is', 'by'])).toEqual({
      words: ['checkout', 'v2'],
      filters: new Map([
        ['is', ['failed', 'on']],
        ['by', ['alice smith']],
      ]),
      unknown: [],
    });
  });

  test('names what it doesn’t know, as it was written', () => {
    expect(parseSearch('flg:a Is:on', ['is'])).toEqual({
      ...{ words: [], filters: new Map([['is', ['on']]]), unknown: ['flg:a'] },
    });
  });

  test('of nothing is nothing', () => {
    expect(parseSearch('  ', ['is'])).toEqual({ words: [], filters: new Map(), unknown: [] });
  });

  test('takes times as values', () => {
    const { filters } = parseSearch('since:2026-11-26T08:00Z until:+2h', ['since', 'until']);
    expect(filters.get('since')).toEqual(['2026-11-26T08:00Z']);
    expect(filters.get('until')).toEqual(['+2h']);
  });
});

test('a filter is set, set again and taken away, and the rest stays', () => {
  expect(withFilter('checkout', 'is', 'failed')).toBe('checkout is:failed');
  expect(withFilter('is:on checkout', 'is', 'failed')).toBe('checkout is:failed');
  expect(withFilter('', 'by', 'alice smith')).toBe('by:"alice smith"');
  expect(withFilter('by:"alice smith" checkout', 'by', null)).toBe('checkout');
  expect(withFilter('this:on', 'is', null)).toBe('this:on');
});
