import { readFileSync } from 'node:fs';

import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { loadConfig } from '../../src/config/config.ts';
import { startTestApi, type TestApi } from '../support/api.ts';
import { useDatabase, withClient } from '../support/database.ts';
import {
  makeRsaPair,
  nowInSeconds,
  signWith,
  startJwksServer,
  type JwksServer,
  type Payload,
} from '../support/tokens.ts';

const page = readFileSync(new URL('../../docs/identity.md', import.meta.url), 'utf8');
const PROVIDERS = ['Auth0', 'Keycloak', 'Amazon Cognito', 'Okta', 'Microsoft Entra'];

/** A section's settings, and the payload of its token, as the page has them. */
function readSection(provider: string) {
  const section = page.split(/^## /m).find((text) => text.startsWith(`${provider}\n`)) ?? '';
  const [, settings = ''] = /^```sh\n(.*?)^```/ms.exec(section) ?? [];
  const [, token = '{}'] = /^```json\n(.*?)^```/ms.exec(section) ?? [];
  const env = Object.fromEntries(
    settings
      .trim()
      .split('\n')
      .map((line) => {
        const equals = line.indexOf('=');
        return [line.slice(0, equals), line.slice(equals + 1)];
      }),
  );
  return { env, payload: JSON.parse(token) as Payload };
}

const database = useDatabase();
const pair = makeRsaPair('of-the-provider');
let provider: JwksServer;

beforeAll(async () => {
  provider = await startJwksServer();
  // Without alg, as Entra's key set.
  const key = { ...pair.publicKey.export({ format: 'jwk' }), kid: pair.kid, use: 'sig' };
  provider.answer(200, JSON.stringify({ keys: [key] }));
});
afterAll(() => provider[Symbol.asyncDispose]());

describe.each(PROVIDERS)('%s, as docs/identity.md has it', (name) => {
  const { env, payload } = readSection(name);
  const fresh = { iat: nowInSeconds(), nbf: nowInSeconds(), exp: nowInSeconds() + 600 };
  const tokenOf = (changes: Payload = {}) => signWith(pair, { ...payload, ...fresh, ...changes });
  const userId = String(payload[env.JWT_USER_ID_CLAIM ?? 'sub']);
  const email = (payload[env.JWT_EMAIL_CLAIM ?? 'email'] ?? null) as string | null;
  const flagKey = name.toLowerCase().replaceAll(' ', '-');
  const roleClaim = env.JWT_ROLE_CLAIM ?? '';
  /** The token with other roles in the place of its own; undefined takes the claim away. */
  const withRoles = (roles: readonly string[] | undefined) => {
    const [root = '', step] = Object.hasOwn(payload, roleClaim)
      ? [roleClaim]
      : roleClaim.split('.');
    return tokenOf({ [root]: step === undefined ? roles : { [step]: roles } });
  };
  const flags = 'GET /api/admin/flags';
  let api: TestApi;

  beforeAll(async () => {
    api = await startTestApi(database.authenticatorUrl, {
      env: { ...env, JWT_SECRET: '', JWT_JWKS_URI: provider.uri },
    });
  });
  afterAll(() => api.close());

  test('the settings are valid as they stand', () => {
    expect(loadConfig({ NODE_ENV: 'test', ...env }, 'api').jwt.jwksUri).toBe(env.JWT_JWKS_URI);
  });

  test('the token is an admin’s, whom the trail names', async () => {
    const call = { token: tokenOf(), json: { flag_key: flagKey } };
    expect((await api.call('POST /api/admin/flags', call)).status).toBe(201);
    const { rows } = await withClient(database.ownerUrl, (client) =>
      client.query(
        `select admin_user_id, admin_email from audit.events
         where event_type = 'feature_flag.created' and flag_key = $1`,
        [flagKey],
      ),
    );
    expect(rows).toEqual([{ admin_user_id: userId, admin_email: email }]);
  });

  test('another role of the map is a viewer’s, and Halyard’s own names are none', async () => {
    const viewer = (env.JWT_ROLE_MAP ?? '').split(',').find((item) => item.endsWith('=viewer'));
    const token = withRoles([viewer?.replace(/=viewer$/, '') ?? '']);
    expect((await api.call(flags, { token })).status).toBe(200);
    const denied = await api.call('POST /api/admin/flags', { token, json: { flag_key: 'x' } });
    expect([denied.status, denied.body.code]).toEqual([403, 'forbidden']);
    for (const roles of [['admin'], undefined]) {
      const answer = await api.call(flags, { token: withRoles(roles) });
      expect([answer.status, answer.body.code]).toEqual([403, 'role_missing']);
      expect(answer.body.detail).toContain(roleClaim);
    }
  });

  test('a token for another service, or of another issuer, is refused, and the answer names the claim', async () => {
    const audience = env.JWT_AUDIENCE_CLAIM ?? 'aud';
    for (const [claim, other] of [
      [audience, 'elsewhere'],
      [audience, undefined],
      ['iss', 'https://elsewhere.example'],
    ] as const) {
      const { status, body } = await api.call(flags, { token: tokenOf({ [claim]: other }) });
      expect([claim, status, body.code]).toEqual([claim, 401, 'token_invalid']);
      expect(body.detail).toContain(claim);
      expect(body.detail).not.toContain('elsewhere');
    }
  });
});

test('the answer says what else of a token doesn’t fit', async () => {
  const { env, payload } = readSection('Auth0');
  const api = await startTestApi(database.authenticatorUrl, {
    env: { ...env, JWT_SECRET: '', JWT_JWKS_URI: provider.uri },
  });
  try {
    const detailOf = async (token: string) =>
      (await api.call('GET /api/admin/flags', { token })).body.detail;
    expect(await detailOf(signWith({ ...pair, kid: 'another' }, payload))).toContain('kid');
    expect(await detailOf(signWith(pair, payload, { algorithm: 'RS512' }))).toContain('alg');
  } finally {
    await api.close();
  }
});
