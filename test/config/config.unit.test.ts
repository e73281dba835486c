import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { ConfigError, loadConfig } from '../../src/config/config.ts';
import type { Command } from '../../src/config/config.ts';
import type { Setting } from '../../src/config/setting.ts';
import { SETTINGS } from '../../src/config/settings.ts';
import { SECRET, problems, blamed } from '../support/config.ts';

const DATABASES = {
  DATABASE_URL: 'postgres://halyard_owner:pw1@db.example/halyard',
  AUTH_DATABASE_URL: 'postgres://halyard_authenticator:pw2@db.example/halyard',
  WORKER_DATABASE_URL: 'postgres://halyard_worker:pw3@db.example/halyard',
};

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
    console: { url: null, sessionKey: null, oidc: null },
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
  const { jwt, audit, metrics, limits, connectionLimits, console } = config;
  for (const part of [
    ...[config, jwt, jwt.algorithms, jwt.claims, audit, audit.sinks, audit.values],
    ...[metrics, limits, connectionLimits, console],
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
      CONSOLE_URL: 'https://flags.example.com/',
      SESSION_KEY: Buffer.alloc(32, 1).toString('base64'),
      OIDC_ISSUER: 'https://issuer.example/tenant',
      OIDC_CLIENT_ID: 'console',
      OIDC_CLIENT_SECRET: 'secret of the console',
      OIDC_SCOPES: 'openid api://halyard/access',
      OIDC_NAME: 'Example Corp',
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
    console: {
      url: 'https://flags.example.com',
      sessionKey: Buffer.alloc(32, 1),
      oidc: {
        ...{ issuer: 'https://issuer.example/tenant', name: 'Example Corp' },
        ...{ clientId: 'console', clientSecret: 'secret of the console' },
        scopes: 'openid api://halyard/access',
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

  test('signing in at the console takes a key, an address, a client and the provider’s keys', () => {
    const oidc = { ...env, ...DATABASES, OIDC_ISSUER: 'https://issuer.example' };
    const needed = ['CONSOLE_URL', 'JWT_JWKS_URI', 'JWT_SECRET', 'OIDC_CLIENT_ID', 'SESSION_KEY'];
    expect(blamed(oidc, 'api').toSorted()).toEqual(needed);
    expect(blamed(oidc, 'worker')).toEqual([]);
    const development = { OIDC_ISSUER: 'https://issuer.example' };
    expect(blamed(development, 'start').toSorted()).toEqual(['JWT_JWKS_URI', 'OIDC_CLIENT_ID']);
    expect(blamed({ OIDC_CLIENT_ID: 'x', OIDC_NAME: 'y' }, 'api')).toEqual([
      'OIDC_ISSUER',
      'OIDC_ISSUER',
    ]);
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
