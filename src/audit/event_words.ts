import { printable } from '../lib/printable.ts';

export type Fields = Readonly<Record<string, unknown>>;
/** Writes a time as the reader needs it. */
export type Clock = (time: Date) => string;

/** What `after` has otherwise than `before`, as in `enabled: true`. */
export function changesOf(before: Fields, after: Fields): string {
  return Object.entries(after)
    .filter(([name, value]) => JSON.stringify(value) !== JSON.stringify(before[name]))
    .map(([name, value]) => `${printable(name)}: ${printable(JSON.stringify(value))}`)
    .join(', ');
}

/** A time of an event as the clock writes it; what is no time stays as it is. */
export function whenOf(text: string, clock: Clock): string {
  const time = new Date(text);
  return Number.isNaN(time.getTime()) ? printable(text) : clock(time);
}

/** Milliseconds in the unit that a person would use. */
export function durationOf(ms: number): string {
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1_000).toFixed(1)} s`;
  if (ms < 5_400_000) return `${Math.round(ms / 60_000)} min`;
  return `${Math.round(ms / 3_600_000)} h`;
}

/** The value if it is an object, else none of its fields. */
export function asFields(value: unknown): Fields {
  return typeof value === 'object' && value !== null ? (value as Fields) : {};
}
