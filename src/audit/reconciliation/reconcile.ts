import type pg from 'pg';
import { LEASE_MS, withLease, type Lease } from '../../postgres/lease.ts';
import type { Query } from '../delivery/outbox.ts';
import type { Logger } from '../../lib/log.ts';

/**
 * How much a run compares. dead_letters: those only; incremental: also the rows that were updated since the last such run; full: all
 * rows, and those that were deleted without an event; recording: records rows that aren't what the trail says as they are found, too;
 * scheduled: the one of the first three that is due.
 */
export type Scope = 'dead_letters' | 'incremental' | 'full' | 'recording' | 'scheduled';

/** What a run did. */
export interface Reconciled {
  /** The scope that was due, for `scheduled`. */
  readonly scope: string;
  /** Events that dead letters held. */
  readonly fromLetters: number;
  /** Events that stand for lost ones: `*.reconciled` and `audit.gap`. */
  readonly fromRows: number;
  /** Dead letters that could not be brought into the trail and stay. */
  readonly refused: number;
  /** Rows that aren't what the trail says of them; null when the run didn't compare them. */
  readonly unexplained: number | null;
}

interface Step extends Omit<Reconciled, 'unexplained'> {
  /** At the end of the run; a bigint is text. */
  readonly unexplained: string | null;
  readonly finished: boolean;
}

const COLUMNS =
  'scope, from_letters as "fromLetters", from_rows as "fromRows", refused, unexplained';
const STEP = `select ${COLUMNS}, cursor is null as finished, cursor::text from app_private.reconcile_audit($1, $2)`;
const DUE_STEP = `select ${COLUMNS}, finished from app_private.reconcile_due($1)`;

/**
 * Brings into the trail what is missing from it, step by step, each a transaction of its own, as the owner. Any number of processes
 * may do so at once: steps wait for each other, and each sees what the one before has written.
 *
 * @param stopping ends it after the step in progress; the next run of this scope begins again
 * @throws the database's error when a step fails; the steps before it stand
 */
export function reconcile(query: Query, scope: Scope, stopping: AbortSignal): Promise<Reconciled> {
  let next: { scope: string; cursor: string | null } = { scope, cursor: null };
  return runSteps(async () => {
    const rows = await query<Step & typeof next>(STEP, [next.scope, next.cursor]);
    next = rows[0] ?? next;
    return rows;
  }, stopping);
}

async function runSteps(
  takeStep: () => Promise<readonly Step[]>,
  stopping: AbortSignal,
): Promise<Reconciled> {
  let total: Reconciled = { scope: '', fromLetters: 0, fromRows: 0, refused: 0, unexplained: null };
  for (;;) {
    const [step] = await takeStep();
    if (step === undefined) throw new Error('A step of the reconciliation gave no row.');
    const { scope, unexplained, finished } = step;
    total = {
      scope,
      fromLetters: total.fromLetters + step.fromLetters,
      fromRows: total.fromRows + step.fromRows,
      refused: total.refused + step.refused,
      unexplained: unexplained === null ? total.unexplained : Number(unexplained),
    };
    if (finished || stopping.aborted) return total;
  }
}

/**
 * Runs the reconciliation that is due, for the task. Events that were missing are a warning: an administrator must find out why. Rows
 * that aren't what the trail says are an error: they were changed past it. Returns at once while another worker's is under way, which
 * on a large table may take longer than the minute between two.
 *
 * @throws the database's error when a step fails
 */
export async function reconcileDue(options: {
  readonly pool: pg.Pool;
  readonly log: Logger;
  readonly stopping: AbortSignal;
}): Promise<void> {
  const { pool, log, stopping } = options;
  const run = ({ query, token }: Lease) => runSteps(() => query<Step>(DUE_STEP, [token]), stopping);
  const done = await withLease(pool, 'reconcile', LEASE_MS, run);
  if (done === null) {
    log.debug('another reconciliation is under way');
    return;
  }
  if (done.fromLetters + done.fromRows > 0)
    log.warn(done, 'audit events were missing from the trail and have been reconciled');
  if ((done.unexplained ?? 0) > 0)
    log.error(
      done,
      'rows differ from what the audit trail says: `halyard audit verify` names them',
    );
}
