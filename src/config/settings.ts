import { SINK_SETTINGS, SINKS } from '../audit/delivery/sinks/index.ts';
import * as is from './schemas.ts';
import { COMMANDS, FORWARDERS, type Settings, type ValuesOf } from './setting.ts';

const EMBEDDED = 'the embedded server; required in production';
const SERVERS = ['start', 'api'] as const;
const SERVICES = ['start', 'api', 'worker'] as const;
const TOKENS = ['start', 'api', 'token'] as const;

const OWN_SETTINGS = {
  NODE_ENV: {
    schema: is.oneOf(['development', 'production', 'test']),
    default: 'development',
    processes: COMMANDS,
    doc: 'development, production or test',
  },
  LOG_LEVEL: {
    schema: is.oneOf(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent']),
    default: 'info',
    processes: COMMANDS,
    doc: 'least severe level that is logged to stderr: trace, debug, info, warn, error, fatal or silent',
  },
  LOG_FORMAT: {
    schema: is.oneOf(['json', 'text']),
    unset: 'json; for start in a terminal text',
    processes: COMMANDS,
    doc: 'how the log is written: json, or text, short lines for people',
  },
  HOST: {
    schema: is.host,
    default: '127.0.0.1',
    processes: SERVERS,
    doc: 'address that the API listens on',
  },
  PORT: {
    schema: is.port,
    default: '3000',
    processes: SERVERS,
    doc: 'port the API listens on; 0 takes any free one',
  },
  SOCKETS_PER_USER: {
    schema: is.wholeNumber(1, 500),
    default: '100',
    processes: SERVERS,
    doc: 'WebSockets that one user (userId or sub of the token) may have open at an API; 500 are the most for all users',
  },
  SUBSCRIPTIONS_PER_USER: {
    schema: is.wholeNumber(1, 10_000),
    default: '200',
    processes: SERVERS,
    doc: 'GraphQL subscriptions that one user may have open at an API, on all WebSockets together; 20 are the most on one',
  },
  METRICS_HOST: {
    schema: is.host,
    default: '127.0.0.1',
    processes: SERVICES,
    doc: 'address that /metrics for Prometheus is served on',
  },
  METRICS_PORT: {
    schema: is.port,
    unset: 'api and worker serve none; start takes any free port',
    processes: SERVICES,
    doc: 'port that /metrics is served on; 0 takes any free one',
  },
  DATABASE_URL: {
    schema: is.databaseUrl,
    unset: EMBEDDED,
    processes: [
      'setup',
      'migrate',
      'start',
      'audit',
      'settings',
      'restore',
      'plan',
      'stop',
      'resume',
    ],
    required: ['setup', 'migrate', 'start'],
    doc: "the owner's login",
  },
  AUTH_DATABASE_URL: {
    schema: is.databaseUrl,
    unset: EMBEDDED,
    processes: ['setup', 'start', 'api', 'audit'],
    required: ['setup', 'start', 'api'],
    doc: "the API's login",
  },
  WORKER_DATABASE_URL: {
    schema: is.databaseUrl,
    unset: EMBEDDED,
    processes: ['setup', 'start', 'worker'],
    required: ['setup', 'start', 'worker'],
    doc: "the worker's login",
  },
  AUDITOR_DATABASE_URL: {
    schema: is.databaseUrl,
    unset: 'AUTH_DATABASE_URL',
    processes: ['audit'],
    doc: 'a login that is granted halyard_auditor',
  },
  ROOT_DATABASE_URL: {
    schema: is.databaseUrl,
    unset: 'none; required by setup',
    processes: ['setup', 'start'],
    required: ['setup'],
    doc: 'an administrator, who makes the roles and the database',
  },
  API_CONNECTION_LIMIT: {
    schema: is.wholeNumber(0, 262_143),
    unset: 'all that the server has but 20',
    processes: ['setup', 'start'],
    doc: "connections that the API's login may have at a time; 0 for no limit",
  },
  WORKER_CONNECTION_LIMIT: {
    schema: is.wholeNumber(0, 262_143),
    unset: 'all that the server has but 20',
    processes: ['setup', 'start'],
    doc: "connections that the worker's login may have at a time; 0 for no limit",
  },
  READER_CONNECTION_LIMIT: {
    schema: is.wholeNumber(0, 262_143),
    default: '5',
    processes: ['setup', 'start'],
    doc: 'connections of each login that is granted halyard_admin, halyard_viewer or halyard_auditor and has no limit of its own; 0 for no limit',
  },
  HALYARD_DATA_DIR: {
    schema: is.anyText,
    default: '.halyard',
    processes: ['start', 'api', 'token', 'audit', 'settings', 'restore', 'plan', 'stop', 'resume'],
    doc: 'folder of the embedded database, the development secret and trail.log',
  },
  JWT_SECRET: {
    schema: is.secret,
    unset: 'made at first start, kept in the data folder; production needs this or JWT_JWKS_URI',
    processes: TOKENS,
    doc: 'secret that signs and verifies tokens, at least as long as the hash (32 bytes for HS256)',
  },
  JWT_JWKS_URI: {
    schema: is.jwksUri,
    unset: 'none',
    processes: SERVERS,
    doc: "https address of the identity provider's public keys, instead of JWT_SECRET",
  },
  JWT_ALGORITHMS: {
    schema: is.list,
    unset: 'HS256 with a secret, RS256,ES256 with JWT_JWKS_URI',
    processes: TOKENS,
    doc: 'comma-separated signature algorithms that are accepted, no others',
  },
  JWT_AUDIENCE: {
    schema: is.anyText,
    unset: 'not checked',
    processes: TOKENS,
    doc: 'audience (aud) that a token must name',
  },
  JWT_ISSUER: {
    schema: is.anyText,
    unset: 'not checked',
    processes: TOKENS,
    doc: 'issuer (iss) that a token must name',
  },
  JWT_AUDIENCE_CLAIM: {
    schema: is.claimName,
    default: 'aud',
    processes: TOKENS,
    doc: 'claim that must name the audience; client_id for access tokens of Amazon Cognito',
  },
  JWT_ROLE_CLAIM: {
    schema: is.claimName,
    unset: 'role and roles',
    processes: TOKENS,
    doc: 'claim with the role or roles: one of exactly this name, otherwise a path with dots such as realm_access.roles (identity.md)',
  },
  JWT_ROLE_MAP: {
    schema: is.roleMap,
    unset: 'admin, auditor and viewer are named so',
    processes: TOKENS,
    doc: "comma-separated NAME=role: what the names in the role's claim mean, such as platform-admins=admin,ops=viewer; no other names count then",
  },
  JWT_USER_ID_CLAIM: {
    schema: is.claimName,
    unset: 'userId, otherwise sub',
    processes: TOKENS,
    doc: 'claim with the id of the user, whom the audit trail names',
  },
  JWT_EMAIL_CLAIM: {
    schema: is.claimName,
    unset: 'email',
    processes: TOKENS,
    doc: "claim with the user's e-mail address",
  },
  JWT_ENVIRONMENTS_CLAIM: {
    schema: is.claimName,
    unset: 'environments; a token without it reaches all',
    processes: TOKENS,
    doc: 'claim with the only environments of the token; when this is set, a token without it reaches none',
  },
  CONSOLE_URL: {
    schema: is.origin,
    unset:
      'the address in the browser, where that is of this machine; required with OIDC_ISSUER in production',
    processes: SERVERS,
    doc: 'where browsers reach the console, such as https://flags.example.com; the identity provider sends them back there',
  },
  SESSION_KEY: {
    schema: is.key,
    unset: 'derived from the secret of the tokens; required with OIDC_ISSUER in production',
    processes: SERVERS,
    doc: 'key of the sessions of the console, 32 bytes in base64 (openssl rand -base64 32), the same for all APIs; with another one all sessions end',
  },
  OIDC_ISSUER: {
    schema: is.issuer,
    unset: 'none: in production no one signs in at the console',
    processes: SERVERS,
    doc: 'identity provider (OpenID Connect) that people sign in with at the console; JWT_JWKS_URI verifies its tokens (console.md)',
  },
  OIDC_CLIENT_ID: {
    schema: is.anyText,
    unset: 'none; required with OIDC_ISSUER',
    processes: SERVERS,
    doc: 'the console’s client id at OIDC_ISSUER',
  },
  OIDC_CLIENT_SECRET: {
    schema: is.secret,
    unset: 'none: a public client, by PKCE alone',
    processes: SERVERS,
    doc: 'the console’s client secret at OIDC_ISSUER',
  },
  OIDC_SCOPES: {
    schema: is.scopes,
    default: 'openid profile email',
    processes: SERVERS,
    doc: 'scopes that the console asks OIDC_ISSUER for, separated by spaces',
  },
  OIDC_NAME: {
    schema: is.anyText,
    unset: 'the host of OIDC_ISSUER',
    processes: SERVERS,
    doc: 'name of the identity provider on the button of the sign-in page',
  },
  QUEUE_PER_USER: {
    schema: is.wholeNumber(1, 100_000),
    default: '256',
    processes: SERVERS,
    doc: 'requests of one user that may wait for a connection or for planning; further ones get 429 too_many_requests',
  },
  STREAMS: {
    schema: is.wholeNumber(1, 10_000),
    default: '50',
    processes: SERVERS,
    doc: 'exports of the audit trail that may be open at a process, those that follow it too; further ones get 503 too_many_streams',
  },
  STREAMS_PER_USER: {
    schema: is.wholeNumber(1, 10_000),
    default: '10',
    processes: SERVERS,
    doc: 'of those, the exports of one user; further ones get 429 too_many_streams',
  },
  STREAM_WRITE_TIMEOUT: {
    schema: is.wholeNumber(1, 3_600),
    default: '60',
    processes: SERVERS,
    doc: 'seconds after which an answer is cut off whose client reads nothing of it',
  },
  AUDIT_SINK: {
    schema: is.someOf(SINKS.map(({ name }) => name)),
    unset: 'stdout; for start on the embedded server trail.log in the data folder',
    processes: FORWARDERS,
    doc: `where audit events go, separated by commas: ${SINKS.map(({ name }) => name).join(', ')}`,
  },
  AUDIT_LEASE_MS: {
    // Shorter, and a short stall looks like a dead worker; longer, and the trail waits for one that is gone.
    schema: is.wholeNumber(1_000, 600_000),
    default: '5000',
    processes: FORWARDERS,
    doc: 'milliseconds after which another worker forwards in place of one that was killed, is frozen or out of reach',
  },
} as const satisfies Settings;

/** Every environment variable that Halyard reads, those of the sinks last. docs/configuration.md is printed from it. */
export const SETTINGS: Settings = { ...OWN_SETTINGS, ...SINK_SETTINGS };

/** What was read of those that aren't a sink's. */
export type Values = ValuesOf<typeof OWN_SETTINGS>;
