import type { Task } from 'graphile-worker';
import { contextOf } from '../src/worker/context.ts';
import { reconcileDue } from '../src/audit/reconciliation/reconcile.ts';

/** Brings into the trail what is missing from it: the dead letters each minute, lost events each hour, all rows each night. */
export default (async (payload, helpers) => {
  await reconcileDue(contextOf(payload, helpers));
}) satisfies Task;
