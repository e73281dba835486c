import type { Visible } from '../schema/subscriptions.ts';
import { MAX_IDS } from './changes.ts';

/** Rows that were read and that a subscriber may see. */
export interface Delivery extends Visible {
  /** The look that read them, the latest of several: what is read for the same look is read once. */
  readonly look: object;
}

/** A message for all subscribers with the same key. */
export interface Message {
  readonly text: string;
  /** It ends the subscription. */
  readonly last: boolean;
}

/** The delivery that waits for one subscriber: a slow one holds up no other, and costs one merged delivery. */
export type SubscriberQueue = ReturnType<typeof makeSubscriberQueue>;

/** @param onClose called once, when it is closed */
export function makeSubscriberQueue(onClose: () => void) {
  let waiting: Delivery | null = null;
  let end: Message | 'closed' | null = null;
  let wake: (() => void) | null = null;

  function finish(how: Message | 'closed'): void {
    if (end === null) onClose();
    end ??= how;
    wake?.();
  }

  return {
    put(delivery: Delivery): void {
      waiting = waiting === null ? delivery : merge(waiting, delivery);
      wake?.();
    },
    /** Resolves to what came since the last call, merged into one; waits for the first. A last message, or null once it is closed. */
    async take(): Promise<Delivery | Message | null> {
      while (waiting === null && end === null)
        await new Promise<void>((resolve) => (wake = resolve));
      if (end !== null) return end === 'closed' ? null : end;
      const delivery = waiting;
      waiting = null;
      return delivery;
    },
    /** Ends it with a last message. */
    end: (message: Message) => finish(message),
    close: () => finish('closed'),
  };
}

const merged = new WeakMap<Delivery, WeakMap<Delivery, Delivery>>();

/** One delivery in place of two: the same object for all queues, so that those that fall behind together share the work. */
function merge(older: Delivery, newer: Delivery): Delivery {
  const known = merged.get(older) ?? new WeakMap<Delivery, Delivery>();
  merged.set(older, known);
  const delivery =
    known.get(newer) ?? deliver([...older.ids, ...newer.ids], newer.look, older, newer);
  known.set(newer, delivery);
  return delivery;
}

/** A delivery of as many of these ids as one may have. */
export function deliver(
  ids: readonly string[],
  look: object,
  ...parts: readonly { readonly truncated: boolean }[]
): Delivery {
  const unique = [...new Set(ids)];
  const truncated = unique.length > MAX_IDS || parts.some((part) => part.truncated);
  return { ids: unique.slice(0, MAX_IDS), truncated, look };
}
