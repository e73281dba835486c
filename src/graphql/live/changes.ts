import { makeListener } from '../../postgres/listener.ts';
import type { Logger } from '../../lib/log.ts';
import { looksLikeHint, parseHint, type Hint } from '../../audit/hint.ts';
import { coalesce } from '../../lib/coalesce.ts';

/** A follower of the changes. */
interface Follower {
  readonly onHint: (hint: Hint) => void;
  /** The connection is lost, and with it what is notified from now on. */
  readonly onLost: () => void;
}

/**
 * Listens to `halyard_audit` on one connection for all subscribers.
 *
 * @param url the authenticator's: listening needs no rights
 */
export function makeChanges(url: string, log: Logger) {
  const followers = new Set<Follower>();
  const inbox = makeInbox(
    (hint) => followers.forEach(({ onHint }) => onHint(hint)),
    () => listener.ignore(),
  );
  const listener = makeListener({
    url,
    channel: 'halyard_audit',
    name: 'halyard-api-listener',
    log,
    onNotification: (payload) => inbox.put(payload),
    onConnect: () => undefined,
    onLost: () => followers.forEach(({ onLost }) => onLost()),
  });

  return {
    follow(follower: Follower): void {
      followers.add(follower);
    },
    healthy: listener.healthy,
    /** Notifications that were none of Halyard's, or too many. */
    ignored: listener.ignored,
    /** Hints that were left out because they were too many: what they named comes with a partial one. */
    omitted: inbox.omitted,
    /** Begins to listen; resolves once it does, or is closed. */
    start: (): Promise<void> => listener.start(),
    async close(): Promise<void> {
      await listener.close();
      await inbox.close();
    },
  };
}

export type Changes = ReturnType<typeof makeChanges>;

/** The kinds of ids in a hint. */
const IDS = ['events', 'schedules', 'plans'] as const;

/** The shortest time between two merged hints. */
const MERGE_MS = 20;
/** Payloads that are read of those that come in that time: as many as PostgreSQL commits with a NOTIFY. */
const MAX_PAYLOADS = 64;
/** Ids of a kind in a merged hint. */
export const MAX_IDS = 500;
/** The shortest time between two hints that make every view look at what changed lately. */
const PARTIAL_MS = 1_000;

/**
 * Takes payloads in constant time, and hands them on as few hints. What is too much for one is left out, and the hint says that
 * more may have changed. So a flood costs its listeners no more than some looks a second.
 *
 * @param onHint gets what came in 20 ms, merged
 * @param onJunk hears of each payload that looked like a hint and is none
 */
function makeInbox(onHint: (hint: Hint) => void, onJunk: () => void) {
  const waiting: string[] = [];
  let partial = false;
  let omitted = 0;
  let partialAt = Number.NEGATIVE_INFINITY;
  let timer: NodeJS.Timeout | null = null;
  const draining = coalesce(drain, MERGE_MS);

  function drain(): Promise<void> {
    const parsed = waiting.splice(0).map(parseHint);
    const hints = parsed.filter((hint) => hint !== null);
    for (let junk = parsed.length - hints.length; junk > 0; junk--) onJunk();
    const merged = mergeHints(hints);
    partial ||= merged.partial;
    const isPartial = takePartial();
    if (IDS.some((kind) => merged[kind].length > 0) || isPartial)
      onHint({ ...merged, partial: isPartial });
    return Promise.resolve();
  }

  /** Whether this hint says that more may have changed: not more often than each second, but then for all that came meanwhile. */
  function takePartial(): boolean {
    if (!partial) return false;
    const leftMs = partialAt + PARTIAL_MS - performance.now();
    if (leftMs > 0) {
      timer ??= setTimeout(() => {
        timer = null;
        draining.request();
      }, leftMs).unref();
      return false;
    }
    partial = false;
    partialAt = performance.now();
    return true;
  }

  return {
    /** @returns whether it will be read; otherwise it is no hint, or one too many */
    put(payload: string): boolean {
      if (!looksLikeHint(payload)) return false;
      const isRead = waiting.length < MAX_PAYLOADS;
      if (isRead) waiting.push(payload);
      else {
        partial = true;
        omitted += 1;
      }
      draining.request();
      return isRead;
    },
    omitted: () => omitted,
    async close(): Promise<void> {
      if (timer !== null) clearTimeout(timer);
      await draining.close();
    },
  };
}

/** One hint in place of several. It is partial where one of them is, or where they have more ids than one may. */
export function mergeHints(hints: readonly Hint[]): Hint {
  const [events, schedules, plans] = IDS.map((kind) => [
    ...new Set(hints.flatMap((hint) => hint[kind])),
  ]) as [string[], string[], string[]];
  const many = [events, schedules, plans].some((ids) => ids.length > MAX_IDS);
  return {
    events: events.slice(0, MAX_IDS),
    schedules: schedules.slice(0, MAX_IDS),
    plans: plans.slice(0, MAX_IDS),
    partial: many || hints.some((hint) => hint.partial),
  };
}
