import type pg from 'pg';
import type { Logger } from '../lib/log.ts';
import { readValue } from '../postgres/value.ts';

/** What is deleted, in what order, and how many a transaction: the schedules of a plan, up to 200, go with it. */
const KINDS = {
  // A thousand deletions, with their events, take some 200 ms among 300,000 schedules, so they have no index of their own.
  applied: { sql: `select app_private.remove_old_schedules('applied', $1)`, batch: 1_000 },
  cancelled: { sql: `select app_private.remove_old_schedules('cancelled', $1)`, batch: 1_000 },
  completedPlans: { sql: `select app_private.remove_old_plans('completed', $1)`, batch: 20 },
  cancelledPlans: { sql: `select app_private.remove_old_plans('cancelled', $1)`, batch: 20 },
} as const;

/** How many schedules and plans of each status were deleted; skipped schedules count as cancelled. */
type Removed = Readonly<Record<keyof typeof KINDS, number>>;

/**
 * Deletes schedules and plans that ended longer ago than the setting schedule_retention keeps them, in batches of one
 * transaction each.
 *
 * @returns how many; none when the setting keeps all
 * @throws the database's error; the batches before it stand
 */
export async function removeOldSchedules(options: {
  readonly pool: pg.Pool;
  readonly log: Logger;
  readonly stopping: AbortSignal;
}): Promise<Removed> {
  const total = { applied: 0, cancelled: 0, completedPlans: 0, cancelledPlans: 0 };
  for (const kind of Object.keys(total) as (keyof Removed)[]) {
    const { sql, batch } = KINDS[kind];
    let removed: number = batch;
    while (removed === batch && !options.stopping.aborted) {
      removed = (await readValue<number>(options.pool, sql, [batch])) ?? 0;
      total[kind] += removed;
    }
  }
  if (Object.values(total).some((count) => count > 0))
    options.log.info(total, 'old schedules and plans were deleted');
  return total;
}
