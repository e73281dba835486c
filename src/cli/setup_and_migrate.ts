import { ConfigError, loadProcessConfig, type Config } from '../config/config.ts';
import { makeLogger, type Logger } from '../lib/log.ts';
import { migrate } from '../postgres/migrate.ts';
import { setUp } from '../postgres/setup.ts';
import { installWorkerSchema } from '../postgres/worker_schema.ts';
import { logWarnings } from './process_log.ts';

/** `halyard setup`: roles and database on a server of your own. */
export async function setup(): Promise<void> {
  const config = loadProcessConfig('setup');
  await setUp({
    rootUrl: required(config.rootDatabaseUrl, 'ROOT_DATABASE_URL'),
    ownerUrl: required(config.databaseUrl, 'DATABASE_URL'),
    authenticatorUrl: required(config.authDatabaseUrl, 'AUTH_DATABASE_URL'),
    workerUrl: required(config.workerDatabaseUrl, 'WORKER_DATABASE_URL'),
    limits: config.connectionLimits,
    log: commandLog(config, 'setup'),
  });
}

/** `halyard migrate`: the database brought up to date, as its owner. */
export async function migrateOnce(): Promise<void> {
  const config = loadProcessConfig('migrate');
  await migrate(required(config.databaseUrl, 'DATABASE_URL'), commandLog(config, 'migrate'));
}

/** `halyard install-worker-schema URL`: graphile-migrate's hook, for its own database and for its shadow. */
export async function installSchema(databaseUrl: string): Promise<void> {
  const config = loadProcessConfig('schema');
  await installWorkerSchema(databaseUrl, commandLog(config, 'migrate'));
}

function commandLog(config: Config, name: string): Logger {
  const log = makeLogger(config, name);
  logWarnings(log);
  return log;
}

function required(value: string | null, name: string): string {
  if (value === null) throw new ConfigError([`Set ${name}: this command needs it.`]);
  return value;
}
