import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import { backOff } from '../lib/backoff.ts';
import { isErrno } from '../lib/errno.ts';
import type { Logger } from '../lib/log.ts';
import { describeBlocker, watchBlockers, type Blocker } from './blockers.ts';
import { MigratingError } from './migration_lease.ts';
import { ExplainedError } from '../lib/explained.ts';

/** lock_not_available and deadlock_detected: the step was rolled back because of other sessions' locks. */
const BLOCKED: ReadonlySet<string> = new Set(['55P03', '40P01']);

/** Requests stand behind a lock that is waited for, so between two tries they get more time than a try takes. */
const PAUSE = { baseMs: 2_000, capMs: 5_000 };

/** The error names sessions that were in the way this long before the end: a try may fail before it reaches the session that really blocks. */
const NAMED_MS = 30_000;

/** Enough to see what is in the way; the oldest transactions come first. */
const MAX_BLOCKERS = 5;

/** Other sessions' locks were in the way for the whole time. The step that waited was rolled back. */
export class MigrationBlockedError extends ExplainedError {
  override readonly name = 'MigrationBlockedError';
  readonly blockers: readonly Blocker[];

  constructor(patienceMs: number, blockers: readonly Blocker[], cause: unknown) {
    const whom = blockers.map(describeBlocker).join('; ') || 'sessions that came and went';
    super(
      `The migration gave up after ${Math.round(patienceMs / 1000)} s and was rolled back, because it waited for locks of ${whom}. ` +
        'End what holds them, then run migrate again.',
      { cause },
    );
    this.blockers = blockers;
  }
}

interface RetryOptions {
  /** A connection that no step uses. */
  readonly watcher: pg.Client;
  /** How the application names of the steps' sessions begin. */
  readonly prefix: string;
  /** Milliseconds for all steps together, from this call on. */
  readonly patienceMs: number;
  readonly log: Logger;
}

/**
 * Makes a function that runs a step of a migration, and again after a pause as long as other sessions' locks make it fail. A step
 * that fails must leave nothing behind.
 *
 * @returns the function; it throws MigrationBlockedError when the time is over, and any other error of the step
 */
export function makeRetry({ watcher, prefix, patienceMs, log }: RetryOptions) {
  const deadline = performance.now() + patienceMs;
  return async function retry(step: () => Promise<unknown>): Promise<void> {
    let seen: Seen[] = [];
    for (let failures = 0; ; failures++) {
      const began = performance.now();
      const see = (blocker: Blocker) => {
        seen = seen.filter((other) => other.blocker.pid !== blocker.pid);
        seen.push({ blocker, at: performance.now() });
      };
      try {
        await watchBlockers(watcher, prefix, see, step);
        return;
      } catch (error) {
        if (!isErrno(error) || !BLOCKED.has(error.code)) throw error;
        if (error instanceof MigratingError) see(error.blocker);
        const pauseMs = backOff(failures, PAUSE);
        const now = performance.now();
        if (now + pauseMs > deadline)
          throw new MigrationBlockedError(patienceMs, oldest(seen, now - NAMED_MS), error);
        const blockers = oldest(seen, began);
        log.warn({ blockers, pauseMs }, 'the migration waits for locks of other sessions');
        await delay(pauseMs);
      }
    }
  };
}

interface Seen {
  readonly blocker: Blocker;
  /** A time of performance.now(). */
  readonly at: number;
}

/** Those that were seen since then. A transaction whose beginning this login may not see comes last. */
function oldest(seen: readonly Seen[], since: number): Blocker[] {
  const began = (blocker: Blocker) => blocker.since?.getTime() ?? Infinity;
  return seen
    .filter(({ at }) => at >= since)
    .map(({ blocker }) => blocker)
    .toSorted((a, b) => (began(a) < began(b) ? -1 : 1))
    .slice(0, MAX_BLOCKERS);
}
