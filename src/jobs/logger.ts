import { Logger as GraphileWorkerLogger } from 'graphile-worker';
import type { Logger } from '../lib/log.ts';

/**
 * graphile-worker's log in ours. Its chatter about every job is debug here; what it calls an error is a warning, because
 * it retries: a failure that is final is logged as an error by the code that gave up. Its messages repeat the error's stack, which
 * `err` has: the first line is left.
 *
 * @param isKnown whether the log has the cause of an error already: then it is debug too
 */
export function workerLogger(
  log: Logger,
  isKnown: (error: unknown) => boolean = () => false,
): GraphileWorkerLogger {
  return new GraphileWorkerLogger((scope) => (level, message, meta) => {
    const { error, fatalError, ...details }: Record<string, unknown> = { ...scope, ...meta };
    const err = error ?? fatalError;
    const isBad = level === 'error' || level === 'warning';
    log[isBad && !isKnown(err) ? 'warn' : 'debug'](
      err === undefined ? details : { ...details, err },
      message.split('\n', 1)[0]?.replace(/:$/, '') ?? '',
    );
  });
}
