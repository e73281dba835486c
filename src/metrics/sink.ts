import type { Sink } from '../audit/delivery/sink.ts';
import type { DeliveryMetrics } from './worker.ts';

/** The same sink, with what it takes counted. */
export function meterSink(sink: Sink, metrics: DeliveryMetrics): Sink {
  let highest = 0;

  return {
    ...sink,
    async send(events, signal, confirmed, undeliverable) {
      const repeated = events.filter(({ seq }) => seq <= highest).length;
      if (repeated > 0) metrics.repeated(repeated);
      highest = events.reduce((most, { seq }) => Math.max(most, seq), highest);
      let arrived = 0;
      const arrive = (count: number) => {
        metrics.delivered(events.slice(arrived, count).map(({ occurredAt }) => occurredAt));
        arrived = Math.max(arrived, count);
      };
      try {
        const note = (count: number) => {
          arrive(count);
          confirmed?.(count);
        };
        await sink.send(events, signal, note, undeliverable);
      } catch (error) {
        // Given up by ourselves, at the end of the process: no fault of the destination's.
        if (!signal.aborted) metrics.failed();
        throw error;
      }
      arrive(events.length);
    },
  };
}
