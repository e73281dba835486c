import { pino } from 'pino';
import type { AuditEvent } from '../../src/audit/delivery/sink.ts';
import type { Logger } from '../../src/lib/log.ts';

/** An audit event as the trail renders it; `message` overrides the text, `at` is epoch milliseconds. */
export function makeEvent(
  seq: number,
  { at = Date.now(), message }: { at?: number; message?: string } = {},
): AuditEvent {
  const eventId = `00000000-0000-4000-8000-${String(seq).padStart(12, '0')}`;
  const occurredAt = new Date(at);
  const time = Number.isNaN(at) ? 'never' : occurredAt.toISOString();
  const rendered =
    `{"eventType": "flag_schedule.created", "timestamp": "${time}", "eventId": "${eventId}", "seq": ${seq}, ` +
    `"level": "info", "environment": "production", "requestId": "r-${seq}", "metadata": {"flagKey": "wishlist-gallery"}}`;
  return { seq, eventId, occurredAt, message: message ?? rendered };
}

/** Events seq 1 to `count`, all of one moment. */
export function makeEvents(count: number, at = Date.now()): AuditEvent[] {
  return Array.from({ length: count }, (_, i) => makeEvent(i + 1, { at }));
}

export interface LogLine {
  readonly level: number;
  readonly msg: string;
  readonly [key: string]: unknown;
}

/** A logger that keeps its lines. */
export function makeKeptLog(): { log: Logger; lines: LogLine[] } {
  const lines: LogLine[] = [];
  const log = pino(
    { level: 'trace' },
    { write: (line) => lines.push(JSON.parse(line) as LogLine) },
  );
  return { log, lines };
}
