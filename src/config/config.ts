import path from 'node:path';
import { SINK_SETTINGS } from '../audit/delivery/sinks/index.ts';
import { ConfigError } from './error.ts';
import { algorithmsOf, ruleProblems } from './rules.ts';
import { z } from '../lib/zod.ts';
import type { Command } from './setting.ts';
import { SETTINGS, type Values } from './settings.ts';

export { ConfigError, type Command };
export type NodeEnv = Values['NODE_ENV'];

/** What a command works with. docs/configuration.md says what each setting means, and its unit. */
export type Config = ReturnType<typeof makeConfig>;

/**
 * Validates the environment for one command.
 *
 * @throws ConfigError naming every problem at once, so that a deployment is put right in one round.
 */
export function loadConfig(env: NodeJS.ProcessEnv, command: Command): Config {
  const { values, problems } = readSettings(env);
  problems.push(...ruleProblems(values, command, (name) => (env[name] ?? '').trim() !== ''));
  if (problems.length > 0) throw new ConfigError(problems);
  return makeConfig(values, command);
}

/** loadConfig on this process's own environment, which nothing else may read. */
export function loadProcessConfig(command: Command): Config {
  return loadConfig(process.env, command);
}

/** The values of all settings, null in place of a bad one, and a sentence for each mistake. */
function readSettings(env: NodeJS.ProcessEnv): { values: Values; problems: string[] } {
  const problems: string[] = [];
  const values: Record<string, unknown> = {};
  for (const [name, setting] of Object.entries(SETTINGS)) {
    const given = env[name] ?? '';
    const text = given.trim();
    // A secret that was read from a file often ends in a newline, and then no signature matches.
    if (given !== text) problems.push(`${name} has white space around its value: remove it.`);
    const result = z.nullable(setting.schema).safeParse(text || (setting.default ?? null));
    values[name] = result.data ?? null;
    if (result.success) continue;
    const quoted =
      z.globalRegistry.get(setting.schema)?.secret === true
        ? ''
        : `; it is ${JSON.stringify(text)}`;
    problems.push(`Set ${name} to ${result.error.issues[0]?.message ?? 'another value'}${quoted}.`);
  }
  return { values: values as Values, problems };
}

function makeConfig(values: Values, command: Command) {
  const dataDir = path.resolve(values.HALYARD_DATA_DIR);
  const isEmbedded = command === 'start' && values.DATABASE_URL === null;
  return Object.freeze({
    nodeEnv: values.NODE_ENV,
    host: values.HOST,
    port: values.PORT,
    metrics: Object.freeze({ host: values.METRICS_HOST, port: values.METRICS_PORT }),
    databaseUrl: values.DATABASE_URL,
    authDatabaseUrl: values.AUTH_DATABASE_URL,
    workerDatabaseUrl: values.WORKER_DATABASE_URL,
    auditorDatabaseUrl: values.AUDITOR_DATABASE_URL,
    rootDatabaseUrl: values.ROOT_DATABASE_URL,
    connectionLimits: Object.freeze({
      api: values.API_CONNECTION_LIMIT,
      worker: values.WORKER_CONNECTION_LIMIT,
      reader: values.READER_CONNECTION_LIMIT,
    }),
    dataDir,
    jwt: Object.freeze({
      secret: values.JWT_SECRET,
      jwksUri: values.JWT_JWKS_URI,
      algorithms: Object.freeze(algorithmsOf(values)),
      audience: values.JWT_AUDIENCE,
      issuer: values.JWT_ISSUER,
      claims: Object.freeze({
        userId: values.JWT_USER_ID_CLAIM,
        email: values.JWT_EMAIL_CLAIM,
        role: values.JWT_ROLE_CLAIM,
        roleMap: values.JWT_ROLE_MAP,
        environments: values.JWT_ENVIRONMENTS_CLAIM,
        audience: values.JWT_AUDIENCE_CLAIM,
      }),
    }),
    console: Object.freeze({
      url: values.CONSOLE_URL,
      sessionKey: values.SESSION_KEY,
      oidc:
        values.OIDC_ISSUER === null || values.OIDC_CLIENT_ID === null
          ? null
          : Object.freeze({
              issuer: values.OIDC_ISSUER,
              clientId: values.OIDC_CLIENT_ID,
              clientSecret: values.OIDC_CLIENT_SECRET,
              scopes: values.OIDC_SCOPES,
              name: values.OIDC_NAME ?? new URL(values.OIDC_ISSUER).host,
            }),
    }),
    limits: Object.freeze({
      socketsPerUser: values.SOCKETS_PER_USER,
      subscriptionsPerUser: values.SUBSCRIPTIONS_PER_USER,
      queuePerUser: values.QUEUE_PER_USER,
      streams: values.STREAMS,
      streamsPerUser: values.STREAMS_PER_USER,
      streamWriteMs: values.STREAM_WRITE_TIMEOUT * 1_000,
    }),
    audit: Object.freeze({
      /** The names of the sinks; `file` is the embedded server's own. */
      sinks: Object.freeze(values.AUDIT_SINK ?? [isEmbedded ? 'file' : 'stdout']),
      /** What was read of the sinks' settings, by variable. */
      values: Object.freeze(
        Object.fromEntries(
          Object.keys(SINK_SETTINGS).map((name) => [
            name,
            (values as Record<string, unknown>)[name],
          ]),
        ),
      ),
      leaseMs: values.AUDIT_LEASE_MS,
    }),
    logLevel: values.LOG_LEVEL,
    logFormat: values.LOG_FORMAT,
  });
}
