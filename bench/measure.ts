/** The middle of some figures, and how far the others lie from it. */
export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/** @throws RangeError when there are none */
export function spreadOf(figures: readonly number[]): Spread {
  return {
    median: percentile(figures, 50),
    min: Math.min(...figures),
    max: Math.max(...figures),
  };
}

/**
 * The smallest figure that at least `p` percent of all are not above (nearest rank).
 *
 * @param p 0 to 100
 * @throws RangeError when there are no figures
 */
export function percentile(figures: readonly number[], p: number): number {
  const ordered = figures.toSorted((a, b) => a - b);
  const figure = ordered[Math.max(0, Math.ceil((p / 100) * ordered.length) - 1)];
  if (figure === undefined) throw new RangeError('There is no percentile of nothing.');
  return figure;
}

/** How long `work` takes, in milliseconds. */
export async function timed(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

/** How long to measure in a round that warms up, a part of the time of one that counts. */
export const WARM_UP = 0.5;

/**
 * Measures some things in turns (A B C A B C …), so that what else the machine does falls on all alike. Before several rounds
 * one warms up and doesn't count.
 *
 * @param rounds that count
 * @param things each gets the part of its time to take
 * @returns for each thing its figures, in the order in which they were taken
 */
export async function takeTurns<T>(
  rounds: number,
  things: readonly ((part: number) => Promise<T>)[],
): Promise<T[][]> {
  const figures = things.map((): T[] => []);
  for (let round = rounds > 1 ? 0 : 1; round <= rounds; round++)
    for (const [i, measure] of things.entries()) {
      const figure = await measure(round === 0 ? WARM_UP : 1);
      if (round > 0) figures[i]?.push(figure);
    }
  return figures;
}

/** The same for two things with one figure each. */
export async function inTurns(
  rounds: number,
  a: (part: number) => Promise<number>,
  b: (part: number) => Promise<number>,
): Promise<{ a: number[]; b: number[] }> {
  const [figuresOfA = [], figuresOfB = []] = await takeTurns(rounds, [a, b]);
  return { a: figuresOfA, b: figuresOfB };
}

/** For text: three digits that count, and thousands apart. */
export function shortNumber(value: number): string {
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString('en-US');
  return Number(value.toPrecision(3)).toString();
}
