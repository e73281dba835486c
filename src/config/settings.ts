export interface Setting {
  readonly name: string;
  /** The value that is used when the variable is unset, or null when there is none. */
  readonly default: string | null;
  /** What being unset means, for people, when there is no default. */
  readonly unset?: string;
  readonly meaning: string;
}

const EMBEDDED = 'the embedded server; required in production';

/**
 * Every environment variable that Halyard reads. The code takes its defaults from here, and a test
 * holds docs/configuration.md against it.
 */
export const SETTINGS = [
  { name: 'NODE_ENV', default: 'development', meaning: 'development, production or test' },
  { name: 'LOG_LEVEL', default: 'info', meaning: 'least severe level that is logged to stderr' },
  { name: 'HOST', default: '127.0.0.1', meaning: 'address the API listens on' },
  { name: 'PORT', default: '3000', meaning: 'port the API listens on; 0 takes any free one' },
  {
    name: 'METRICS_HOST',
    default: '127.0.0.1',
    meaning: 'address that /metrics for Prometheus is served on',
  },
  {
    name: 'METRICS_PORT',
    default: null,
    unset: 'api and worker serve none; start takes any free port',
    meaning: 'port that /metrics is served on; 0 takes any free one',
  },
  { name: 'DATABASE_URL', default: null, unset: EMBEDDED, meaning: 'owner, for migrate' },
  { name: 'AUTH_DATABASE_URL', default: null, unset: EMBEDDED, meaning: "the API's login" },
  { name: 'WORKER_DATABASE_URL', default: null, unset: EMBEDDED, meaning: "the worker's login" },
  {
    name: 'AUDITOR_DATABASE_URL',
    default: null,
    unset: 'AUTH_DATABASE_URL',
    meaning: 'a login that is granted halyard_auditor, for the audit commands',
  },
  {
    name: 'ROOT_DATABASE_URL',
    default: null,
    unset: 'none; required by setup',
    meaning: 'an administrator, for setup only',
  },
  {
    name: 'HALYARD_DATA_DIR',
    default: '.halyard',
    meaning: 'folder of the embedded database and the development secret',
  },
  {
    name: 'JWT_SECRET',
    default: null,
    unset: 'made at first start, kept in the data folder; production needs this or JWT_JWKS_URI',
    meaning:
      'secret that signs and verifies tokens, at least as long as the hash (32 bytes for HS256)',
  },
  {
    name: 'JWT_JWKS_URI',
    default: null,
    unset: 'none',
    meaning: "https address of the identity provider's public keys, instead of JWT_SECRET",
  },
  {
    name: 'JWT_ALGORITHMS',
    default: null,
    unset: 'HS256 with a secret, RS256,ES256 with JWT_JWKS_URI',
    meaning: 'comma-separated signature algorithms that are accepted, no others',
  },
  {
    name: 'JWT_AUDIENCE',
    default: null,
    unset: 'not checked',
    meaning: 'audience (aud) that a token must name',
  },
  {
    name: 'JWT_ISSUER',
    default: null,
    unset: 'not checked',
    meaning: 'issuer (iss) that a token must name',
  },
  { name: 'AUDIT_SINK', default: 'stdout', meaning: 'where audit events go: stdout or cloudwatch' },
  {
    name: 'AUDIT_LOG_GROUP',
    default: '/aws/lambda/lego-api-config-domain',
    meaning: 'CloudWatch log group',
  },
  {
    name: 'AUDIT_LOG_STREAM',
    default: null,
    unset: "the host's name",
    meaning: 'CloudWatch log stream; one per process that forwards',
  },
  {
    name: 'AUDIT_LEASE_MS',
    default: '15000',
    meaning:
      'milliseconds after which another worker forwards in place of one that is frozen or out of reach',
  },
  {
    name: 'AUDIT_RETENTION',
    default: null,
    unset: 'for ever',
    meaning: 'how long the worker keeps the audit trail, in whole months: 24 months, 7 years',
  },
  {
    name: 'SCHEDULE_RETENTION',
    default: null,
    unset: 'for ever',
    meaning:
      'days after which the worker deletes schedules: applied=90,cancelled=30, or one of them',
  },
] as const satisfies readonly Setting[];

/** Only these can be read, so that nothing is read that isn't documented. */
export type Name = (typeof SETTINGS)[number]['name'];

export type Reader = ReturnType<typeof makeReader>;

/**
 * Reads variables out of an environment, and collects problems instead of throwing, so that all of
 * them can be reported together.
 */
export function makeReader(env: NodeJS.ProcessEnv) {
  const problems: string[] = [];
  const defaults = new Map<Name, string | null>(SETTINGS.map((s) => [s.name, s.default]));

  for (const { name } of SETTINGS) {
    const value = env[name];
    // A secret mounted from a file often ends in a newline, and then no signature matches.
    if (value !== undefined && value !== value.trim())
      problems.push(`${name} has white space around its value: remove it.`);
  }

  /** The trimmed value, or null when the variable is unset or empty. */
  function optional(name: Name): string | null {
    const value = env[name]?.trim();
    return value === undefined || value === '' ? null : value;
  }

  function withDefault(name: Name): string {
    const value = optional(name) ?? defaults.get(name);
    if (value === undefined || value === null)
      throw new Error(`Give ${name} a default in SETTINGS.`);
    return value;
  }

  /** On a bad value the first of `allowed`: the problem is on record and loadConfig throws. */
  function oneOf<T extends string>(name: Name, allowed: readonly [T, ...T[]]): T {
    const value = withDefault(name);
    const known = allowed.find((candidate) => candidate === value);
    if (known === undefined)
      problems.push(`Set ${name} to one of ${allowed.join(', ')}; it is ${JSON.stringify(value)}.`);
    return known ?? allowed[0];
  }

  return { problems, optional, withDefault, oneOf };
}
