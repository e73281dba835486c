import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import type { Forwarder, Outcome } from './forwarder.ts';
import { backOff } from '../../lib/backoff.ts';
import type { Logger } from '../../lib/log.ts';
import { addJob } from '../../jobs/jobs.ts';
import { coalesce } from '../../lib/coalesce.ts';
import { makeOutage } from '../../lib/outage.ts';

const HINT_EVERY_MS = 50;
const BACK_OFF = { baseMs: 1_000, capMs: 60_000 };
/** The database's own refusal, as of a full disk, ends when an administrator ends it: forwarding then goes on within seconds. */
const DATABASE_BACK_OFF = { baseMs: 1_000, capMs: 5_000 };
/** After this many failures in a row, about five minutes, it no longer looks like something that passes by itself. */
const ALARMING_FAILURES = 10;
/** When another process forwards, it may have looked just before the event that this run is about; or this run only skimmed. */
const LOOK_AGAIN_MS = 500;
/** Some 10,000 schedules are applied meanwhile. */
const MAX_WAIT_MS = 2_000;
/** The longest time between two runs. One without anything to do takes a few reads. */
const RUN_EVERY_MS = 3_000;

/**
 * Sees to it that the forwarder runs: soon after each event, and again after each failure. It keeps the pause after a failure
 * itself, since graphile-worker's grows to hours: the task succeeds and queues itself for later, which no hint cuts short.
 *
 * @param options.abort gives up what is being sent
 * @param options.waitFor is awaited before a run, for 2 s at most: what uses the processor and can't wait, where events can
 */
export function makeDelivery(options: {
  readonly pool: pg.Pool;
  readonly forwarder: Forwarder;
  readonly log: Logger;
  readonly stopping: AbortSignal;
  readonly abort: AbortSignal;
  readonly waitFor?: () => Promise<unknown>;
}) {
  const { pool, forwarder, log, stopping, abort } = options;
  const outage = makeOutage(log, {
    failing: 'audit events could not be delivered; they are kept and sent again',
    back: 'audit events are delivered again',
  });
  const queueOutage = makeOutage(log, {
    failing: 'forwarding audit events could not be queued; this process forwards without a job',
    back: 'forwarding audit events can be queued again',
  });
  const hinting = coalesce(async () => {
    // Without a job this process forwards by itself, soon, and not only at the next run without a job.
    if (!(await queue({ keepTime: true }))) void runWithoutJob();
  }, HINT_EVERY_MS);
  let running: Promise<void> | null = null;
  let again = false;
  const wantedAgain = () => again;
  let failures = 0;
  let retryAt = 0;
  let queueing: Promise<unknown> = Promise.resolve();
  const idle = setInterval(() => void runWithoutJob(), RUN_EVERY_MS);

  /**
   * One request at a time: while the jobs are locked, each takes a connection.
   *
   * @returns whether the job was queued; the next run without a job makes up for it otherwise
   */
  function queue(when: { inMs?: number; keepTime?: boolean }): Promise<boolean> {
    const queued = queueing.then(() => queueNow(when));
    queueing = queued;
    return queued;
  }

  async function queueNow(when: { inMs?: number; keepTime?: boolean }): Promise<boolean> {
    try {
      await addJob(pool, 'forward_audit_events', when);
      queueOutage.back();
      return true;
    } catch (error) {
      queueOutage.failed(error);
      return false;
    }
  }

  async function forwardAll(): Promise<void> {
    await Promise.race([options.waitFor?.(), delay(MAX_WAIT_MS, undefined, { ref: false })]);
    let outcome: Outcome;
    try {
      do {
        again = false;
        outcome = await forwarder.forward({ stopping, abort });
      } while (wantedAgain() && outcome === 'done');
    } catch (error) {
      if (stopping.aborted) await queue({ keepTime: true });
      else await tryLater(error);
      return;
    }
    failures = 0;
    retryAt = 0;
    outage.back();
    // What is held waits for a person: the next run without a job looks again.
    if (outcome !== 'done' && outcome !== 'held')
      await queue({ inMs: outcome === 'stopped' ? 0 : LOOK_AGAIN_MS, keepTime: true });
  }

  async function tryLater(error: unknown): Promise<void> {
    const retryInMs = backOff(
      failures,
      error instanceof pg.DatabaseError ? DATABASE_BACK_OFF : BACK_OFF,
    );
    failures++;
    retryAt = performance.now() + retryInMs;
    const isAlarming = failures >= ALARMING_FAILURES;
    // The first that is an error is said at once.
    const kind = isAlarming ? 'alarming' : '';
    outage.failed(error, { failures, retryInMs }, kind, isAlarming ? 'error' : 'warn');
    await queue({ inMs: retryInMs });
  }

  /** Forwards until nothing is left. Never rejects: a failure is logged, and tried again after a pause of its own. */
  async function run(): Promise<void> {
    if (running === null) {
      idle.refresh();
      running = forwardAll().finally(() => (running = null));
      await running;
    } else {
      // Not waited for, so that a slow destination takes one of the worker's slots and not all of them.
      again = true;
    }
  }

  /** The job may be with a dead or frozen worker, or none could be queued. This process's own back-off still counts. */
  async function runWithoutJob(): Promise<void> {
    if (!stopping.aborted && running === null && performance.now() >= retryAt) await run();
  }

  return {
    run,
    /** Says that there are new events. Many calls at once cost one job. */
    hint: hinting.request,
    /** Resolves once a run in hand is over. */
    async close(): Promise<void> {
      clearInterval(idle);
      await hinting.close();
      await running;
    },
  };
}

export type Delivery = ReturnType<typeof makeDelivery>;
