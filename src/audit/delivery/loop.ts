import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import type { Forwarder, Outcome } from './forwarder.ts';
import { DestinationGoneError, RetryLaterError } from './sink.ts';
import { backOff } from '../../lib/backoff.ts';
import type { Logger } from '../../lib/log.ts';
import { makeOutage } from '../../lib/outage.ts';

const BACK_OFF = { baseMs: 1_000, capMs: 60_000 };
/** The database's own refusal, as of a full disk, ends when an administrator ends it: forwarding then goes on within seconds. */
const DATABASE_BACK_OFF = { baseMs: 1_000, capMs: 5_000 };
/** The longest pause that a destination may ask for. */
const MAX_RETRY_LATER_MS = 3_600_000;
/** After this many failures in a row, about five minutes, it no longer looks like something that passes by itself. */
const ALARMING_FAILURES = 10;
/** When another process forwards, it may have looked just before the event that this run is about; or this run only skimmed. */
const LOOK_AGAIN_MS = 500;
/** Some 10,000 schedules are applied meanwhile. */
const MAX_WAIT_MS = 2_000;
/** The longest time between two runs. One without anything to do takes a few reads. */
const RUN_EVERY_MS = 3_000;

/**
 * Runs the forwarder of one destination: when it is asked to, again after a pause that grows with each failure, and every few
 * seconds, because a hint may be lost and another process may have died. Nothing that asks cuts a pause short.
 *
 * @param options.abort gives up what is being sent
 * @param options.handOver asks another process to go on, where this one stops
 * @param options.waitFor is awaited before a run, for 2 s at most: what uses the processor and can't wait, where events can
 */
export function makeDelivery(options: {
  readonly forwarder: Forwarder;
  /** The cursor's name. */
  readonly destination: string;
  readonly log: Logger;
  readonly stopping: AbortSignal;
  readonly abort: AbortSignal;
  readonly handOver: () => Promise<unknown>;
  readonly waitFor?: () => Promise<unknown>;
}) {
  const { forwarder, destination, log, stopping, abort, handOver } = options;
  const says = {
    failing: 'audit events could not be delivered; they are kept and sent again',
    back: 'audit events are delivered again',
  };
  const outage = makeOutage(log, says, { destination });
  let running: Promise<void> | null = null;
  let again = false;
  const wantedAgain = () => again;
  let failures = 0;
  let retryAt = 0;
  let gone = false;
  let timer = setTimeout(() => void begin(), RUN_EVERY_MS);

  /** @returns milliseconds until the next run */
  async function forwardAll(): Promise<number> {
    await Promise.race([options.waitFor?.(), delay(MAX_WAIT_MS, undefined, { ref: false })]);
    let outcome: Outcome;
    try {
      do {
        again = false;
        outcome = await forwarder.forward({ stopping, abort });
      } while (wantedAgain() && outcome === 'done');
    } catch (error) {
      return stopping.aborted ? 0 : noteFailure(error);
    }
    failures = 0;
    retryAt = 0;
    outage.back();
    // What is held waits for a person.
    return outcome === 'done' || outcome === 'held' ? RUN_EVERY_MS : LOOK_AGAIN_MS;
  }

  function noteFailure(error: unknown): number {
    if (error instanceof DestinationGoneError) {
      gone = true;
      log.error({ err: error, destination }, 'nothing is sent to this destination any more');
      return 0;
    }
    const retryInMs = retryPause(error, failures);
    failures++;
    retryAt = performance.now() + retryInMs;
    const isAlarming = failures >= ALARMING_FAILURES;
    // The first that is an error is said at once.
    const kind = isAlarming ? 'alarming' : '';
    outage.failed(error, { failures, retryInMs }, kind, isAlarming ? 'error' : 'warn');
    return retryInMs;
  }

  function begin(): Promise<void> {
    clearTimeout(timer);
    running ??= forwardAll().then(async (ms) => {
      running = null;
      if (stopping.aborted) await handOver();
      else if (!gone) timer = setTimeout(() => void begin(), ms);
    });
    return running;
  }

  return {
    destination,
    /** Whether the destination asked to be sent nothing more. */
    stopped: () => gone,
    /** Forwards until nothing is left. Never rejects: a failure is logged, and tried again after a pause. */
    async run(): Promise<void> {
      if (stopping.aborted) await handOver();
      // Not waited for, so that a slow destination takes one of the worker's slots and not all of them.
      else if (running !== null) again = true;
      else if (!gone && performance.now() >= retryAt) await begin();
    },
    /** Resolves once a run in hand is over. */
    async close(): Promise<void> {
      await running;
      clearTimeout(timer);
    },
  };
}

export type Delivery = ReturnType<typeof makeDelivery>;

/**
 * How long to wait after a failed run, in milliseconds.
 *
 * @param failures how many there were before it
 */
export function retryPause(error: unknown, failures: number): number {
  const pause = backOff(failures, error instanceof pg.DatabaseError ? DATABASE_BACK_OFF : BACK_OFF);
  if (!(error instanceof RetryLaterError)) return pause;
  return Math.max(pause, Math.min(error.retryInMs, MAX_RETRY_LATER_MS));
}
