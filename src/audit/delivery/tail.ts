import { z } from '../../lib/zod.ts';
import { parseJson } from '../../lib/json.ts';
import { readMessage, type Anchor } from '../verification/copy.ts';

/** The end of what a destination holds of a trail, or has confirmed: what the database is held against. */
export interface Tail {
  readonly trail: string;
  /** The last seal of each incarnation that was seen, by the seal's number: a clock may have been wrong. */
  readonly seals: readonly Anchor[];
  /** Events that arrived and aren't sealed by a seal that did, as when a process died between two requests. */
  readonly events: readonly TailEvent[];
  /** Why there may be a newer seal than these; absent when there is none. */
  readonly unsure?: string;
}

export interface TailEvent {
  readonly seq: number;
  readonly eventId: string;
  /** Of its text, in hexadecimal; null where the text stands for the event only. */
  readonly leaf: string | null;
  /** When it happened, ISO 8601. */
  readonly at: string;
  /** Of the seal before it; null where none was seen. */
  readonly incarnation: string | null;
}

/** A record as a destination stored it. */
export interface StoredRecord {
  readonly message: string;
  /** Epoch milliseconds, for events without a time of their own. */
  readonly storedAt: number;
}

/** A record as it was sent. */
interface SentRecord {
  readonly message: string;
  readonly occurredAt: Date;
}

/** The end of one stream of a destination. */
export interface StreamEnd {
  readonly seals: readonly Anchor[];
  readonly events: readonly TailEvent[];
  /** Whether its last seal is another trail's. */
  readonly foreign: boolean;
}

/** The most events that one seal holds. */
const MAX_SEALED = 1_000;

const SEALED = '{"eventType": "audit.sealed"';

/** An event, or what stands for one. */
const eventShape = z.object({
  eventType: z.string(),
  eventId: z.guid(),
  seq: z.int().check(z.positive()),
  timestamp: z.catch(z.optional(z.iso.datetime()), () => undefined),
});

/** Reads the end of a stream. @param records in the stream's order, in which a seal is behind its events */
export function readEnd(records: readonly StoredRecord[], trail: string): StreamEnd {
  const seals = new Map<string, Anchor>();
  let events: TailEvent[] = [];
  let last: Anchor | null = null;
  for (const { message, storedAt } of records) {
    const seal = readSeal(message);
    if (seal !== null) {
      last = seal;
      events = events.filter(({ seq }) => seq < seal.firstSeq || seq > seal.lastSeq);
      if (seal.trail === trail) keepNewest(seals, seal);
      continue;
    }
    const event = readEvent(message, storedAt);
    if (event === null) continue;
    const { seq, at } = event;
    // A destination may store records of the same millisecond in another order.
    const isSealed =
      last !== null && seq >= last.firstSeq && seq <= last.lastSeq && at <= last.sealedAt;
    const incarnation = last?.trail === trail ? last.incarnation : null;
    if (!isSealed) events.push({ ...event, incarnation });
  }
  return { seals: [...seals.values()], events, foreign: last !== null && last.trail !== trail };
}

/**
 * The ends of all streams together. Events don't say which trail they are of: those count that could come next behind one of its
 * seals, in a stream that another trail hasn't sealed last.
 */
export function joinEnds(trail: string, ends: readonly StreamEnd[]): Tail {
  const newest = new Map<string, Anchor>();
  for (const seal of ends.flatMap(({ seals }) => seals)) keepNewest(newest, seal);
  const seals = [...newest.values()];
  const isNext = ({ seq }: TailEvent) =>
    seals.length === 0 || seals.some(({ lastSeq }) => seq > lastSeq && seq <= lastSeq + MAX_SEALED);
  const events = ends.flatMap((end) => (end.foreign ? [] : end.events.filter(isNext)));
  return { trail, seals, events };
}

/** What a process has had confirmed: the last event and the last seal of these, else of those before. */
export function extendTail(
  before: Tail | null,
  trail: string,
  confirmed: readonly SentRecord[],
): Tail {
  const lastSeal = confirmed.findLast(({ message }) => isSeal(message));
  const seal = lastSeal === undefined ? null : readSeal(lastSeal.message);
  const seals = seal === null ? (before?.seals ?? []) : [seal];
  const last = confirmed.findLast(({ message }) => !isSeal(message));
  const event = last === undefined ? null : readEvent(last.message, last.occurredAt.getTime());
  const incarnation = seals[0]?.incarnation ?? null;
  const events = event === null ? (before?.events ?? []) : [{ ...event, incarnation }];
  return { trail, seals, events };
}

function isSeal(message: string): boolean {
  return message.startsWith(SEALED);
}

function readSeal(message: string): Anchor | null {
  const seal = isSeal(message) ? readMessage(message) : null;
  return seal !== null && 'head' in seal ? seal : null;
}

function readEvent(message: string, storedAt: number): Omit<TailEvent, 'incarnation'> | null {
  const event = eventShape.safeParse(parseJson(message));
  // What stands for a seal that the destination refused has its number, and is no event.
  if (!event.success || event.data.eventType === 'audit.sealed') return null;
  const { eventType, seq, eventId, timestamp } = event.data;
  const copied = eventType === 'audit.missing' ? null : readMessage(message);
  const leaf = copied !== null && 'leaf' in copied ? copied.leaf : null;
  const time = Number.isFinite(storedAt) ? storedAt : Date.now();
  return { seq, eventId, leaf, at: timestamp ?? new Date(time).toISOString() };
}

function keepNewest(seals: Map<string, Anchor>, seal: Anchor): void {
  const known = seals.get(seal.incarnation);
  if (known === undefined || known.seal < seal.seal) seals.set(seal.incarnation, seal);
}
