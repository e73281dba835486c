import { hostname } from 'node:os';
import path from 'node:path';
import { ConfigError } from './error.ts';
import { readSettings } from './reader.ts';
import { algorithmsOf, ruleProblems } from './rules.ts';
import { SETTINGS, type Command, type Values } from './settings.ts';

export { ConfigError, SETTINGS, type Command };
export type NodeEnv = Values['NODE_ENV'];

export interface Config {
  readonly nodeEnv: NodeEnv;
  readonly host: string;
  /** 0 means any free port. */
  readonly port: number;
  /** Where /metrics is served; 0 means any free port, null that no port was set. */
  readonly metrics: { readonly host: string; readonly port: number | null };
  readonly databaseUrl: string | null;
  readonly authDatabaseUrl: string | null;
  readonly workerDatabaseUrl: string | null;
  readonly auditorDatabaseUrl: string | null;
  readonly rootDatabaseUrl: string | null;
  /** Absolute. */
  readonly dataDir: string;
  readonly jwt: {
    readonly secret: string | null;
    readonly jwksUri: string | null;
    readonly algorithms: readonly string[];
    readonly audience: string | null;
    readonly issuer: string | null;
  };
  readonly audit: {
    readonly sink: 'stdout' | 'cloudwatch';
    readonly logGroup: string;
    readonly logStream: string;
    /** Milliseconds that a forwarder may be silent before another one takes over. */
    readonly leaseMs: number;
  };
  readonly logLevel: string;
}

/**
 * Validates the environment for one command.
 *
 * @throws ConfigError naming every problem at once, so that a deployment is put right in one round.
 */
export function loadConfig(env: NodeJS.ProcessEnv, command: Command): Config {
  const { values, problems } = readSettings(env);
  problems.push(...ruleProblems(values, command, (name) => (env[name] ?? '').trim() !== ''));
  if (problems.length > 0) throw new ConfigError(problems);
  return makeConfig(values);
}

/** loadConfig on this process's own environment, which nothing else may read. */
export function loadProcessConfig(command: Command): Config {
  return loadConfig(process.env, command);
}

function makeConfig(values: Values): Config {
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
    dataDir: path.resolve(values.HALYARD_DATA_DIR),
    jwt: Object.freeze({
      secret: values.JWT_SECRET,
      jwksUri: values.JWT_JWKS_URI,
      algorithms: Object.freeze(algorithmsOf(values)),
      audience: values.JWT_AUDIENCE,
      issuer: values.JWT_ISSUER,
    }),
    audit: Object.freeze({
      sink: values.AUDIT_SINK,
      logGroup: values.AUDIT_LOG_GROUP,
      logStream: values.AUDIT_LOG_STREAM ?? hostname(),
      leaseMs: values.AUDIT_LEASE_MS,
    }),
    logLevel: values.LOG_LEVEL,
  });
}
