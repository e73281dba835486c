import type { Task } from 'graphile-worker';
import { contextOf } from '../src/worker/context.ts';

/** Applies all that is due. Queued by the alarm at the instant when something is, and by the crontab as the net. */
const applyDueSchedulesTask: Task = async (payload, helpers) => {
  await contextOf(payload, helpers).applier.apply();
};

export default applyDueSchedulesTask;
