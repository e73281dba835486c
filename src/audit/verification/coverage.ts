/** Numbers in a row, both ends included. */
export type NumberRange = readonly [from: number, to: number];

/** Which numbers a copy has, between its first and its last. */
export interface Coverage {
  readonly first: number;
  readonly last: number;
  /** How many are missing between the two. */
  readonly missing: number;
  /** The first of the missing ones, in ascending order. */
  readonly gaps: readonly NumberRange[];
}

const MAX_GAPS = 1_000;
/** Numbers in a chunk, a bit each. */
const BITS = 65_536;

/** A set of whole numbers. */
export type NumberSet = ReturnType<typeof makeNumberSet>;

/** Makes a set of whole numbers that takes a bit each, so that ten million take little more than a megabyte. */
export function makeNumberSet() {
  const chunks = new Map<number, Uint8Array>();
  let size = 0;

  function has(n: number): boolean {
    const byte = chunks.get(Math.floor(n / BITS))?.[(n % BITS) >> 3] ?? 0;
    return ((byte >> (n & 7)) & 1) === 1;
  }

  return {
    has,
    size: () => size,

    /** Takes eight kilobytes for the first number of each 65,536. */
    add(n: number): void {
      if (has(n)) return;
      const key = Math.floor(n / BITS);
      const chunk = chunks.get(key) ?? new Uint8Array(BITS / 8);
      chunks.set(key, chunk);
      const at = (n % BITS) >> 3;
      chunk[at] = (chunk[at] ?? 0) | (1 << (n & 7));
      size += 1;
    },

    /** All of them, in ascending order. */
    *numbers(): Generator<number> {
      for (const [key, chunk] of [...chunks].sort(([a], [b]) => a - b))
        for (const [i, byte] of chunk.entries())
          for (let bit = 0; byte >> bit > 0; bit++)
            if (((byte >> bit) & 1) === 1) yield key * BITS + i * 8 + bit;
    },
  };
}

/**
 * What numbers in ascending order cover; null when there are none.
 *
 * @param maxGaps the gaps that are kept; `missing` counts all
 */
export function coverageOf(numbers: Iterable<number>, maxGaps = MAX_GAPS): Coverage | null {
  const gaps: NumberRange[] = [];
  let first: number | null = null;
  let last = 0;
  let missing = 0;
  for (const n of numbers) {
    first ??= n;
    const skipped = n === first ? 0 : n - last - 1;
    if (skipped > 0 && gaps.length < maxGaps) gaps.push([last + 1, n - 1]);
    missing += skipped;
    last = n;
  }
  return first === null ? null : { first, last, missing, gaps };
}

/** The numbers of some ranges. */
export function* numbersIn(ranges: readonly NumberRange[]): Generator<number> {
  for (const [from, to] of ranges) for (let n = from; n <= to; n++) yield n;
}

/** As `1 to 3, 7, 9, …`: `max` ranges at most. */
export function formatRanges(ranges: readonly NumberRange[], max: number): string {
  const shown = ranges
    .slice(0, max)
    .map(([from, to]) => (from === to ? String(from) : `${from} to ${to}`));
  return [...shown, ...(ranges.length > max ? ['…'] : [])].join(', ');
}
