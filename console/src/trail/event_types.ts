/** Every type of event with what it says in words: docs/events.md has the whole of each. */
export const EVENT_TYPES: Readonly<Record<string, string>> = {
  'feature_flag.created': 'Flag created',
  'feature_flag.updated': 'Flag changed',
  'feature_flag.deleted': 'Flag deleted',
  'feature_flag.reconciled': 'Flag changed without an event',
  'flag_schedule.created': 'Change scheduled',
  'flag_schedule.rescheduled': 'Change moved',
  'flag_schedule.retried': 'Change tried again',
  'flag_schedule.cancelled': 'Change cancelled',
  'flag_schedule.applied': 'Change applied',
  'flag_schedule.failed': 'Change failed',
  'flag_schedule.suspended': 'Change suspended',
  'flag_schedule.resumed': 'Change resumed',
  'flag_schedule.skipped': 'Change skipped',
  'flag_schedule.deleted': 'Schedule deleted',
  'flag_schedule.reconciled': 'Schedule changed without an event',
  'flag_plan.created': 'Plan made',
  'flag_plan.updated': 'Plan edited',
  'flag_plan.paused': 'Plan paused',
  'flag_plan.resumed': 'Plan resumed',
  'flag_plan.completed': 'Plan completed',
  'flag_plan.cancelled': 'Plan cancelled',
  'flag_plan.deleted': 'Plan deleted',
  'flag_plan.reconciled': 'Plan changed without an event',
  'environment.created': 'Environment created',
  'environment.updated': 'Environment changed',
  'environment.stopped': 'Environment stopped',
  'environment.resumed': 'Environment resumed',
  'environment.deleted': 'Environment deleted',
  'environment.reconciled': 'Environment changed without an event',
  'setting.changed': 'Setting changed',
  'setting.reconciled': 'Setting changed without an event',
  'access.denied': 'Access denied',
  'audit.exported': 'Trail exported',
  'audit.purged': 'Month purged',
  'audit.restored': 'Loss of a restore accepted',
  'audit.gap': 'Deleted without an event',
  'audit.cursor_moved': 'Cursor of a destination moved',
  'audit.undeliverable': 'Refused by a destination',
  'audit.destination_forgotten': 'Destination forgotten',
};

/**
 * The types that a `type:` of the search means: itself, those of a pattern with an asterisk, or those that begin with it.
 *
 * @returns none for what no type begins with
 */
export function typesMatching(text: string): readonly string[] {
  const said = text.toLowerCase();
  if (Object.hasOwn(EVENT_TYPES, said)) return [said];
  const beginning = said.replace(/\*+$/, '');
  return Object.keys(EVENT_TYPES).filter((type) => type.startsWith(beginning));
}
