import { isErrno } from '../../lib/errno.ts';
import { scrub } from '../../lib/log.ts';
import { explain } from '../explain.ts';
import { BAD_ARGUMENTS, FOUND_PROBLEMS, NOT_CHECKED } from '../exit_codes.ts';
import { ExplainedError } from '../../lib/explained.ts';

export { FOUND_PROBLEMS };

/** What is wrong with the arguments, in a sentence. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** What kept a check from being made, in a sentence. */
export class NotCheckedError extends ExplainedError {
  override readonly name = 'NotCheckedError';
}

/**
 * Runs a command that answers with its exit status. Bad arguments are one sentence on stderr and status 2.
 *
 * @param failed what stands before the reason when anything else is thrown
 * @param status the exit status then: 3 by default, as nothing was found out, good or bad
 */
export async function exitWith(
  work: () => Promise<number>,
  failed = 'It could not be checked: ',
  status = NOT_CHECKED,
): Promise<void> {
  try {
    process.exitCode = await work();
  } catch (error) {
    const isUsage = error instanceof UsageError;
    process.stderr.write(`${scrub(isUsage ? error.message : failed + reasonOf(error))}\n`);
    process.exitCode = isUsage ? BAD_ARGUMENTS : status;
  }
}

/** Turns the database's refusal of an argument, by one of these SQLSTATEs, into a UsageError. Rethrows other errors. */
export function asUsageError(...codes: readonly string[]): (error: unknown) => never {
  return (error) => {
    if (isErrno(error) && codes.includes(error.code))
      throw new UsageError(error.message, { cause: error });
    throw error;
  };
}

/** Why something failed. Errors of the database, the system or AWS ($metadata) have a code, and their message says enough. */
function reasonOf(error: unknown): string {
  const text = explain(error);
  const known = isErrno(error) || (error instanceof Error && '$metadata' in error);
  return known && text.includes('\n') ? error.message : text;
}
