import { createHmac, generateKeyPairSync } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

import jwt from 'jsonwebtoken';
import type { Algorithm, SignOptions } from 'jsonwebtoken';

export const TEST_SECRET = 'a-secret-of-the-tests-that-is-long-enough-for-hs512-signatures-too';
export const OTHER_SECRET = 'another-secret-of-the-tests-that-is-long-enough-for-hs512-signatures';

export type Payload = Record<string, unknown>;

export const nowInSeconds = () => Math.floor(Date.now() / 1000);

/** Signs any payload, good or bad. `exp` is an hour ahead unless the payload has its own (undefined: none). */
export function sign(
  payload: Payload = {},
  { secret = TEST_SECRET, ...options }: SignOptions & { secret?: string | KeyObject } = {},
): string {
  const claims: Payload = { exp: nowInSeconds() + 3_600, ...payload };
  const given = Object.fromEntries(Object.entries(claims).filter(([, v]) => v !== undefined));
  return jwt.sign(given, secret, { algorithm: 'HS256', ...options });
}

export const adminToken = (payload: Payload = {}) =>
  sign({ role: 'admin', userId: 'alice', email: 'alice@example.com', ...payload });

export const viewerToken = (payload: Payload = {}) =>
  sign({ role: 'viewer', userId: 'victor', email: 'victor@example.com', ...payload });

export const auditorToken = (payload: Payload = {}) =>
  sign({ role: 'auditor', userId: 'olga', email: 'olga@example.com', ...payload });

const encode = (part: unknown) => Buffer.from(JSON.stringify(part)).toString('base64url');

/** A token put together by hand, for headers that no library signs. */
export function forge(header: object, payload: unknown, signature = ''): string {
  return `${encode(header)}.${encode(payload)}.${signature}`;
}

/** A token with a correct HMAC over a header and payload of any kind. */
export function forgeSigned(
  header: object,
  payload: unknown,
  secret: string | Buffer = TEST_SECRET,
): string {
  const body = `${encode(header)}.${encode(payload)}`;
  return `${body}.${createHmac('sha256', secret).update(body).digest('base64url')}`;
}

const ADMIN: Payload = { role: 'admin', userId: 'mallory', email: 'mallory@example.com' };

/**
 * Every way for a token to be refused where TEST_SECRET signs with HS256 and, where that matters, the
 * audience is `halyard` and the issuer `https://issuer.example`; by name, with the code it must get.
 */
export function refusedTokens(): Record<string, { token: string; code: string }> {
  const good = sign(ADMIN);
  const [header = '', payload = '', signature = ''] = good.split('.');
  const invalid = (token: string) => ({ token, code: 'token_invalid' });
  return {
    expired: { token: sign({ ...ADMIN, exp: nowInSeconds() - 60 }), code: 'token_expired' },
    'not yet valid': invalid(sign({ ...ADMIN, nbf: nowInSeconds() + 600 })),
    'signed with another secret': invalid(sign(ADMIN, { secret: OTHER_SECRET })),
    'with a payload changed afterwards': invalid(
      `${header}.${encode({ ...ADMIN, userId: 'root' })}.${signature}`,
    ),
    'with its signature cut off': invalid(`${header}.${payload}.`),
    'of algorithm none': invalid(forge({ alg: 'none', typ: 'JWT' }, ADMIN)),
    'of algorithm None': invalid(forge({ alg: 'None', typ: 'JWT' }, ADMIN, signature)),
    'without an algorithm': invalid(forgeSigned({ typ: 'JWT' }, ADMIN)),
    'signed with HS512 where HS256 is pinned': invalid(sign(ADMIN, { algorithm: 'HS512' })),
    'signed with an RSA key': invalid(sign(ADMIN, { algorithm: 'RS256', secret: rsa.privateKey })),
    'with a critical extension': invalid(forgeSigned({ alg: 'HS256', crit: ['x'], x: 1 }, ADMIN)),
    'with a payload that is no object': invalid(forgeSigned({ alg: 'HS256', typ: 'JWT' }, 'admin')),
    'with exp that is no number': invalid(
      forgeSigned({ alg: 'HS256', typ: 'JWT' }, { ...ADMIN, exp: 'tomorrow' }),
    ),
    'of two parts': invalid(`${header}.${payload}`),
    'of no parts': invalid('nonsense'),
    'of dots': invalid('..'),
    'with a header that is no JSON': invalid(`bm9wZQ.${payload}.${signature}`),
    'with a userId that is a number': invalid(sign({ ...ADMIN, userId: 42 })),
    'with environments that is a string': invalid(sign({ ...ADMIN, environments: 'staging' })),
  };
}

export interface KeyPair {
  readonly kid: string;
  readonly algorithm: Algorithm;
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
}

export function makeRsaPair(kid: string, modulusLength = 2048): KeyPair {
  return { kid, algorithm: 'RS256', ...generateKeyPairSync('rsa', { modulusLength }) };
}

export function makeEcPair(kid: string): KeyPair {
  return { kid, algorithm: 'ES256', ...generateKeyPairSync('ec', { namedCurve: 'P-256' }) };
}

const rsa = makeRsaPair('rsa');

/** Signs as an identity provider does, with the key id in the header. */
export function signWith(pair: KeyPair, payload: Payload = {}, options: SignOptions = {}): string {
  return sign(payload, {
    algorithm: pair.algorithm,
    keyid: pair.kid,
    secret: pair.privateKey,
    ...options,
  });
}

/** HS256 with the text of the public key for a secret: the classic confusion of algorithms. */
export function signWithPublicKey(pair: KeyPair, payload: Payload = ADMIN): string {
  const pem = pair.publicKey.export({ type: 'spki', format: 'pem' });
  return forgeSigned({ alg: 'HS256', typ: 'JWT', kid: pair.kid }, payload, pem);
}

export interface JwksServer extends AsyncDisposable {
  readonly uri: string;
  /** How often the key set was asked for. */
  requests(): number;
  serve(...pairs: KeyPair[]): void;
  /** Answers anything else than a key set, until `serve`. */
  answer(status: number, body: string, headers?: Record<string, string>): void;
}

/** An identity provider's key set on a free loopback port. */
export async function startJwksServer(...pairs: KeyPair[]): Promise<JwksServer> {
  let status = 200;
  let body = keySet(pairs);
  let headers: Record<string, string> = {};
  let requests = 0;
  const server = createServer((_request, response) => {
    requests += 1;
    response.writeHead(status, { connection: 'close', ...headers });
    response.end(body);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    uri: `http://127.0.0.1:${port}/jwks.json`,
    requests: () => requests,
    serve(...pairs) {
      [status, body, headers] = [200, keySet(pairs), {}];
    },
    answer(...answer) {
      [status, body, headers = {}] = answer;
    },
    async [Symbol.asyncDispose]() {
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function keySet(pairs: readonly KeyPair[]): string {
  const keys = pairs.map(({ kid, algorithm, publicKey }) => ({
    ...publicKey.export({ format: 'jwk' }),
    kid,
    alg: algorithm,
    use: 'sig',
  }));
  return JSON.stringify({ keys });
}
