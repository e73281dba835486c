import type { JobHelpers } from 'graphile-worker';
import type pg from 'pg';
import { z } from '../lib/zod.ts';
import type { Logger } from '../lib/log.ts';
import type { WorkerMetrics } from '../metrics/worker.ts';
import type { Applier } from '../schedules/apply.ts';
import type { Deliveries } from '../audit/delivery/deliveries.ts';

/** What a worker process lends to its tasks. */
export interface WorkerContext {
  readonly pool: pg.Pool;
  readonly log: Logger;
  readonly applier: Applier;
  readonly deliveries: Deliveries;
  readonly metrics: WorkerMetrics;
  /** Raised when the worker is to stop: finish what is in hand and begin nothing new. */
  readonly stopping: AbortSignal;
}

/** graphile-worker's crontab adds `_cron`; no task of Halyard's takes anything else. */
const NO_PAYLOAD = z.strictObject({ _cron: z.optional(z.unknown()) });

/**
 * The context of the worker that runs this task, from the task's second argument: several workers can live in one process.
 *
 * @throws Error when the payload isn't empty, or when some other worker than Halyard's runs the task
 */
export function contextOf(
  payload: unknown,
  { job, halyard }: JobHelpers & { readonly halyard?: WorkerContext },
): WorkerContext {
  const task = job.task_identifier;
  if (!NO_PAYLOAD.safeParse(payload).success)
    throw new Error(`Queue ${task} without a payload: it takes what it needs from the tables.`);
  if (halyard === undefined)
    throw new Error(
      `Run ${task} by "halyard worker": graphile-worker alone doesn't lend it what it needs.`,
    );
  return halyard;
}
