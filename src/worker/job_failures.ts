import type pg from 'pg';
import { workerLogger } from '../jobs/logger.ts';
import { isErrno } from '../lib/errno.ts';
import type { Logger } from '../lib/log.ts';
import type { Outage } from '../lib/outage.ts';
import { isConnectionLoss } from '../postgres/error.ts';
import { readValue } from '../postgres/value.ts';

/** Logs what graphile-worker reports in an outage as one outage, until it has read jobs with success. */
export function outageLogger(log: Logger, outage: Outage) {
  return workerLogger(log, (error) => {
    noteFailure(outage, error);
    return outage.active();
  });
}

/** The error is a sentence that says what to do. */
class JobsMissingError extends Error {
  override readonly name = 'JobsMissingError';

  constructor(cause?: unknown) {
    super(
      "The schema graphile_worker, or what is in it, is missing: schedules are applied without it, but the trail isn't looked after. " +
        'Run "npm run halyard -- migrate", with DATABASE_URL set to the owner of the same database.',
      { cause },
    );
  }
}

/**
 * graphile-worker itself would try to make its schema, which the worker's login may not.
 *
 * @throws JobsMissingError
 */
export async function assertInstalled(pool: pg.Pool): Promise<void> {
  const table = await readValue(pool, `select to_regclass('graphile_worker._private_jobs')`);
  if (table === null) throw new JobsMissingError();
}

/** invalid_schema_name, undefined_table and undefined_function. */
const MISSING: ReadonlySet<string> = new Set(['3F000', '42P01', '42883']);

/** Notes an error for which no jobs are taken; returns whether it was one. */
export function noteFailure(outage: Outage, error: unknown): boolean {
  if (isConnectionLoss(error)) {
    outage.failed(error);
    return true;
  }
  const isMissing =
    error instanceof JobsMissingError || (isErrno(error) && MISSING.has(error.code));
  if (isMissing) {
    const missing = error instanceof JobsMissingError ? error : new JobsMissingError(error);
    outage.failed(missing, {}, 'missing', 'error');
  }
  return isMissing;
}
