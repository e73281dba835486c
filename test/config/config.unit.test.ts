import path from 'node:path';

import { describe, expect, test } from 'vitest';

import { ConfigError, loadConfig } from '../../src/config/config.ts';
import type { Command } from '../../src/config/config.ts';
import type { Setting } from '../../src/config/setting.ts';
import { SETTINGS } from '../../src/config/settings.ts';

const DATABASES = {
  DATABASE_URL: 'postgres://halyard_owner:pw1@db.example/halyard',
  AUTH_DATABASE_URL: 'postgres://halyard_authenticator:pw2@db.example/halyard',
  WORKER_DATABASE_URL: 'postgres://halyard_worker:pw3@db.example/halyard',
};
const SECRET = '0123456789abcdef0123456789abcdef';

function problems(env: NodeJS.ProcessEnv, command: Command = 'start'): readonly string[] {
  try {
    loadConfig(env, command);
    return [];
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.problems;
  }
}

/** What each problem is about: the first variable that its sentence names. */
const blamed = (env: NodeJS.ProcessEnv, command?: Command) =>
  problems(env, command).map((problem) =>
    problem.match(/\w+/g)?.find((word) => Object.hasOwn(SETTINGS, word)),
  );

test('an empty environment gives the documented defaults, frozen throughout', () => {
  const config = loadConfig({}, 'start');
  expect(config).toEqual({
    nodeEnv: 'development',
    host: '127.0.0.1',
    port: 3000,
    metrics: { host: '127.0.0.1', port: null },
    databaseUrl: null,
    authDatabaseUrl: null,
    workerDatabaseUrl: null,
    auditorDatabaseUrl: null,
    rootDatabaseUrl: null,
    connectionLimits: { api: null, worker: null, reader: 5 },
    dataDir: path.resolve('.halyard'),
    jwt: {
      ...{ secret: null, jwksUri: null, algorithms: ['HS256'], audience: null, issuer: null },
      claims: {
        ...{ userId: null, email: null, role: null, roleMap: null, environments: null },
        audience: 'aud',
      },
    },
    limits: {
      socketsPerUser: 100,
      subscriptionsPerUser: 200,
      queuePerUser: 256,
      streams: 50,
      streamsPerUser: 10,
      streamWriteMs: 60_000,
    },
    audit: {
      sinks: ['file'],
      values: {
        AUDIT_LOG_GROUP: '/aws/lambda/lego-api-config-domain',
        AUDIT_LOG_STREAM: null,
        ...{ WEBHOOK_URL: null, WEBHOOK_SECRET: null, WEBHOOK_EVENTS: null },
        ...{ WEBHOOK_FORMAT: 'standard', WEBHOOK_ALLOW_PRIVATE: false },
      },
      leaseMs: 5_000,
    },
    logLevel: 'info',
    logFormat: null,
  });
  const { jwt, audit, metrics, limits, connectionLimits } = config;
  for (const part of [
    ...[config, jwt, jwt.algorithms, jwt.claims, audit, audit.sinks, audit.values],
    ...[metrics, limits, connectionLimits],
  ])
    expect(Object.isFrozen(part)).toBe(true);
});

test('an empty variable counts as unset', () => {
  const empty = Object.fromEntries(Object.keys(SETTINGS).map((name) => [name, '']));
  expect(loadConfig(empty, 'start')).toEqual(loadConfig({}, 'start'));
});

