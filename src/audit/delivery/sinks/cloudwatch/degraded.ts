import { createHash } from 'node:crypto';
import type { Entry } from './batch.ts';
import type { AuditEvent } from '../../sink.ts';

/**
 * The records that mark restamped events for readers of the copy, one for each reason: an event's own text is hashed, and can't
 * say so. They are no events of the trail. Their eventId is derived from the events that they are about: repeats have the same.
 *
 * @param delivered entries that have arrived, in their order
 * @param now epoch milliseconds, the service's time
 */
export function restampedRecords(delivered: readonly Entry[], now: number): AuditEvent[] {
  return (['late', 'ahead'] as const).flatMap((reason) => {
    const about = delivered.filter(({ restamped }) => restamped === reason);
    return about.length === 0 ? [] : [renderRecord(about, reason, new Date(now))];
  });
}

function renderRecord(about: readonly Entry[], reason: 'late' | 'ahead', at: Date): AuditEvent {
  const ids = createHash('sha256').update(reason);
  for (const { event } of about) ids.update(event.eventId);
  const eventId = toUuid(ids.digest());
  const [firstSeq, lastSeq] = rangeOf(about.map(({ event }) => event.seq));
  const [earliest, latest] = rangeOf(about.map(({ event }) => event.occurredAt.getTime()));
  const message = JSON.stringify({
    eventType: 'audit.restamped',
    timestamp: at,
    eventId,
    level: 'warning',
    environment: null,
    requestId: null,
    metadata: {
      reason,
      count: about.length,
      firstSeq,
      lastSeq,
      // Null when one of them is no valid time.
      earliest: new Date(earliest),
      latest: new Date(latest),
    },
  });
  return { seq: lastSeq, eventId, occurredAt: at, message };
}

/** The least and the greatest of a batch's 10,000 numbers at most. */
function rangeOf(numbers: readonly number[]): [number, number] {
  return [Math.min(...numbers), Math.max(...numbers)];
}

/** A UUID of version 8, which is free for what is derived in a way of one's own. */
function toUuid(hash: Buffer): string {
  const bytes = Buffer.from(hash.subarray(0, 16));
  bytes.writeUInt8((bytes.readUInt8(6) & 0x0f) | 0x80, 6);
  bytes.writeUInt8((bytes.readUInt8(8) & 0x3f) | 0x80, 8);
  return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}
