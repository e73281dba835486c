/** Every type of event that the trail can have; a test holds it against the functions in migrations/fixtures and docs/audit.md. */
export const EVENT_TYPES = [
  'feature_flag.created',
  'feature_flag.updated',
  'feature_flag.deleted',
  'feature_flag.reconciled',
  'flag_schedule.created',
  'flag_schedule.rescheduled',
  'flag_schedule.retried',
  'flag_schedule.cancelled',
  'flag_schedule.applied',
  'flag_schedule.failed',
  'flag_schedule.deleted',
  'flag_schedule.reconciled',
  'environment.created',
  'environment.updated',
  'environment.deleted',
  'environment.reconciled',
  'setting.changed',
  'setting.reconciled',
  'access.denied',
  'audit.exported',
  'audit.purged',
  'audit.restored',
  'audit.gap',
  'audit.cursor_moved',
  'audit.undeliverable',
  'audit.destination_forgotten',
] as const;

export const EVENT_LEVELS = ['info', 'warning', 'error'] as const;

const KNOWN: ReadonlySet<string> = new Set(EVENT_TYPES);

/** What is wrong with a type, as a sentence's end; null when there are such events. It names those of its kind, or else the kinds. */
export function eventTypeProblem(type: string): string | null {
  if (KNOWN.has(type)) return null;
  const ends = Map.groupBy(EVENT_TYPES, kindOf);
  const alike = ends.get(kindOf(type))?.map((known) => known.slice(known.indexOf('.') + 1));
  const choice =
    alike === undefined
      ? `the kinds are ${[...ends.keys()].join(', ')}`
      : `of ${kindOf(type)} there are ${alike.join(', ')}`;
  return `has no type ${JSON.stringify(type.slice(0, 60))}: ${choice}`;
}

function kindOf(type: string): string {
  return type.slice(0, Math.max(0, type.indexOf('.')));
}
