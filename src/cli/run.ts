import { CommanderError } from 'commander';
import { BAD_ARGUMENTS } from './exit_codes.ts';
import { makeProgram } from './program.ts';

/**
 * Runs one command. Sets the exit status: 0, 1 when it failed, 2 for arguments that it doesn't take, or what it says itself.
 *
 * @param args the arguments after `halyard`
 */
export async function run(args: string[]): Promise<void> {
  try {
    await makeProgram().parseAsync(args, { from: 'user' });
  } catch (error) {
    process.exitCode = await report(error);
  }
}

/** Writes to stderr why a command failed; returns the exit status. */
async function report(error: unknown): Promise<number> {
  // Help and version are exits with 0; of bad arguments commander has written already.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : BAD_ARGUMENTS;
  // Loaded only here: the log's library takes longer than the rest of help.
  const { scrub } = await import('../lib/log.ts');
  const { explain } = await import('./explain.ts');
  process.stderr.write(`${scrub(explain(error))}\n`);
  return 1;
}
