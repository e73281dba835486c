import type pg from 'pg';
import type { Logger } from '../../lib/log.ts';
import { addJob } from '../../jobs/jobs.ts';

/** A month of the trail that is old enough to go, and what became of it. */
export interface Month {
  /** Its first day, `YYYY-MM-DD`; null for a partition that isn't a month, or another purge at work. */
  readonly month: string | null;
  readonly events: string | null;
  /** `kept` needs a person, or time; `busy` needs another try. */
  readonly outcome: 'purged' | 'purgeable' | 'kept' | 'busy';
  /** Why it isn't purged, as a sentence. */
  readonly reason: string | null;
}

interface Options {
  readonly pool: pg.Pool;
  readonly log: Logger;
  readonly stopping: AbortSignal;
}

/** Each event's hash is checked before it is purged, some 50,000 a second: a month of a hundred million takes half an hour. */
const CHECK_MS = 3_600_000;
/** When somebody reads the trail, or purges it, at the moment. */
const RETRY_MS = 900_000;
/** A thousand deletions, with their events, take some 200 ms among 300,000 schedules; no index of its own is worth it. */
const BATCH = 1_000;

/**
 * Purges the months of the trail that are older than the setting audit_retention keeps, a transaction each, oldest first, up to one that
 * can't be purged. When that is only because somebody is reading, it tries again in a quarter of an hour.
 *
 * @returns the months that it looked at; none when the trail is kept forever
 * @throws the database's error; the months before it stay purged
 */
export async function retainAuditEvents(options: Options): Promise<Month[]> {
  const { pool, log, stopping } = options;
  const months: Month[] = [];
  while (!stopping.aborted) {
    const month = await retainMonth(pool);
    if (month === null) break;
    months.push(month);
    if (month.outcome !== 'purged') {
      await postpone(pool, log, month);
      break;
    }
    log.info({ month: month.month, events: month.events }, 'a month of the audit trail was purged');
  }
  return months;
}

async function postpone(pool: pg.Pool, log: Logger, month: Month): Promise<void> {
  if (month.outcome === 'busy') {
    log.info(month, 'a month of the audit trail is purged later');
    await addJob(pool, 'retain_audit_events', { inMs: RETRY_MS });
  } else {
    log.warn(month, 'a month of the audit trail is old enough to be purged, and must be kept');
  }
}

/** Longer than the worker's statements may take otherwise. */
async function retainMonth(pool: pg.Pool): Promise<Month | null> {
  const client = await pool.connect();
  let broken: Error | undefined;
  try {
    await client.query(`begin; set local statement_timeout = ${CHECK_MS}`);
    const { rows } = await client.query<Month>({
      text: 'select month::text, events, outcome, reason from app_private.retain_audit_events()',
      query_timeout: CHECK_MS,
    } as pg.QueryConfig);
    await client.query('commit');
    return rows[0] ?? null;
  } catch (error) {
    // Discards the connection, and with it the transaction.
    broken = error instanceof Error ? error : new Error('Purging failed.', { cause: error });
    throw error;
  } finally {
    client.release(broken);
  }
}

/** How many schedules of each status were deleted. */
export interface Removed {
  readonly applied: number;
  readonly cancelled: number;
}

/**
 * Deletes schedules that were applied or cancelled longer ago than the setting schedule_retention keeps them, in batches of
 * one transaction each.
 *
 * @throws the database's error; the batches before it stand
 */
export async function removeOldSchedules(options: Options): Promise<Removed> {
  const total = { applied: 0, cancelled: 0 };
  for (const status of ['applied', 'cancelled'] as const) {
    let removed = BATCH;
    while (removed === BATCH && !options.stopping.aborted) {
      removed = await removeBatch(options.pool, status);
      total[status] += removed;
    }
  }
  if (total.applied + total.cancelled > 0) options.log.info(total, 'old schedules were deleted');
  return total;
}

async function removeBatch(pool: pg.Pool, status: keyof Removed): Promise<number> {
  const { rows } = await pool.query<{ removed: number }>(
    'select app_private.remove_old_schedules($1, $2) as removed',
    [status, BATCH],
  );
  return rows[0]?.removed ?? 0;
}
