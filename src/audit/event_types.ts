import catalogue from './event_types.json' with { type: 'json' };

/** A row of audit.event_types. */
export interface EventType {
  readonly type: string;
  readonly level: string;
  /** When such an event is written, and what its metadata say. Markdown. */
  readonly description: string;
  /** The keys that its metadata can have, besides those of every event. */
  readonly metadata_keys: readonly string[];
}

/** The catalogue of this release. `npm run schema` writes it from audit.event_types, whose rows are a fixture. */
export const EVENT_TYPES: readonly EventType[] = catalogue;

export const EVENT_LEVELS = ['info', 'warning', 'error'] as const;

const NAMES = EVENT_TYPES.map(({ type }) => type);

/** What is wrong with a type, as a sentence's end; null when there are such events. It names those of its kind, or else the kinds. */
export function eventTypeProblem(type: string): string | null {
  if (NAMES.includes(type)) return null;
  const ends = Map.groupBy(NAMES, kindOf);
  const alike = ends.get(kindOf(type))?.map((known) => known.slice(known.indexOf('.') + 1));
  const choice =
    alike === undefined
      ? `the kinds are ${[...ends.keys()].join(', ')}`
      : `of ${kindOf(type)} there are ${alike.join(', ')}`;
  return `has no type ${JSON.stringify(type.slice(0, 60))}: ${choice}`;
}

/**
 * The types that a pattern means: a type, or the beginning of one and `*`, as `flag_schedule.*`.
 *
 * @returns none when the pattern means no type
 */
export function typesMatching(pattern: string): string[] {
  const start = pattern.endsWith('*') ? pattern.slice(0, -1) : null;
  return NAMES.filter((name) => (start === null ? name === pattern : name.startsWith(start)));
}

/** What is wrong with a pattern of types, as a sentence's end; null when it means a type. */
export function eventTypePatternProblem(pattern: string): string | null {
  return typesMatching(pattern).length > 0 ? null : eventTypeProblem(pattern);
}

function kindOf(type: string): string {
  return type.slice(0, Math.max(0, type.indexOf('.')));
}
