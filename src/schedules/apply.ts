import type pg from 'pg';
import type { Logger } from '../lib/log.ts';
import type { WorkerMetrics } from '../metrics/worker.ts';

/** What became of the schedules of one batch or run. */
export interface Applied {
  readonly applied: number;
  readonly retried: number;
  readonly failed: number;
  readonly stuck: number;
}

export interface AppliedBatch extends Applied {
  /** How long after its time each of the applied ones was, in milliseconds. */
  readonly latenessMs: readonly number[];
}

/** Schedules of a batch are applied together, and locked so long: 500 take some 60 ms (bench/sql/apply.md). */
const BATCH = 500;
/** The first batch shows whether there is more: so it is small, and the others needn't wait for long. */
const FIRST_BATCH = 100;
/** When there is more than that, so many connections take batches side by side: two keep two cores of the server busy. */
const LANES = 2;
/** Batches side by side in which none has come to an end for so long aren't relied on any more. */
const STALLED_MS = 1_000;

/** Whom it works for. */
export interface Applying {
  readonly pool: pg.Pool;
  readonly log: Logger;
  /** Counts them. */
  readonly metrics?: Pick<WorkerMetrics, 'applied'>;
  /** Ends it after the batches in hand; what is left stays due. */
  readonly stopping: AbortSignal;
}

/** Applies schedules for one process. */
export interface Applier {
  /**
   * Applies all that is due, in batches of one transaction each. Any number of processes may do so at once. In this one
   * a call leaves it to the run that takes batches already, as long as that gets on: more connections than there are cores
   * to serve them take twice the processor's time for the same schedules.
   *
   * @returns what this call did, all 0 when it left it to another
   * @throws the database's error when a batch fails as a whole; the batches before it stand
   */
  apply(): Promise<Applied>;
}

type Total = { -readonly [Key in keyof Applied]: Applied[Key] };

/** Makes the one applier of a process. */
export function makeApplier(options: Applying): Applier {
  const { pool, log, metrics, stopping } = options;
  let runs = 0;
  let progressedAt = 0;
  let again = false;

  /** @returns how many of the batch are stuck; null when there is nothing behind it */
  async function takeBatch(total: Total, size: number): Promise<number | null> {
    // It sees all that those who left their work to this run have come for.
    again = false;
    const result = await applyBatch(pool, size);
    progressedAt = performance.now();
    metrics?.applied(result);
    total.applied += result.applied;
    total.retried += result.retried;
    total.failed += result.failed;
    total.stuck = result.stuck;
    const taken = result.applied + result.retried + result.failed + result.stuck;
    return taken < size ? null : result.stuck;
  }

  async function takeBatches(total: Total): Promise<void> {
    const wanted = () => again;
    let stuck: number | null = 0;
    // What is stuck stays first in line, so the next batch is larger by it: those behind get their turn.
    while ((stuck !== null || wanted()) && !stopping.aborted)
      stuck = await takeBatch(total, BATCH + (stuck ?? 0));
  }

  async function takeSideBySide(total: Total): Promise<void> {
    runs++;
    progressedAt = performance.now();
    const lanes = Array.from({ length: LANES }, () => takeBatches(total));
    try {
      // The run is over when the last lane is, also when another has failed.
      await Promise.allSettled(lanes);
      await Promise.all(lanes);
    } finally {
      runs--;
    }
  }

  /** Whether a run sees to it: it looks once more before it ends. */
  function leaveToRun(): boolean {
    if (runs === 0 || performance.now() - progressedAt > STALLED_MS) return false;
    again = true;
    return true;
  }

  return {
    async apply() {
      const total = { applied: 0, retried: 0, failed: 0, stuck: 0 };
      if (stopping.aborted || leaveToRun()) return total;
      const stuck = await takeBatch(total, FIRST_BATCH);
      if (stuck !== null && !leaveToRun()) {
        await takeSideBySide(total);
      }
      report(total, log);
      return total;
    },
  };
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
