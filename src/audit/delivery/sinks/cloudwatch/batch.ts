import { hash } from 'node:crypto';
import { parseJson } from '../../../../lib/json.ts';
import type { AuditEvent } from '../../sink.ts';

// The limits of CloudWatch Logs' PutLogEvents.
// https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutLogEvents.html

/** Sum of the UTF-8 bytes of a batch's messages plus EVENT_OVERHEAD_BYTES for each of its events. */
export const MAX_BATCH_BYTES = 1_048_576;
/** One event's UTF-8 bytes plus EVENT_OVERHEAD_BYTES. */
export const MAX_EVENT_BYTES = 1_048_576;
export const EVENT_OVERHEAD_BYTES = 26;
export const MAX_BATCH_EVENTS = 10_000;
/** Between a batch's first and last timestamp. */
export const MAX_SPAN_MS = 24 * 3_600_000;
/** Older timestamps are rejected; a log group that keeps events for less long rejects younger ones too. */
export const MAX_AGE_MS = 14 * 24 * 3_600_000;
/** Timestamps further ahead of the service's clock are rejected. */
export const MAX_AHEAD_MS = 2 * 3_600_000;

/** How far a timestamp may be moved to keep a batch in order: one event stamped "now" must not pull a backlog to now. */
export const MAX_NUDGE_MS = 60_000;

/** A copied value longer than this is left out: a stub must always be small enough to be accepted. */
const MAX_COPIED_LENGTH = 256;

/** Why a stub stands for an event: it is over the service's size limit, or the service refused it alone. */
type StubReason = 'too_large' | 'refused';

/** One event as it goes into a batch. */
export interface Entry {
  readonly event: AuditEvent;
  /** What is sent: the event's own text, untouched, unless `stub` says otherwise. */
  readonly message: string;
  /** Bytes of the message that count towards the limits, overhead included. */
  readonly bytes: number;
  /** Epoch milliseconds for CloudWatch; the message keeps the true time. */
  readonly timestamp: number;
  readonly stub: StubReason | null;
  /** Set when the service would reject the true time, so the entry carries the time of sending. */
  readonly restamped: 'late' | 'ahead' | null;
}

/**
 * Cuts events into batches that PutLogEvents takes as a whole, in the order given. CloudWatch wants timestamps in order, so an
 * entry's is at least its predecessor's; sorting by time would break the order of seq, which a reader checks a copy by.
 *
 * @param now epoch milliseconds, what entries too old or too far ahead are stamped with
 */
export function cutBatches(events: readonly AuditEvent[], now: number): Entry[][] {
  const batches: Entry[][] = [];
  let batch: Entry[] = [];
  let bytes = 0;
  for (const event of events) {
    const entry = toEntry(event, now);
    if (batch.length === 0 || !fits(batch, bytes, entry)) {
      batches.push((batch = []));
      bytes = 0;
    }
    batch.push({
      ...entry,
      timestamp: Math.max(batch.at(-1)?.timestamp ?? entry.timestamp, entry.timestamp),
    });
    bytes += entry.bytes;
  }
  return batches;
}

/** The same entries, stamped with `now`: what is sent again after the service rejected their timestamps. */
export function restamp(entries: readonly Entry[], now: number, why: 'late' | 'ahead'): Entry[] {
  return entries.map((entry) => ({ ...entry, timestamp: now, restamped: why }));
}

/** The entry with its message replaced by a stub. */
export function toStub(entry: Omit<Entry, 'bytes' | 'message'>, reason: StubReason): Entry {
  const message = renderStub(entry.event, reason);
  return { ...entry, message, bytes: sizeOf(message), stub: reason };
}

/** One event by itself, within the limits. */
export function toEntry(event: AuditEvent, now: number): Entry {
  const restamped = lateness(event.occurredAt.getTime(), now);
  const timestamp = restamped === null ? event.occurredAt.getTime() : now;
  const entry = { event, timestamp, stub: null, restamped };
  const bytes = sizeOf(event.message);
  return bytes > MAX_EVENT_BYTES
    ? toStub(entry, 'too_large')
    : { ...entry, message: event.message, bytes };
}

/** An invalid date has no time of its own either; it counts as late. */
function lateness(time: number, now: number): Entry['restamped'] {
  if (time > now + MAX_AHEAD_MS) return 'ahead';
  return time >= now - MAX_AGE_MS ? null : 'late';
}

function fits(batch: readonly Entry[], bytes: number, entry: Entry): boolean {
  const first = batch.at(0)?.timestamp ?? entry.timestamp;
  const last = batch.at(-1)?.timestamp ?? entry.timestamp;
  return (
    batch.length < MAX_BATCH_EVENTS &&
    bytes + entry.bytes <= MAX_BATCH_BYTES &&
    entry.timestamp - first <= MAX_SPAN_MS &&
    last - entry.timestamp <= MAX_NUDGE_MS
  );
}

function sizeOf(message: string): number {
  return Buffer.byteLength(message) + EVENT_OVERHEAD_BYTES;
}

/** Goes out in place of an event that can't be shipped whole. By its SHA-256 (UTF-8, hex) it is checked against the trail. */
function renderStub(event: AuditEvent, reason: StubReason): string {
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
