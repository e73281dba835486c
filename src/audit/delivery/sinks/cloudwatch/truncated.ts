import { hash } from 'node:crypto';
import type { AuditEvent } from '../../sink.ts';

/** Why a stub stands for an event: it is over the service's size limit, or the service refused it alone. */
export type StubReason = 'too_large' | 'refused';

/** A copied value longer than this is left out: a stub must always be small enough to be accepted. */
const MAX_COPIED_LENGTH = 256;

/**
 * The short JSON text that goes out in place of an event that can't be shipped whole: its identity, and the SHA-256 of the
 * full text (UTF-8, hex), which stays in PostgreSQL, so that a copy with stubs can still be checked against the trail.
 */
export function renderStub(event: AuditEvent, reason: StubReason): string {
  const original = parseObject(event.message);
  return JSON.stringify({
    eventType: shortText(original.eventType),
    timestamp: shortText(original.timestamp) ?? event.occurredAt,
    eventId: event.eventId,
    seq: event.seq,
    level: shortText(original.level),
    environment: shortText(original.environment),
    requestId: shortText(original.requestId),
    truncated: true,
    reason,
    bytes: Buffer.byteLength(event.message),
    sha256: hash('sha256', event.message),
  });
}

/** None when it isn't a JSON object, which may be the very reason for a refusal. */
function parseObject(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? { ...value } : {};
  } catch (error) {
    if (error instanceof SyntaxError) return {};
    throw error;
  }
}

function shortText(value: unknown): string | undefined {
  return typeof value === 'string' && value.length <= MAX_COPIED_LENGTH ? value : undefined;
}
