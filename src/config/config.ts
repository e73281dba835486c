import { hostname } from 'node:os';
import path from 'node:path';

import { makeReader, SETTINGS } from './settings.ts';
import type { Name, Reader } from './settings.ts';

export { SETTINGS };

export type Command =
  'start' | 'api' | 'worker' | 'migrate' | 'setup' | 'token' | 'schema' | 'audit';
export type NodeEnv = 'development' | 'production' | 'test';

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
  readonly retention: {
    /** An interval of whole months, as PostgreSQL reads it; null keeps the trail for ever. */
    readonly audit: string | null;
    /** Days; null keeps them for ever. */
    readonly schedules: { readonly applied: number | null; readonly cancelled: number | null };
  };
  readonly logLevel: string;
}

const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
const SECRET_ALGORITHMS = ['HS256', 'HS384', 'HS512'];
const KEY_ALGORITHMS = ['RS', 'ES', 'PS'].flatMap((kind) =>
  [256, 384, 512].map((n) => `${kind}${n}`),
);

/** What a command can't do without. In development the embedded server stands in, except for setup. */
const REQUIRED_DATABASES: Record<Command, readonly Name[]> = {
  start: ['DATABASE_URL', 'AUTH_DATABASE_URL', 'WORKER_DATABASE_URL'],
  api: ['AUTH_DATABASE_URL'],
  worker: ['WORKER_DATABASE_URL'],
  migrate: ['DATABASE_URL'],
  setup: ['ROOT_DATABASE_URL', 'DATABASE_URL', 'AUTH_DATABASE_URL', 'WORKER_DATABASE_URL'],
  token: [],
  schema: [],
  // Each subcommand needs another one: src/cli/audit/connect.ts.
  audit: [],
};

/** Thrown by loadConfig; `problems` holds one sentence for each, without any secret in it. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(
      `Halyard can't start with this configuration:\n${problems.map((p) => `- ${p}`).join('\n')}`,
    );
    this.problems = problems;
  }
}

/**
 * Validates the environment for one command.
 *
 * @throws ConfigError naming every problem at once, so that a deployment is put right in one round.
 */
export function loadConfig(env: NodeJS.ProcessEnv, command: Command): Config {
  const reader = makeReader(env);
  const nodeEnv = readNodeEnv(reader);
  const config: Config = {
    nodeEnv,
    host: readHost(reader, 'HOST'),
    port: readPort(reader, 'PORT', reader.withDefault('PORT')),
    metrics: Object.freeze(readMetrics(reader)),
    databaseUrl: readDatabaseUrl(reader, 'DATABASE_URL'),
    authDatabaseUrl: readDatabaseUrl(reader, 'AUTH_DATABASE_URL'),
    workerDatabaseUrl: readDatabaseUrl(reader, 'WORKER_DATABASE_URL'),
    auditorDatabaseUrl: readDatabaseUrl(reader, 'AUDITOR_DATABASE_URL'),
    rootDatabaseUrl: readDatabaseUrl(reader, 'ROOT_DATABASE_URL'),
    dataDir: path.resolve(reader.withDefault('HALYARD_DATA_DIR')),
    jwt: Object.freeze(readJwt(reader)),
    audit: Object.freeze(readAudit(reader)),
    retention: Object.freeze(readRetention(reader)),
    logLevel: reader.oneOf('LOG_LEVEL', LOG_LEVELS),
  };
  checkDatabases(reader, command, nodeEnv);
  checkTokenSource(reader, command, nodeEnv);
  if (reader.problems.length > 0) throw new ConfigError(reader.problems);
  return Object.freeze(config);
}

/** loadConfig on this process's own environment, which nothing else may read. */
export function loadProcessConfig(command: Command): Config {
  return loadConfig(process.env, command);
}

/** An unknown NODE_ENV counts as production for the rest, so that nothing goes unreported. */
function readNodeEnv(reader: Reader): NodeEnv {
  return reader.oneOf('NODE_ENV', ['production', 'development', 'test']);
}

function readHost(reader: Reader, name: 'HOST' | 'METRICS_HOST'): string {
  const host = reader.withDefault(name);
  if (!/^[\w.:-]+$/.test(host))
    reader.problems.push(
      `Set ${name} to a host name or address without brackets, such as 127.0.0.1.`,
    );
  return host;
}

