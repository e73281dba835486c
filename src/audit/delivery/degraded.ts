import type { Logger } from '../../lib/log.ts';
import type { AuditEvent, DegradedCounts } from './sink.ts';

/** How many events a warning lists one by one. */
const LISTED = 20;

/**
 * Counts a sink's events that it doesn't deliver as they are, with one warning for each kind and batch: after an outage every event of a
 * backlog may be late.
 *
 * @param kinds all that there can be: each is a series of the metrics from the start
 */
export function makeDegradedCounts<K extends string>(log: Logger, kinds: readonly K[]) {
  const counts = Object.fromEntries(kinds.map((kind) => [kind, 0])) as Record<K, number>;

  return {
    /** @param more in the warning */
    note(kind: K, events: readonly AuditEvent[], more: object = {}): void {
      if (events.length === 0) return;
      counts[kind] += events.length;
      const listed = events.slice(0, LISTED).map(({ seq, occurredAt }) => ({ seq, occurredAt }));
      log.warn(
        { kind, count: events.length, events: listed, ...more },
        'audit events were not delivered plainly',
      );
    },
    counts: (): DegradedCounts => ({ ...counts }),
  };
}
