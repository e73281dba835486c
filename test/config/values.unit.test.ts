import { expect, test } from 'vitest';
import { SECRET, problems, blamed } from '../support/config.ts';

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
  ['OIDC_ISSUER', 'http://issuer.example'],
  ['OIDC_ISSUER', 'https://issuer.example/?tenant=1'],
  ['OIDC_ISSUER', 'issuer.example'],
  ['OIDC_SCOPES', 'profile email'],
  ['OIDC_SCOPES', 'openid,email'],
  ['CONSOLE_URL', 'http://flags.example.com'],
  ['CONSOLE_URL', 'https://flags.example.com/console'],
  ['CONSOLE_URL', 'flags.example.com'],
  ['SESSION_KEY', 'too-short'],
  ['SESSION_KEY', '0123456789abcdef0123456789abcdef'],
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
