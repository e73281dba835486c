import type pg from 'pg';
import type { Logger } from '../lib/log.ts';

export const OUTCOMES = [
  'applied',
  'retried',
  'failed',
  'stuck',
  'suspendedForStop',
  'suspendedForConflict',
] as const;

/** How many schedules of one batch or run had which outcome. */
export type Applied = Record<(typeof OUTCOMES)[number], number>;

export interface AppliedBatch extends Readonly<Applied> {
  /** How long after its time each of the applied ones was, in milliseconds. */
  readonly latenessMs: readonly number[];
  /** Those that could neither be applied nor be marked. */
  readonly stuckIds: readonly string[];
  /** How many stay due, because there was no time left to try them. */
  readonly untried: number;
}

/**
 * Applies up to `size` due schedules in one transaction.
 *
 * @param skipped schedules to leave alone
 * @throws the database's error when the batch fails as a whole; nothing is changed then
 */
export function applyDue(
  pool: pg.Pool,
  size: number,
  skipped: readonly string[],
): Promise<AppliedBatch> {
  return applyBatch(pool, 'apply_due($1, $2)', [size, skipped]);
}

/**
 * Applies the due schedules of one flag in one transaction, and waits for the locks on its rows.
 *
 * @param waitMs milliseconds for each lock
 * @throws the database's error, 55P03 when the wait was in vain
 */
export function applyFlag(
  client: pg.ClientBase,
  flagId: string,
  waitMs: number,
  skipped: readonly string[],
): Promise<AppliedBatch> {
  return applyBatch(client, 'apply_flag($1, $2, $3)', [flagId, waitMs, skipped]);
}

async function applyBatch(
  client: pg.Pool | pg.ClientBase,
  call: string,
  values: readonly unknown[],
): Promise<AppliedBatch> {
  const { rows } = await client.query<AppliedBatch>(
    `select applied, retried, failed, stuck, lateness_ms as "latenessMs", stuck_ids as "stuckIds", untried,
       suspended_for_stop as "suspendedForStop", suspended_for_conflict as "suspendedForConflict"
     from app_private.${call}`,
    [...values],
  );
  if (rows[0] === undefined) throw new Error(`app_private.${call} gave no row.`);
  return rows[0];
}

/** No outcome yet. */
export function makeTotal(): Applied {
  return Object.fromEntries(OUTCOMES.map((outcome) => [outcome, 0])) as Applied;
}

/**
 * A failure that is final, or can't even be recorded, needs an admin, and so does a conflict; one that is retried doesn't. What an
 * admin stopped is no news.
 */
export function report(batch: Applied, log: Logger): void {
  const { applied, retried, failed, stuck, suspendedForStop, suspendedForConflict } = batch;
  const total = Object.fromEntries(OUTCOMES.map((outcome) => [outcome, batch[outcome]]));
  if (failed > 0)
    log.error(total, 'schedules failed for good: see flag_schedule.failed in the audit trail');
  if (stuck > 0)
    log.error(total, "schedules can't be applied, nor be marked as failed: see the warnings");
  if (retried > 0) log.warn(total, 'schedules failed and are tried again later');
  if (suspendedForConflict > 0)
    log.warn(
      total,
      'schedules are suspended for conflicts: see flag_schedule.suspended in the audit trail',
    );
  if (suspendedForStop > 0)
    log.info(total, 'schedules are suspended: their environment is stopped');
  if (applied > 0) log.info(total, 'schedules were applied');
}
