/** Numbers from 0 up to 1 that look random and are the same in each run. */
export type Random = () => number;

/** xorshift32. */
export function makeRandom(seed: number): Random {
  let state = seed >>> 0 || 1;
  return () => {
    state ^= state << 13;
    state >>>= 0;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state / 2 ** 32;
  };
}
