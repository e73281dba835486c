import type { Hint } from './changes.ts';

/** What is made of a hint, under its key: made for the first who asks, and the same for all who do. */
export type Sharing<T> = (hint: Hint, key: string, make: () => Promise<T>) => Promise<T>;

/** Keeps what is made of a hint for as long as somebody has the hint. What fails has failed for all. */
export function makeSharing<T>(): Sharing<T> {
  const made = new WeakMap<Hint, Map<string, Promise<T>>>();
  return (hint, key, make) => {
    const known = made.get(hint) ?? new Map<string, Promise<T>>();
    made.set(hint, known);
    const value = known.get(key) ?? make();
    known.set(key, value);
    return value;
  };
}
