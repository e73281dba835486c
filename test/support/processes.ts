import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { COMPILE_CACHE } from './compile_cache.ts';

export const CHECKOUT = fileURLToPath(new URL('../..', import.meta.url));

/** Whether this machine has a program that neither Node nor Halyard brings along. */
export function hasProgram(name: string): boolean {
  return spawnSync(name, ['--version'], { stdio: 'ignore' }).error === undefined;
}

/** A process of Halyard's, with what it has printed so far. */
export interface HalyardProcess {
  readonly child: ChildProcess;
  readonly stdout: () => string;
  readonly stderr: () => string;
  /** Waits until the output matches; rejects at the deadline or when the process ends first. */
  waitFor(pattern: RegExp, deadlineMs?: number): Promise<RegExpExecArray>;
  /** Signals the whole group and waits for the end; gives the exit code, null after a signal. */
  end(signal?: NodeJS.Signals): Promise<number | null>;
  readonly exited: Promise<number | null>;
}

/**
 * Starts a command in a process group of its own.
 *
 * @param env what is added to a small environment without Halyard's settings.
 */
export function startProcess(
  command: string,
  args: readonly string[],
  options: { cwd?: string; env?: Record<string, string> } = {},
): HalyardProcess {
  const child = spawn(command, args, {
    cwd: options.cwd ?? CHECKOUT,
    env: {
      PATH: process.env.PATH ?? '',
      HOME: process.env.HOME ?? '/',
      ...COMPILE_CACHE,
      ...options.env,
    },
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => (stdout += chunk));
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => (stderr += chunk));
  // 'close' and not 'exit': npm ends at a signal before the process that it runs, which holds the pipes.
  const exited = once(child, 'close').then(([code]) => code as number | null);

  return {
    child,
    stdout: () => stdout,
    stderr: () => stderr,
    exited,
    async waitFor(pattern, deadlineMs = 30_000) {
      const deadline = AbortSignal.timeout(deadlineMs);
      for (;;) {
        const match = pattern.exec(stdout) ?? pattern.exec(stderr);
        if (match !== null) return match;
        if (child.exitCode !== null || child.signalCode !== null || deadline.aborted) {
          throw new Error(`No ${String(pattern)} came.\nstdout: ${stdout}\nstderr: ${stderr}`);
        }
        // What comes first ends the wait: the others must not go on listening.
        const first = new AbortController();
        const signal = AbortSignal.any([deadline, first.signal]);
        const came = [child.stdout, child.stderr].map((stream) => once(stream, 'data', { signal }));
        await Promise.race([...came, exited]).catch(() => undefined);
        first.abort();
        await Promise.allSettled(came);
      }
    },
    async end(signal = 'SIGTERM') {
      if (child.exitCode === null && child.signalCode === null && child.pid !== undefined) {
        process.kill(-child.pid, signal);
      }
      return exited;
    },
  };
}
