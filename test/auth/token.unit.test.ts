import { spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { text } from 'node:stream/consumers';

import jwt from 'jsonwebtoken';
import { afterAll, describe, expect, test } from 'vitest';

import { makeAuthentication } from '../../src/auth/auth.ts';
import { InvalidClaimsError, OWN_CLAIM_NAMES, type ClaimNames } from '../../src/auth/claims.ts';
import { developmentSecret, signToken } from '../../src/auth/token.ts';
import { ExplainedError } from '../../src/lib/explained.ts';
import { makeTestLog } from '../support/log.ts';
import { nowInSeconds, TEST_SECRET } from '../support/tokens.ts';

const root = mkdtempSync(path.join(tmpdir(), 'halyard-token-'));
const makeFolder = () => mkdtempSync(path.join(root, 'data-'));
afterAll(() => rmSync(root, { recursive: true }));

const base = { secret: TEST_SECRET, role: 'admin' };
const lifeOf = (token: string) => {
  const { iat = NaN, exp = NaN } = jwt.decode(token) as jwt.JwtPayload;
  return exp - iat;
};

describe('signToken', () => {
  test('makes what the API accepts', async () => {
    const settings = { audience: 'halyard', issuer: 'https://issuer.example' };
    const { verifyToken } = makeAuthentication(
      {
        ...{ secret: TEST_SECRET, jwksUri: null, algorithms: ['HS512'], ...settings },
        claims: OWN_CLAIM_NAMES,
      },
      makeTestLog().log,
    );
    const token = signToken({
      ...base,
      ...settings,
      algorithm: 'HS512',
      userId: 'alice',
      email: 'alice@example.com',
      environments: ['staging'],
      expiresIn: 60,
    });
    const claims = await verifyToken(token);
    expect(claims).toEqual({
      userId: 'alice',
      email: 'alice@example.com',
      role: 'admin',
      environments: ['staging'],
      expiresAt: expect.any(Number) as number,
    });
    expect(claims.expiresAt).toBeLessThanOrEqual(nowInSeconds() + 60);
  });

  test('makes what the API accepts where claims have other names', async () => {
    const claimNames: ClaimNames = {
      ...{ userId: 'oid', email: 'profile.mail', role: 'realm_access.roles' },
      ...{ environments: 'envs', audience: 'client_id' },
      roleMap: new Map([['platform-admins', 'admin'] as const]),
    };
    const options = { ...base, userId: 'alice', email: 'alice@example.com', claimNames };
    const { verifyToken } = makeAuthentication(
      {
        ...{ secret: TEST_SECRET, jwksUri: null, algorithms: ['HS256'], issuer: null },
        ...{ audience: 'halyard', claims: claimNames },
      },
      makeTestLog().log,
    );
    const token = signToken({ ...options, audience: 'halyard', environments: ['staging'] });
    expect(await verifyToken(token)).toMatchObject({
      ...{ userId: 'alice', email: 'alice@example.com', role: 'admin', environments: ['staging'] },
    });
    expect(() => signToken(options)).toThrow('JWT_ENVIRONMENTS_CLAIM');
    expect(() => signToken({ ...options, environments: [], role: 'viewer' })).toThrow('viewer');
    const same = { ...OWN_CLAIM_NAMES, userId: 'email' };
    expect(() => signToken({ ...options, claimNames: same })).toThrow('email');
  });

  test.for<[number | string | undefined, number]>([
    [undefined, 12 * 3_600],
    [90, 90],
    ['90', 90],
    ['15m', 900],
    ['30d', 30 * 86_400],
  ])('expiresIn %j lives %i seconds', ([expiresIn, seconds]) => {
    expect(lifeOf(signToken({ ...base, expiresIn }))).toBe(seconds);
  });

  test.for(['', '0', -5, '1.5h', 'soon', '-1h'])('expiresIn %j is refused', (expiresIn) => {
    expect(() => signToken({ ...base, expiresIn })).toThrow();
  });

  test('refuses what the API would refuse', () => {
    expect(() => signToken({ ...base, role: 'root' })).toThrow();
    expect(() => signToken({ ...base, userId: 'x'.repeat(256) })).toThrow(InvalidClaimsError);
  });
});

describe('developmentSecret', () => {
  test('is made once, long, for its owner only, and leaves nothing else behind', () => {
    const folder = path.join(makeFolder(), 'not', 'there', 'yet');
    const secret = developmentSecret(folder, 'development');
    expect(Buffer.byteLength(secret)).toBeGreaterThanOrEqual(32);
    expect(statSync(path.join(folder, 'jwt-secret')).mode & 0o777).toBe(0o600);
    expect(readdirSync(folder)).toEqual(['jwt-secret']);
    expect(developmentSecret(folder, 'development')).toBe(secret);
    expect(developmentSecret(makeFolder(), 'development')).not.toBe(secret);
  });

  test('gets its mode back', () => {
    const folder = makeFolder();
    const secret = developmentSecret(folder, 'test');
    chmodSync(path.join(folder, 'jwt-secret'), 0o644);
    expect(developmentSecret(folder, 'test')).toBe(secret);
    expect(statSync(path.join(folder, 'jwt-secret')).mode & 0o777).toBe(0o600);
  });

  test('is the same for processes that start at once', async () => {
    const folder = makeFolder();
    const script = `
      import { developmentSecret } from ${JSON.stringify(new URL('../../src/auth/token.ts', import.meta.url).href)};
      const start = Number(process.argv[1]);
      while (Date.now() < start);
      process.stdout.write(developmentSecret(process.argv[2], 'development'));`;
    const start = Date.now() + 1_000;
    const secrets = await Promise.all(
      Array.from({ length: 4 }, () =>
        text(
          spawn(
            process.execPath,
            ['--input-type=module', '--eval', script, String(start), folder],
            { stdio: ['ignore', 'pipe', 'inherit'] },
          ).stdout,
        ),
      ),
    );
    expect(new Set(secrets)).toEqual(new Set([developmentSecret(folder, 'development')]));
    expect(readdirSync(folder)).toEqual(['jwt-secret']);
  });

  test('is refused in production, and when the file holds none', () => {
    const folder = makeFolder();
    expect(() => developmentSecret(folder, 'production')).toThrow();
    expect(readdirSync(folder)).toEqual([]);
    writeFileSync(path.join(folder, 'jwt-secret'), 'short\n');
    // A sentence without a stack.
    expect(() => developmentSecret(folder, 'development')).toThrow(ExplainedError);
  });
});
