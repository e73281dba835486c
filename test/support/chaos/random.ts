/** Numbers that look random, and are the same for the same seed. */
export interface Random {
  readonly seed: number;
  /** From 0 up to 1, without 1. */
  next(): number;
  /** A whole number from `low` to `high`, both included. */
  between(low: number, high: number): number;
  pick<T>(values: readonly [T, ...T[]]): T;
}

/** mulberry32: small, and good enough to choose moments by. */
export function makeRandom(seed: number): Random {
  let state = seed >>> 0;
  function next(): number {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }
  const between = (low: number, high: number) => low + Math.floor(next() * (high - low + 1));
  return {
    seed,
    next,
    between,
    pick: (values) => values[between(0, values.length - 1)] ?? values[0],
  };
}

/** The seed of this run: printed, and CHAOS_SEED gives it again. */
export function newSeed(): number {
  const seed = Number(process.env.CHAOS_SEED ?? Date.now() % 1_000_000_000);
  process.stdout.write(`CHAOS_SEED=${seed}\n`);
  return seed;
}
