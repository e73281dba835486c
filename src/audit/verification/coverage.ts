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

/** A set of numbers that makeCoverage() collects. */
export type NumberSet = ReturnType<typeof makeCoverage>;

const BITS = 65_536;

/**
 * Collects numbers in any order, some of them perhaps twice: a bit each, so that ten million take little more than a megabyte.
 *
 * @param maxGaps the ranges that are kept; `missing` counts all
 */
export function makeCoverage(maxGaps = 1_000) {
  const chunks = new Map<number, Uint8Array>();

  /** The numbers that were added, in ascending order. */
  function* present(): Generator<number> {
    for (const [key, chunk] of [...chunks].sort(([a], [b]) => a - b))
      for (const [i, byte] of chunk.entries())
        for (let bit = 0; byte >> bit > 0; bit++)
          if (((byte >> bit) & 1) === 1) yield key * BITS + i * 8 + bit;
  }

  return {
    /** All of them, in ascending order. */
    numbers: present,

    has(n: number): boolean {
      const byte = chunks.get(Math.floor(n / BITS))?.[(n % BITS) >> 3] ?? 0;
      return ((byte >> (n & 7)) & 1) === 1;
    },

    /** Each run of 65,536 numbers of which one is added takes eight kilobytes. */
    add(n: number): void {
      const key = Math.floor(n / BITS);
      const chunk = chunks.get(key) ?? new Uint8Array(BITS / 8);
      if (!chunks.has(key)) chunks.set(key, chunk);
      const at = (n % BITS) >> 3;
      chunk[at] = (chunk[at] ?? 0) | (1 << (n & 7));
    },

    /** What has been added so far; null when nothing has. */
    report(): Coverage | null {
      const gaps: [number, number][] = [];
      let first: number | null = null;
      let last = 0;
      let missing = 0;
      for (const n of present()) {
        first ??= n;
        const skipped = n === first ? 0 : n - last - 1;
        if (skipped > 0 && gaps.length < maxGaps) gaps.push([last + 1, n - 1]);
        missing += skipped;
        last = n;
      }
      return first === null ? null : { first, last, missing, gaps };
    },
  };
}

/** The first numbers of some ranges, `max` at most. */
export function numbersOf(ranges: readonly NumberRange[], max: number): number[] {
  const numbers: number[] = [];
  for (const [from, to] of ranges)
    for (let n = from; n <= to && numbers.length < max; n++) numbers.push(n);
  return numbers;
}

/** What is missing between numbers in ascending order. */
export function gapsBetween(numbers: readonly number[]): NumberRange[] {
  const gaps: NumberRange[] = [];
  for (const [i, n] of numbers.entries()) {
    const previous = numbers[i - 1] ?? n;
    if (n - previous > 1) gaps.push([previous + 1, n - 1]);
  }
  return gaps;
}

/** As `1 to 3, 7, 9, …`: `max` ranges at most. */
export function formatRanges(ranges: readonly NumberRange[], max: number): string {
  const shown = ranges
    .slice(0, max)
    .map(([from, to]) => (from === to ? String(from) : `${from} to ${to}`));
  return [...shown, ...(ranges.length > max ? ['…'] : [])].join(', ');
}
