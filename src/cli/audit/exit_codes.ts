import { inspect } from 'node:util';
import pg from 'pg';
import { ConfigError } from '../../config/config.ts';
import { EmbeddedPostgresError } from '../../postgres/embedded/error.ts';
import { isErrno } from '../../lib/errno.ts';
import { scrub } from '../../lib/log.ts';
import { BAD_ARGUMENTS, FOUND_PROBLEMS, NOT_CHECKED } from '../exit_codes.ts';

export { BAD_ARGUMENTS, FOUND_PROBLEMS };

/** What is wrong with the arguments, in a sentence. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** What kept a check from being made, in a sentence. */
export class NotCheckedError extends Error {
  override readonly name = 'NotCheckedError';
}

/**
 * Runs a command that answers with its exit status. Bad arguments are one sentence on stderr and status 2; anything else that
 * is thrown means that nothing was found out, good or bad: status 3.
 */
export async function exitWith(work: () => Promise<number>): Promise<void> {
  try {
    process.exitCode = await work();
  } catch (error) {
    process.stderr.write(`${scrub(sentence(error))}\n`);
    process.exitCode = error instanceof UsageError ? BAD_ARGUMENTS : NOT_CHECKED;
  }
}

function sentence(error: unknown): string {
  if (error instanceof UsageError) return error.message;
  const reason = reasonOf(error);
  return `It could not be checked: ${reason}`;
}

/** Why something failed: what a person can put right is its message; anything else may be a defect and keeps its stack. */
export function reasonOf(error: unknown): string {
  // Node reports a refused connection to a name with two addresses as one error with no message.
  if (error instanceof AggregateError && error.message === '')
    return error.errors.map(reasonOf).join('; ');
  const known =
    error instanceof NotCheckedError ||
    error instanceof ConfigError ||
    error instanceof EmbeddedPostgresError ||
    error instanceof pg.DatabaseError ||
    (error instanceof Error && isErrno(error)) ||
    (error instanceof Error && '$metadata' in error);
  return known ? error.message : inspect(error);
}
