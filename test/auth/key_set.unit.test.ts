import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { makeAuthentication } from '../../src/auth/auth.ts';
import { makeTestLog } from '../support/log.ts';
import {
  forge,
  makeEcPair,
  makeRsaPair,
  nowInSeconds,
  OTHER_SECRET,
  sign,
  signWith,
  signWithPublicKey,
  startJwksServer,
} from '../support/tokens.ts';
import { HS256, refusal, unauthorized } from '../support/auth.ts';

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
