import { inspect } from 'node:util';
import { CommanderError } from 'commander';
import { ConfigError } from '../config/error.ts';
import { EmbeddedPostgresError } from '../postgres/embedded/error.ts';
import { UntrustedPathError } from '../lib/own_files.ts';
import {
  ConnectionError,
  NotMigratedError,
  RefusedError,
  StandbyError,
} from '../postgres/error.ts';
import { LeaseEndedError } from '../postgres/lease_row.ts';
import { MigrationBlockedError } from '../postgres/retry.ts';
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

/** Errors of what a person can put right: the message says it all. */
const FOR_PERSONS = [
  ConfigError,
  EmbeddedPostgresError,
  UntrustedPathError,
  ConnectionError,
  LeaseEndedError,
  MigrationBlockedError,
  NotMigratedError,
  RefusedError,
  StandbyError,
];

/** Writes to stderr why a command failed; returns the exit status. */
async function report(error: unknown): Promise<number> {
  // Help and version are exits with 0; of bad arguments commander has written already.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : BAD_ARGUMENTS;
  // Loaded only here: the log's library takes longer than the rest of help.
  const { scrub } = await import('../lib/log.ts');
  const isForPerson = error instanceof Error && FOR_PERSONS.some((type) => error instanceof type);
  // Anything else may be a defect and keeps its stack and its causes.
  process.stderr.write(`${scrub(isForPerson ? error.message : inspect(error))}\n`);
  return 1;
}
