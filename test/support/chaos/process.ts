import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { COMPILE_CACHE } from '../compile_cache.ts';

const MAIN = fileURLToPath(new URL('../../../src/main.ts', import.meta.url));
const CLOCK = new URL('./clock.ts', import.meta.url).href;

/** How many of a process's last lines are kept for who looks into a failure. */
const KEPT_LINES = 200;

/** `halyard api` or `halyard worker`, which a test may end in any way. */
export interface ChaosProcess {
  readonly name: string;
  readonly pid: number;
  /** What it logged last. */
  readonly lines: readonly string[];
  readonly running: () => boolean;
  /** SIGKILL, and waits for the end. */
  kill(): Promise<void>;
  /** SIGTERM, and waits for the end: gives the exit code. */
  end(): Promise<number | null>;
  signal(signal: NodeJS.Signals): void;
  /** Waits for a line of its log, from the start on; rejects when it ends before. */
  said(pattern: RegExp): Promise<RegExpExecArray>;
}

/**
 * Starts it; it is ready when it says so.
 *
 * @param options.stdout a file descriptor that takes its standard output; by default that goes nowhere
 * @param options.onLine is given every line that it logs
 */
export function startHalyard(
  command: 'api' | 'worker',
  options: {
    env: Record<string, string>;
    stdout?: number;
    onLine?: ((line: string) => void) | undefined;
  },
): ChaosProcess {
  const child = spawn(process.execPath, ['--import', CLOCK, MAIN, command], {
    env: {
      PATH: process.env.PATH,
      NODE_ENV: 'test',
      LOG_LEVEL: 'debug',
      ...COMPILE_CACHE,
      ...options.env,
    },
    stdio: ['ignore', options.stdout ?? 'ignore', 'pipe'],
  });
  const exited = once(child, 'exit') as Promise<[number | null, NodeJS.Signals | null]>;
  const { pid } = child;
  if (pid === undefined || child.stderr === null)
    throw new Error(`halyard ${command} did not start.`);
  const lines: string[] = [];
  const listeners = new Set<() => void>();
  createInterface(child.stderr).on('line', (line) => {
    lines.push(line);
    options.onLine?.(line);
    for (const listener of listeners) listener();
    if (lines.length > KEPT_LINES) lines.shift();
  });
  const running = () => child.exitCode === null && child.signalCode === null;

  return {
    name: `${command} ${pid}`,
    pid,
    lines,
    running,
    async kill() {
      if (running()) child.kill('SIGKILL');
      await exited;
    },
    async end() {
      if (running()) child.kill('SIGTERM');
      return (await exited)[0];
    },
    signal: (signal) => void child.kill(signal),
    async said(pattern) {
      const found = Promise.withResolvers<RegExpExecArray>();
      const look = () => {
        const match = lines.map((line) => pattern.exec(line)).find((m) => m !== null);
        if (match) found.resolve(match);
      };
      listeners.add(look);
      look();
      void exited.then(() =>
        found.reject(new Error(`${command} ended before ${String(pattern)}:\n${lines.join('\n')}`)),
      );
      try {
        return await found.promise;
      } finally {
        listeners.delete(look);
      }
    },
  };
}
