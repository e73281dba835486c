import type { Hint } from '../../audit/hint.ts';
import { makeListener } from '../../postgres/listener.ts';
import type { Logger } from '../../lib/log.ts';
import { makeInbox } from './inbox.ts';

/** A follower of the changes. */
export interface Follower {
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
    /** Begins to listen; resolves once it does, or is closed. */
    start: (): Promise<void> => listener.start(),
    async close(): Promise<void> {
      await listener.close();
      await inbox.close();
    },
  };
}

export type Changes = ReturnType<typeof makeChanges>;
