import { EVENT_TYPES } from './event_types.ts';
import { TRAIL_FILTERS } from './search.ts';

export interface Suggestion {
  /** What takes the place of the word that is being typed. */
  readonly text: string;
  readonly note: string;
}

interface Known {
  readonly environments: readonly string[];
  /** E-mail addresses that were seen. */
  readonly people: readonly string[];
  /** Keys of flags that have the word in them. */
  readonly flagKeys: readonly string[];
}

const LEVELS = ['info', 'warning', 'error'];
const ACTORS = ['worker', 'system', 'database', 'admin'];
const TIMES = ['-1h', '-24h', '-7d', 'today', 'yesterday'];
const MOST = 8;

/** The word before the cursor, and where it begins. */
export function wordAt(
  text: string,
  cursor: number,
): { readonly word: string; readonly from: number } {
  const from = text.slice(0, cursor).search(/\S*$/);
  return { word: text.slice(from, cursor), from };
}

/** The part of a flag's key in a word: of `flag:check` or `check`; null where the word is another filter's. */
export function flagPart(word: string): string | null {
  const found = /^(?:flag:)?([^:]+)$/.exec(word);
  return found?.[1] ?? null;
}

/** What a word that is being typed can become: a filter, or its value. */
export function suggestionsFor(word: string, known: Known): Suggestion[] {
  const colon = word.indexOf(':');
  if (word === '') return [];
  if (colon < 0) {
    const filters = Object.entries(TRAIL_FILTERS)
      .filter(([key]) => key.startsWith(word.toLowerCase()))
      .map(([key, note]) => ({ text: `${key}:`, note }));
    const flags = known.flagKeys.map((key) => ({ text: `flag:${key}`, note: 'flag' }));
    return [...filters, ...flags].slice(0, MOST);
  }
  const key = word.slice(0, colon).toLowerCase();
  const value = word.slice(colon + 1).toLowerCase();
  const of = (
    values: readonly string[],
    note: (value: string) => string = () => '',
  ): Suggestion[] =>
    values
      .filter((one) => one.toLowerCase().includes(value) && one.toLowerCase() !== value)
      .map((one) => ({ text: `${key}:${one}`, note: note(one) }))
      .slice(0, MOST);
  switch (key) {
    case 'flag':
      return of(known.flagKeys);
    case 'type':
      return of(
        ['feature_flag.*', 'flag_schedule.*', ...Object.keys(EVENT_TYPES)],
        (type) => EVENT_TYPES[type] ?? 'all of these',
      );
    case 'by':
      return of([...known.people, ...ACTORS]);
    case 'env':
      return of([...known.environments, 'all']);
    case 'level':
      return of(LEVELS);
    case 'since':
    case 'until':
      return of(TIMES);
    default:
      return [];
  }
}
