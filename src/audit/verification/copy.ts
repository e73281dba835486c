import { z } from 'zod';
import { parseJson } from '../../lib/json.ts';
import { leafOf } from '../seals/merkle.ts';
import { sealShape, type Seal } from '../seals/seal.ts';

/** A seal as the copy outside has it: the anchor. `sealedAt` is ISO 8601. */
export interface Anchor extends Seal {
  readonly sealedAt: string;
}

/** An event of the copy outside: its number, its id, and the leaf of its text, in hexadecimal. */
export interface CopiedEvent {
  readonly seq: number;
  readonly eventId: string;
  readonly leaf: string;
}

const sealedShape = z.object({
  eventType: z.literal('audit.sealed'),
  timestamp: z.iso.datetime(),
  metadata: sealShape,
});

/**
 * A stub stands for a message that was too large to be shipped, so it is no copy of it; nor is what is shipped in place of an
 * event that was purged before.
 */
const eventShape = z.object({
  eventType: z.string(),
  eventId: z.string(),
  seq: z.int().positive(),
  truncated: z.undefined().optional(),
  purged: z.undefined().optional(),
});

const placeholderShape = z.union([
  z.object({ eventId: z.string(), seq: z.int().positive(), truncated: z.literal(true) }),
  z.object({ eventId: z.string(), seq: z.int().positive(), purged: z.literal(true) }),
]);

/** Where a string begins that CloudWatch Logs, Docker (log) or journald (MESSAGE) wraps what was shipped in. */
const WRAPPER = /"(?:@?message|log|MESSAGE)"\s*:\s*"/g;

/** The audit messages in a line of a copy: the line itself, also behind a collector's prefix, or what it wraps; or none. */
export function messagesOf(line: string): string[] {
  // In what wraps a message its quotes are escaped, so this is no part of a string.
  const start = line.indexOf('{"eventType"');
  if (start >= 0) return [line.slice(start).trimEnd()];
  return wrappedTexts(line)
    .map(parseJson)
    .filter((text) => typeof text === 'string')
    .map((text) => text.trim());
}

/** The JSON strings that wrap something, quotes included. No expression for the whole string: a line may have 80 MB. */
function wrappedTexts(line: string): string[] {
  const texts: string[] = [];
  const wrapper = new RegExp(WRAPPER);
  for (let found = wrapper.exec(line); found !== null; found = wrapper.exec(line)) {
    const begin = wrapper.lastIndex - 1;
    const end = closingQuote(line, begin + 1);
    if (end === null) break;
    texts.push(line.slice(begin, end + 1));
    wrapper.lastIndex = end + 1;
  }
  return texts;
}

/** The place of the first quote from `from` on that isn't escaped; null when there is none. */
function closingQuote(line: string, from: number): number | null {
  for (let at = line.indexOf('"', from); at >= 0; at = line.indexOf('"', at + 1)) {
    let backslashes = 0;
    while (line[at - 1 - backslashes] === '\\') backslashes += 1;
    if (backslashes % 2 === 0) return at;
  }
  return null;
}

/** What a message of a copy is, as far as it can be checked: an anchor, an event, or null. */
export function readMessage(message: string): Anchor | CopiedEvent | null {
  const value = parseJson(message);
  const sealed = sealedShape.safeParse(value);
  if (sealed.success) return { ...sealed.data.metadata, sealedAt: sealed.data.timestamp };
  const event = eventShape.safeParse(value);
  if (!event.success) return null;
  const { seq, eventId } = event.data;
  return { seq, eventId, leaf: leafOf(message).toString('hex') };
}

/** The number of the event that a message stands for without being its text: a stub's, or a purged event's; null for others. */
export function readPlaceholder(message: string): number | null {
  const found = placeholderShape.safeParse(parseJson(message));
  return found.success ? found.data.seq : null;
}

/** What an audit.sealed record that isn't one says of itself, as far as it is readable; null for other messages. */
export function readBrokenSeal(message: string): BrokenSeal | null {
  const value = parseJson(message);
  if (!brokenShape.safeParse(value).success || sealedShape.safeParse(value).success) return null;
  const { seal, trail } = z
    .object({ metadata: claimShape })
    .catch({ metadata: {} })
    .parse(value).metadata;
  return { seal: seal ?? null, trail: trail ?? null };
}

/** An audit.sealed record that can't be checked. */
export interface BrokenSeal {
  readonly seal: number | null;
  readonly trail: string | null;
}

const brokenShape = z.object({ eventType: z.literal('audit.sealed') });
const claimShape = z.object({
  seal: z.int().optional().catch(undefined),
  trail: z.string().optional().catch(undefined),
});
