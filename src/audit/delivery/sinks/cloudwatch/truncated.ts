import { hash } from 'node:crypto';
import { parseJson } from '../../../../lib/json.ts';
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
  // The message may be no JSON object: that may be the very reason for a refusal.
  const original = (parseJson(event.message) ?? {}) as Record<string, unknown>;
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

function shortText(value: unknown): string | undefined {
  return typeof value === 'string' && value.length <= MAX_COPIED_LENGTH ? value : undefined;
}
