import type pg from 'pg';
import type { Logger } from '../log.ts';
import type { WorkerMetrics } from '../metrics/worker.ts';
import type { Precedence } from './precedence.ts';

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
/** When there is more than a batch, so many connections take batches side by side: two keep two cores of the server busy. */
const LANES = 2;

/** Whom it works for. */
export interface Applying {
  readonly pool: pg.Pool;
  readonly log: Logger;
  /** Counts them. */
  readonly metrics?: Pick<WorkerMetrics, 'applied'>;
  /** Has what else the process does wait for a run of more than a batch. */
  readonly precedence?: Precedence;
  /** Ends it after the batches in hand; what is left stays due. */
  readonly stopping: AbortSignal;
}

/**
 * Applies all that is due, in batches of one transaction each. Any number of workers may do so at once.
 *
 * @throws the database's error when a batch fails as a whole; the batches before it stand
 */
export async function applyDueSchedules(options: Applying): Promise<Applied> {
  const total = { applied: 0, retried: 0, failed: 0, stuck: 0 };
  const more = await takeBatches(options, total, 1);
  if (more) {
    const takeAll = () =>
      Promise.all(Array.from({ length: LANES }, () => takeBatches(options, total, Infinity)));
    await (options.precedence?.first(takeAll) ?? takeAll());
  }
  report(total, options.log);
  return total;
}

/**
 * Takes batches until one isn't full.
 *
 * @param total what became of them is added to it
 * @returns whether it has stopped because it was to take so many only
 */
async function takeBatches(
  { pool, metrics, stopping }: Applying,
  total: { -readonly [Key in keyof Applied]: Applied[Key] },
  most: number,
): Promise<boolean> {
  let batch = BATCH;
  for (let taken = 0; !stopping.aborted; taken++) {
    if (taken === most) return true;
    const result = await applyBatch(pool, batch);
    metrics?.applied(result);
    total.applied += result.applied;
    total.retried += result.retried;
    total.failed += result.failed;
    total.stuck = result.stuck;
    if (result.applied + result.retried + result.failed + result.stuck < batch) break;
    // What is stuck stays first in line, so the next batch is larger by it: those behind get their turn.
    batch = BATCH + result.stuck;
  }
  return false;
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
