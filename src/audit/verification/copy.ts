import { z } from '../../lib/zod.ts';
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
 * A truncated message, which was too large to be shipped, is no copy of the event; nor is what is shipped in place of an event that was
 * purged before.
 */
const eventShape = z.object({
  eventType: z.string(),
  eventId: z.string(),
  seq: z.int().check(z.positive()),
  truncated: z.optional(z.undefined()),
  purged: z.optional(z.undefined()),
});

const placeholderShape = z.intersection(
  z.object({ eventId: z.string(), seq: z.int().check(z.positive()) }),
  z.union([z.object({ truncated: z.literal(true) }), z.object({ purged: z.literal(true) })]),
);

/** An audit.sealed record that can't be checked. */
export interface BrokenSeal {
  readonly seal: number | null;
  readonly trail: string | null;
}

const claimShape = z.object({
  seal: z.catch(z.nullable(z.int()), null),
  trail: z.catch(z.nullable(z.string()), null),
});
const brokenSealShape = z.object({
  eventType: z.literal('audit.sealed'),
  metadata: z.catch(claimShape, { seal: null, trail: null }),
});

/** Where a string begins that CloudWatch Logs, Docker (log) or journald (MESSAGE) wraps what was shipped in. */
const WRAPPER = /"(?:@?message|log|MESSAGE)"\s*:\s*"/g;

/** The audit messages in a line of a copy: the line itself, also after a collector's prefix, or what it wraps; or none. */
export function messagesOf(line: string): string[] {
  // In what wraps a message its quotes are escaped, so this is no part of a string.
  const start = line.indexOf('{"eventType"');
  if (start >= 0) return [line.slice(start).trimEnd()];
  return wrappedTexts(line)
    .map(parseJson)
    .filter((text) => typeof text === 'string')
    .map((text) => text.trim())
    .toArray();
}

/** The JSON strings that wrap something, quotes included. No expression for the whole string: a line may have 80 MB. */
function* wrappedTexts(line: string): Generator<string> {
  const wrapper = new RegExp(WRAPPER);
  while (wrapper.test(line)) {
    const begin = wrapper.lastIndex - 1;
    const end = closingQuote(line, begin + 1);
    if (end === null) return;
    yield line.slice(begin, end + 1);
    wrapper.lastIndex = end + 1;
  }
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

/**
 * What stands in a copy for an event (a truncated message, or what was shipped in place of a purged event), or for a seal (a record
 * that can't be checked, with what it says of itself); null for other messages.
 *
 * @param message for which readMessage gave null
 */
export function readSubstitute(message: string): { readonly seq: number } | BrokenSeal | null {
  const value = parseJson(message);
  const placeholder = placeholderShape.safeParse(value);
  if (placeholder.success) return { seq: placeholder.data.seq };
  return brokenSealShape.safeParse(value).data?.metadata ?? null;
}
