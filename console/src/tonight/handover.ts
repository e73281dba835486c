import { dateText, dayText, offsetTextAt, shortText, timeText } from '../time/format.ts';
import { DAY } from '../time/zone.ts';
import { labelOf, type Item } from './model.ts';
import { endText } from './until.ts';

/** Columns, as a chat on a phone shows them. */
const WIDTH = 40;
const INDENT = '      ';

/** Breaks a line between words; a word that is longer stays whole, so that it can be copied. */
export function wrap(line: string, width = WIDTH, indent = INDENT): string[] {
  const lines: string[] = [];
  let current = '';
  for (const word of line.split(' ')) {
    const joined = current === '' ? word : `${current} ${word}`;
    if (joined.trimStart().length > 0 && joined.length > width && current.trim() !== '') {
      lines.push(current);
      current = indent + word;
    } else current = joined;
  }
  return [...lines, current];
}

export interface FailedOne {
  readonly environment: string;
  readonly flagKey: string;
  readonly at: number;
}

interface Night {
  readonly items: readonly Item[];
  readonly failed: readonly FailedOne[];
  /** They found another value than they expect. */
  readonly suspended: readonly FailedOne[];
  /** Environments in which nothing is applied until someone resumes. */
  readonly paused: readonly string[];
  readonly environments: readonly string[];
  readonly zone: string;
  readonly now: number;
  readonly until: number;
}

/** The list as text to hand over, at most 40 columns wide. */
export function handOver(night: Night): string {
  const { items, failed, suspended, paused, environments, zone, now, until } = night;
  const isMany = environments.length > 1;
  const of = (environment: string): string => (isMany ? ` (${environment})` : '');
  const end = endText(until, zone, now);
  const head = `Until ${end}, ${environments.join(' and ')}, ${zone} (${offsetTextAt(now, zone)})`;
  const lines = wrap(head, WIDTH, '');
  for (const name of paused) lines.push(...wrap(`PAUSED: ${name}, nothing is applied`));
  const isLong = until - now > DAY;
  let day = dateText(now, zone);
  for (const item of items) {
    const date = dateText(item.at, zone);
    // Within a day a time says enough.
    if (isLong && date !== day) lines.push(dayText(item.at, zone, now));
    day = date;
    const what = item.isConflict ? `${labelOf(item)}: DECIDE` : labelOf(item);
    lines.push(
      ...wrap(`${timeText(item.at, zone)} ${item.flagKey}${of(item.environment)} ${what}`),
    );
  }
  if (items.length === 0) lines.push(...wrap(`Nothing is scheduled until ${end}.`, WIDTH, ''));
  for (const { environment, flagKey, at } of failed)
    lines.push(...wrap(`Failed: ${flagKey}${of(environment)} ${shortText(at, zone, now)}`));
  for (const { environment, flagKey, at } of suspended)
    lines.push(...wrap(`Waits: ${flagKey}${of(environment)} ${shortText(at, zone, now)}: DECIDE`));
  return lines.join('\n');
}