function readPort(reader: Reader, name: 'PORT' | 'METRICS_PORT', value: string): number {
  const port = /^\d{1,5}$/.test(value) ? Number(value) : Number.NaN;
  if (!(port <= 65_535))
    reader.problems.push(
      `Set ${name} to a whole number from 0 to 65535; it is ${JSON.stringify(value)}.`,
    );
  return port;
}

function readMetrics(reader: Reader): Config['metrics'] {
  const port = reader.optional('METRICS_PORT');
  return {
    host: readHost(reader, 'METRICS_HOST'),
    port: port === null ? null : readPort(reader, 'METRICS_PORT', port),
  };
}

function readDatabaseUrl(reader: Reader, name: Name): string | null {
  const value = reader.optional(name);
  if (value === null) return null;
  const url = URL.canParse(value) ? new URL(value) : null;
  // The value holds a password, so it is never quoted.
  if (url === null || !['postgres:', 'postgresql:'].includes(url.protocol))
    reader.problems.push(
      `Set ${name} to an address such as postgres://user:password@host:5432/database.`,
    );
  else if (!isPercentEncoded(url.username) || !isPercentEncoded(url.password))
    reader.problems.push(`Percent-encode the user and the password in ${name}: % is written %25.`);
  return value;
}

function isPercentEncoded(text: string): boolean {
  return !/%(?![0-9a-f]{2})/i.test(text);
}

function readJwt(reader: Reader): Config['jwt'] {
  const secret = reader.optional('JWT_SECRET');
  const jwksUri = reader.optional('JWT_JWKS_URI');
  const algorithms = readAlgorithms(reader, jwksUri === null ? SECRET_ALGORITHMS : KEY_ALGORITHMS);
  if (secret !== null && jwksUri !== null)
    reader.problems.push(
      'Set JWT_SECRET or JWT_JWKS_URI, not both: one of them must be in charge.',
    );
  if (secret !== null) checkSecret(reader, secret, algorithms);
  if (jwksUri !== null) checkJwksUri(reader, jwksUri);
  return {
    secret,
    jwksUri,
    algorithms: Object.freeze(algorithms),
    audience: reader.optional('JWT_AUDIENCE'),
    issuer: reader.optional('JWT_ISSUER'),
  };
}

/** Never a mix: a public key must not become the secret of an HS* signature. */
function readAlgorithms(reader: Reader, allowed: readonly string[]): string[] {
  const value = reader.optional('JWT_ALGORITHMS');
  if (value === null) return allowed.filter((a) => ['HS256', 'RS256', 'ES256'].includes(a));
  const algorithms = value.split(',').map((algorithm) => algorithm.trim());
  if (algorithms.some((algorithm) => !allowed.includes(algorithm)))
    reader.problems.push(
      `Set JWT_ALGORITHMS to some of ${allowed.join(', ')}, separated by commas: ` +
        'HS* goes with JWT_SECRET; RS*, ES* and PS* go with JWT_JWKS_URI.',
    );
  return [...new Set(algorithms)];
}

/** RFC 7518 §3.2: the key of an HMAC is at least as long as its hash. */
function checkSecret(reader: Reader, secret: string, algorithms: readonly string[]): void {
  const bits = algorithms
    .filter((a) => SECRET_ALGORITHMS.includes(a))
    .map((a) => Number(a.slice(2)));
  const bytes = Math.max(256, ...bits) / 8;
  if (Buffer.byteLength(secret) < bytes)
    reader.problems.push(`Set JWT_SECRET to at least ${bytes} bytes: openssl rand -base64 48.`);
  if (secret.includes('-----BEGIN'))
    reader.problems.push(
      'JWT_SECRET holds a PEM key: serve public keys by JWT_JWKS_URI, or set a random secret.',
    );
}

function checkJwksUri(reader: Reader, uri: string): void {
  const url = URL.canParse(uri) ? new URL(uri) : null;
  const loopback = url !== null && /^(localhost|127(\.\d+){3}|\[::1\])$/.test(url.hostname);
  if (url === null || !(url.protocol === 'https:' || (url.protocol === 'http:' && loopback)))
    reader.problems.push('Set JWT_JWKS_URI to an https address (http is for loopback only).');
  else if (url.username !== '' || url.password !== '')
    reader.problems.push('Remove the user and password from JWT_JWKS_URI: public keys need none.');
}

