import type pg from 'pg';
import { describeBlocker, watchBlockers } from '../../postgres/blockers.ts';
import { printable, SENTENCE_LENGTH } from '../../lib/printable.ts';
import { withLogin } from '../audit/connect.ts';
import { exitWith } from '../audit/exit_with.ts';

/** invalid_parameter_value, a null where there must be a value, and an environment that doesn't exist: what the arguments say is wrong. */
export const BAD_ARGUMENT_STATES = ['22023', '22004', 'ZF014'];

/** Runs a command as the owner. Exit status 0, 2 for bad arguments (UsageError), 1 when it can't be done. */
export function asOwner(
  command: 'plan' | 'stop' | 'resume',
  work: (pool: pg.Pool) => Promise<void>,
): Promise<void> {
  return exitWith(() => withLogin('owner', work, command).then(() => 0), '', 1);
}

/** A batch of a worker takes some 100 ms. What keeps a command waiting for longer is said. */
const QUIET_MS = 1_000;

/** Runs what waits for locks, and names on stderr the sessions that keep it waiting. */
export async function sayingBlockers<T>(
  pool: pg.Pool,
  command: 'stop' | 'resume',
  work: () => Promise<T>,
): Promise<T> {
  const watcher = await pool.connect();
  const began = performance.now();
  const said = new Set<number>();
  try {
    return await watchBlockers(
      watcher,
      `halyard ${command}`,
      (blocker) => {
        if (said.has(blocker.pid) || performance.now() - began < QUIET_MS) return;
        said.add(blocker.pid);
        const who = printable(describeBlocker(blocker), SENTENCE_LENGTH);
        process.stderr.write(`Waiting for ${who}.\n`);
      },
      work,
    );
  } finally {
    watcher.release();
  }
}

/** One document, for machines. */
export function writeJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
}
