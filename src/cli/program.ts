import { readFileSync } from 'node:fs';
import { Command, InvalidArgumentError, Option, type OutputConfiguration } from 'commander';
import { addAuditCommand } from './audit.ts';
import { addPlanCommands } from './plans.ts';
import type { AcceptArguments } from './restore.ts';
import type { StartArguments } from './start.ts';
import type { TokenArguments } from './token.ts';

/**
 * The command line. The code of a command is loaded when that command runs; help, version and bad arguments run nothing.
 *
 * @param output where help and errors go; stdout and stderr by default
 * @returns a program whose parseAsync rejects with a CommanderError in place of ending the process: exitCode 0 after help and
 *   version, else the arguments are bad
 */
export function makeProgram(output: OutputConfiguration = {}): Command {
  const program = new Command('npm run halyard --')
    .description('Schedules feature-flag changes, applies them on time, and proves who did what.')
    .version(version(), '--version', 'print the version')
    .helpOption('-h, --help', 'print this help')
    .exitOverride()
    .configureOutput(output)
    .addHelpText('after', '\nWhat can be set, and where: docs/configuration.md.');
  addServices(program);
  addAuditCommand(program);
  addPlanCommands(program);
  addSettings(program);
  addRestore(program);
  addToken(program);
  program
    .command('install-worker-schema', { hidden: true })
    .description('install graphile-worker’s schema alone; graphile-migrate calls it')
    .argument('<url>', 'the owner’s URL')
    .action(async (url: string) => (await import('./setup_and_migrate.ts')).installSchema(url));
  finish(program);
  return program;
}

function addServices(program: Command): void {
  program
    .command('start')
    .description('run everything at once, on the embedded PostgreSQL unless DATABASE_URL is set')
    .option('--demo', 'on a database of its own, with flags and people to look at')
    .action(async (options: StartArguments) => (await import('./start.ts')).start(options));
  program
    .command('setup')
    .description('make roles and database, once, with an administrator’s ROOT_DATABASE_URL')
    .action(async () => (await import('./setup_and_migrate.ts')).setup());
  program
    .command('migrate')
    .description('bring the database up to date; one deploy step, before api and worker')
    .action(async () => (await import('./setup_and_migrate.ts')).migrateOnce());
  program
    .command('api')
    .description('run the GraphQL and REST server')
    .action(async () => (await import('./api.ts')).api());
  program
    .command('worker')
    .description('run the worker, which applies due schedules and forwards the audit trail')
    .action(async () => (await import('./worker.ts')).worker());
}

function addSettings(program: Command): void {
  const settings = program
    .command('settings')
    .description('list or set the settings in the database')
    .addHelpText('after', '\nEach is explained in docs/configuration.md.');
  settings
    .command('list')
    .description('print every setting with its value, default and revision')
    .action(async () => (await import('./settings.ts')).list());
  settings
    .command('set')
    .description('set one setting, with the owner’s DATABASE_URL')
    .argument('<name>', 'the setting, as settings list prints it')
    .argument('<value>', "its new value; '' where empty is allowed")
    .action(async (name: string, value: string) =>
      (await import('./settings.ts')).set(name, value),
    );
}

function addRestore(program: Command): void {
  const restore = program
    .command('restore')
    .description('decide about a database that was restored from an older state')
    .addHelpText('after', '\nWhat to do, step by step: docs/operations.md, Backup and restore.');
  restore
    .command('status')
    .description('say whether a destination has more of the trail than the database')
    .action(async () => (await import('./restore.ts')).status());
  restore
    .command('accept')
    .description(
      'accept the loss of what the trail had after this state, with the owner’s DATABASE_URL',
    )
    .requiredOption('--reason <text>', 'why, for the audit trail: 1 to 500 characters')
    .addOption(
      new Option('--overdue <what>', 'schedules that the lost history may have applied')
        .choices(['apply', 'skip'])
        .conflicts('asCopy'),
    )
    .option('--as-copy', 'make a database of its own of it: cancel all that is pending')
    .option('--dry-run', 'only print what would be done')
    .action(async (options: AcceptArguments) => (await import('./restore.ts')).accept(options));
}

function addToken(program: Command): void {
  program
    .command('token')
    .description('print a signed token')
    .addOption(
      new Option('--role <role>', 'what the token allows')
        .choices(['admin', 'auditor', 'viewer'])
        .makeOptionMandatory(),
    )
    .option('--user-id <id>', 'whom the audit trail names')
    .option('--email <address>', 'the user’s e-mail address')
    .option('--environments <names>', 'the only environments it reaches, as in a,b', names)
    .option(
      '--expires-in <span>',
      'its life: seconds, or a span such as 15m, 12h (the default) or 30d',
    )
    .action(async (options: TokenArguments) => (await import('./token.ts')).token(options));
}

/** An empty name is a slip, such as an unset variable of a script; it must not become a token for nothing or for all. */
function names(list: string): string[] {
  const environments = list.split(',').map((name) => name.trim());
  if (environments.includes(''))
    throw new InvalidArgumentError('Give names separated by commas, as in staging,production.');
  return environments;
}

/** Behind an error comes the usage of the command concerned, with its subcommands when it has some. --help is the only help. */
function finish(command: Command): void {
  command.helpCommand(false);
  for (const option of command.options) if (option.required) refuseOptions(option);
  // commander prints the help of a group also when an unknown command stands before --help.
  if (command.commands.length > 0)
    command.addHelpText('before', ({ error }) => {
      const unknown = command.args.find((arg) => !arg.startsWith('-'));
      if (!error && unknown !== undefined) command.error(`error: unknown command '${unknown}'`);
      return '';
    });
  command.showHelpAfterError(
    command.commands.length > 0 || `Usage: ${command.createHelp().commandUsage(command)}`,
  );
  for (const subcommand of command.commands) finish(subcommand);
}

/** A value that looks like an option is a slip, such as an unset variable of a script before it. `-` alone is a file. */
function refuseOptions(option: Option): void {
  const read = option.parseArg as ((value: string, previous: unknown) => unknown) | undefined;
  option.argParser((value, previous: unknown) => {
    if (/^-./.test(value))
      throw new InvalidArgumentError("Give a value that doesn't begin with a dash.");
    return read === undefined ? value : read(value, previous);
  });
}

function version(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}
