import { updatesText, type FlagState, type FlagUpdates } from '../parts/flag_state.tsx';
import { shortName } from '../data/person.ts';
import type { Status } from '../parts/marks.tsx';
import { differencesIn, differenceText, suspendedWord } from '../schedules/guard.ts';
import { titleOf, type Entry } from './entry.ts';

/** An event of the trail, as the page reads it. */
export interface FlagEvent {
  readonly id: string;
  readonly eventType: string;
  readonly occurredAt: string;
  readonly actorKind: string;
  readonly adminEmail: string | null;
  readonly adminUserId: string | null;
  readonly databaseUser: string;
  readonly scheduleId: string | null;
  readonly metadata: unknown;
  readonly seal: { readonly number: string; readonly problem: string | null } | null;
}

type Metadata = Readonly<Record<string, unknown>>;

const objectOf = (value: unknown): Metadata =>
  typeof value === 'object' && value !== null ? (value as Metadata) : {};
const textOf = (value: unknown): string | null => (typeof value === 'string' ? value : null);

/** A state as events have it; null where there is none. */
function stateOf(value: unknown): FlagState | null {
  const { enabled, rolloutPercentage } = objectOf(value);
  return typeof enabled === 'boolean' && typeof rolloutPercentage === 'number'
    ? { enabled, rolloutPercentage }
    : null;
}

/** What a schedule sets: events have the column's own names. */
function updatesIn(value: unknown): FlagUpdates {
  const { enabled, rollout_percentage: share } = objectOf(value);
  return {
    enabled: typeof enabled === 'boolean' ? enabled : null,
    rolloutPercentage: typeof share === 'number' ? share : null,
  };
}

/** Who did it: a person's short name, the worker, or a login of the database. */
function actorOf({ actorKind, adminEmail, adminUserId, databaseUser }: FlagEvent): string {
  if (actorKind === 'admin') return shortName(adminEmail ?? adminUserId);
  return actorKind === 'database' ? `${databaseUser}, in SQL` : 'the worker';
}

/** As `Thu 26 Nov 18:00`, in the display zone. */
type WriteTime = (at: string) => string;

/**
 * The lines of a flag's history, in the order of the events. A schedule that was applied is one line of its two events.
 *
 * @param events newest first
 */
export function entriesOf(events: readonly FlagEvent[], write: WriteTime): Entry[] {
  const applied = new Map<string, FlagEvent>();
  const asked = new Map<string, string>();
  for (const event of events) {
    if (event.scheduleId === null) continue;
    if (event.eventType === 'flag_schedule.applied') applied.set(event.scheduleId, event);
    if (event.eventType === 'flag_schedule.created')
      asked.set(event.scheduleId, updatesText(updatesIn(objectOf(event.metadata).updates)));
  }
  const paired = new Set<string>();
  for (const { eventType, scheduleId } of events)
    if (eventType === 'feature_flag.updated' && scheduleId !== null && applied.has(scheduleId))
      paired.add(scheduleId);
  return events
    .filter(
      ({ eventType, scheduleId }) =>
        eventType !== 'flag_schedule.applied' || !paired.has(scheduleId ?? ''),
    )
    .map((event) => {
      const id = event.scheduleId ?? '';
      return entryOf(event, {
        ...{ write, applied: applied.get(id) ?? null, change: asked.get(id) ?? 'the change' },
      });
    });
}

/** What is known beside an event. */
interface Context {
  readonly write: WriteTime;
  /** The event of the same schedule's application. */
  readonly applied: FlagEvent | null;
  /** What the schedule was to set, as `50%`, where its creation is among the events. */
  readonly change: string;
}