test('every variable arrives', () => {
  const config = loadConfig(
    {
      ...DATABASES,
      NODE_ENV: 'production',
      LOG_LEVEL: 'silent',
      LOG_FORMAT: 'text',
      HOST: '::',
      PORT: '0',
      METRICS_HOST: '0.0.0.0',
      METRICS_PORT: '9464',
      SOCKETS_PER_USER: '2',
      SUBSCRIPTIONS_PER_USER: '3',
      AUDITOR_DATABASE_URL: 'postgres://dana:pw4@db.example/halyard',
      ROOT_DATABASE_URL: 'postgresql:///postgres?host=/run/postgresql',
      API_CONNECTION_LIMIT: '60',
      WORKER_CONNECTION_LIMIT: '0',
      READER_CONNECTION_LIMIT: '3',
      HALYARD_DATA_DIR: '/var/lib/halyard',
      JWT_JWKS_URI: 'https://issuer.example/jwks',
      JWT_ALGORITHMS: 'PS256, ES256',
      JWT_AUDIENCE: 'halyard',
      JWT_ISSUER: 'https://issuer.example',
      JWT_AUDIENCE_CLAIM: 'client_id',
      JWT_ROLE_CLAIM: 'realm_access.roles',
      JWT_ROLE_MAP: 'platform admins=admin, ops=viewer,a=b=auditor',
      JWT_USER_ID_CLAIM: 'oid',
      JWT_EMAIL_CLAIM: 'https://example.com/email',
      JWT_ENVIRONMENTS_CLAIM: 'envs',
      QUEUE_PER_USER: '8',
      STREAMS: '7',
      STREAMS_PER_USER: '6',
      STREAM_WRITE_TIMEOUT: '5',
      AUDIT_SINK: 'cloudwatch',
      AUDIT_LOG_GROUP: 'halyard/audit',
      AUDIT_LOG_STREAM: 'worker 1',
      AUDIT_LEASE_MS: '5000',
    },
    'start',
  );
  expect(config).toEqual({
    nodeEnv: 'production',
    logLevel: 'silent',
    logFormat: 'text',
    host: '::',
    port: 0,
    metrics: { host: '0.0.0.0', port: 9464 },
    databaseUrl: DATABASES.DATABASE_URL,
    authDatabaseUrl: DATABASES.AUTH_DATABASE_URL,
    workerDatabaseUrl: DATABASES.WORKER_DATABASE_URL,
    auditorDatabaseUrl: 'postgres://dana:pw4@db.example/halyard',
    rootDatabaseUrl: 'postgresql:///postgres?host=/run/postgresql',
    connectionLimits: { api: 60, worker: 0, reader: 3 },
    dataDir: '/var/lib/halyard',
    jwt: {
      secret: null,
      jwksUri: 'https://issuer.example/jwks',
      algorithms: ['PS256', 'ES256'],
      audience: 'halyard',
      issuer: 'https://issuer.example',
      claims: {
        userId: 'oid',
        email: 'https://example.com/email',
        role: 'realm_access.roles',
        roleMap: new Map([
          ['platform admins', 'admin'],
          ['ops', 'viewer'],
          ['a=b', 'auditor'],
        ]),
        environments: 'envs',
        audience: 'client_id',
      },
    },
    limits: {
      socketsPerUser: 2,
      subscriptionsPerUser: 3,
      queuePerUser: 8,
      streams: 7,
      streamsPerUser: 6,
      streamWriteMs: 5_000,
    },
    audit: {
      sinks: ['cloudwatch'],
      values: {
        ...{ AUDIT_LOG_GROUP: 'halyard/audit', AUDIT_LOG_STREAM: 'worker 1' },
        ...{ WEBHOOK_URL: null, WEBHOOK_SECRET: null, WEBHOOK_EVENTS: null },
        ...{ WEBHOOK_FORMAT: 'standard', WEBHOOK_ALLOW_PRIVATE: false },
      },
      leaseMs: 5_000,
    },
  });
});

test.for<[Command, NodeJS.ProcessEnv, string]>([
  ['start', {}, 'file'],
  ['start', { AUDIT_SINK: 'stdout' }, 'stdout'],
  ['start', { AUDIT_SINK: 'stdout, cloudwatch' }, 'stdout,cloudwatch'],
  ['start', DATABASES, 'stdout'],
  ['worker', {}, 'stdout'],
])('the trail of %s with %j goes to %s', ([command, env, sink]) => {
  expect(loadConfig(env, command).audit.sinks.join(',')).toBe(sink);
});

test('the default algorithms fit the source of keys', () => {
  const jwks = loadConfig({ JWT_JWKS_URI: 'https://issuer.example/jwks' }, 'api');
  expect(jwks.jwt.algorithms).toEqual(['RS256', 'ES256']);
  expect(loadConfig({ JWT_SECRET: SECRET }, 'api').jwt.algorithms).toEqual(['HS256']);
});

