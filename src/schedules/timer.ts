import type pg from 'pg';
import type { TimedQuery } from '../postgres/pool.ts';
import type { Logger } from '../lib/log.ts';
import { makePaced } from '../lib/coalesce.ts';

export interface AlarmOptions {
  readonly pool: pg.Pool;
  readonly log: Logger;
  /** Queues the job that applies what is due. */
  readonly ring: () => Promise<void>;
  /** Applies what is due here and now, for when the job isn't run. */
  readonly applyDirectly: () => Promise<unknown>;
}

export interface Alarm {
  /** A hint that the next due instant may have changed. Many at once cost one look. */
  look(): void;
  /** Whether the last look at the database succeeded. */
  healthy(): boolean;
  /** Rings no more; resolves once what it is doing is over. */
  close(): Promise<void>;
}

/** The longest time between two looks: bounds a lost hint, clock drift, and what setTimeout can take (2^31 ms). */
const LOOK_EVERY_MS = 3_000;
/** The shortest time between two looks, however many notifications come. */
const LOOK_AT_MOST_EVERY_MS = 20;
const RETRY_MS = 1_000;
/** A look takes a millisecond; one that takes so long is on a connection that leads nowhere any more. */
const ANSWER_MS = 3_000;

/** What is due should be gone this long after the first ring; each ring for it again waits twice as long, up to the cap. */
const PATIENCE_MS = 100;
const PATIENCE_CAP_MS = 1_000;
/** When the alarm looks again after a ring, if nothing makes it look sooner. */
const LOOK_AFTER_RING_MS = 50;

/** From this ring on the alarm applies by itself: the job sits with a worker that is dead, frozen or busy. */
const DIRECT_FROM_RING = 3;

/**
 * Rings at the instant when the next schedule is due, by the database's clock: graphile-worker itself notices a job
 * in the future only when it polls. The alarm keeps no list; the table is the truth and it looks again and again.
 */
export function makeAlarm(options: AlarmOptions): Alarm {
  const { pool, log } = options;
  const looking = makePaced(look, LOOK_AT_MOST_EVERY_MS);
  const applying = makePaced(applyDirectly, PATIENCE_MS);
  const ringing = new Set<Promise<void>>();
  let timer: NodeJS.Timeout | null = null;
  let closed = false;
  let isHealthy = false;
  let lastRang = Number.NEGATIVE_INFINITY;
  let rings = 0;

  function after(ms: number, action: () => void): void {
    if (timer !== null) clearTimeout(timer);
    timer = closed ? null : setTimeout(action, ms);
  }

  async function look(): Promise<void> {
    try {
      plan(await nextDue(pool));
      isHealthy = true;
    } catch (error) {
      // Once for each outage: the listener and the pool report theirs too.
      log[isHealthy ? 'warn' : 'debug']({ err: error }, 'the alarm could not read what is due');
      isHealthy = false;
      after(RETRY_MS, looking.request);
    }
  }

  function plan({ overdueForMs, dueInMs }: Due): void {
    const now = performance.now();
    const rangForIt = overdueForMs !== null && lastRang >= now - overdueForMs;
    if (!rangForIt) rings = 0;
    const again = rangForIt ? Math.max(0, lastRang + patience(rings) - now) : 0;
    // What is overdue waits its turn; what comes due before that doesn't wait for it.
    const next = Math.min(overdueForMs === null ? Infinity : again, Math.ceil(dueInMs ?? Infinity));
    if (next > LOOK_EVERY_MS) after(LOOK_EVERY_MS, looking.request);
    else after(next, ring);
  }

  function ring(): void {
    lastRang = performance.now();
    rings++;
    // What is applied sends a notification, which makes the alarm look sooner; what isn't applied sends none.
    after(LOOK_AFTER_RING_MS, looking.request);
    const queued: Promise<void> = options
      .ring()
      .catch((error: unknown) => log.warn({ err: error }, 'the alarm could not queue its job'))
      .finally(() => ringing.delete(queued));
    ringing.add(queued);
    if (rings >= DIRECT_FROM_RING) applying.request();
  }

  async function applyDirectly(): Promise<void> {
    try {
      await options.applyDirectly();
    } catch (error) {
      log.warn({ err: error }, 'the alarm could not apply what is due; it tries again');
    }
  }

  return {
    look: looking.request,
    healthy: () => isHealthy,
    async close() {
      closed = true;
      if (timer !== null) clearTimeout(timer);
      await Promise.all([looking.close(), applying.close(), ...ringing]);
    },
  };
}

function patience(rings: number): number {
  return Math.min(PATIENCE_CAP_MS, PATIENCE_MS * 2 ** (rings - 1));
}

/** In milliseconds; null where there is no such schedule. */
interface Due {
  /** For how long the latest overdue schedule has been due. */
  readonly overdueForMs: number | null;
  /** How long it is until the next one is due. */
  readonly dueInMs: number | null;
}

async function nextDue(pool: pg.Pool): Promise<Due> {
  const look: TimedQuery = {
    text: 'select overdue_for as "overdueForMs", due_in as "dueInMs" from app_private.next_due()',
    query_timeout: ANSWER_MS,
  };
  const { rows } = await pool.query<Due>(look);
  return rows[0] ?? { overdueForMs: null, dueInMs: null };
}
