import type pg from 'pg';
import type { Config } from '../config/config.ts';
import type { Logger } from '../lib/log.ts';

/** A thousand deletions, with their events, take some 200 ms among 300,000 schedules; no index of its own is worth it. */
const BATCH = 1_000;

/** How many schedules of each status were deleted. */
export interface Removed {
  readonly applied: number;
  readonly cancelled: number;
}

/**
 * Deletes schedules that were applied or cancelled longer ago than the configuration keeps them, in batches of one
 * transaction each.
 *
 * @returns how many; none when the configuration keeps all
 * @throws the database's error; the batches before it stand
 */
export async function removeOldSchedules(options: {
  readonly pool: pg.Pool;
  readonly log: Logger;
  readonly stopping: AbortSignal;
  readonly retention: Config['retention'];
}): Promise<Removed> {
  const { pool, log, stopping, retention } = options;
  const { cancelled } = retention.schedules;
  let { applied } = retention.schedules;
  const total = { applied: 0, cancelled: 0 };
  if (applied === null && cancelled === null) return total;
  while (!stopping.aborted) {
    const { rows } = await pool.query<Removed>(
      `select removed_applied as applied, removed_cancelled as cancelled
       from app_private.remove_old_schedules(make_interval(days => $1), make_interval(days => $2), $3)`,
      [applied, cancelled, BATCH],
    );
    const batch = rows[0] ?? { applied: 0, cancelled: 0 };
    total.applied += batch.applied;
    total.cancelled += batch.cancelled;
    if (batch.applied + batch.cancelled < BATCH) break;
    // None of these is left: don't read all that stay, once more for each batch of the others.
    if (batch.applied < BATCH) applied = null;
  }
  if (total.applied + total.cancelled > 0) log.info(total, 'old schedules were deleted');
  return total;
}