test.for<[string, string]>([
  ['NODE_ENV', 'staging'],
  ['LOG_LEVEL', 'loud'],
  ['HOST', '[::1]'],
  ['HOST', 'http://localhost'],
  ['PORT', '65536'],
  ['SOCKETS_PER_USER', '0'],
  ['SUBSCRIPTIONS_PER_USER', '10001'],
  ['PORT', '-1'],
  ['PORT', '3e3'],
  ['PORT', 'http'],
  ['PORT', '80.5'],
  ['METRICS_HOST', '[::1]'],
  ['METRICS_PORT', '65536'],
  ['METRICS_PORT', 'on'],
  ['DATABASE_URL', 'localhost/halyard'],
  ['DATABASE_URL', 'mysql://root@localhost/halyard'],
  ['DATABASE_URL', 'postgres://u:100%@localhost/halyard'],
  ['JWT_SECRET', 'short'],
  ['JWT_SECRET', `${SECRET}\n`],
  ['JWT_SECRET', `-----BEGIN PUBLIC KEY-----${SECRET}`],
  ['JWT_JWKS_URI', 'http://issuer.example/jwks'],
  ['JWT_JWKS_URI', 'http://localhost.example/jwks'],
  ['JWT_JWKS_URI', 'ftp://localhost/jwks'],
  ['JWT_JWKS_URI', 'https://user:password@issuer.example/jwks'],
  ['JWT_JWKS_URI', '/jwks'],
  ['JWT_ALGORITHMS', 'none'],
  ['JWT_ALGORITHMS', 'RS256'],
  ['JWT_ALGORITHMS', 'HS256,none'],
  ['JWT_ALGORITHMS', 'HS256,'],
  ['JWT_AUDIENCE_CLAIM', 'client_id'],
  ['JWT_ROLE_CLAIM', 'role,roles'],
  ['JWT_ROLE_CLAIM', 'realm_access..roles'],
  ['JWT_ROLE_CLAIM', '.roles'],
  ['JWT_ROLE_CLAIM', 'roles.'],
  ['JWT_USER_ID_CLAIM', 'user id'],
  ['JWT_EMAIL_CLAIM', '"email"'],
  ['JWT_ENVIRONMENTS_CLAIM', 'e'.repeat(256)],
  ['JWT_ROLE_MAP', 'admin'],
  ['JWT_ROLE_MAP', '=admin'],
  ['JWT_ROLE_MAP', 'ops='],
  ['JWT_ROLE_MAP', 'ops=root'],
  ['JWT_ROLE_MAP', 'ops=Viewer'],
  ['JWT_ROLE_MAP', 'ops=viewer,'],
  ['JWT_ROLE_MAP', 'ops=viewer,ops=admin'],
  ['JWT_ROLE_MAP', '{"ops": "viewer"}'],
  ['AUDIT_SINK', 'kafka'],
  ['AUDIT_SINK', 'file'],
  ['AUDIT_SINK', 'stdout,stdout'],
  ['AUDIT_SINK', 'stdout,'],
  ['LOG_FORMAT', 'pretty'],
  ['AUDIT_LOG_GROUP', 'a group'],
  ['AUDIT_LOG_GROUP', 'aws/reserved'],
  ['AUDIT_LOG_GROUP', 'g'.repeat(513)],
  ['AUDIT_LOG_STREAM', 'a:b'],
  ['AUDIT_LOG_STREAM', 'a*'],
  ['AUDIT_LOG_STREAM', 's'.repeat(513)],
  ['AUDIT_LEASE_MS', '999'],
  ['AUDIT_LEASE_MS', '600001'],
  ['AUDIT_LEASE_MS', '15s'],
])('%s=%j is refused', ([name, value]) => {
  expect(blamed({ [name]: value }, 'migrate')[0]).toBe(name);
});

const OWNER = 'postgres://halyard_owner';

