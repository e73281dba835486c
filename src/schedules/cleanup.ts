import type pg from 'pg';
import type { Logger } from '../lib/log.ts';
import { readValue } from '../postgres/value.ts';

/** A thousand deletions, with their events, take some 200 ms among 300,000 schedules, so they have no index of their own. */
const BATCH = 1_000;
const REMOVE = 'select app_private.remove_old_schedules($1, $2)';

/** How many schedules of each status were deleted. */
type Removed = Readonly<Record<'applied' | 'cancelled', number>>;

/**
 * Deletes schedules that were applied or cancelled longer ago than the setting schedule_retention keeps them, in batches of
 * one transaction each.
 *
 * @returns how many; none when the setting keeps all
 * @throws the database's error; the batches before it stand
 */
export async function removeOldSchedules(options: {
  readonly pool: pg.Pool;
  readonly log: Logger;
  readonly stopping: AbortSignal;
}): Promise<Removed> {
  const total = { applied: 0, cancelled: 0 };
  for (const status of ['applied', 'cancelled'] as const) {
    let removed = BATCH;
    while (removed === BATCH && !options.stopping.aborted) {
      removed = (await readValue<number>(options.pool, REMOVE, [status, BATCH])) ?? 0;
      total[status] += removed;
    }
  }
  if (total.applied + total.cancelled > 0) options.log.info(total, 'old schedules were deleted');
  return total;
}
