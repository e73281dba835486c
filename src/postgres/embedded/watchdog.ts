import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync } from 'node:fs';
import { openForAppending } from '../../lib/own_files.ts';
import { spawnAs, type Account } from './os_user.ts';

interface Watched {
  readonly program: string;
  readonly args: readonly string[];
  readonly account: Account;
  /** Takes standard output and error; opened by this process, so the account needs no right to it. */
  readonly logFile: string;
  /** The program's own pid file, once it has one. */
  readonly pidFile?: string;
}

/**
 * The shell leaves a watcher behind and then becomes the program, whose pid and exit code Node so sees. The watcher reads a
 * pipe that ends when Node dies, even by kill -9, and then asks the program to shut down.
 *
 * - `( … & )` forks twice, because PostgreSQL should not find a child that it does not know.
 * - The watcher, as a background job, ignores SIGINT; the program doesn't inherit that.
 * - SIGINT is sent without a look at the pid file: a starting server has none yet. SIGQUIT, the immediate shutdown, follows
 *   only if the file still names the program: the pid alone may be another's by then.
 */
const SCRIPT = `
pid_file=$1; shift
exec 3<&0 </dev/null
( (
  read -r line <&3
  kill -INT $$
  for second in 1 2 3 4 5 6 7 8 9 10; do
    read -r pid <"$pid_file" && [ "$pid" = $$ ] || exit
    sleep 1
  done
  kill -QUIT $$
) >/dev/null 2>&1 & )
exec 3<&-
exec "$@"
`;

/**
 * Starts a program as the account, tied to this process's life. It leads a session of its own, so that Ctrl-C doesn't reach
 * it: this process needs the database until it has drained. No PGDATA, PGPORT or locale of the user's reaches it either.
 *
 * @throws when it can't be started at all
 */
export async function spawnWatched(watched: Watched): Promise<ChildProcess> {
  const { program, args, account, logFile, pidFile = '/dev/null' } = watched;
  const log = openForAppending(logFile, 0o600);
  try {
    const child = spawn('/bin/sh', ['-c', SCRIPT, 'halyard-guard', pidFile, program, ...args], {
      ...spawnAs(account),
      cwd: '/', // ours may be closed to the account
      detached: true,
      env: { PATH: '/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC' },
      stdio: ['pipe', log, log],
    });
    await once(child, 'spawn');
    return child;
  } finally {
    closeSync(log);
  }
}

/** Waits until the process is over. @returns the exit code, null after a signal */
export async function whenOver(child: ChildProcess): Promise<number | null> {
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  return child.exitCode;
}
