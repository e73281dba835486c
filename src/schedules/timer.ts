import type pg from 'pg';
import { probe } from '../postgres/pool.ts';
import type { TimedQuery } from '../postgres/session.ts';
import type { Logger } from '../lib/log.ts';
import { coalesce } from '../lib/coalesce.ts';
import { makeOutage } from '../lib/outage.ts';
import { settlesWithin } from '../lib/wait.ts';

/** The longest time between two queries: bounds a lost hint, clock drift, and what setTimeout can take (2^31 ms). */
const MAX_REFRESH_MS = 3_000;
/** The shortest time between two queries, however many notifications come. */
const MIN_REFRESH_MS = 20;
const RETRY_MS = 1_000;
/** A query takes a millisecond; one that takes so long is on a dead connection. */
const QUERY_TIMEOUT_MS = 3_000;

/** What is due should be applied this long after the first firing; the wait doubles with each firing for it, up to the cap. */
const GRACE_MS = 100;
const MAX_GRACE_MS = 1_000;
/** When the timer queries again after firing, if no notification makes it query sooner. */
const REFRESH_AFTER_FIRING_MS = 50;

/**
 * When each query for so long has found something overdue, the timer applies by itself, and waits for locks: a dead, frozen or busy
 * worker has the job, the job can't be queued, or a flag is locked. Not a number of firings, which is reset by each schedule that the
 * timer has not fired for.
 */
const DIRECT_AFTER_MS = 250;
/** After so long the next direct run begins beside one that hangs; the applier bounds how many there are. */
const MAX_DIRECT_MS = 1_000;
/** The shortest time between two runs that wait for locks. */
const MIN_LOCK_RUNS_MS = 500;

/**
 * Fires at the instant when the next schedule is due, by the database's clock: graphile-worker itself notices a job
 * in the future only when it polls. The timer keeps no list: it queries the table again and again.
 *
 * @param options.queueJob queues the job that applies what is due
 * @param options.applyDirectly applies what is due in this process, for when the job isn't run
 * @param options.applyLocked applies what is due and locked, waits for the locks, and resolves to whether it had no time for some
 */
export function makeDueTimer(options: {
  readonly pool: pg.Pool;
  readonly log: Logger;
  readonly queueJob: () => Promise<void>;
  readonly applyDirectly: () => Promise<unknown>;
  readonly applyLocked: () => Promise<boolean>;
}) {
  const { pool, log, queueJob, applyDirectly, applyLocked } = options;
  const outage = makeOutage(log, {
    failing: 'the due timer could not read what is due',
    back: 'the due timer reads what is due again',
  });
  const readOnly = makeOutage(log, {
    failing:
      'no schedule is applied: sessions of the worker are read only (default_transaction_read_only)',
    back: 'schedules are applied again: sessions of the worker may write',
  });
  const refreshing = coalesce(refresh, MIN_REFRESH_MS);
  // One at a time: while the jobs table is locked, each firing would take another connection from the pool.
  const queueing = coalesce(warned(queueJob, 'queue its job'), 0);
  const direct = warned(applyDirectly, 'apply what is due');
  const applying = coalesce(async () => {
    await settlesWithin(MAX_DIRECT_MS, direct());
  }, GRACE_MS);
  const waiting = coalesce(warned(waitForLocks, 'apply what is locked'), MIN_LOCK_RUNS_MS);
  let timer: NodeJS.Timeout | null = null;
  let closed = false;
  let isHealthy = false;
  let firedAt = Number.NEGATIVE_INFINITY;
  let firings = 0;
  /** Since when each query has found something overdue. */
  let overdueSince: number | null = null;

  function after(ms: number, action: () => void): void {
    if (timer !== null) clearTimeout(timer);
    timer = closed ? null : setTimeout(action, ms);
  }

  async function refresh(): Promise<void> {
    try {
      const due = await nextDue(pool);
      isHealthy = !due.readOnly;
      outage.back();
      if (due.readOnly) {
        readOnly.failed(undefined);
        after(RETRY_MS, refreshing.request);
      } else {
        readOnly.back();
        plan(due);
      }
    } catch (error) {
      isHealthy = false;
      outage.failed(error);
      after(RETRY_MS, refreshing.request);
    }
  }

  function plan({ overdueForMs, dueInMs }: Due): void {
    const now = performance.now();
    if (overdueForMs === null) overdueSince = null;
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
    overdueSince ??= firedAt;
    if (firedAt - overdueSince < DIRECT_AFTER_MS) return;
    applying.request();
    waiting.request();
  }

  async function waitForLocks(): Promise<void> {
    if (await applyLocked()) waiting.request();
  }

  /** Logs failures as an outage, because the work is tried each second. */
  function warned(work: () => Promise<unknown>, what: string): () => Promise<void> {
    const failing = makeOutage(log, {
      failing: `the due timer can't ${what}; it tries again`,
      back: `the due timer can ${what} again`,
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
    /** Whether the last query of what is due succeeded, in a session that may write. */
    healthy: () => isHealthy,
    /** Fires no more; resolves once what it is doing has ended. */
    async close(): Promise<void> {
      closed = true;
      if (timer !== null) clearTimeout(timer);
      await Promise.all([refreshing, queueing, applying, waiting].map((part) => part.close()));
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
  /** Whether the session may not write. */
  readonly readOnly: boolean;
}

async function nextDue(pool: pg.Pool): Promise<Due> {
  const query: TimedQuery = {
    text: `select overdue_for as "overdueForMs", due_in as "dueInMs", current_setting('transaction_read_only') = 'on' as "readOnly"
      from app_private.next_due()`,
    query_timeout: QUERY_TIMEOUT_MS,
  };
  const none: Due = { overdueForMs: null, dueInMs: null, readOnly: false };
  const ask = async (client: pg.ClientBase) => (await client.query<Due>(query)).rows[0] ?? none;
  return probe(pool, ask, ({ readOnly }) => !readOnly);
}
