import { parseJson } from '../lib/json.ts';
import { printable, timeOfDay } from '../lib/printable.ts';

type Fields = Readonly<Record<string, unknown>>;

/** Characters of the columns before who did it. */
const WHAT_WIDTH = 20;
const FLAG_WIDTH = 24;

/**
 * An audit event as a short line for people: the time, what happened, the flag, who did it, and how late.
 *
 * @param message the event's text, as it is shipped
 * @returns null for a seal, and for what is no event
 */
export function eventLine(message: string): string | null {
  const event = asFields(parseJson(message));
  const type = event.eventType;
  if (typeof type !== 'string' || type === 'audit.sealed') return null;
  const metadata = asFields(event.metadata);
  const parts = [
    timeOfDay(new Date(String(event.timestamp))),
    whatOf(type).padEnd(WHAT_WIDTH),
    flagOf(event, metadata).padEnd(FLAG_WIDTH),
    whoOf(event, metadata),
    ...[moreOf(type, metadata)].filter((more) => more !== ''),
  ];
  return parts.join('  ').trimEnd();
}

/** `flag_schedule.applied` is a schedule applied. */
function whatOf(type: string): string {
  return printable(type.replace(/^feature_/, '').replace('flag_schedule', 'schedule')).replace(
    /[._]/g,
    ' ',
  );
}

function flagOf({ environment }: Fields, { flagKey }: Fields): string {
  const flag = typeof flagKey === 'string' ? printable(flagKey) : '';
  if (typeof environment !== 'string' || environment === 'production') return flag;
  return `${flag} (${printable(environment)})`.trimStart();
}

function whoOf({ actorKind, databaseUser }: Fields, metadata: Fields): string {
  const name = metadata.adminUserId ?? metadata.adminEmail;
  if (typeof name === 'string') return `by ${printable(name)}`;
  if (actorKind === 'admin') return 'by someone without a name';
  if (actorKind === 'database') return `by ${printable(String(databaseUser))}, in SQL`;
  const { requestedBy } = metadata;
  return typeof requestedBy === 'string'
    ? `by Halyard for ${printable(requestedBy)}`
    : 'by Halyard';
}

/** What else a person wants to know of it. */
function moreOf(type: string, metadata: Fields): string {
  const { latenessMs, updates, scheduledAt, errorMessage, reason, before, after } = metadata;
  const parts = [
    typeof before === 'object' ? changesOf(asFields(before), asFields(after)) : '',
    type === 'flag_schedule.created' ? changesOf({}, asFields(updates)) : '',
    // Of what is to come; what was applied says how late it was.
    typeof scheduledAt === 'string' && latenessMs === undefined ? `at ${whenOf(scheduledAt)}` : '',
    typeof errorMessage === 'string' ? printable(errorMessage) : '',
    typeof reason === 'string' ? `“${printable(reason)}”` : '',
    typeof latenessMs === 'number' ? `${durationOf(latenessMs)} late` : '',
  ];
  return parts.filter((part) => part !== '').join(', ');
}

function changesOf(before: Fields, after: Fields): string {
  return Object.entries(after)
    .filter(([name, value]) => JSON.stringify(value) !== JSON.stringify(before[name]))
    .map(([name, value]) => `${printable(name)}: ${printable(JSON.stringify(value))}`)
    .join(', ');
}

/** The time of the day, with the date where that isn't today's. */
function whenOf(text: string): string {
  const time = new Date(text);
  if (Number.isNaN(time.getTime())) return printable(text);
  const isToday = time.toDateString() === new Date().toDateString();
  return isToday ? timeOfDay(time) : `${time.toDateString()} ${timeOfDay(time)}`;
}

/** Milliseconds in the unit that a person would use. */
function durationOf(ms: number): string {
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1_000).toFixed(1)} s`;
  if (ms < 5_400_000) return `${Math.round(ms / 60_000)} min`;
  return `${Math.round(ms / 3_600_000)} h`;
}

function asFields(value: unknown): Fields {
  return typeof value === 'object' && value !== null ? (value as Fields) : {};
}
