import type { Mark } from './model.ts';
import { percent } from './scale.ts';
import type { Range } from './range.ts';

/** Marks of a row that would cover each other, as one. */
export interface MarkGroup {
  readonly marks: readonly [Mark, ...Mark[]];
  /** Whether there is room for the label. */
  readonly hasLabel: boolean;
}

/** Marks closer than this are drawn as one, in pixels. */
const CLOSEST = 16;
const LETTER = 6.5;

/**
 * Groups marks by pixels, so that they fall apart again when one zooms.
 *
 * @param marks of one row, by time
 * @param width of the axis in pixels
 */
export function groupMarks(marks: readonly Mark[], range: Range, width: number): MarkGroup[] {
  const groups: [Mark, ...Mark[]][] = [];
  const place = (mark: Mark): number => (percent(mark.at, range) / 100) * width;
  for (const mark of marks) {
    const last = groups.at(-1);
    // What happened isn't drawn as one with what will.
    const isSameSide = last !== undefined && isAhead(last[0]) === isAhead(mark);
    if (isSameSide && place(mark) - place(last[0]) < CLOSEST) last.push(mark);
    else groups.push([mark]);
  }
  return groups.map((found, i) => {
    const next = groups[i + 1]?.[0];
    const needed = 18 + textOf(found).length * LETTER;
    const room = (next === undefined ? width + 40 : place(next) - 8) - place(found[0]);
    return { marks: found, hasLabel: needed <= room };
  });
}

const isAhead = ({ status }: Mark): boolean => status === 'pending' || status === 'conflict';

/** What stands beside a group: the label of one mark, or how many there are. */
export function textOf(marks: readonly Mark[]): string {
  const [first] = marks;
  if (first === undefined || marks.length === 1) return first?.label ?? '';
  return isOneConflict(marks) ? `${first.label}: two changes` : `${marks.length} changes`;
}

/** Whether a group is two changes of one instant, and nothing else. */
export const isOneConflict = (marks: readonly Mark[]): boolean =>
  marks.length === 2 && marks.every(({ isTogether }) => isTogether);
