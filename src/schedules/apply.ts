import type pg from 'pg';
import type { Logger } from '../lib/log.ts';

/** How many schedules of one batch or run had which outcome. */
type Applied = Record<'applied' | 'retried' | 'failed' | 'stuck', number>;

export interface AppliedBatch extends Readonly<Applied> {
  /** How long after its time each of the applied ones was, in milliseconds. */
  readonly latenessMs: readonly number[];
}

/** Schedules of a batch are applied together, and locked so long: 500 take some 60 ms (bench/sql/apply.md). */
const BATCH = 500;
/** Connections that share what a full first batch leaves: one alone applies half as many a second (decision 17). */
const PARALLELISM = 2;
/** A run in which no batch has ended for so long hangs: a lock, or a connection that leads nowhere. */
const STALLED_MS = 1_000;

interface Run {
  progressedAt: number;
  rerunRequested: boolean;
  readonly total: Applied;
}

/**
 * Makes the one applier of a process.
 *
 * @param options.onBatch is called after each batch
 * @param options.stopping ends a run after the batch in hand; what is left stays due
 */
export function makeApplier(options: {
  readonly pool: pg.Pool;
  readonly log: Logger;
  readonly onBatch?: (batch: AppliedBatch) => void;
  readonly stopping: AbortSignal;
}) {
  const { pool, log, onBatch, stopping } = options;
  /** The newest run; one before it may still hang. */
  let current: Run | null = null;
  let working: Promise<void> | null = null;

  async function takeBatch(run: Run, size: number): Promise<number> {
    // This batch's snapshot is newer than every request so far.
    run.rerunRequested = false;
    const batch = await applyBatch(pool, size);
    run.progressedAt = performance.now();
    onBatch?.(batch);
    return addBatch(run, batch, size);
  }

  async function takeAll(run: Run): Promise<void> {
    const next = await takeBatch(run, BATCH);
    if (next === 0) return;
    await runInParallel(async () => {
      for (let size = next; size > 0 && !stopping.aborted;) size = await takeBatch(run, size);
    });
  }

  return {
    /** Resolves once the newest run has ended, if there is one. Never rejects. */
    idle: () => Promise.allSettled([working]),
    /**
     * Applies all that is due, in batches of one transaction each. Any number of processes may do so at once. Within one process
     * a call joins the run in progress, which then looks once more before it ends, unless that run hangs.
     *
     * @returns what this call did, all 0 when it joined another run
     * @throws the database's error when a batch fails as a whole; the batches before it stand
     */
    async apply(): Promise<Applied> {
      const total = { applied: 0, retried: 0, failed: 0, stuck: 0 };
      if (stopping.aborted) return total;
      if (current !== null && performance.now() - current.progressedAt <= STALLED_MS) {
        current.rerunRequested = true;
        return total;
      }
      const run = { progressedAt: performance.now(), rerunRequested: false, total };
      current = run;
      try {
        await (working = takeAll(run));
      } finally {
        if (current === run) current = null;
      }
      report(total, log);
      return total;
    },
  };
}

export type Applier = ReturnType<typeof makeApplier>;

/** @returns the size of the next batch, 0 when there is nothing left to do */
function addBatch({ total, rerunRequested }: Run, batch: AppliedBatch, size: number): number {
  total.applied += batch.applied;
  total.retried += batch.retried;
  total.failed += batch.failed;
  total.stuck = batch.stuck;
  const taken = batch.applied + batch.retried + batch.failed + batch.stuck;
  // What is stuck stays first in line, so the batch is larger by it: those behind it get their turn.
  return taken === size || rerunRequested ? BATCH + batch.stuck : 0;
}

/** Ends with the last of them, also when another has failed. */
async function runInParallel(work: () => Promise<void>): Promise<void> {
  const works = Array.from({ length: PARALLELISM }, work);
  await Promise.allSettled(works);
  await Promise.all(works);
}

async function applyBatch(pool: pg.Pool, batch: number): Promise<AppliedBatch> {
  const { rows } = await pool.query<AppliedBatch>(
    'select applied, retried, failed, stuck, lateness_ms as "latenessMs" from app_private.apply_due($1)',
    [batch],
  );
  if (rows[0] === undefined) throw new Error('app_private.apply_due gave no row.');
  return rows[0];
}

/** A failure that is final, or can't even be recorded, needs a person; one that is retried doesn't. */
function report(total: Applied, log: Logger): void {
  if (total.failed > 0)
    log.error(total, 'schedules failed for good: see flag_schedule.failed in the audit trail');
  if (total.stuck > 0)
    log.error(total, "schedules can't be applied, nor be marked as failed: see the warnings");
  if (total.retried > 0) log.warn(total, 'schedules failed and are tried again later');
  if (total.applied > 0) log.info(total, 'schedules were applied');
}
