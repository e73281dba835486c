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

/**
 * Measures two things in turns (A B A B …), so that what else the machine does falls on both alike. The first round
 * of each warms up and doesn't count.
 *
 * @param rounds that count
 * @returns the figures of each, in the order in which they were taken
 */
export async function inTurns(
  rounds: number,
  a: () => Promise<number>,
  b: () => Promise<number>,
): Promise<{ a: number[]; b: number[] }> {
  const figures = { a: [] as number[], b: [] as number[] };
  for (let round = 0; round <= rounds; round++) {
    const [measuredA, measuredB] = [await a(), await b()];
    if (round === 0) continue;
    figures.a.push(measuredA);
    figures.b.push(measuredB);
  }
  return figures;
}

/** For text: three digits that count, and thousands apart. */
export function shortNumber(value: number): string {
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString('en-US');
  return Number(value.toPrecision(3)).toString();
}
