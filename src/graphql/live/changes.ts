import { makeListener } from '../../postgres/listener.ts';
import type { Logger } from '../../lib/log.ts';
import { DatabaseUnavailableError } from '../../postgres/pool.ts';

/** What migrations/fixtures/audit/record/notify.sql tells: ids only, in the order in which they were told. */
export interface Hint {
  readonly events: readonly string[];
  readonly schedules: readonly string[];
  /** More has happened than these ids: whoever must know all reads again. */
  readonly truncated: boolean;
}

/** Ids that wait for a subscriber who is slower than the changes; what comes on top becomes `truncated`. */
const MOST_WAITING = 500;

/**
 * Listens to `halyard_audit` on one connection for all subscribers. A slow one holds up no other, and costs one merged hint.
 * When the connection is lost, hints are too: every mailbox fails at once, so that its client knows, and reads and subscribes
 * again.
 *
 * @param url the authenticator's: listening needs no rights
 */
export function makeChanges(url: string, log: Logger) {
  const mailboxes = new Set<Mailbox>();
  const listener = makeListener({
    url,
    channel: 'halyard_audit',
    name: 'halyard-api-listener',
    log,
    onNotification(payload) {
      const hint = parseHint(payload);
      for (const mailbox of mailboxes) mailbox.put(hint);
    },
    onConnect: () => undefined,
    onLost() {
      for (const mailbox of mailboxes) mailbox.fail();
    },
  });

  return {
    /** How many mailboxes are open. */
    get size() {
      return mailboxes.size;
    },
    /** @throws DatabaseUnavailableError while nothing is being listened to */
    open(): Mailbox {
      if (!listener.healthy())
        throw new DatabaseUnavailableError(new Error('The listener has no connection.'));
      const mailbox = makeMailbox(() => mailboxes.delete(mailbox));
      mailboxes.add(mailbox);
      return mailbox;
    },
    healthy: listener.healthy,
    /** Begins to listen; resolves once it does, or is closed. */
    start: (): Promise<void> => listener.start(),
    async close(): Promise<void> {
      for (const mailbox of mailboxes) mailbox.close();
      await listener.close();
    },
  };
}

export type Changes = ReturnType<typeof makeChanges>;

/** One subscriber's hints. */
export type Mailbox = ReturnType<typeof makeMailbox>;

function makeMailbox(onClose: () => void) {
  let waiting: Hint | null = null;
  let end: { readonly failed: boolean } | null = null;
  let wake: (() => void) | null = null;

  function finish(failed: boolean): void {
    end ??= { failed };
    onClose();
    wake?.();
  }

  return {
    put(hint: Hint): void {
      waiting = waiting === null ? hint : merge(waiting, hint);
      wake?.();
    },
    /** The hints since the last call, merged into one; waits for the first. Null once it is closed. */
    async take(): Promise<Hint | null> {
      while (waiting === null && end === null)
        await new Promise<void>((resolve) => (wake = resolve));
      if (end?.failed === true)
        throw new DatabaseUnavailableError(
          new Error('The listener lost its connection, and with it what was notified meanwhile.'),
        );
      const hint = end === null ? waiting : null;
      waiting = null;
      return hint;
    },
    close: () => finish(false),
    fail: () => finish(true),
  };
}

/** Makes a cache of one result for each hint and key: concurrent callers share it, errors included. */
export function makeSharing<T>() {
  const made = new WeakMap<Hint, Map<string, Promise<T>>>();
  return (hint: Hint, key: string, make: () => Promise<T>): Promise<T> => {
    const known = made.get(hint) ?? new Map<string, Promise<T>>();
    made.set(hint, known);
    const value = known.get(key) ?? make();
    known.set(key, value);
    return value;
  };
}

const merged = new WeakMap<Hint, WeakMap<Hint, Hint>>();

/** One hint in place of two: the same object for all mailboxes, so that who falls behind together reads together. */
function merge(older: Hint, newer: Hint): Hint {
  const known = merged.get(older) ?? new WeakMap<Hint, Hint>();
  merged.set(older, known);
  const hint = known.get(newer) ?? join(older, newer);
  known.set(newer, hint);
  return hint;
}

function join(older: Hint, newer: Hint): Hint {
  const events = [...new Set([...older.events, ...newer.events])];
  const schedules = [...new Set([...older.schedules, ...newer.schedules])];
  return {
    events: events.slice(0, MOST_WAITING),
    schedules: schedules.slice(0, MOST_WAITING),
    truncated:
      older.truncated ||
      newer.truncated ||
      events.length > MOST_WAITING ||
      schedules.length > MOST_WAITING,
  };
}

/** Anybody who may connect to the database may notify: what isn't a hint is an error for the log, and what is, ids. */
function parseHint(payload: string): Hint {
  const hint = JSON.parse(payload) as Record<string, unknown>;
  return {
    events: ids(hint.events),
    schedules: ids(hint.schedules),
    truncated: hint.truncated === true,
  };
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

function ids(value: unknown): string[] {
  if (!Array.isArray(value)) return [];
  return value.filter((id): id is string => typeof id === 'string' && UUID.test(id));
}