test.for([
  'p@ss:/%#w',
  's3cr3t@tail?more',
  's3cr3t@tail/more?still',
  's3cr3t/tail',
  's3cr3t?tail',
  '6543?tail',
  's3cr3t#tail',
  's3cr3t%tail',
  's3cr3t@elsewhere:1/tail',
  's3cr3t:/tail@x',
])('of a password that is not encoded, %s, no part is printed', (password) => {
  const [problem = ''] = problems({ DATABASE_URL: `${OWNER}:${password}@db:5432/halyard` });
  expect(problem).toMatch(/^Set DATABASE_URL to an address whose user and password are percent/);
  for (const part of password.split(/[@:/?#%]+/).filter((text) => text.length > 2))
    expect(problem).not.toContain(part);
  expect(problem).not.toContain('p@ss');
  const encoded = `${OWNER}:${encodeURIComponent(password)}@db:5432/halyard`;
  expect(loadConfig({ DATABASE_URL: encoded }, 'migrate').databaseUrl).toBe(encoded);
});

test.for([
  ['@db:99999/halyard', false],
  ['@db:abc/halyard', false],
  ['@[::1]:99999/halyard', false],
  ['@db/halyard?port=abc', false],
  ['@[::1]:5432/halyard', true],
  ['@[::1]/halyard', true],
  ['@db:/halyard', true],
] as const)('the port of …%s is good: %s', ([given, isGood]) => {
  const found = problems({ DATABASE_URL: OWNER + given });
  if (isGood) expect(found).toEqual([]);
  else expect(found[0]).toMatch(/^Set DATABASE_URL to an address whose port is a number/);
});

test.for<[string, string]>([
  // What pg means by them, without its warning.
  ['@db/halyard?sslmode=require', '@db/halyard?sslmode=verify-full'],
  ['@db/halyard?sslmode=verify-ca', '@db/halyard?sslmode=verify-full'],
  ['@db/halyard?sslmode=no-verify', '@db/halyard?sslmode=no-verify'],
  ['@db/halyard?sslmode=disable', '@db/halyard?sslmode=disable'],
  ['@db/h?uselibpqcompat=true&sslmode=require', '@db/h?uselibpqcompat=true&sslmode=require'],
  // As Cloud SQL's documentation has it.
  [':pw@/halyard?host=/cloudsql/p:r:i', ':pw@localhost/halyard?host=/cloudsql/p:r:i'],
  [':p@w@/halyard?host=/cloudsql/p:r:i', ':p%40w@localhost/halyard?host=/cloudsql/p:r:i'],
  [':pw@%2Fcloudsql%2Fp%3Ar%3Ai/halyard', ':pw@%2Fcloudsql%2Fp%3Ar%3Ai/halyard'],
])('the address …%s means …%s', ([given, meant]) => {
  const { databaseUrl } = loadConfig({ DATABASE_URL: OWNER + given }, 'migrate');
  expect(databaseUrl).toBe(OWNER + meant);
});

test.for<[string, RegExp]>([
  ['@db/halyard?sslmode=prefer', /sslmode is verify-full/],
  ['@db/halyard?sslmode=allow', /sslmode is verify-full/],
  ['@db/halyard?sslmode=constructor', /sslmode is verify-full/],
  ['@db/halyard?sslmode=', /sslmode is verify-full/],
  ['@db/halyard?ssl=false', /sslmode in place of ssl/],
  ['@db/halyard?uselibpqcompat=true&sslmode=verify-ca', /sslrootcert/],
  ['@db1,db2/halyard', /one host/],
  [':pw@/halyard', /an address such as/],
])('the address …%s is refused', ([given, sentence]) => {
  const [problem = '', ...others] = problems({ DATABASE_URL: OWNER + given });
  expect(problem).toMatch(sentence);
  expect(others).toEqual([]);
});

test.for([
  'http://localhost:8080/jwks',
  'http://127.0.0.1/jwks',
  'http://127.8.0.1/jwks',
  'http://[::1]:1/jwks',
])('keys may come from %s without TLS', (uri) => {
  expect(problems({ JWT_JWKS_URI: uri })).toEqual([]);
});

test('algorithms of secrets and of key pairs are never mixed', () => {
  const jwks = { JWT_JWKS_URI: 'https://issuer.example/jwks' };
  expect(blamed({ ...jwks, JWT_ALGORITHMS: 'RS256,HS256' })).toEqual(['JWT_ALGORITHMS']);
  expect(blamed({ JWT_SECRET: SECRET, JWT_ALGORITHMS: 'HS256,RS256' })).toEqual(['JWT_ALGORITHMS']);
});

test('a secret is at least as long as the hash it signs with', () => {
  expect(blamed({ JWT_SECRET: SECRET.slice(1) })).toEqual(['JWT_SECRET']);
  expect(blamed({ JWT_SECRET: SECRET })).toEqual([]);
  expect(blamed({ JWT_SECRET: SECRET, JWT_ALGORITHMS: 'HS512' })).toEqual(['JWT_SECRET']);
  expect(blamed({ JWT_SECRET: SECRET + SECRET, JWT_ALGORITHMS: 'HS512' })).toEqual([]);
});

test('a secret and a JWKS address exclude each other', () => {
  const both = { JWT_SECRET: SECRET, JWT_JWKS_URI: 'https://issuer.example/jwks' };
  expect(problems(both)).toHaveLength(1);
});

describe('in production', () => {
  const env = { NODE_ENV: 'production' };

  test.for<[Command, string[]]>([
    ['start', ['DATABASE_URL', 'AUTH_DATABASE_URL', 'WORKER_DATABASE_URL', 'JWT_SECRET']],
    ['api', ['AUTH_DATABASE_URL', 'JWT_SECRET']],
    ['worker', ['WORKER_DATABASE_URL']],
    ['migrate', ['DATABASE_URL']],
    ['setup', ['ROOT_DATABASE_URL', 'DATABASE_URL', 'AUTH_DATABASE_URL', 'WORKER_DATABASE_URL']],
    ['token', ['JWT_SECRET']],
    ['schema', []],
    ['audit', []],
    ['settings', []],
  ])('%s names everything that it lacks', ([command, names]) => {
    expect(blamed(env, command).toSorted()).toEqual(names.toSorted());
    const complete = { ...env, ...DATABASES, ROOT_DATABASE_URL: 'postgres://localhost/postgres' };
    expect(problems({ ...complete, JWT_SECRET: SECRET }, command)).toEqual([]);
  });

  test("the API takes a JWKS address instead of a secret, and token can't", () => {
    const jwks = { ...env, ...DATABASES, JWT_JWKS_URI: 'https://issuer.example/jwks' };
    expect(problems(jwks, 'api')).toEqual([]);
    expect(blamed(jwks, 'token')).toEqual(['JWT_JWKS_URI']);
  });
});

test('setup needs its four addresses everywhere', () => {
  expect(problems({}, 'setup')).toHaveLength(4);
});

test('start is wholly on the embedded server or not at all', () => {
  const { AUTH_DATABASE_URL, DATABASE_URL } = DATABASES;
  expect(problems({ AUTH_DATABASE_URL }, 'start')).toHaveLength(1);
  expect(problems({ AUTH_DATABASE_URL, DATABASE_URL }, 'start')).toEqual([]);
});

test('every problem is reported together, and no secret with it', () => {
  const env = {
    NODE_ENV: 'prod',
    PORT: 'x',
    AUTH_DATABASE_URL: 'halyard:hunter2@db',
    WORKER_DATABASE_URL: 'postgres://halyard:hunter2%@db/halyard',
    JWT_SECRET: 'hunter2',
    JWT_JWKS_URI: 'http://hunter2@issuer.example',
    JWT_ALGORITHMS: 'none',
    AUDIT_SINK: 'disk',
  };
  expect(new Set(blamed(env, 'api'))).toEqual(new Set(Object.keys(env)));
  const { message } = new ConfigError(problems(env, 'api'));
  expect(message).not.toContain('hunter2');
  expect(problems(env, 'api').every((problem) => message.includes(problem))).toBe(true);
});

test('a setting is required only by commands that use it', () => {
  for (const { processes, required = [] } of Object.values<Setting>(SETTINGS))
    expect(processes).toEqual(expect.arrayContaining([...required]));
});

test('what moved into the database stops a worker, and names the command that sets it there', () => {
  const env = { AUDIT_RETENTION: '24 months', SCHEDULE_RETENTION: 'applied=90' };
  expect(problems(env, 'worker')).toEqual([
    'Unset AUDIT_RETENTION, which is a setting in the database now: npm run halyard -- settings set audit_retention "24 months".',
    'Unset SCHEDULE_RETENTION, which is a setting in the database now: npm run halyard -- settings set schedule_retention "applied=90,cancelled=30".',
  ]);
  expect(problems(env, 'start')).toHaveLength(2);
  expect(problems(env, 'api')).toEqual([]);
  expect(problems({ AUDIT_RETENTION: '' }, 'worker')).toEqual([]);
});