/** Names by the rules of CloudWatch's CreateLogGroup and CreateLogStream. */
function readAudit(reader: Reader): Config['audit'] {
  const logGroup = reader.withDefault('AUDIT_LOG_GROUP');
  const logStream = reader.optional('AUDIT_LOG_STREAM') ?? hostname();
  if (!/^[\w./#-]{1,512}$/.test(logGroup) || logGroup.startsWith('aws/'))
    reader.problems.push(
      "Set AUDIT_LOG_GROUP to 1 to 512 of a-z A-Z 0-9 _ - / . # that don't start with aws/.",
    );
  if (!/^[^:*]{1,512}$/.test(logStream))
    reader.problems.push('Set AUDIT_LOG_STREAM to 1 to 512 characters without : and *.');
  const sink = reader.oneOf('AUDIT_SINK', ['stdout', 'cloudwatch']);
  return { sink, logGroup, logStream, leaseMs: readLease(reader) };
}

/** Shorter, and a moment's standstill looks like the end; longer, and the trail waits for somebody who is gone. */
function readLease(reader: Reader): number {
  const value = reader.withDefault('AUDIT_LEASE_MS');
  const ms = /^\d{1,6}$/.test(value) ? Number(value) : Number.NaN;
  if (!(ms >= 1_000 && ms <= 600_000))
    reader.problems.push(
      `Set AUDIT_LEASE_MS to a whole number from 1000 to 600000; it is ${JSON.stringify(value)}.`,
    );
  return ms;
}

function readRetention(reader: Reader): Config['retention'] {
  const audit = reader.optional('AUDIT_RETENTION');
  if (audit !== null && !/^[1-9]\d{0,2} (month|year)s?$/.test(audit))
    reader.problems.push(
      `Set AUDIT_RETENTION to whole months or years, as in 24 months; it is ${JSON.stringify(audit)}.`,
    );
  const schedules = reader.optional('SCHEDULE_RETENTION');
  const days = new Map(
    (schedules ?? '').split(',').map((part) => {
      const [, status, count] = /^(applied|cancelled)=([1-9]\d{0,4})$/.exec(part.trim()) ?? [];
      return [status ?? '', Number(count)];
    }),
  );
  if (schedules !== null && (days.has('') || days.size !== schedules.split(',').length))
    reader.problems.push(
      `Set SCHEDULE_RETENTION to days, as in applied=90,cancelled=30; it is ${JSON.stringify(schedules)}.`,
    );
  const kept = { applied: days.get('applied') ?? null, cancelled: days.get('cancelled') ?? null };
  return { audit, schedules: Object.freeze(kept) };
}

function checkDatabases(reader: Reader, command: Command, nodeEnv: NodeEnv): void {
  const set = (name: Name) => reader.optional(name) !== null;
  if (nodeEnv === 'production' || command === 'setup') {
    for (const name of REQUIRED_DATABASES[command].filter((name) => !set(name)))
      reader.problems.push(`Set ${name}: ${command} needs it.`);
  } else if (command === 'start' && !set('DATABASE_URL')) {
    // Half of it on the embedded server and half on another would migrate one and serve the other.
    for (const name of ['AUTH_DATABASE_URL', 'WORKER_DATABASE_URL'] as const)
      if (set(name)) reader.problems.push(`Set DATABASE_URL as well, or unset ${name}.`);
  }
}

function checkTokenSource(reader: Reader, command: Command, nodeEnv: NodeEnv): void {
  const secret = reader.optional('JWT_SECRET') !== null;
  const jwks = reader.optional('JWT_JWKS_URI') !== null;
  const verifies = command === 'api' || command === 'start';
  if (nodeEnv === 'production' && verifies && !secret && !jwks)
    reader.problems.push("Set JWT_SECRET or JWT_JWKS_URI: the API can't verify tokens without.");
  if (command === 'token' && jwks)
    reader.problems.push(
      'Unset JWT_JWKS_URI, or ask your identity provider: token signs by secret.',
    );
  else if (command === 'token' && nodeEnv === 'production' && !secret)
    reader.problems.push('Set JWT_SECRET: token signs with it.');
}
