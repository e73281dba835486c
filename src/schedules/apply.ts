import type pg from 'pg';
import type { Logger } from '../lib/log.ts';
import { applyDue, makeTotal, OUTCOMES, report, type Applied, type AppliedBatch } from './batch.ts';
import { makeStuckSchedules, type StuckSchedules } from './stuck.ts';

/** Schedules of a batch are applied together, and locked so long: 500 take some 60 ms (bench/sql/apply.md). */
const MAX_BATCH = 500;
/** A batch for which there was not time enough is followed by one that is smaller by this; each that succeeds doubles it. */
const SHRINK = 8;
/** Connections that share what a full first batch leaves: one alone applies half as many a second (decision 17). */
const PARALLELISM = 2;
/** A run in which no batch has ended for so long hangs: on a lock, or a dead connection. */
const STALLED_MS = 1_000;
/** Runs at a time, hanging ones included, so that these leave connections of the pool to others. */
const MAX_RUNS = 5;

interface Run {
  progressedAt: number;
  rerunRequested: boolean;
  readonly total: Applied;
}

/**
 * Makes the one applier of a process.
 *
 * @param options.stuck what it shares with others that apply
 * @param options.onBatch is called after each batch
 * @param options.stopping ends a run after its current batch; what is left stays due
 */
export function makeApplier(options: {
  readonly pool: pg.Pool;
  readonly log: Logger;
  readonly stuck?: StuckSchedules;
  readonly onBatch?: (batch: AppliedBatch) => void;
  readonly stopping: AbortSignal;
}) {
  const { pool, log, stuck = makeStuckSchedules(), onBatch, stopping } = options;
  /** The newest run; one before it may still hang. */
  let current: Run | null = null;
  let working: Promise<void> | null = null;
  let runs = 0;
  let batchSize = MAX_BATCH;
  let drainedAt = Number.NEGATIVE_INFINITY;

  /** @returns whether there may be more to do */
  async function takeBatch(run: Run): Promise<boolean> {
    const size = batchSize;
    const beganAt = performance.now();
    // This batch's snapshot is newer than every request so far.
    run.rerunRequested = false;
    let batch: AppliedBatch;
    try {
      batch = await applyDue(pool, size, stuck.skipped());
    } catch (error) {
      batchSize = shrink(size);
      throw error;
    }
    run.progressedAt = performance.now();
    batchSize = batch.untried > 0 ? shrink(size) : Math.min(MAX_BATCH, size * 2);
    stuck.add(batch.stuckIds);
    onBatch?.(batch);
    const isFull = addBatch(run.total, batch) >= size || batch.untried > 0;
    if (!isFull) drainedAt = beganAt;
    return isFull || run.rerunRequested;
  }

  async function takeAll(run: Run): Promise<void> {
    if (!(await takeBatch(run))) return;
    await runInParallel(async () => {
      while (!stopping.aborted && (await takeBatch(run)));
    });
  }

  async function runOnce(run: Run): Promise<void> {
    runs++;
    current = run;
    try {
      await (working = takeAll(run));
    } finally {
      runs--;
      if (current === run) current = null;
    }
  }

  return {
    /** Resolves once the newest run has ended, if there is one. Never rejects. */
    idle: () => Promise.allSettled([working]),
    /** When the last batch began that left nothing but what was locked then, by performance.now(). */
    drainedAt: () => drainedAt,
    /**
     * Applies all that is due, in batches of one transaction each. Any number of processes may do so at once. Within one process
     * a call joins the run in progress, which then takes another batch before it ends, unless that run hangs.
     *
     * @returns what this call did, all 0 when it joined another run
     * @throws the database's error when a batch fails as a whole; the batches before it stand
     */
    async apply(): Promise<Applied> {
      const total = makeTotal();
      if (stopping.aborted) return total;
      const now = performance.now();
      if (current !== null && (now - current.progressedAt <= STALLED_MS || runs >= MAX_RUNS)) {
        current.rerunRequested = true;
        return total;
      }
      await runOnce({ progressedAt: now, rerunRequested: false, total });
      report(total, log);
      return total;
    },
  };
}

export type Applier = ReturnType<typeof makeApplier>;

function shrink(size: number): number {
  return Math.max(1, Math.floor(size / SHRINK));
}

/** @returns how many schedules the batch took */
function addBatch(total: Applied, batch: AppliedBatch): number {
  let taken = batch.untried;
  for (const outcome of OUTCOMES) {
    total[outcome] += batch[outcome];
    taken += batch[outcome];
  }
  return taken;
}

/** Ends with the last of them, even when another has failed. */
async function runInParallel(work: () => Promise<void>): Promise<void> {
  const works = Array.from({ length: PARALLELISM }, work);
  await Promise.allSettled(works);
  await Promise.all(works);
}
