import { once } from 'node:events';
import { IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Socket } from 'node:net';

import express from 'express';
import type { ErrorRequestHandler } from 'express';
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest';

import { claimsOf, makeAuthentication } from '../../src/auth/auth.ts';
import {
  claimsFromPayload,
  InvalidClaimsError,
  OWN_CLAIM_NAMES,
  type ClaimNames,
} from '../../src/auth/claims.ts';
import type { Authentication, AuthenticationError } from '../../src/auth/auth.ts';
import { makeTestLog } from '../support/log.ts';
import {
  adminToken,
  forge,
  makeEcPair,
  makeRsaPair,
  nowInSeconds,
  OTHER_SECRET,
  refusedTokens,
  sign,
  signWith,
  signWithPublicKey,
  startJwksServer,
  TEST_SECRET,
  viewerToken,
} from '../support/tokens.ts';

const HS256 = {
  secret: TEST_SECRET,
  jwksUri: null,
  algorithms: ['HS256'],
  audience: null,
  issuer: null,
  claims: OWN_CLAIM_NAMES,
};

/** What a rejection tells the client; `null` when there was none. */
async function refusal(work: Promise<unknown>): Promise<{ status: number; code: string } | null> {
  try {
    await work;
    return null;
  } catch (error) {
    if (!(error instanceof Error && 'status' in error && 'code' in error)) throw error;
    return { status: error.status as number, code: error.code as string };
  }
}
const unauthorized = (code: string) => ({ status: 401, code });

