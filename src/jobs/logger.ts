import { Logger as GraphileWorkerLogger } from 'graphile-worker';
import type { Logger } from '../lib/log.ts';

/**
 * graphile-worker's log in ours. Its chatter about every job is debug here; what it calls an error is a warning, because
 * it retries: what nobody retries is logged as an error by the code that gave up.
 */
export function workerLogger(log: Logger): GraphileWorkerLogger {
  return new GraphileWorkerLogger((scope) => (level, message, meta) => {
    const details = { ...scope, ...meta };
    if (level === 'error' || level === 'warning') log.warn(details, message);
    else log.debug(details, message);
  });
}
