/** What a search field says: words, and filters as `is:failed`. */
export interface Search {
  /** In lower case. */
  readonly words: readonly string[];
  /** By key: the values that were given. */
  readonly filters: ReadonlyMap<string, readonly string[]>;
  /** Filters that this field doesn't know, as they were written. */
  readonly unknown: readonly string[];
}

/**
 * Reads `checkout is:failed by:"alice smith"`.
 *
 * @param keys the filters that the field knows
 */
export function parseSearch(text: string, keys: readonly string[]): Search {
  const words: string[] = [];
  const filters = new Map<string, string[]>();
  const unknown: string[] = [];
  for (const [whole, key, quoted, plain] of text.matchAll(/(?:([a-z]+):)?(?:"([^"]*)"|(\S+))/gi)) {
    const value = quoted ?? plain ?? '';
    if (key === undefined) words.push(value.toLowerCase());
    else if (keys.includes(key.toLowerCase())) {
      const name = key.toLowerCase();
      filters.set(name, [...(filters.get(name) ?? []), value]);
    } else unknown.push(whole);
  }
  return { words, filters, unknown };
}

/** The text with one filter set to a value, or taken away by null. */
export function withFilter(text: string, key: string, value: string | null): string {
  const without = text.replace(new RegExp(`(^|\\s)${key}:(?:"[^"]*"|\\S*)`, 'gi'), '').trim();
  if (value === null) return without;
  const said = /\s/.test(value) ? `"${value}"` : value;
  return `${without} ${key}:${said}`.trim();
}