/** Express behind the middleware, mounted twice as REST and GraphQL do, on a free port. */
async function serve({ middleware }: Authentication) {
  const app = express();
  app.use(middleware, middleware, (request, response) => {
    response.json(claimsOf(request));
  });
  const onError: ErrorRequestHandler = (error: AuthenticationError, _request, response, next) => {
    if (response.headersSent) next(error);
    else response.status(error.status).set(error.headers).json({ code: error.code });
  };
  app.use(onError);
  const server = app.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  return {
    get: (headers: Record<string, string>, method = 'GET') => fetch(url, { headers, method }),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

describe('over HTTP', () => {
  const { log, lines } = makeTestLog();
  let server: Awaited<ReturnType<typeof serve>>;
  beforeAll(async () => {
    server = await serve(makeAuthentication(HS256, log));
  });
  afterAll(() => server[Symbol.asyncDispose]());
  const codeOf = async (response: Response) => ((await response.json()) as { code: string }).code;

  test('a good token gives its claims', async () => {
    const exp = nowInSeconds() + 60;
    const response = await server.get({
      authorization: `Bearer ${adminToken({ exp, environments: ['staging'] })}`,
    });
    expect(await response.json()).toEqual({
      userId: 'alice',
      email: 'alice@example.com',
      role: 'admin',
      environments: ['staging'],
      expiresAt: exp,
    });
  });

  test('no token is token_missing, with a bare challenge', async () => {
    const response = await server.get({});
    expect([response.status, await codeOf(response)]).toEqual([401, 'token_missing']);
    expect(response.headers.get('www-authenticate')).toBe('Bearer');
  });

  test.for(['Bearer', 'Basic YWxpY2U6cHc=', `Token ${adminToken()}`, adminToken(), 'Bearer  a b'])(
    'Authorization: %s is refused',
    async (authorization) => {
      const response = await server.get({ authorization });
      expect([response.status, await codeOf(response)]).toEqual([401, 'token_invalid']);
      expect(response.headers.get('www-authenticate')).toContain('error="invalid_token"');
    },
  );

  test('the scheme may be written in any case', async () => {
    expect((await server.get({ authorization: `bearer ${viewerToken()}` })).status).toBe(200);
  });

  test('a request that looks like a CORS preflight is verified as well', async () => {
    const response = await server.get(
      { 'access-control-request-headers': 'authorization' },
      'OPTIONS',
    );
    expect([response.status, await codeOf(response)]).toEqual([401, 'token_missing']);
  });

  test.for<[string, string, number]>([
    ['an admin without a user id', sign({ role: 'admin' }), 1],
    ['an admin with one', adminToken(), 0],
    ['a viewer without one', sign({ role: 'viewer' }), 0],
  ])('%s: warnings for one request', async ([, token, warnings]) => {
    lines.length = 0;
    const response = await server.get({ authorization: `Bearer ${token}` });
    expect(response.status).toBe(200);
    expect(lines.filter(({ level }) => level === 'warn')).toHaveLength(warnings);
  });
});

test('claimsOf refuses a request that nothing verified', () => {
  expect(() => claimsOf(new IncomingMessage(new Socket()))).toThrow();
});

describe('with a secret', () => {
  const { verifyToken } = makeAuthentication(HS256, makeTestLog().log);

  test.for(Object.entries(refusedTokens()))('a token %s is refused', async ([, refused]) => {
    expect(await refusal(verifyToken(refused.token))).toEqual(unauthorized(refused.code));
  });

  test('an empty token is a missing one, and one with a space is refused', async () => {
    expect(await refusal(verifyToken(''))).toEqual(unauthorized('token_missing'));
    expect(await refusal(verifyToken(`${adminToken()} x`))).toEqual(unauthorized('token_invalid'));
  });

  test('a token without exp is accepted and has no end', async () => {
    expect(await verifyToken(adminToken({ exp: undefined }))).toMatchObject({ expiresAt: null });
  });

  test('clocks may differ a little', async () => {
    expect(await refusal(verifyToken(adminToken({ exp: nowInSeconds() - 2 })))).toBeNull();
    expect(await refusal(verifyToken(adminToken({ nbf: nowInSeconds() + 2 })))).toBeNull();
  });

  test('whatever a client sends is refused with a code, never with a crash', async () => {
    const [header = '', payload = '', signature = ''] = adminToken().split('.');
    const parts = ['', '.', 'null', 'bnVsbA', 'MQ', '%00', '𝒳', header, payload, signature];
    const texts = parts.flatMap((a) => parts.flatMap((b) => parts.map((c) => `${a}.${b}.${c}`)));
    const good = `${header}.${payload}.${signature}`;
    for (const text of texts.filter((candidate) => candidate !== good))
      expect((await refusal(verifyToken(text)))?.status).toBe(401);
    expect(await refusal(verifyToken(good))).toBeNull();
  });
});

describe('audience and issuer', () => {
  const settings = { audience: 'halyard', issuer: 'https://issuer.example' };
  const { verifyToken } = makeAuthentication({ ...HS256, ...settings }, makeTestLog().log);
  const good = { aud: settings.audience, iss: settings.issuer };

  test('both fit, also one of several audiences', async () => {
    expect(await refusal(verifyToken(adminToken(good)))).toBeNull();
    expect(await refusal(verifyToken(adminToken({ ...good, aud: ['x', 'halyard'] })))).toBeNull();
  });

  test.for([
    { aud: 'other' },
    { aud: undefined },
    { aud: ['x', 'y'] },
    { aud: 'Halyard' },
    { iss: 'https://other.example' },
    { iss: undefined },
  ])('%j is refused', async (change) => {
    const token = adminToken({ ...good, ...change });
    expect(await refusal(verifyToken(token))).toEqual(unauthorized('token_invalid'));
  });
});

describe('with the key set of an identity provider', () => {
  const first = makeRsaPair('first');
  const second = makeEcPair('second');
  const jwks = (uri: string) => ({
    ...HS256,
    secret: null,
    jwksUri: uri,
    algorithms: ['RS256', 'ES256'],
    audience: 'halyard',
  });
  const admin = { role: 'admin', userId: 'alice', aud: 'halyard' };

  test('tokens of RSA and EC keys are accepted, the key set is read once', async () => {
    await using provider = await startJwksServer(first, second);
    const { verifyToken } = makeAuthentication(jwks(provider.uri), makeTestLog().log);
    const tokens = [first, second, first].map((pair) => signWith(pair, admin));
    const claims = await Promise.all(tokens.map(verifyToken));
    expect(claims.map(({ userId }) => userId)).toEqual(['alice', 'alice', 'alice']);
    expect(provider.requests()).toBe(1);
  });

  test('forgeries are refused', async () => {
    await using provider = await startJwksServer(first, second);
    const { verifyToken } = makeAuthentication(jwks(provider.uri), makeTestLog().log);
    const impostor = makeRsaPair('first');
    const forgeries = {
      'HS256 with the public key as secret': signWithPublicKey(first, admin),
      'HS256 with any secret': sign(admin, { secret: OTHER_SECRET, keyid: 'first' }),
      'alg none': forge({ alg: 'none', kid: 'first' }, admin),
      'the key of someone else': signWith(impostor, admin),
      'an algorithm that is not pinned': signWith(first, admin, { algorithm: 'PS256' }),
      'an unknown kid': signWith(makeRsaPair('third'), admin),
      'no kid where there are several keys': signWith({ ...first, kid: '' }, admin),
      'the kid of an EC key': signWith({ ...first, kid: 'second' }, admin),
      'another audience': signWith(first, { ...admin, aud: 'other' }),
    };
    for (const [name, token] of Object.entries(forgeries))
      expect([name, await refusal(verifyToken(token))]).toEqual([
        name,
        unauthorized('token_invalid'),
      ]);
    const expired = signWith(first, { ...admin, exp: nowInSeconds() - 60 });
    expect(await refusal(verifyToken(expired))).toEqual(unauthorized('token_expired'));
  });

  test('made-up kids cost the provider one read, the API hardly any, and lock nobody out', async () => {
    await using provider = await startJwksServer(first, second);
    const imports = vi.spyOn(crypto.subtle, 'importKey');
    onTestFinished(() => imports.mockRestore());
    const { verifyToken } = makeAuthentication(jwks(provider.uri), makeTestLog().log);
    for (let n = 0; n < 50; n++) {
      const token = signWith({ ...first, kid: `made-up-${n}` }, admin);
      expect(await refusal(verifyToken(token))).toEqual(unauthorized('token_invalid'));
    }
    expect(await refusal(verifyToken(signWith(second, admin)))).toBeNull();
    expect(provider.requests()).toBe(1);
    // Both keys, for the first made-up one and for the good one.
    expect(imports.mock.calls.length).toBe(4);
  });

  test('a new key is noticed', async () => {
    await using provider = await startJwksServer(first);
    const { verifyToken } = makeAuthentication(jwks(provider.uri), makeTestLog().log, {
      minIntervalMs: 0,
    });
    expect(await refusal(verifyToken(signWith(second, admin)))).not.toBeNull();
    provider.serve(first, second);
    expect(await refusal(verifyToken(signWith(second, admin)))).toBeNull();
  });

  test.for<[number, string]>([
    [500, ''],
    [404, '{}'],
    [200, 'nonsense'],
    [200, '{"keys":"none"}'],
    [200, '{"keys":[]}'],
    [200, '{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}'],
    [200, `{"keys":[],"more":"${'x'.repeat(1_048_576)}"}`],
    [200, `{"keys":[${'{},'.repeat(1_000)}{}]}`],
  ])('an answer %i %j is 503, logged as an error', async ([status, body]) => {
    await using provider = await startJwksServer(first);
    provider.answer(status, body);
    const { log, lines } = makeTestLog();
    const { verifyToken } = makeAuthentication(jwks(provider.uri), log);
    expect(await refusal(verifyToken(signWith(first, admin)))).toEqual({
      status: 503,
      code: 'jwks_unavailable',
    });
    expect(lines.filter(({ level }) => level === 'error')).toHaveLength(1);
  });

  test('a key set that is too large is not read to its end', async () => {
    await using provider = await startJwksServer(first);
    const { publicKey, kid } = first;
    const key = { ...publicKey.export({ format: 'jwk' }), kid, use: 'sig' };
    provider.answer(200, JSON.stringify({ keys: [key], more: 'x'.repeat(1_048_576) }));
    const { verifyToken } = makeAuthentication(jwks(provider.uri), makeTestLog().log);
    expect(await refusal(verifyToken(signWith(first, admin)))).toMatchObject({ status: 503 });
  });

  test('an RSA key below 2,048 bits verifies nothing, and the log names it', async () => {
    const weak = makeRsaPair('weak', 1024);
    await using provider = await startJwksServer(first, weak);
    const { log, lines } = makeTestLog();
    const { verifyToken } = makeAuthentication(jwks(provider.uri), log);
    const options = { allowInsecureKeySizes: true };
    expect(await refusal(verifyToken(signWith(weak, admin, options)))).toEqual(
      unauthorized('token_invalid'),
    );
    expect(await refusal(verifyToken(signWith(first, admin)))).toBeNull();
    expect(lines.filter(({ level }) => level === 'warn')).toMatchObject([{ kids: ['weak'] }]);
  });

  test('a redirect is not followed', async () => {
    await using elsewhere = await startJwksServer(first);
    await using provider = await startJwksServer(first);
    provider.answer(302, '', { location: elsewhere.uri });
    const { verifyToken } = makeAuthentication(jwks(provider.uri), makeTestLog().log);
    expect(await refusal(verifyToken(signWith(first, admin)))).toMatchObject({ status: 503 });
    expect(elsewhere.requests()).toBe(0);
  });

  test('an address where nobody listens is 503', async () => {
    const provider = await startJwksServer(first);
    await provider[Symbol.asyncDispose]();
    const { verifyToken } = makeAuthentication(jwks(provider.uri), makeTestLog().log);
    expect(await refusal(verifyToken(signWith(first, admin)))).toMatchObject({ status: 503 });
  });

  test('a provider that is back is used, and was not asked again and again before', async () => {
    await using provider = await startJwksServer(first);
    provider.answer(500, '');
    const { verifyToken } = makeAuthentication(jwks(provider.uri), makeTestLog().log);
    const token = signWith(first, admin);
    await Promise.all(Array.from({ length: 20 }, () => refusal(verifyToken(token))));
    expect(provider.requests()).toBe(1);
    provider.serve(first);
    await expect.poll(() => refusal(verifyToken(token)), { timeout: 4_000 }).toBeNull();
  });

  test('while the provider is away, a key that was in use goes on', async () => {
    await using provider = await startJwksServer(first, second);
    const { log, lines } = makeTestLog();
    const { verifyToken } = makeAuthentication(jwks(provider.uri), log, {
      cacheMs: 1,
      minIntervalMs: 0,
    });
    expect(await refusal(verifyToken(signWith(first, admin)))).toBeNull();
    provider.answer(503, '');
    await expect
      .poll(async () => {
        expect(await refusal(verifyToken(signWith(first, admin)))).toBeNull();
        return lines.some(({ level }) => level === 'warn');
      })
      .toBe(true);
    expect(await refusal(verifyToken(signWith(second, admin)))).toMatchObject({ status: 503 });
  });

  test('a missing audience is warned about at start', () => {
    const { log, lines } = makeTestLog();
    makeAuthentication({ ...jwks('https://issuer.example/jwks'), audience: null }, log);
    expect(lines.map(({ level }) => level)).toEqual(['warn']);
  });
});

test('without a secret and a key set there is no authentication', () => {
  expect(() => makeAuthentication({ ...HS256, secret: null }, makeTestLog().log)).toThrow();
});

describe('claimsFromPayload', () => {
  test.for<[object, object]>([
    [{}, { userId: null, email: null, role: null, environments: null, expiresAt: null }],
    [{ sub: 'alice' }, { userId: 'alice' }],
    [{ userId: 'alice', sub: 'auth0|1' }, { userId: 'alice' }],
    [{ userId: null, sub: 'alice' }, { userId: 'alice' }],
    [
      { userId: '', email: ' ' },
      { userId: null, email: null },
    ],
    [{ userId: '𠮷'.repeat(255) }, { userId: '𠮷'.repeat(255) }],
    [{ userId: 'Åsa Öberg' }, { userId: 'Åsa Öberg' }],
    [{ userId: 'Алиса' }, { userId: 'Алиса' }],
    [{ userId: '田中 kenji' }, { userId: '田中 kenji' }],
    [{ email: 'jürgen+flags@example.com' }, { email: 'jürgen+flags@example.com' }],
    [{ role: 'viewer' }, { role: 'viewer' }],
    [{ role: ['viewer', 'admin'] }, { role: 'admin' }],
    [{ roles: 'auditor' }, { role: 'auditor' }],
    [{ roles: ['viewer', 'auditor', 'x'] }, { role: 'auditor' }],
    [{ role: 'viewer', roles: ['admin'] }, { role: 'admin' }],
    [{ role: 'root' }, { role: null }],
    [{ role: 'Admin' }, { role: null }],
    [{ role: 'halyard_admin' }, { role: null }],
    [{ role: null, roles: [] }, { role: null }],
    [{ environments: [] }, { environments: [] }],
    [{ environments: ['a', 'b'] }, { environments: ['a', 'b'] }],
    [{ exp: 1.5 }, { expiresAt: 1.5 }],
  ])('%j gives %j', ([payload, claims]) => {
    expect(claimsFromPayload(payload)).toMatchObject(claims);
  });

  test.for<unknown>([
    null,
    'admin',
    [],
    { userId: 42 },
    { userId: true },
    { userId: ['alice'] },
    { userId: {} },
    { userId: 'x'.repeat(256) },
    { userId: 'a\u0000b' },
    { userId: 'a\nb' },
    { userId: '\ud800' },
    { userId: 'ali\u200bce' },
    { userId: 'alice\ufeff' },
    { userId: 'alice\u202ecila' },
    { userId: 'alice\u3164' },
    { userId: 'alice\ufe0f' },
    { userId: 'alice\ue000' },
    { userId: 'alice\u00a0b' },
    { userId: 'alice ' },
    { userId: ' alice' },
    { userId: 'ａlice' },
    { userId: 'A\u030asa' },
    { userId: '\u0430lice' },
    { userId: '\u03b1lice' },
    { userId: 'alice\u2800' },
    { userId: '\u2800' },
    { userId: 'al\u{1d159}ice' },
    { userId: '\u15c5lice' },
    { userId: '\u{10428}lice' },
    { userId: '\u0391\u043b\u0438\u0441\u0430' },
    { sub: 'ali\u00adce' },
    { email: 'alic\u0435@example.com' },
    { email: 'alice@exam\u200dple.com' },
    { sub: 42 },
    { email: 42 },
    { email: 'a\u0000@example.com' },
    { email: 'x'.repeat(321) },
    { role: 1 },
    { role: {} },
    { roles: ['admin', 1] },
    { roles: [null] },
    { environments: null },
    { environments: 'staging' },
    { environments: { 0: 'staging' } },
    { environments: ['staging', 1] },
    { environments: ['a\u0000'] },
    { environments: ['\udfff'] },
    { exp: 'tomorrow' },
  ])('%j is refused', (payload) => {
    expect(() => claimsFromPayload(payload)).toThrow(InvalidClaimsError);
  });
});

describe('claims under other names', () => {
  const names = (changes: Partial<ClaimNames>): ClaimNames => ({ ...OWN_CLAIM_NAMES, ...changes });
  const roleMap = new Map([
    ['platform admins', 'admin'],
    ['ops', 'viewer'],
  ] as const);

  test.for<[string, object, string | null]>([
    ['groups', { groups: ['viewer'] }, 'viewer'],
    ['groups', { groups: 'viewer' }, 'viewer'],
    ['groups', { groups: ['x', 'viewer', 'admin', 'auditor'] }, 'admin'],
    // They stand in for role and roles.
    ['groups', { role: 'admin', roles: ['admin'] }, null],
    ['groups', { role: 'admin', groups: ['viewer'] }, 'viewer'],
    ['https://example.com/roles', { 'https://example.com/roles': ['admin'] }, 'admin'],
    ['cognito:groups', { 'cognito:groups': ['auditor'] }, 'auditor'],
    ['realm_access.roles', { realm_access: { roles: ['viewer'] } }, 'viewer'],
    ['a.b.c', { a: { b: { c: 'viewer' } } }, 'viewer'],
    // The exact name is there: the path isn't looked at.
    ['a.b', { 'a.b': ['viewer'], a: { b: ['admin'] } }, 'viewer'],
    ['a.b', { 'a.b': null, a: { b: ['admin'] } }, null],
    ['a.b', { a: { 'b.c': 'admin' } }, null],
    ['a.b', { a: 'b' }, null],
    ['a.b', { a: null }, null],
    ['a.0', { a: ['admin'] }, null],
    ['a.length', { a: ['admin'] }, null],
    ['groups', { groups: [] }, null],
    ['groups', { groups: null }, null],
    // A list in a string is one name.
    ['groups', { groups: 'admin viewer' }, null],
    ['groups', { groups: 'admin,viewer' }, null],
    // Only what the token itself holds.
    ['constructor', {}, null],
    ['constructor.name', {}, null],
    ['__proto__', {}, null],
    ['a.__proto__.b', { a: {} }, null],
    ['toString', {}, null],
  ])('JWT_ROLE_CLAIM=%s with %j is %s', ([role, payload, expected]) => {
    expect(claimsFromPayload(payload, names({ role })).role).toBe(expected);
  });

  test.for<[object, string | null]>([
    [{ role: 'platform admins' }, 'admin'],
    [{ roles: ['ops', 'other'] }, 'viewer'],
    [{ roles: ['ops', 'platform admins'] }, 'admin'],
    [{ role: 'admin' }, null],
    [{ role: 'viewer', roles: ['admin', 'auditor'] }, null],
    [{ role: 'Ops' }, null],
    [{ role: 'constructor' }, null],
  ])('of a role map only the left sides count: %j is %s', ([payload, expected]) => {
    expect(claimsFromPayload(payload, names({ roleMap })).role).toBe(expected);
  });

  test.for<[Partial<ClaimNames>, object, string]>([
    [{ role: 'groups' }, { groups: 7 }, 'groups'],
    [{ role: 'groups' }, { groups: true }, 'groups'],
    [{ role: 'groups' }, { groups: { admin: true } }, 'groups'],
    [{ role: 'groups' }, { groups: [['admin']] }, 'groups'],
    [{ role: 'groups' }, { groups: ['admin', 7] }, 'groups'],
    [{ userId: 'oid' }, { oid: 7 }, 'oid'],
    [{ userId: 'oid' }, { oid: ['x'] }, 'oid'],
    [{ userId: 'act.sub' }, { act: { sub: 'a\u200bb' } }, 'act.sub'],
    [{ email: 'upn' }, { upn: 'x'.repeat(321) }, 'upn'],
    [{ environments: 'envs' }, { envs: 'staging' }, 'envs'],
    [{ environments: 'envs' }, { envs: 'staging production' }, 'envs'],
    [{ environments: 'envs' }, { envs: 7 }, 'envs'],
    [{ environments: 'envs' }, { envs: null }, 'envs'],
    [{ environments: 'envs' }, { envs: ['staging', 7] }, 'envs'],
  ])('%j refuses %j, and names the claim', ([changes, payload, name]) => {
    const read = () => claimsFromPayload(payload, names(changes));
    expect(read).toThrow(InvalidClaimsError);
    expect(read).toThrow(name);
  });

  test('a user id and an e-mail are those of the claims named, and of no others', () => {
    const given = names({ userId: 'oid', email: 'profile.mail' });
    const own = { userId: 'alice', sub: 'alice', email: 'alice@example.com' };
    expect(claimsFromPayload(own, given)).toMatchObject({ userId: null, email: null });
    const payload = { ...own, oid: 'o-1', profile: { mail: 'o@example.com' } };
    expect(claimsFromPayload(payload, given)).toMatchObject({
      userId: 'o-1',
      email: 'o@example.com',
    });
    expect(
      claimsFromPayload({ name: 'x' }, names({ userId: 'constructor.name' })).userId,
    ).toBeNull();
  });

  test.for<[object, readonly string[]]>([
    [{}, []],
    [{ environments: ['production'] }, []],
    [{ envs: [] }, []],
    [{ envs: ['staging'] }, ['staging']],
  ])('with JWT_ENVIRONMENTS_CLAIM=envs %j reaches %j', ([payload, environments]) => {
    expect(claimsFromPayload(payload, names({ environments: 'envs' })).environments).toEqual(
      environments,
    );
  });

  test.for<[unknown, boolean]>([
    ['halyard', true],
    [['other', 'halyard'], true],
    ['other halyard', false],
    [7, false],
    [{ halyard: true }, false],
    [undefined, false],
  ])('with JWT_AUDIENCE_CLAIM=client_id the client_id %j counts: %s', async ([given, counts]) => {
    const { verifyToken } = makeAuthentication(
      { ...HS256, audience: 'halyard', claims: names({ audience: 'client_id' }) },
      makeTestLog().log,
    );
    const token = adminToken({ client_id: given, aud: 'halyard' });
    expect(await refusal(verifyToken(token))).toEqual(
      counts ? null : unauthorized('token_invalid'),
    );
  });
});
