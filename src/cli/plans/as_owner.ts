import type pg from 'pg';
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

/** One document, for machines. */
export function writeJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
}
