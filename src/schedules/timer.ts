import type pg from 'pg';
import type { TimedQuery } from '../postgres/pool.ts';
import type { Logger } from '../lib/log.ts';
import { coalesce } from '../lib/coalesce.ts';
import { makeOutage } from '../lib/outage.ts';

/** The longest time between two queries: bounds a lost hint, clock drift, and what setTimeout can take (2^31 ms). */
const MAX_REFRESH_MS = 3_000;
/** The shortest time between two queries, however many notifications come. */
const MIN_REFRESH_MS = 20;
const RETRY_MS = 1_000;
/** A query takes a millisecond; one that takes so long is on a connection that leads nowhere any more. */
const QUERY_TIMEOUT_MS = 3_000;

/** What is due should be applied this long after the first firing; the wait doubles with each firing for it, up to the cap. */
const GRACE_MS = 100;
const MAX_GRACE_MS = 1_000;
/** When the timer queries again after firing, if no notification makes it query sooner. */
const REFRESH_AFTER_FIRING_MS = 50;

/** From this firing on the timer applies by itself: the job is with a worker that is dead, frozen or busy. */
const DIRECT_FROM_FIRING = 3;

/**
 * Fires at the instant when the next schedule is due, by the database's clock: graphile-worker itself notices a job
 * in the future only when it polls. The timer keeps no list: it queries the table again and again.
 *
 * @param options.queueJob queues the job that applies what is due
 * @param options.applyDirectly applies what is due in this process, for when the job isn't run
 */
export function makeDueTimer(options: {
  readonly pool: pg.Pool;
  readonly log: Logger;
  readonly queueJob: () => Promise<void>;
  readonly applyDirectly: () => Promise<unknown>;
}) {
  const { pool, log, queueJob, applyDirectly } = options;
  const outage = makeOutage(log, {
    failing: 'the due timer could not read what is due',
    back: 'the due timer reads what is due again',
  });
  const refreshing = coalesce(refresh, MIN_REFRESH_MS);
  // One at a time: while the jobs table is locked, each firing would take another connection of the pool.
  const queueing = coalesce(orWarn(queueJob, 'could not queue its job'), 0);
  const applying = coalesce(
    orWarn(applyDirectly, 'could not apply what is due; it tries again'),
    GRACE_MS,
  );
  let timer: NodeJS.Timeout | null = null;
  let closed = false;
  let isHealthy = false;
  let firedAt = Number.NEGATIVE_INFINITY;
  let firings = 0;

  function after(ms: number, action: () => void): void {
    if (timer !== null) clearTimeout(timer);
    timer = closed ? null : setTimeout(action, ms);
  }

  async function refresh(): Promise<void> {
    try {
      plan(await nextDue(pool));
      isHealthy = true;
      outage.back();
    } catch (error) {
      isHealthy = false;
      outage.failed(error);
      after(RETRY_MS, refreshing.request);
    }
  }

  function plan({ overdueForMs, dueInMs }: Due): void {
    const now = performance.now();
    const firedForIt = overdueForMs !== null && firedAt >= now - overdueForMs;
    if (!firedForIt) firings = 0;
    const again = firedForIt ? Math.max(0, firedAt + gracePeriod(firings) - now) : 0;
    // What is overdue waits out its grace period; what comes due before that doesn't wait for it.
    const next = Math.min(overdueForMs === null ? Infinity : again, Math.ceil(dueInMs ?? Infinity));
    if (next > MAX_REFRESH_MS) after(MAX_REFRESH_MS, refreshing.request);
    else after(next, fire);
  }

  function fire(): void {
    firedAt = performance.now();
    firings++;
    // What is applied sends a notification, which makes the timer query sooner; what isn't applied sends none.
    after(REFRESH_AFTER_FIRING_MS, refreshing.request);
    queueing.request();
    if (firings >= DIRECT_FROM_FIRING) applying.request();
  }

  function orWarn(work: () => Promise<unknown>, failure: string): () => Promise<void> {
    const failing = makeOutage(log, {
      failing: `the due timer ${failure}`,
      back: 'the due timer is over what it could not do',
    });
    return async () => {
      try {
        await work();
        failing.back();
      } catch (error) {
        failing.failed(error);
      }
    };
  }

  return {
    /** A hint that the next due instant may have changed. Many at once cost one query. */
    refresh: refreshing.request,
    /** Whether the last query of what is due succeeded. */
    healthy: () => isHealthy,
    /** Fires no more; resolves once what it is doing has ended. */
    async close(): Promise<void> {
      closed = true;
      if (timer !== null) clearTimeout(timer);
      await Promise.all([refreshing.close(), queueing.close(), applying.close()]);
    },
  };
}

function gracePeriod(firings: number): number {
  return Math.min(MAX_GRACE_MS, GRACE_MS * 2 ** (firings - 1));
}

/** In milliseconds; null where there is no such schedule. */
interface Due {
  /** For how long the latest overdue schedule has been due. */
  readonly overdueForMs: number | null;
  /** How long it is until the next one is due. */
  readonly dueInMs: number | null;
}

async function nextDue(pool: pg.Pool): Promise<Due> {
  const query: TimedQuery = {
    text: 'select overdue_for as "overdueForMs", due_in as "dueInMs" from app_private.next_due()',
    query_timeout: QUERY_TIMEOUT_MS,
  };
  const { rows } = await pool.query<Due>(query);
  return rows[0] ?? { overdueForMs: null, dueInMs: null };
}
