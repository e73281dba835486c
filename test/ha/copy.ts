import { shippedMessage } from '../support/chaos/facts.ts';
import type { Facts } from '../support/chaos/facts.ts';

interface Line {
  readonly eventType: string;
  readonly seq?: number;
  readonly metadata?: {
    readonly incarnation: string;
    readonly firstSeq: number;
    readonly lastSeq: number;
  };
}

/** Numbers that a copy has with two texts in one incarnation: there should be none, also after a loss. */
export function reusedNumbers(lines: readonly string[]): string[] {
  const texts = new Map<string, string>();
  const reused: string[] = [];
  // The next seal that covers an event says which incarnation it is of. What was sent just before a loss may lack its seal: of two
  // lines with a number the last one is sealed.
  const unsealed = new Map<number, string>();
  for (const text of lines) {
    const { eventType, seq, metadata } = JSON.parse(text) as Line;
    if (eventType === 'audit.sealed' && metadata !== undefined) {
      for (const [n, sent] of unsealed) {
        if (n < metadata.firstSeq || n > metadata.lastSeq) continue;
        const number = `${metadata.incarnation} ${n}`;
        if ((texts.get(number) ?? sent) !== sent) reused.push(number);
        texts.set(number, sent);
        unsealed.delete(n);
      }
    } else if (seq !== undefined) unsealed.set(seq, text);
  }
  return reused;
}

/** The numbers of events whose text is nowhere in the copy. */
export function undelivered({ ledger, events }: Facts, lines: readonly string[]): number[] {
  const sent = new Set(lines);
  const payloads = new Map(events.map(({ id, payload }) => [id, payload]));
  return ledger
    .filter(({ event_id, seq }) => !sent.has(shippedMessage(payloads.get(event_id) ?? '', seq)))
    .map(({ seq }) => seq);
}
