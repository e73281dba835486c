import type { Task } from 'graphile-worker';
import { contextOf } from '../src/worker/context.ts';

/** Applies all that is due. Queued by the timer at the instant when a schedule is due, and by the crontab as a safety net. */
export default (async (payload, helpers) => {
  await contextOf(payload, helpers).applier.apply();
}) satisfies Task;
