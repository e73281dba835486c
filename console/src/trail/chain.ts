import { durationText } from '../time/format.ts';
import type { TrailEvent } from './documents.ts';
import { shortState } from '../parts/flag_state.tsx';
import {
  actorName,
  detail,
  flagStateOf,
  isRecord,
  updatesOf,
  wordsOf,
  type Described,
} from './event_text.ts';

/** One step from cause to effect. */
export interface Link {
  readonly event: TrailEvent;
  readonly isThis: boolean;
  /** Who did it, in bold. */
  readonly by: string;
  /** What, as `asked for 50% at 18:00`. */
  readonly did: string;
  /** Why, as the person said. */
  readonly reason: string | null;
}

/** Of one moment: the schedule is applied before the flag is said to have changed. */
const ORDER = ['flag_schedule.created', 'flag_schedule.applied', 'feature_flag.updated'];

const rank = ({ eventType }: TrailEvent): number => ORDER.indexOf(eventType);

function did(event: Described, time: (at: string) => string): string {
  const of = (name: string): unknown => detail(event, name);
  const after = of('after');
  const movedTo =
    isRecord(after) && typeof after.scheduledAt === 'string' ? time(after.scheduledAt) : '';
  switch (event.eventType) {
    case 'flag_schedule.created':
      return `asked for ${updatesOf(of('updates')) ?? 'a change'} at ${time(String(of('scheduledAt')))}`;
    case 'flag_schedule.rescheduled':
      return `moved it to ${movedTo}`;
    case 'flag_schedule.retried':
      return `asked to try it again at ${movedTo}`;
    case 'flag_schedule.cancelled':
      return 'cancelled it';
    case 'flag_schedule.applied': {
      const late = Number(of('latenessMs') ?? Number.NaN);
      return Number.isNaN(late) ? 'applied it' : `applied it, ${durationText(late)} late`;
    }
    case 'flag_schedule.failed':
      return `gave up after ${String(of('attempts'))} ${Number(of('attempts')) === 1 ? 'try' : 'tries'}: ${String(of('errorMessage'))}`;
    case 'feature_flag.updated':
      return event.scheduleId === null ? 'changed the flag' : 'the flag changed';
    case 'feature_flag.created': {
      const state = flagStateOf(after);
      return state === null ? 'created the flag' : `created the flag, ${shortState(state)}`;
    }
    case 'feature_flag.deleted':
      return 'deleted the flag';
    default: {
      const { title, rest } = wordsOf(event, time);
      return rest === '' ? title : `${title}: ${rest}`;
    }
  }
}

function reasonOf(event: TrailEvent): string | null {
  // A change that a schedule made repeats the schedule's reason.
  if (event.eventType === 'feature_flag.updated' && event.scheduleId !== null) return null;
  const reason = detail(event, 'reason');
  return typeof reason === 'string' && reason !== 'manual_cancellation' ? reason : null;
}

/**
 * Orders what belongs together from cause to effect.
 *
 * @param events of the same schedule and of the same request, some twice
 * @param time writes an instant of the details
 */
export function chainOf(
  events: readonly TrailEvent[],
  thisId: string,
  time: (at: string) => string,
): Link[] {
  const byId = new Map(events.map((event) => [event.id, event]));
  const seq = (event: TrailEvent): number => (event.seq === null ? Infinity : Number(event.seq));
  return [...byId.values()]
    .sort(
      (a, b) =>
        Date.parse(a.occurredAt) - Date.parse(b.occurredAt) ||
        (rank(a) >= 0 && rank(b) >= 0 ? rank(a) - rank(b) : 0) ||
        // Two that aren't numbered yet are one place apart from no other.
        (seq(a) === seq(b) ? 0 : seq(a) - seq(b)),
    )
    .map((event) => ({
      event,
      isThis: event.id === thisId,
      by:
        event.eventType === 'feature_flag.updated' && event.scheduleId !== null
          ? ''
          : actorName(event),
      did: did(event, time),
      reason: reasonOf(event),
    }));
}
