import { format } from 'node:util';
import type { Logger } from '../lib/log.ts';
import { isConnectionLoss } from '../postgres/error.ts';

const LEVELS = {
  log: 'debug',
  info: 'debug',
  debug: 'debug',
  dir: 'debug',
  warn: 'warn',
  error: 'warn',
  trace: 'warn',
} as const;

/**
 * Takes into the log what would be plain text on stderr or stdout: what libraries print (graphile-worker has no other way for some
 * of its errors), Node's warnings, and the defect that ends the process. That the database is away the parts say themselves.
 */
export function logEverything(log: Logger): void {
  for (const [method, level] of Object.entries(LEVELS))
    Reflect.set(globalThis.console, method, (...args: unknown[]) => {
      const err = args.find((arg) => arg instanceof Error);
      log[isConnectionLoss(err) ? 'debug' : level]({ err }, format(...args));
    });
  logWarnings(log);
  process.on('uncaughtException', (error, origin) => {
    log.fatal({ err: error, origin }, 'a defect ends the process');
    process.exit(1);
  });
}

/** Takes Node's warnings into the log, a line each: those of pg about sslmode have eight. */
export function logWarnings(log: Logger): void {
  process.removeAllListeners('warning').on('warning', (warning) => {
    log.warn({ err: warning }, 'Node.js warns');
  });
}
