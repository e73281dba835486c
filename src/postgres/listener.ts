import pg from 'pg';
import { raceAbort, sleep } from '../lib/wait.ts';
import { backOff } from '../lib/backoff.ts';
import type { Logger } from '../lib/log.ts';
import { makeOutage } from '../lib/outage.ts';
import { makeTally } from '../lib/tally.ts';
import { CONNECT_TIMEOUT_MS } from './connection.ts';

export interface ListenerOptions {
  readonly url: string;
  readonly channel: string;
  /** What pg_stat_activity shows as application_name. */
  readonly name: string;
  /**
   * A hint that something changed; it may come while onConnect still runs. Any login may notify, and floods the process if this takes
   * long. False for a payload that is ignored.
   */
  readonly onNotification: (payload: string) => boolean;
  /** The catch-up read, once LISTEN is active on each connection: what was notified before is lost. If it fails, so does that. */
  readonly onConnect: () => void | Promise<void>;
  /** A connection on which onConnect had succeeded is lost: what is notified from now on is missed. */
  readonly onLost?: () => void;
  readonly log: Logger;
  /** How often the connection is tried, and how long the answer may take, in milliseconds. */
  readonly heartbeat?: { readonly everyMs: number; readonly deadlineMs: number };
  /** How long the server's notification queue may stay above half before this reconnects, in milliseconds; a minute by default. */
  readonly queueFullMs?: number;
  /** The queue has stayed above half: this reconnects, and so must each other listener of this process. */
  readonly onQueueFull?: () => void;
}

/** The cap is how much longer than the database this may be away, and with it a ready API: a failover takes half a minute. */
const BACK_OFF = { baseMs: 100, capMs: 2_000 };
const DEFAULT_HEARTBEAT = { everyMs: 5_000, deadlineMs: 3_000 };
/** From this use on notify.sql sends no hints. */
const QUEUE_FULL = 0.5;
const QUEUE_FULL_MS = 60_000;
const MAX_QUEUE_FULL_MS = 3_600_000;

const LISTENING = {
  failing: 'not listening for notifications',
  back: 'listening for notifications again',
};
const HANDLING = {
  failing: 'handling a notification failed',
  back: 'handling notifications works again',
};
const IGNORED = 'notifications were ignored: they are none of Halyard’s, or too many';

/**
 * LISTENs on a connection of its own and keeps it: heartbeats notice a peer that is gone without a word,
 * and every loss is followed by a new connection and a catch-up read.
 */
export function makeListener(options: ListenerOptions) {
  const { channel, log } = options;
  const outage = makeOutage(log, LISTENING, { channel });
  const failing = makeOutage(log, HANDLING, { channel });
  const ignored = makeTally(log, IGNORED, { channel });
  const closing = new AbortController();
  const closed = () => closing.signal.aborted;
  const firstHealthy = Promise.withResolvers<undefined>();
  const judgeQueue = makeQueueJudge(options);
  let isHealthy = false;
  let running: Promise<void> | null = null;

  /** A handler that fails has missed a hint, no more: the rows are still there for the next read. */
  function notify({ payload }: pg.Notification): void {
    try {
      if (!options.onNotification(payload ?? '')) ignored.add();
      failing.back();
    } catch (error) {
      failing.failed(error);
    }
  }

  async function run(): Promise<void> {
    for (let failures = 0; !closed(); failures++) {
      try {
        await listenUntilLost({ ...options, notify, judgeQueue }, closing.signal, () => {
          failures = 0;
          isHealthy = true;
          if (outage.active()) outage.back();
          else log.info({ channel }, 'listening for notifications');
          firstHealthy.resolve(undefined);
        });
      } catch (error) {
        const wasHealthy = isHealthy;
        isHealthy = false;
        if (closed()) break;
        if (wasHealthy) options.onLost?.();
        const retryInMs = backOff(failures, BACK_OFF);
        outage.failed(error, { retryInMs });
        await sleep(retryInMs, closing.signal);
      }
    }
    firstHealthy.resolve(undefined);
  }

  return {
    /** Whether notifications are being received and the catch-up read has been done. */
    healthy: () => isHealthy,
    /** Counts a notification that turned out to be none of Halyard's. */
    ignore: () => ignored.add(),
    ignored: () => ignored.total,
    /** Resolves once healthy for the first time, or closed. Never rejects: it tries until it is closed. */
    async start(): Promise<void> {
      running ??= run();
      await firstHealthy.promise;
    },
    /** Ends what is in progress at once; may be called twice. */
    async close(): Promise<void> {
      closing.abort(new Error('The listener is closed.'));
      await running;
      ignored.close();
    },
  };
}

/** One connection, from connecting to its loss; always rejects in the end. */
async function listenUntilLost(
  options: ListenerOptions & {
    readonly notify: (notification: pg.Notification) => void;
    readonly judgeQueue: (usage: number) => void;
  },
  closing: AbortSignal,
  onHealthy: () => void,
): Promise<never> {
  const heartbeat = options.heartbeat ?? DEFAULT_HEARTBEAT;
  const client = new pg.Client({
    connectionString: options.url,
    application_name: options.name,
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    query_timeout: heartbeat.deadlineMs,
  });
  const lost = new AbortController();
  const lostOrClosing = AbortSignal.any([lost.signal, closing]);
  client.on('error', (error) => lost.abort(error));
  client.on('end', () => lost.abort(new Error('The server ended the connection.')));
  client.on('notification', options.notify);
  const orLost = <T>(step: Promise<T>) => raceAbort(step, lostOrClosing);

  try {
    await orLost(client.connect());
    await orLost(client.query(`listen ${pg.escapeIdentifier(options.channel)}`));
    await orLost(Promise.resolve(options.onConnect()));
    onHealthy();
    for (;;) {
      await orLost(sleep(heartbeat.everyMs, closing));
      const { rows } = await orLost(client.query<{ usage: number }>(QUEUE_USAGE));
      options.judgeQueue(rows[0]?.usage ?? 0);
    }
  } finally {
    client.removeAllListeners('notification');
    // No farewell: a peer that is gone would never answer it.
    client.connection.stream.destroy();
  }
}

/** The heartbeat's query: the function also drops from the queue what all have read. */
const QUEUE_USAGE = 'select pg_notification_queue_usage() as usage';

/**
 * A transaction that notifies more than the queue holds is rolled back, and leaves the queue full: no session is woken to read what
 * it wrote, and no session can notify any more. A session passes over that only when it begins to listen, and the queue is
 * emptied once each has. Where that doesn't help, a session stands still in a transaction: then the next time is later.
 *
 * @returns takes the queue's use, 0 to 1, and throws once that has been above half for too long
 */
function makeQueueJudge({ queueFullMs = QUEUE_FULL_MS, onQueueFull }: ListenerOptions) {
  let fullSince: number | null = null;
  let patienceMs = queueFullMs;
  return (usage: number): void => {
    if (usage < QUEUE_FULL) {
      fullSince = null;
      patienceMs = queueFullMs;
      return;
    }
    fullSince ??= performance.now();
    const fullForMs = performance.now() - fullSince;
    if (fullForMs < patienceMs) return;
    fullSince = null;
    patienceMs = Math.min(2 * patienceMs, MAX_QUEUE_FULL_MS);
    onQueueFull?.();
    throw new Error(
      `The server's notification queue has been more than half full for ${Math.round(fullForMs / 1_000)} s (now ${Math.round(usage * 100)} %): reconnecting, so that the server can empty it.`,
    );
  };
}
