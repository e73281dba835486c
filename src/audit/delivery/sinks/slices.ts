import type { AuditEvent } from '../sink.ts';

/** Characters handed on at a time, about what a pipe holds: progress and a stall show after each slice. */
const SLICE_LENGTH = 65_536;

/** Slices of whole lines; `count` is how many events end with this one. */
export function* cutSlices(
  events: readonly AuditEvent[],
): Generator<{ text: string; count: number }> {
  let text = '';
  for (const [i, event] of events.entries()) {
    text += `${event.message}\n`;
    if (text.length >= SLICE_LENGTH || i === events.length - 1) {
      yield { text, count: i + 1 };
      text = '';
    }
  }
}
