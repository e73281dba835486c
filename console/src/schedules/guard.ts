import { shortName } from '../data/person.ts';

type Json = Readonly<Record<string, unknown>>;

const recordOf = (value: unknown): Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Json) : {};

/** As the page calls the fields of flags. */
const NAMES: Readonly<Record<string, string>> = { rollout_percentage: 'rollout' };

function valueText(field: string, value: unknown): string {
  if (typeof value === 'boolean') return value ? 'on' : 'off';
  if (value === null || value === undefined) return 'none';
  const text = typeof value === 'string' ? `“${value}”` : JSON.stringify(value);
  return field === 'rollout_percentage' ? `${text}%` : text;
}

/** A field that isn't as a change expects it. */
export interface Difference {
  /** As `rollout`. */
  readonly field: string;
  readonly expected: string;
  readonly found: string;
}

/** As a person reads it: `rollout`, `25%`, `50%`. */
export const differenceOf = (field: string, expected: unknown, found: unknown): Difference => ({
  field: NAMES[field] ?? field,
  ...{ expected: valueText(field, expected), found: valueText(field, found) },
});

/** What a suspended change expected, and what it found in its place: by the details that the API gives; [] where it gives none. */
export function differencesIn(details: unknown): Difference[] {
  const { expected, found } = recordOf(details);
  const was = recordOf(found);
  return Object.entries(recordOf(expected))
    .filter(([field, value]) => JSON.stringify(value) !== JSON.stringify(was[field]))
    .map(([field, value]) => differenceOf(field, value, was[field]));
}

/** As `expected rollout 25%, found 50%`. */
export const differenceText = (list: readonly Difference[]): string =>
  list
    .map(({ field, expected, found }) => `expected ${field} ${expected}, found ${found}`)
    .join('; ');

/** Why a schedule is suspended, behind the word. */
export const suspendedWord = (suspendedFor: string | null | undefined): string =>
  suspendedFor === 'conflict' ? 'Suspended for a conflict' : 'Suspended by the pause';

/** Who is known to have asked for it; '' where that isn't known. */
export const askedBy = (one: {
  readonly requestedBy?: string | null;
  readonly createdBy?: string | null;
}): string => shortName(one.requestedBy ?? one.createdBy);
