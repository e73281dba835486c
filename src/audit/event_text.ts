import { parseJson } from '../lib/json.ts';
import { printable } from '../lib/printable.ts';
import { detailsOf } from './event_details.ts';
import { asFields, changesOf, durationOf, whenOf, type Clock, type Fields } from './event_words.ts';

/** An event in words for people, in parts: control and invisible characters are gone, and what is long is cut. */
export interface EventText {
  /** Invalid where the text has no time. */
  readonly at: Date;
  /** What happened, as in `schedule applied`. */
  readonly what: string;
  /** The flag's key or the plan's title, with its environments unless that is production; the environment's name; empty for none. */
  readonly subject: string;
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
    subject: subjectOf(type, event, metadata),
    who: whoOf(event, metadata),
    more: moreOf(type, metadata, clock),
  };
}

/** `flag_schedule.applied` is a schedule applied. */
function whatOf(type: string): string {
  return printable(type.replace(/^(feature_|flag_(?=schedule|plan))/, '')).replace(/[._]/g, ' ');
}

function subjectOf(type: string, { environment }: Fields, metadata: Fields): string {
  const { flagKey, name, title, before, after, environments = [environment] } = metadata;
  if (type.startsWith('environment.')) return printable(String(name ?? environment));
  const called = title ?? asFields(after).title ?? asFields(before).title;
  const plan = typeof called === 'string' ? `“${printable(called)}”` : '';
  const subject = typeof flagKey === 'string' ? printable(flagKey) : plan;
  const names = Array.isArray(environments)
    ? environments.filter((one) => typeof one === 'string')
    : [];
  if (names.length === 0 || names.join() === 'production') return subject;
  return `${subject} (${printable(names.join(', '))})`.trimStart();
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
  const { latenessMs, updates, scheduledAt, errorMessage, reason } = metadata;
  const { destination, seq, status } = metadata;
  const parts = [
    ...detailsOf(type, metadata, clock),
    type === 'flag_schedule.created' ? changesOf({}, asFields(updates)) : '',
    // Of what is to come; what was applied says how late it was.
    typeof scheduledAt === 'string' && latenessMs === undefined
      ? `at ${whenOf(scheduledAt, clock)}`
      : '',
    type === 'audit.undeliverable' ? `event ${String(seq)}, status ${String(status)}` : '',
    typeof destination === 'string' ? printable(destination) : '',
    typeof errorMessage === 'string' ? printable(errorMessage) : '',
    typeof reason === 'string' ? `“${printable(reason)}”` : '',
    typeof latenessMs === 'number' ? `${durationOf(latenessMs)} late` : '',
  ];
  return parts.filter((part) => part !== '').join(', ');
}
