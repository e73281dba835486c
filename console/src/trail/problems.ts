import type { TrailEvent } from './documents.ts';

/** Altered events that are named; of more it is said that there are. */
const NAMED = 3;

/**
 * What is known to be wrong with the trail, a sentence each.
 *
 * @param known what the server says
 * @param events that are shown: each says of itself whether it is what was sealed
 */
export function problemsOf(
  known: readonly string[],
  events: readonly Pick<TrailEvent, 'seq' | 'seal'>[],
): readonly string[] {
  const altered = new Map<string, string>();
  for (const { seq, seal } of events)
    if (typeof seal?.problem === 'string') altered.set(seq ?? '', seal.problem);
  const said = [...altered]
    .slice(0, NAMED)
    .map(([seq, problem]) => `Event ${seq} isn’t what was sealed (${problem}).`);
  const more = altered.size - said.length;
  return [
    ...known,
    ...said,
    ...(more > 0 ? [`Nor are ${more} more of the events that are shown.`] : []),
  ];
}
