import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { COMPILE_CACHE } from '../compile_cache.ts';
import type { Logins } from '../migrated.ts';

const MAIN = fileURLToPath(new URL('../../../src/main.ts', import.meta.url));

export interface Outcome {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs `halyard audit …` on that database, as its logins, to its end. */
export function runAudit(database: Logins, ...args: string[]): Promise<Outcome> {
  const env = {
    PATH: process.env.PATH,
    NODE_ENV: 'test',
    ...COMPILE_CACHE,
    DATABASE_URL: database.ownerUrl,
    AUTH_DATABASE_URL: database.authenticatorUrl,
    WORKER_DATABASE_URL: database.workerUrl,
  };
  return new Promise((resolve) => {
    const child = execFile(
      process.execPath,
      [MAIN, 'audit', ...args],
      { env },
      (_error, stdout, stderr) => resolve({ status: child.exitCode ?? -1, stdout, stderr }),
    );
  });
}
