import type { WebSocket } from 'ws';
import { makeFairQueue } from '../lib/fair_queue.ts';

/** More than a few hundred attackers keep open; one costs some 20 kB. */
const MAX_SILENT = 1_000;

/**
 * The places for WebSockets. Those with a verified token have places of their own, and each user as many as the limit. Anyone can open
 * sockets without a token: when those are too many, the oldest makes room, so that a client that sends its token at once gets in.
 *
 * @param options.maxSockets with a token
 * @param options.maxPerUser with a token of the same user
 * @param options.maxSilent whose token was not verified yet; 1,000 by default
 */
export function makeSocketPlaces(options: {
  readonly maxSockets: number;
  readonly maxPerUser: number;
  readonly maxSilent?: number | undefined;
}) {
  const { maxSockets, maxPerUser, maxSilent = MAX_SILENT } = options;
  const quota = makeFairQueue({ slots: Infinity, perUser: maxPerUser });
  /** Oldest first. */
  const silent = new Set<WebSocket>();
  let verified = 0;

  return {
    /** Sockets with a verified token. */
    get verified() {
      return verified;
    },
    /** Sockets without one. */
    get silent() {
      return silent.size;
    },
    isFull: () => verified >= maxSockets,
    /** Gives a socket a place of those without a token. */
    open(socket: WebSocket): void {
      const [oldest] = silent;
      if (silent.size >= maxSilent && oldest !== undefined) {
        silent.delete(oldest);
        // At once: a client that is silent may not answer a farewell either.
        oldest.terminate();
      }
      silent.add(socket);
      socket.once('close', () => silent.delete(socket));
    },
    /**
     * Gives a socket that isn't closed a place of those with a token, until it is.
     *
     * @returns `full` when there is none left, `user_full` when the user has as many as the limit
     */
    verify(socket: WebSocket, user: string): 'given' | 'full' | 'user_full' {
      if (verified >= maxSockets) return 'full';
      const giveBack = quota.tryTake(user);
      if (giveBack === null) return 'user_full';
      silent.delete(socket);
      verified += 1;
      socket.once('close', () => {
        verified -= 1;
        giveBack();
      });
      return 'given';
    },
  };
}

const PING_MS = 20_000;
/** Answers that may wait for a client who asks on without reading them. */
const MAX_WAITING_BYTES = 1_000_000;

/** Pings, and ends a connection whose last ping wasn't answered. */
export function keepAlive(socket: WebSocket): void {
  let answered = true;
  socket.on('pong', () => (answered = true));
  const timer = setInterval(() => {
    if (answered) socket.ping();
    else socket.terminate();
    answered = false;
  }, PING_MS);
  socket.once('close', () => clearInterval(timer));
}

/** Ends a connection whose client sends on, pings for instance, and reads no answers, which would fill the memory. */
export function dropSlowConsumer(socket: WebSocket): void {
  const check = () => {
    if (socket.bufferedAmount > MAX_WAITING_BYTES) socket.terminate();
  };
  socket.on('message', check).on('ping', check);
}
