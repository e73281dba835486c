import type { Hint } from './changes.ts';

/** Makes a cache of one result for each hint and key: concurrent callers share it, errors included. */
export function makeSharing<T>() {
  const made = new WeakMap<Hint, Map<string, Promise<T>>>();
  return (hint: Hint, key: string, make: () => Promise<T>): Promise<T> => {
    const known = made.get(hint) ?? new Map<string, Promise<T>>();
    made.set(hint, known);
    const value = known.get(key) ?? make();
    known.set(key, value);
    return value;
  };
}
