import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const MAIN = fileURLToPath(new URL('../src/main.ts', import.meta.url));
/** Node's own options, as `npm run halyard` gives them. */
const NODE_OPTIONS = readNodeOptions();
/** Signs the tokens of benchmarks. */
export const BENCH_SECRET = 'a-secret-of-the-benchmarks-that-is-long-enough-for-hs256';

/** `halyard api` or `halyard worker` as in production, in a process of its own. */
export interface HalyardProcess {
  readonly pid: number;
  /** Where the API listens; '' for a worker. */
  readonly url: string;
  /** From spawning it to its saying that it is ready, in milliseconds. */
  readonly startedInMs: number;
  /** Resident memory in MiB, now. */
  memory(): Promise<number>;
  /** SIGTERM, and waits for the end. */
  stop(): Promise<void>;
}

const READY = {
  api: /"url":"([^"]+)".*the API is listening/,
  worker: /the worker is running/,
};

/**
 * Starts it, and resolves once it says that it is ready.
 *
 * @param databaseUrl the authenticator's for an API, the worker's for a worker
 * @param env what is added to its environment
 * @throws Error with its log when it ends before it is ready
 */
export async function startHalyard(
  command: 'api' | 'worker',
  databaseUrl: string,
  env: Record<string, string> = {},
): Promise<HalyardProcess> {
  const startedAt = performance.now();
  const child = spawn(process.execPath, [...NODE_OPTIONS, MAIN, command], {
    env: { PATH: process.env.PATH, ...environmentOf(command, databaseUrl), ...env },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const exited = once(child, 'exit');
  const lines: string[] = [];
  const ready = Promise.withResolvers<RegExpExecArray>();
  const log = createInterface(child.stderr).on('line', (line) => {
    const found = READY[command].exec(line);
    if (lines.length < 100) lines.push(line);
    if (found === null) return;
    ready.resolve(found);
    log.close();
    // Read on to the end, so that a log that nobody reads stops no process; but no more than that.
    child.stderr.resume();
  });
  void exited.then(() =>
    ready.reject(new Error(`halyard ${command} ended before it was ready:\n${lines.join('\n')}`)),
  );
  const [, url = ''] = await ready.promise;
  const pid = child.pid ?? 0;
  return {
    pid,
    url,
    startedInMs: performance.now() - startedAt,
    memory: () => residentMiB(pid),
    async stop() {
      child.kill('SIGTERM');
      await exited;
    },
  };
}

function readNodeOptions(): string[] {
  const text = readFileSync(new URL('../package.json', import.meta.url), 'utf8');
  const { scripts } = JSON.parse(text) as { scripts: { halyard: string } };
  return scripts.halyard.split(' ').filter((word) => word.startsWith('--'));
}

function environmentOf(command: 'api' | 'worker', databaseUrl: string): Record<string, string> {
  return command === 'api'
    ? {
        NODE_ENV: 'production',
        AUTH_DATABASE_URL: databaseUrl,
        JWT_SECRET: BENCH_SECRET,
        PORT: '0',
      }
    : { NODE_ENV: 'production', WORKER_DATABASE_URL: databaseUrl };
}

/** Of a process on Linux. */
async function residentMiB(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  const [, kibibytes] = /^VmRSS:\s+(\d+) kB$/m.exec(status) ?? [];
  if (kibibytes === undefined) throw new Error(`There is no memory to read of process ${pid}.`);
  return Number(kibibytes) / 2 ** 10;
}
