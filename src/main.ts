import { enableCompileCache } from 'node:module';
import { fileURLToPath } from 'node:url';
import { inspect, parseArgs } from 'node:util';
import { ConfigError } from './config/error.ts';
import { EmbeddedPostgresError } from './postgres/embedded/error.ts';
import { scrub } from './lib/log.ts';

/** One command of the command line: what it is for, and the code that runs it, loaded only then. */
interface Command {
  readonly summary: string;
  readonly run: (args: string[]) => Promise<void>;
}

const COMMANDS: Record<string, Command> = {
  start: {
    summary: 'everything at once, on the embedded PostgreSQL unless DATABASE_URL is set',
    run: async () => (await import('./cli/start.ts')).start(),
  },
  setup: {
    summary: 'roles and database, once, with an administrator’s ROOT_DATABASE_URL',
    run: async () => (await import('./cli/setup_and_migrate.ts')).setup(),
  },
  migrate: {
    summary: 'bring the database up to date; one deploy step, before api and worker',
    run: async () => (await import('./cli/setup_and_migrate.ts')).migrateOnce(),
  },
  api: {
    summary: 'the GraphQL and REST server',
    run: async () => (await import('./cli/api.ts')).api(),
  },
  worker: {
    summary: 'applies due schedules and forwards the audit trail',
    run: async () => (await import('./cli/worker.ts')).worker(),
  },
  audit: {
    summary: 'the trail: verify, prove, and more; alone, it lists its subcommands',
    run: async (args) => (await import('./cli/audit.ts')).audit(args),
  },
  token: {
    summary:
      'a signed token: --role admin --user-id alice --email alice@example.com [--environments a,b] [--expires-in 1h]',
    run: async (args) => (await import('./cli/token.ts')).token(args),
  },
  'install-worker-schema': {
    summary: 'graphile-worker’s schema alone; called by graphile-migrate with the owner’s URL',
    run: async (args) => (await import('./cli/setup_and_migrate.ts')).installSchema(args),
  },
};

function usage(): string {
  const width = Math.max(...Object.keys(COMMANDS).map((name) => name.length));
  const lines = Object.entries(COMMANDS).map(
    ([name, { summary }]) => `  ${name.padEnd(width)}  ${summary}`,
  );
  return `Usage: npm run halyard -- COMMAND\n\n${lines.join('\n')}\n\nSettings are environment variables: docs/configuration.md.\n`;
}

/**
 * Compiled code from the last start, which halves this one. Beside the code that it is made of, because whoever can write there
 * can run code here: the temporary folder is everybody's. Where it can't be written, nothing is kept.
 */
const COMPILED = fileURLToPath(new URL('../node_modules/.cache/halyard', import.meta.url));

async function main(): Promise<void> {
  enableCompileCache(COMPILED);
  const { positionals } = parseArgs({ allowPositionals: true, strict: false });
  const name = positionals[0];
  const command = name === undefined ? undefined : COMMANDS[name];
  if (name === undefined || command === undefined) {
    process.stderr.write(
      name === undefined ? usage() : `There is no command ${name}.\n\n${usage()}`,
    );
    process.exitCode = 2;
    return;
  }
  await command.run(process.argv.slice(process.argv.indexOf(name) + 1));
}

main().catch((error: unknown) => {
  // What a person can put right is one message; anything else may be a defect and keeps its stack and its causes.
  const forPerson = error instanceof ConfigError || error instanceof EmbeddedPostgresError;
  process.stderr.write(`${forPerson ? error.message : scrub(inspect(error))}\n`);
  process.exitCode = 1;
});
