import type { Task } from 'graphile-worker';
import { contextOf } from '../src/worker/context.ts';
import { retainAuditEvents } from '../src/audit/retention/retention.ts';

/** Purges old months of the audit trail; does nothing unless the setting audit_retention is set. */
export default (async (payload, helpers) => {
  await retainAuditEvents(contextOf(payload, helpers));
}) satisfies Task;
