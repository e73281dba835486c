import type { Task } from 'graphile-worker';
import { contextOf } from '../src/worker/context.ts';

/** The net under the janitor, which sweeps every second by itself. */
const releaseDeadWorkers: Task = async (payload, helpers) => {
  await contextOf(payload, helpers).janitor.sweep();
};

export default releaseDeadWorkers;
