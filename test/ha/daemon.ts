import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { PROGRAM_PATH } from './packages.ts';
import { listProcesses } from '../support/process_list.ts';

/** The operating system's user that runs a program: postgres, if the test runs as root, since PostgreSQL refuses root. */
export interface User {
  readonly uid: number;
  readonly gid: number;
}

/** A program of the cluster that runs until it is stopped. */
export interface Daemon {
  readonly pid: number;
  readonly running: () => boolean;
  /** Sends SIGTERM, after STOP_MS SIGKILL, and waits for the end. */
  stop(): Promise<void>;
}

/** A shutdown of PostgreSQL in Patroni's hands takes some seconds. */
const STOP_MS = 30_000;

/**
 * Starts a program, which logs to a file in `folder`. The program ends when this process does: the kernel sends it SIGTERM.
 *
 * @param user whose rights it gets; null for this process's own
 */
export function startDaemon(
  name: string,
  command: readonly string[],
  { folder, user }: { folder: string; user: User | null },
): Daemon {
  const log = openSync(join(folder, `${name}.log`), 'a');
  const as = user === null ? [] : [`--reuid=${user.uid}`, `--regid=${user.gid}`, '--clear-groups'];
  const child = spawn('setpriv', [...as, '--pdeathsig', 'TERM', '--', ...command], {
    cwd: folder,
    env: { PATH: PROGRAM_PATH, HOME: folder, LC_ALL: 'C.UTF-8' },
    stdio: ['ignore', log, log],
  });
  closeSync(log);
  const exited = once(child, 'exit');
  const { pid } = child;
  if (pid === undefined) throw new Error(`${name} did not start.`);
  const running = () => child.exitCode === null && child.signalCode === null;
  return {
    pid,
    running,
    async stop() {
      if (!running()) return;
      child.kill('SIGTERM');
      const kill = setTimeout(() => child.kill('SIGKILL'), STOP_MS);
      await exited;
      clearTimeout(kill);
    },
  };
}

/** A process and all that descend from it, parents first. */
export function processTree(...roots: number[]): number[] {
  const children = Map.groupBy(listProcesses(), ({ ppid }) => ppid);
  const tree = [...roots];
  // The array grows while it is walked.
  for (const pid of tree) tree.push(...(children.get(pid) ?? []).map((child) => child.pid));
  return [...new Set(tree)];
}

/** Sends a signal to each that still runs. */
export function signalAll(pids: readonly number[], signal: NodeJS.Signals): void {
  for (const pid of pids) {
    try {
      process.kill(pid, signal);
    } catch {
      // It has ended meanwhile.
    }
  }
}
