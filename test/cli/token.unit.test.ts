import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';

import jwt from 'jsonwebtoken';
import { describe, expect, test } from 'vitest';

import { makeToken, type TokenArguments } from '../../src/cli/token.ts';
import { loadConfig } from '../../src/config/config.ts';
import { TEST_SECRET } from '../support/tokens.ts';

const ENV = { NODE_ENV: 'test', JWT_SECRET: TEST_SECRET };
const config = loadConfig(ENV, 'token');
const claims = (given: TokenArguments) =>
  jwt.verify(makeToken(given, config), TEST_SECRET) as jwt.JwtPayload;

test('a token says what the arguments say', () => {
  const given = claims({
    ...{ role: 'admin', userId: 'alice', email: 'alice@example.com' },
    ...{ environments: ['staging', 'production'], expiresIn: '1h' },
  });
  expect(given).toMatchObject({
    role: 'admin',
    userId: 'alice',
    email: 'alice@example.com',
    environments: ['staging', 'production'],
  });
  expect((given.exp ?? 0) - (given.iat ?? 0)).toBe(3_600);
});

test('what is left out is not in it', () => {
  expect(Object.keys(claims({ role: 'viewer' })).toSorted()).toEqual(['exp', 'iat', 'role']);
});

test('it is signed as the configuration says', () => {
  const strict = loadConfig(
    { ...ENV, JWT_ALGORITHMS: 'HS512', JWT_AUDIENCE: 'halyard', JWT_ISSUER: 'us' },
    'token',
  );
  const decoded = jwt.decode(makeToken({ role: 'admin' }, strict), { complete: true });
  expect(decoded?.header.alg).toBe('HS512');
  expect(decoded?.payload).toMatchObject({ aud: 'halyard', iss: 'us' });
});

test.each<[string, TokenArguments]>([
  ['a life that is none', { role: 'admin', expiresIn: 'soon' }],
  ['a user id that is too long', { role: 'admin', userId: 'x'.repeat(256) }],
])('%s is refused', (_, given) => {
  expect(() => makeToken(given, config)).toThrow();
});

describe('the command', () => {
  async function run(...args: string[]) {
    const main = fileURLToPath(new URL('../../src/main.ts', import.meta.url));
    const child = spawn(process.execPath, [main, 'token', ...args], { env: ENV });
    const [out, err, [code]] = await Promise.all([
      text(child.stdout),
      text(child.stderr),
      once(child, 'close') as Promise<[number]>,
    ]);
    return { out, err, code };
  }

  test('prints the token, and nothing else', async () => {
    const { out, err, code } = await run(
      ...['--role', 'admin', '--user-id', 'alice', '--environments', 'staging, production'],
    );
    expect([err, code]).toEqual(['', 0]);
    const environments = ['staging', 'production'];
    expect(jwt.verify(out.trim(), TEST_SECRET)).toMatchObject({ role: 'admin', environments });
    expect(out).toMatch(/^\S+\n$/);
  });

  test('warns of an admin without a user id, and prints the token all the same', async () => {
    const { out, err, code } = await run('--role', 'admin');
    expect(code).toBe(0);
    expect(jwt.verify(out.trim(), TEST_SECRET)).toMatchObject({ role: 'admin' });
    expect(err).toMatch(/^Warning: .*--user-id[^\n]*\n$/);
    expect((await run('--role', 'viewer')).err).toBe('');
  });

  test('says in one line what is wrong, with status 2', async () => {
    const { out, err, code } = await run('--role', 'admin', '--expires-in', 'soon');
    expect([out, code]).toEqual(['', 2]);
    expect(err).toMatch(/^[^\n]+\n$/);
  });
});
