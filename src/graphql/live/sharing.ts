/** Makes a cache of one result for each object and key: concurrent callers share it, errors included. */
export function makeSharing<T>() {
  const made = new WeakMap<object, Map<string, Promise<T>>>();
  return (about: object, key: string, make: () => Promise<T>): Promise<T> => {
    const known = made.get(about) ?? new Map<string, Promise<T>>();
    made.set(about, known);
    const value = known.get(key) ?? make();
    known.set(key, value);
    return value;
  };
}
