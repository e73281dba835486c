import type { Task } from 'graphile-worker';
import { contextOf } from '../src/worker/context.ts';
import { removeOldSchedules } from '../src/schedules/cleanup.ts';

/** Deletes old schedules; does nothing unless the setting schedule_retention is set. */
export default (async (payload, helpers) => {
  await removeOldSchedules(contextOf(payload, helpers));
}) satisfies Task;
