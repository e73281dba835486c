import { once } from 'node:events';
import { IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Socket } from 'node:net';
import express from 'express';
import type { ErrorRequestHandler } from 'express';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { claimsOf, makeAuthentication } from '../../src/auth/auth.ts';
import type { Authentication, AuthenticationError } from '../../src/auth/auth.ts';
import { makeTestLog } from '../support/log.ts';
import { adminToken, nowInSeconds, refusedTokens, sign, viewerToken } from '../support/tokens.ts';
import { HS256, refusal, unauthorized } from '../support/auth.ts';

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

test('without a secret and a key set there is no authentication', () => {
  expect(() => makeAuthentication({ ...HS256, secret: null }, makeTestLog().log)).toThrow();
});
