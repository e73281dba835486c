import type { Sink } from '../audit/sink.ts';
import type { DeliveryMetrics } from './worker.ts';

/** The same sink, with what it takes counted. */
export function meterSink(sink: Sink, metrics: DeliveryMetrics): Sink {
  let highest = 0;

  return {
    ...sink,
    async send(...sending: Parameters<Sink['send']>) {
      const [events, signal] = sending;
      const repeated = events.filter(({ seq }) => seq <= highest).length;
      if (repeated > 0) metrics.repeated(repeated);
      highest = events.reduce((most, { seq }) => Math.max(most, seq), highest);
      try {
        await sink.send(...sending);
      } catch (error) {
        // Given up by ourselves, at the end of the process: no fault of the destination's.
        if (!signal.aborted) metrics.failed();
        throw error;
      }
      metrics.delivered(events.map(({ occurredAt }) => occurredAt));
    },
  };
}
