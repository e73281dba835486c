import { parseJson } from '../lib/json.ts';
import { printable } from '../lib/printable.ts';

type Fields = Readonly<Record<string, unknown>>;
/** Writes a time as the reader needs it. */
type Clock = (time: Date) => string;

/** An event in words for people, in parts: control and invisible characters are gone, and what is long is cut. */
export interface EventText {
  /** Invalid where the text has no time. */
  readonly at: Date;
  /** What happened, as in `schedule applied`. */
  readonly what: string;
  /** The flag's key, with its environment unless that is production; a plan's title; an environment's name; empty for none. */
  readonly flag: string;
  /** Who did it, as in `by alice`. */
  readonly who: string;
  /** What changed, why, how late; empty for nothing. */
  readonly more: string;
}

/**
 * An audit event in words for people.
 *
 * @param message the event's text, as it is shipped
 * @returns null for a seal, and for what is no event
 */
export function describeEvent(message: string, clock: Clock): EventText | null {
  const event = asFields(parseJson(message));
  const type = event.eventType;
  if (typeof type !== 'string' || type === 'audit.sealed') return null;
  const metadata = asFields(event.metadata);
  return {
    at: new Date(String(event.timestamp)),
    what: whatOf(type),
    flag: subjectOf(type, event, metadata),
    who: whoOf(event, metadata),
    more: moreOf(type, metadata, clock),
  };
}

/** `flag_schedule.applied` is a schedule applied. */
function whatOf(type: string): string {
  const name = type.replace(/^feature_/, '').replace(/^flag_(schedule|plan)/, '$1');
  return printable(name).replace(/[._]/g, ' ');
}

function subjectOf(type: string, event: Fields, metadata: Fields): string {
  const { name, after } = metadata;
  const title = metadata.title ?? asFields(after).title;
  if (type.startsWith('flag_plan.') && typeof title === 'string') return printable(title);
  if (type.startsWith('environment.') && typeof name === 'string') return printable(name);
  return flagOf(event, metadata);
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
function moreOf(type: string, metadata: Fields, clock: Clock): string {
  const { latenessMs, updates, scheduledAt, errorMessage, reason, before, after } = metadata;
  const { destination, seq, status, firstAt } = metadata;
  // What a plan was and is, is a document; what a stop is, its reason says.
  const isShort = !/^(flag_plan|environment)\./.test(type);
  const parts = [
    isShort && typeof before === 'object' ? changesOf(asFields(before), asFields(after)) : '',
    type === 'flag_schedule.created' ? changesOf({}, asFields(updates)) : '',
    // Of what is to come; what was applied says how late it was.
    typeof scheduledAt === 'string' && latenessMs === undefined
      ? `at ${whenOf(scheduledAt, clock)}`
      : '',
    typeof firstAt === 'string' ? `at ${whenOf(firstAt, clock)}` : '',
    type === 'audit.undeliverable' ? `event ${String(seq)}, status ${String(status)}` : '',
    typeof destination === 'string' ? printable(destination) : '',
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

function whenOf(text: string, clock: Clock): string {
  const time = new Date(text);
  return Number.isNaN(time.getTime()) ? printable(text) : clock(time);
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
