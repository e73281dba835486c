/**
 * How long to wait before trying again: doubles with each failure up to a cap. Half is random, so that processes
 * which failed together don't come back in step.
 *
 * @param failures how many there were before this one, 0 at first
 * @returns whole milliseconds
 */
export function backOff(
  failures: number,
  { baseMs, capMs }: { baseMs: number; capMs: number },
): number {
  const ceiling = Math.min(capMs, baseMs * 2 ** failures);
  return Math.round(ceiling / 2 + (Math.random() * ceiling) / 2);
}
