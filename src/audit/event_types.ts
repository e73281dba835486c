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
  'audit.destination_forgotten',
] as const;

export const EVENT_LEVELS = ['info', 'warning', 'error'] as const;

const KNOWN: ReadonlySet<string> = new Set(EVENT_TYPES);

/** What is wrong with a type, as a sentence's end; null when there are such events. */
export function eventTypeProblem(type: string): string | null {
  return KNOWN.has(type)
    ? null
    : `has no type ${JSON.stringify(type.slice(0, 60))}: there are ${EVENT_TYPES.join(', ')}`;
}
