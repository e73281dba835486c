import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import type { Forwarder, Outcome } from './forwarder.ts';
import { backOff } from '../../lib/backoff.ts';
import type { Logger } from '../../lib/log.ts';
import { addJob } from '../../jobs/jobs.ts';
import { coalesce } from '../../lib/coalesce.ts';
import { makeOutage } from '../../lib/outage.ts';

const HINT_EVERY_MS = 50;
const BACK_OFF = { baseMs: 1_000, capMs: 60_000 };
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
    failing: 'forwarding audit events could not be queued',
    back: 'forwarding audit events is queued again',
  });
  const hinting = coalesce(() => queue({ keepTime: true }), HINT_EVERY_MS);
  let running: Promise<void> | null = null;
  let again = false;
  const wantedAgain = () => again;
  let failures = 0;
  let retryAt = 0;
  const idle = setInterval(() => void runWithoutJob(), RUN_EVERY_MS);

  async function queue(when: { inMs?: number; keepTime?: boolean }): Promise<void> {
    try {
      await addJob(pool, 'forward_audit_events', when);
      queueOutage.back();
    } catch (error) {
      // The next run without a job makes up for it.
      queueOutage.failed(error);
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
    if (outcome !== 'done')
      await queue({ inMs: outcome === 'stopped' ? 0 : LOOK_AGAIN_MS, keepTime: true });
  }

  async function tryLater(error: unknown): Promise<void> {
    const retryInMs = backOff(failures, BACK_OFF);
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
