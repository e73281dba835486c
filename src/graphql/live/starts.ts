import type { Hint } from '../../audit/hint.ts';
import { mergeHints, type Changes } from './changes.ts';

const NO_HINT: Hint = { events: [], schedules: [], plans: [], partial: false };

/** Of a subscription that begins: what was notified since its client asked for it. */
export interface Start {
  /** Takes the hints that came so far. */
  take(): Hint;
  /** Whether more may have changed than the hints say. */
  isPartial(): boolean;
  /** Whether the connection was lost, and with it hints. */
  isLost(): boolean;
  /** Collects no more. */
  end(): void;
}

/**
 * Collects hints for subscriptions that begin: a subscription is parsed, planned and checked before it has its place among the
 * others, and what changes meanwhile is news for its client.
 */
export function makeStarts(changes: Pick<Changes, 'follow' | 'omitted'>): () => Start {
  const starts = new Set<{ hint: Hint; isPartial: boolean; isLost: boolean }>();
  changes.follow({
    onHint(hint) {
      for (const start of starts) {
        start.hint = mergeHints([start.hint, hint]);
        start.isPartial ||= start.hint.partial;
      }
    },
    onLost() {
      for (const start of starts) start.isLost = true;
    },
  });
  return () => {
    const start = { hint: NO_HINT, isPartial: false, isLost: false };
    const omittedBefore = changes.omitted();
    starts.add(start);
    return {
      take() {
        const { hint } = start;
        start.hint = NO_HINT;
        return hint;
      },
      isPartial: () => start.isPartial || changes.omitted() > omittedBefore,
      isLost: () => start.isLost,
      end: () => void starts.delete(start),
    };
  };
}
