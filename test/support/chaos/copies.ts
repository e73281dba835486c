import { shippedMessage } from './facts.ts';
import type { Copy, Facts } from './facts.ts';
import type { Breach } from './invariant.ts';

interface Shipped {
  readonly eventType: string;
  readonly eventId: string;
  readonly seq?: number;
  readonly metadata?: { readonly lastSeq?: number; readonly head?: string };
}

/** A line, and what it holds. */
interface Line extends Shipped {
  readonly text: string;
}

/** What is shipped about events, without a number of its own: seals, and marks of those that came under another time. */
const RECORDS = new Set(['audit.sealed', 'audit.restamped']);

/** One destination's copy: every event in it, byte for byte, first arrivals in order, each seal behind what it seals. */
export function copyBreaches(copy: Copy, facts: Facts): Breach[] {
  const found: Breach[] = [];
  const say = (rule: Breach['rule'], detail: string) =>
    found.push({ rule, detail: `${copy.destination}: ${detail}` });

  const lines = copy.lines.flatMap((text): Line[] => {
    const record = parseRecord(text);
    if (record === null) say('copy unreadable', text.slice(0, 200));
    return record === null ? [] : [{ ...record, text }];
  });
  const first = new Map<string, Line>();
  for (const line of withoutLost(lines, facts)) {
    const before = first.get(line.eventId);
    if (before === undefined) first.set(line.eventId, line);
    else if (before.text !== line.text) say('copy differs', `two texts of ${line.eventId}`);
  }

  checkEvents(facts, first, say);
  checkOrder([...first.values()], say);
  checkSeals(facts, first, say);
  return found;
}

type Say = (rule: Breach['rule'], detail: string) => void;

function checkEvents({ ledger, events }: Facts, first: ReadonlyMap<string, Line>, say: Say): void {
  const payloads = new Map(events.map(({ id, payload }) => [id, payload]));
  const known = new Set(ledger.map(({ event_id }) => event_id));
  for (const { seq, event_id } of ledger) {
    const payload = payloads.get(event_id);
    const line = first.get(event_id);
    if (line === undefined) say('event not delivered', `seq ${seq}, event ${event_id}`);
    else if (payload !== undefined && line.text !== shippedMessage(payload, seq))
      say('copy differs', `seq ${seq}, event ${event_id}: ${line.text}`);
  }
  for (const { eventId, eventType } of first.values())
    if (!RECORDS.has(eventType) && !known.has(eventId))
      say('copy of no event', `${eventType} ${eventId}`);
}

function checkOrder(lines: readonly Line[], say: Say): void {
  let last = 0;
  for (const { eventType, eventId, seq, metadata } of lines) {
    if (RECORDS.has(eventType)) {
      const end = metadata?.lastSeq ?? 0;
      if (end > last) say('copy out of order', `${eventType} of ${end} arrived behind ${last}`);
    } else {
      if (seq !== last + 1)
        say('copy out of order', `event ${eventId} of seq ${seq ?? '?'} arrived behind ${last}`);
      last = seq ?? last;
    }
  }
}

function checkSeals({ seals }: Facts, first: ReadonlyMap<string, Line>, say: Say): void {
  const heads = new Set(
    [...first.values()]
      .filter(({ eventType }) => eventType === 'audit.sealed')
      .map(({ metadata }) => metadata?.head),
  );
  // Seal 0 seals nothing.
  for (const { seal_no, head } of seals.filter(({ last_seq }) => last_seq > 0))
    if (!heads.has(head)) say('seal not delivered', `seal ${seal_no} with the head ${head}`);
}

/**
 * The lines without those of histories that were given up: what arrived before an audit.restored event, lies behind the state that
 * it is about, and isn't in the database.
 */
function withoutLost(lines: readonly Line[], { events, seals }: Facts): Line[] {
  const known = new Set([...events.map(({ id }) => id), ...seals.map(({ head }) => head)]);
  const restores = lines.flatMap(({ eventType, metadata }, at) =>
    eventType === 'audit.restored' ? [{ at, lastSeq: metadata?.lastSeq ?? 0 }] : [],
  );
  return lines.filter(({ eventId, seq, metadata }, at) => {
    const isKnown = known.has(eventId) || known.has(metadata?.head ?? '');
    const end = seq ?? metadata?.lastSeq ?? 0;
    return isKnown || !restores.some((restore) => at < restore.at && end > restore.lastSeq);
  });
}

function parseRecord(text: string): Shipped | null {
  try {
    const value = JSON.parse(text) as Partial<Shipped> | null;
    return typeof value?.eventId === 'string' && typeof value.eventType === 'string'
      ? (value as Shipped)
      : null;
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}

/**
 * The lines of a file that processes append to, some of them killed in the middle of a line: what a dead one left
 * of a line stands in front of the next one's first, and isn't counted.
 */
export function linesOf(file: string): string[] {
  const START = '{"eventType": ';
  return file
    .split('\n')
    .slice(0, -1)
    .map((line) => (parseRecord(line) === null ? line.slice(line.lastIndexOf(START)) : line));
}
