import type { Task } from 'graphile-worker';
import { contextOf } from '../src/worker/context.ts';

/** Numbers new audit events and copies them to each destination. It succeeds also when that fails: it keeps its own back-off. */
export default (async (payload, helpers) => {
  await contextOf(payload, helpers).deliveries.run();
}) satisfies Task;
