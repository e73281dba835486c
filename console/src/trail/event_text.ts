import { shortName } from '../data/person.ts';
import { shortState, updatesText, type FlagState } from '../parts/flag_state.tsx';
import type { Status } from '../parts/marks.tsx';
import type { TrailEvent } from './documents.ts';
import { EVENT_TYPES } from './event_types.ts';

type Json = Readonly<Record<string, unknown>>;

/** What an event's text goes by. */
export type Described = Pick<
  TrailEvent,
  | 'eventType'
  | 'level'
  | 'flagKey'
  | 'scheduleId'
  | 'metadata'
  | 'actorKind'
  | 'adminEmail'
  | 'adminUserId'
  | 'databaseUser'
>;

export const isRecord = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const text = (value: unknown): string | null =>
  typeof value === 'string' || typeof value === 'number' ? String(value) : null;

/** A member of the event's details; null where it isn't there. */
export const detail = ({ metadata }: Pick<TrailEvent, 'metadata'>, name: string): unknown =>
  isRecord(metadata) ? (metadata[name] ?? null) : null;

/** A flag's state in the details, as `before` and `after` of a change. */
export function flagStateOf(value: unknown): FlagState | null {
  if (!isRecord(value)) return null;
  const { enabled, rolloutPercentage } = value;
  return typeof enabled === 'boolean' && typeof rolloutPercentage === 'number'
    ? { enabled, rolloutPercentage }
    : null;
}

/** What a schedule sets: its details have the names of columns. */
export function updatesOf(value: unknown): string | null {
  if (!isRecord(value)) return null;
  const { enabled, rollout_percentage: share } = value;
  return updatesText({
    enabled: typeof enabled === 'boolean' ? enabled : null,
    rolloutPercentage: typeof share === 'number' ? share : null,
  });
}

/** Who did it, as people call each other: `alice`, `worker`, `system`, or the login of a database session. */
export function actorName(event: Described): string {
  if (event.actorKind === 'admin')
    return shortName(event.adminEmail ?? event.adminUserId) || 'an admin';
  if (event.actorKind === 'database') return event.databaseUser;
  return event.databaseUser === 'halyard_worker' ? 'worker' : 'system';
}

/** The shape beside an event. */
export function statusOfEvent({ eventType, level, scheduleId }: Described): Status {
  switch (eventType) {
    case 'flag_schedule.created':
    case 'flag_schedule.rescheduled':
    case 'flag_schedule.retried':
    case 'flag_schedule.resumed':
    case 'flag_plan.created':
    case 'flag_plan.updated':
    case 'flag_plan.resumed':
      return 'pending';
    case 'flag_schedule.suspended':
      return 'suspended';
    case 'flag_schedule.skipped':
      return 'skipped';
    case 'flag_plan.cancelled':
    case 'flag_plan.deleted':
    case 'flag_schedule.cancelled':
    case 'flag_schedule.deleted':
    case 'feature_flag.deleted':
    case 'environment.deleted':
      return 'cancelled';
    case 'flag_schedule.applied':
    case 'flag_plan.completed':
      return 'applied';
    case 'feature_flag.updated':
      return scheduleId === null ? 'changed' : 'applied';
    default:
      if (level === 'error') return 'failed';
      return level === 'warning' ? 'uncertain' : 'changed';
  }
}

interface Words {
  /** What happened, as `Share set`. */
  readonly title: string;
  /** Of what, as `checkout-v2 10% → 25%`. */
  readonly rest: string;
}

function changeOfFlag(event: Described): Words {
  const before = flagStateOf(detail(event, 'before'));
  const after = flagStateOf(detail(event, 'after'));
  const key = event.flagKey ?? '';
  if (before === null || after === null) return { title: 'Flag changed', rest: key };
  const from = before.rolloutPercentage;
  const to = after.rolloutPercentage;
  const share = from === to ? key : `${key} ${from}% → ${to}%`;
  if (before.enabled !== after.enabled)
    return { title: after.enabled ? 'Turned on' : 'Turned off', rest: share };
  if (from !== to) return { title: 'Share set', rest: share };
  return { title: 'Description changed', rest: key };
}

/** Of events of plans: an edit has the title before and after, a deletion before. */
function planTitle(event: Described): string {
  const state = detail(event, 'after') ?? detail(event, 'before');
  return text(detail(event, 'title')) ?? (isRecord(state) ? text(state.title) : null) ?? '';
}

/**
 * An event in words.
 *
 * @param time writes an instant of the details as the page shows times
 */
export function wordsOf(event: Described, time: (at: string) => string): Words {
  const title = EVENT_TYPES[event.eventType] ?? event.eventType;
  const key = event.flagKey ?? '';
  const at = (value: unknown): string => {
    const said = text(value);
    return said === null || Number.isNaN(Date.parse(said)) ? '' : time(said);
  };
  const of = (name: string): unknown => detail(event, name);
  switch (event.eventType) {
    case 'feature_flag.created': {
      const after = flagStateOf(of('after'));
      return { title, rest: after === null ? key : `${key}, ${shortState(after)}` };
    }
    case 'feature_flag.updated':
      return changeOfFlag(event);
    case 'flag_schedule.created':
      return {
        title,
        rest: `${key} → ${updatesOf(of('updates')) ?? ''} at ${at(of('scheduledAt'))}`,
      };
    case 'flag_plan.paused':
      return { title, rest: `${planTitle(event)}: ${text(of('reason')) ?? ''}` };
    case 'flag_plan.created':
      return { title, rest: `${planTitle(event)} for ${at(of('firstAt'))}` };
    case 'flag_schedule.rescheduled':
    case 'flag_schedule.retried': {
      const after = of('after');
      return { title, rest: `${key} at ${at(isRecord(after) ? after.scheduledAt : null)}` };
    }
    case 'flag_schedule.applied':
      return { title, rest: `${key} → ${updatesOf(of('updates')) ?? ''}` };
    case 'flag_schedule.failed': {
      const tries = Number(of('attempts'));
      return { title: tries > 1 ? `Failed after ${tries} tries` : 'Failed', rest: key };
    }
    case 'access.denied':
      return { title, rest: text(of('operation')) ?? '' };
    case 'audit.exported':
      return { title, rest: text(of('format')) ?? '' };
    default:
      return {
        title,
        rest: key || planTitle(event) || (text(of('name')) ?? text(of('destination')) ?? ''),
      };
  }
}

/** What an event is about as the heading of its page: `checkout-v2 went from 10% to 25%`. */
export function headingOf(event: Described, time: (at: string) => string): string {
  const before = flagStateOf(detail(event, 'before'));
  const after = flagStateOf(detail(event, 'after'));
  if (event.eventType === 'feature_flag.updated' && before !== null && after !== null) {
    const from = shortState(before);
    const to = shortState(after);
    if (from !== to) return `${event.flagKey ?? ''} went from ${from} to ${to}`;
  }
  const { title, rest } = wordsOf(event, time);
  return rest === '' ? title : `${title}: ${rest}`;
}
