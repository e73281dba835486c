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
  timestamp: z.string(),
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

/** The texts of strings by the names under which CloudWatch Logs, Docker (log) and journald (MESSAGE) wrap what was shipped. */
const WRAPPED = /"(?:@?message|log|MESSAGE)"\s*:\s*("(?:[^"\\]|\\.)*")/g;

/** The audit messages in a line of a copy: the line itself, also behind a collector's prefix, or what it wraps; or none. */
export function messagesOf(line: string): string[] {
  // In what wraps a message its quotes are escaped, so this is no part of a string.
  const start = line.indexOf('{"eventType"');
  if (start >= 0) return [line.slice(start).trimEnd()];
  const texts = Array.from(line.matchAll(WRAPPED), ([, text = '']) => parseJson(text));
  return texts.filter((text) => typeof text === 'string').map((text) => text.trim());
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
