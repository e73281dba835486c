import type { Writable } from 'node:stream';
import type { AuditEvent, Sink } from '../audit/delivery/sink.ts';
import { eventLine } from './event_line.ts';

/** Characters that may wait for a reader that takes nothing. What comes then isn't shown: its copy is elsewhere. */
const MAX_WAITING = 1_048_576;

/**
 * The same sink, whose events are shown once the destination has them: as short lines, or as the JSON that was shipped. Showing
 * them delays nothing and fails nothing.
 *
 * @param out where they are shown
 * @param format of the lines; text leaves out what is older than `since`
 */
export function withView(
  sink: Sink,
  out: Writable,
  format: 'json' | 'text',
  since = new Date(),
): Sink {
  let unshown = 0;

  function show(events: readonly AuditEvent[]): void {
    for (const event of events) {
      const line = format === 'json' ? event.message : textOf(event, since);
      if (line === null) continue;
      if (out.destroyed || out.writableLength > MAX_WAITING) {
        unshown += 1;
        continue;
      }
      if (unshown > 0 && format === 'text')
        out.write(`… ${unshown} lines were left out: nothing took them.\n`);
      unshown = 0;
      out.write(`${line}\n`);
    }
  }

  return {
    ...sink,
    async send(events, signal, confirmed, undeliverable) {
      let shown = 0;
      const arrived = (count: number) => {
        show(events.slice(shown, count));
        shown = Math.max(shown, count);
      };
      const note = (count: number) => {
        arrived(count);
        confirmed?.(count);
      };
      await sink.send(events, signal, note, undeliverable);
      arrived(events.length);
    },
  };
}

function textOf({ message, occurredAt }: AuditEvent, since: Date): string | null {
  return occurredAt < since ? null : eventLine(message);
}
