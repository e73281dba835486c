/** What the trail has where a person gave no reason: the server takes no stop without one. */
const NO_REASON = 'No reason was given.';

export const reasonOf = (text: string): string => text.trim() || NO_REASON;

/** As `production`, `production and staging`, `3 environments`. */
export const andOf = (names: readonly string[]): string =>
  names.length > 2 ? `${names.length} environments` : names.join(' and ');

interface Coming {
  readonly at: string;
  readonly flagKey: string;
}

/**
 * As `10 changes within 24 hours wait, first gift-cards at 16:30.`
 *
 * @param write makes a time readable
 */
export function waitingText(changes: readonly Coming[], write: (at: string) => string): string {
  const [first] = changes.toSorted((a, b) => Date.parse(a.at) - Date.parse(b.at));
  if (first === undefined) return 'Nothing is due within 24 hours.';
  const count = changes.length === 1 ? '1 change' : `${changes.length} changes`;
  const wait = changes.length === 1 ? 'waits' : 'wait';
  return `${count} within 24 hours ${wait}, first ${first.flagKey} at ${write(first.at)}.`;
}
