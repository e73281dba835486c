import { parseSearch } from '../search.ts';
import type { Row } from './model.ts';

/** What the filter of the timeline knows: `is:failed`, `is:pending`, `is:on`, `is:off`, `env:staging`. */
export const FILTERS = ['is', 'env'] as const;

/** Whether a row is what the filter asks for: each word is part of the key, and each filter holds. */
export function matches(row: Row, text: string): boolean {
  const { words, filters } = parseSearch(text, FILTERS);
  const key = row.flagKey.toLowerCase();
  return (
    words.every((word) => key.includes(word)) &&
    (filters.get('env') ?? []).every((name) => row.environment === name) &&
    (filters.get('is') ?? []).every((value) => is(row, value.toLowerCase()))
  );
}

function is(row: Row, value: string): boolean {
  if (value === 'on') return row.current?.enabled === true;
  if (value === 'off') return row.current?.enabled === false;
  return row.marks.some(({ status }) => status === value);
}
