import { pino } from 'pino';
import { expect, onTestFinished, vi } from 'vitest';
import { loadConfig } from '../../src/config/config.ts';
import { makeGraphql } from '../../src/graphql/index.ts';
import { startEmbeddedPostgres } from '../../src/postgres/embedded/postgres.ts';
import { migrate } from '../../src/postgres/migrate.ts';
import { setUp, withDatabase } from '../../src/postgres/setup.ts';
import { startWorker } from '../../src/worker/runner.ts';
import { startTestApi } from './api.ts';
import { withClient, type TestDatabase } from './database.ts';
import { makeTestLog, type LogLine } from './log.ts';
import { loginsTo } from './migrated.ts';
import { makeDataDir, memoryFolder, removeDataDir } from './postgres_server.ts';
import { makeMemorySink } from './worker.ts';

/** Each setting that a database or a role may have and that something of Halyard's could depend on, at its worst. */
export const HOSTILE: Readonly<Record<string, string>> = {
  default_transaction_isolation: 'serializable',
  default_transaction_read_only: 'on',
  default_transaction_deferrable: 'on',
  row_security: 'off',
  session_replication_role: 'replica',
  synchronous_commit: 'off',
  standard_conforming_strings: 'off',
  escape_string_warning: 'off',
  backslash_quote: 'on',
  array_nulls: 'off',
  transform_null_equals: 'on',
  quote_all_identifiers: 'on',
  restrict_nonsystem_relation_kind: 'view, foreign-table',
  check_function_bodies: 'off',
  search_path: 'hostile',
  DateStyle: 'German, DMY',
  IntervalStyle: 'sql_standard',
  TimeZone: 'Asia/Kathmandu',
  timezone_abbreviations: 'India',
  extra_float_digits: '-15',
  bytea_output: 'escape',
  xmloption: 'document',
  client_min_messages: 'error',
  exit_on_error: 'on',
  statement_timeout: '3s',
  lock_timeout: '20ms',
  transaction_timeout: '3s',
  idle_in_transaction_session_timeout: '20ms',
  idle_session_timeout: '1s',
  jit: 'on',
  jit_above_cost: '0',
  plan_cache_mode: 'force_generic_plan',
  enable_nestloop: 'off',
  enable_indexscan: 'off',
  join_collapse_limit: '1',
  debug_parallel_query: 'on',
  work_mem: '64kB',
};

/** What a transaction says of itself, said beforehand: a DBA's own session that has these is believed, so no database has them here. */
export const FORGED: Readonly<Record<string, string>> = {
  'halyard.applying': '00000000-0000-0000-0000-000000000000',
  'halyard.request_id': 'forged',
  'halyard.client_request_id': 'forged',
  'jwt.claims.user_id': 'mallory',
  'jwt.claims.email': 'mallory@example.com',
  'jwt.claims.role': 'admin',
  'jwt.claims.environments': '["staging"]',
};

export interface HostileServer {
  readonly database: TestDatabase;
  stop(): Promise<void>;
}

const NAME = 'halyard';

/**
 * A server of its own on which everything is hostile, by its configuration and by settings of the database, set up and migrated
 * as an administrator does it.
 */
export async function startHostileServer(): Promise<HostileServer> {
  const dataDir = await makeDataDir(await memoryFolder());
  const server = await startEmbeddedPostgres({
    dataDir,
    log: pino({ level: 'warn' }),
    settings: { ...HOSTILE, fsync: 'off' },
  });
  const stop = async () => {
    await server.stop();
    await removeDataDir(dataDir, server.dataDir);
  };
  try {
    const rootUrl = withDatabase(server.superuserUrl, NAME);
    const logins = loginsTo(rootUrl, 'hostile', NAME);
    const { log } = makeTestLog();
    await setUp({ rootUrl: server.superuserUrl, ...logins, log });
    await makeDatabaseHostile(server.superuserUrl);
    await migrate(logins.ownerUrl, log);
    return { database: { name: NAME, rootUrl, ...logins, drop: () => Promise.resolve() }, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** A setting of the database wins over one of the server. */
async function makeDatabaseHostile(rootUrl: string): Promise<void> {
  await withClient(rootUrl, async (client) => {
    await client.query('set default_transaction_read_only = off');
    for (const [setting, text] of Object.entries(HOSTILE))
      await client.query(`alter database ${NAME} set ${setting} = '${text}'`);
  });
}

/** Statements of an administrator who knows what to set first. */
export async function asAdministrator(
  database: TestDatabase,
  ...statements: string[]
): Promise<void> {
  await withClient(database.rootUrl, async (client) => {
    for (const statement of ['set default_transaction_read_only = off', ...statements])
      await client.query(statement);
  });
}

/** API with GraphQL and worker, ready, until `stop`. */
export async function startServices(database: TestDatabase) {
  const api = await startTestApi(database.authenticatorUrl, { makeGraphql });
  const sink = makeMemorySink();
  const { log, lines } = makeTestLog();
  const config = loadConfig({ NODE_ENV: 'test' }, 'worker');
  const worker = await startWorker({
    config,
    databaseUrl: database.workerUrl,
    log,
    destinations: [{ destination: 'stdout', sink }],
  });
  const stop = () => Promise.all([api.close(), worker.stop()]);
  await vi.waitFor(async () => expect((await api.call('GET /readyz')).status).toBe(200), 10_000);
  return { api, sink, worker: { lines }, stop };
}

/** The same for the length of the test. */
export async function startBoth(database: TestDatabase) {
  const services = await startServices(database);
  onTestFinished(async () => {
    await services.stop();
  });
  return services;
}

/** What a log has of warnings and errors: a healthy process has none. */
export function complaints(lines: readonly LogLine[]): LogLine[] {
  return lines.filter(({ level }) => ['warn', 'error', 'fatal'].includes(String(level)));
}