function entryOf(event: FlagEvent, context: Context): Entry {
  const metadata = objectOf(event.metadata);
  const said = wordsOf(event, metadata, context);
  return {
    ...{ key: event.id, at: Date.parse(event.occurredAt), before: null, after: null },
    ...{ by: actorOf(event), reason: textOf(metadata.reason), lateMs: null, note: '' },
    ...{ scheduleId: event.scheduleId, kind: 'decision' as const },
    event: { id: event.id, occurredAt: event.occurredAt, seal: event.seal },
    ...(typeof metadata.planId === 'string' ? { held: { planId: metadata.planId } } : {}),
    ...said,
  };
}

type Words = Partial<Entry> & { readonly status: Status; readonly title: string };

function wordsOf(event: FlagEvent, metadata: Metadata, { write, applied, change }: Context): Words {
  const due = (value: unknown): string => {
    const at = textOf(objectOf(value).scheduledAt);
    return at === null ? 'another time' : write(at);
  };
  switch (event.eventType) {
    case 'flag_schedule.created':
      return {
        status: 'pending',
        title: `Scheduled: ${updatesText(updatesIn(metadata.updates))} for ${due(metadata)}`,
      };
    case 'flag_schedule.rescheduled':
      return {
        status: 'pending',
        title: `Moved: ${change} from ${due(metadata.before)} to ${due(metadata.after)}`,
      };
    case 'flag_schedule.retried':
      return { status: 'pending', title: `To be tried again: ${change}` };
    case 'flag_schedule.cancelled':
      return {
        status: 'cancelled',
        title: `Cancelled: ${change} at ${due(metadata)}`,
        // What the database writes where the client gave none.
        ...(metadata.reason === 'manual_cancellation' ? { reason: null } : {}),
      };
    case 'flag_schedule.suspended':
      return {
        ...{ status: 'suspended', title: `Suspended: ${change}`, kind: 'change' },
        note:
          metadata.for === 'stop'
            ? suspendedWord('stop')
            : differenceText(differencesIn(metadata.details)),
      };
    case 'flag_schedule.resumed':
      return { status: 'pending', title: `Resumed: ${change}` };
    case 'flag_schedule.skipped':
      return { status: 'skipped', title: `Skipped: ${change} at ${due(metadata)}` };
    case 'flag_schedule.failed':
      return {
        ...{ status: 'failed', title: `Failed: ${change}`, kind: 'change' },
        note: `${textOf(metadata.errorMessage) ?? ''} (tries: ${Number(metadata.attempts)})`,
      };
    case 'flag_schedule.applied':
      return {
        ...{ status: 'applied', title: 'Applied: nothing changed', kind: 'change' },
        ...lateOf(event),
      };
    default:
      return flagWords(event, applied, metadata);
  }
}

function lateOf(applied: FlagEvent | null): { lateMs: number | null } {
  const { latenessMs } = objectOf(applied?.metadata);
  return { lateMs: typeof latenessMs === 'number' ? Math.max(0, latenessMs) : null };
}

/** Of events of the flag itself. */
function flagWords(event: FlagEvent, applied: FlagEvent | null, metadata: Metadata): Words {
  const before = stateOf(metadata.before);
  const after = stateOf(metadata.after);
  if (event.eventType === 'feature_flag.deleted') return { status: 'changed', title: 'Deleted' };
  if (after === null) return { status: 'changed', title: event.eventType };
  const isSame =
    before?.enabled === after.enabled && before.rolloutPercentage === after.rolloutPercentage;
  if (event.scheduleId === null)
    return isSame
      ? { status: 'changed', title: 'Description changed' }
      : { ...{ status: 'changed', title: titleOf(before, after), kind: 'change' }, before, after };
  const asked = shortName(textOf(metadata.requestedBy));
  return {
    ...{ status: 'applied', title: titleOf(before, after), kind: 'change' },
    ...lateOf(applied),
    ...{ before, after },
    // Several flags that a person changes at once are a plan that is applied in that person's name.
    ...(event.actorKind === 'admin'
      ? {}
      : { by: asked === '' ? 'the worker' : `${asked}, applied by the worker` }),
  };
}
