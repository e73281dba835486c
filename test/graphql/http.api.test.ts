import { hash } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import { getIntrospectionQuery } from 'postgraphile/graphql';
import { describe, expect, it, vi } from 'vitest';
import { startGraphql, useGraphql } from '../support/graphql.ts';
import { useDatabase, withClient } from '../support/database.ts';
import {
  adminToken,
  auditorToken,
  nowInSeconds,
  refusedTokens,
  sign,
  viewerToken,
  type Payload,
} from '../support/tokens.ts';
import { sendRaw } from '../support/raw_graphql.ts';

const database = useDatabase();
const api = useGraphql(database);

const QUERY = '{ featureFlags(first: 1) { nodes { id } } }';

const raw = (
  body: string | Buffer,
  headers?: Record<string, string>,
  method?: string,
  to = api(),
) => sendRaw(to, body, headers, method);

describe('tokens', () => {
  it('are required, with a challenge', async () => {
    const answer = await api().post(QUERY, {}, { token: null });
    expect(answer.status).toBe(401);
    expect(answer.errors?.[0]?.extensions.code).toBe('token_missing');
    expect(answer.headers.get('www-authenticate')).toBe('Bearer');
    expect(answer.headers.get('content-type')).toContain('application/graphql-response+json');
  });

  it.each(Object.entries(refusedTokens()))('are refused %s', async (_name, { token, code }) => {
    const answer = await api().post(QUERY, {}, { token });
    expect([answer.status, answer.errors?.[0]?.extensions.code]).toEqual([401, code]);
    expect(answer.headers.get('www-authenticate')).toContain('invalid_token');
  });

  it('without a role get 403', async () => {
    const answer = await api().post(QUERY, {}, { token: sign({ userId: 'nobody' }) });
    expect([answer.status, answer.errors?.[0]?.extensions.code]).toEqual([403, 'role_missing']);
  });

  it('are looked at before the body is', async () => {
    const answer = await raw('{'.repeat(50), { authorization: '' });
    expect([answer.status, answer.code]).toEqual([401, 'token_missing']);
  });
});

describe('the user of a token', () => {
  const ME = '{ me { userId email role environments expiresAt mayProve } }';
  const staging = { environments: ['staging'] };

  it.each([
    ['an admin', adminToken({}), { role: 'admin', userId: 'alice', mayProve: true }],
    ['an admin of staging', adminToken(staging), { role: 'admin', mayProve: false, ...staging }],
    ['an auditor', auditorToken(), { role: 'auditor', userId: 'olga', mayProve: true }],
    ['an auditor of none', auditorToken({ environments: [] }), { mayProve: false }],
    ['a viewer', viewerToken(), { role: 'viewer', environments: null, mayProve: false }],
    ['a token without names', sign({ role: 'viewer' }), { userId: null, email: null }],
  ])('is %s', async (_, token, expected) => {
    expect(await api().data(ME, {}, token)).toMatchObject({ me: expected });
  });

  it('is known until the token expires, if it does', async () => {
    const exp = nowInSeconds() + 600;
    const expiry = async (changes: Payload) =>
      (await api().data<{ me: { expiresAt: unknown } }>(ME, {}, adminToken(changes))).me.expiresAt;
    expect(await expiry({ exp })).toBe(new Date(exp * 1000).toISOString());
    expect(await expiry({ exp: undefined })).toBeNull();
    expect(await expiry({ exp: 1e15 })).toBe('9999-12-31T23:59:59.000Z');
  });

  it('is the one of each request, where the operation is the same', async () => {
    const users = Array.from({ length: 6 }, (_, i) => `user-${i}`);
    const answers = await Promise.all(
      users.map((userId) =>
        api().data<{ me: { userId: string } }>(ME, {}, viewerToken({ userId })),
      ),
    );
    expect(answers.map(({ me }) => me.userId)).toEqual(users);
  });

  it('of every role reads the time of the database, also in one request with me', async () => {
    for (const token of [adminToken(), viewerToken(staging), auditorToken()]) {
      const before = Date.now();
      const { serverTime } = await api().data<{ serverTime: string }>(
        '{ serverTime me { role } }',
        {},
        token,
      );
      // One machine's clock, and what JSON rounds.
      expect(Date.parse(serverTime)).toBeGreaterThanOrEqual(before - 1);
      expect(Date.parse(serverTime)).toBeLessThanOrEqual(Date.now() + 1);
    }
  });
});

describe('bodies', () => {
  const ok = JSON.stringify({ query: QUERY });
  const cases: [string, string | Buffer, Record<string, string>, number, string][] = [
    ['invalid JSON', '{"query":', {}, 400, 'invalid_json'],
    ['a batch', `[${ok}]`, {}, 400, 'invalid_query'],
    ['a string', '"query"', {}, 400, 'invalid_query'],
    ['no query', '{}', {}, 400, 'invalid_query'],
    ['a query that is a number', '{"query": 1}', {}, 400, 'invalid_query'],
    ['variables that are an array', `{"query": "{a}", "variables": []}`, {}, 400, 'invalid_query'],
    ['1 MB', JSON.stringify({ query: ' '.repeat(1_000_000) }), {}, 413, 'body_too_large'],
    [
      'a form',
      'query={__typename}',
      { 'content-type': 'application/x-www-form-urlencoded' },
      415,
      'unsupported_media_type',
    ],
    ['plain text', ok, { 'content-type': 'text/plain' }, 415, 'unsupported_media_type'],
    [
      'GraphQL text',
      QUERY,
      { 'content-type': 'application/graphql' },
      415,
      'unsupported_media_type',
    ],
    [
      'bytes that are no UTF-8',
      Buffer.concat([Buffer.from('{"query":"#'), Buffer.of(0xff), Buffer.from('"}')]),
      {},
      400,
      'invalid_json',
    ],
    [
      'utf-7',
      ok,
      { 'content-type': 'application/json; charset=utf-7' },
      415,
      'unsupported_media_type',
    ],
    ['compression', gzipSync(ok), { 'content-encoding': 'gzip' }, 415, 'unsupported_media_type'],
    [
      'latin1',
      ok,
      { 'content-type': 'application/json; charset=latin1' },
      415,
      'unsupported_media_type',
    ],
  ];

  it.each(cases)('of %s are refused', async (_name, body, headers, status, code) => {
    const answer = await raw(body, headers);
    expect([answer.status, answer.code]).toEqual([status, code]);
  });

  it('are needed: GET is refused', async () => {
    const answer = await raw('', {}, 'GET');
    expect([answer.status, answer.code]).toEqual([405, 'method_not_allowed']);
    expect(answer.headers.get('allow')).toBe('POST');
  });

  it('are answered, where a client’s defaults send GET, with what to set', async () => {
    const query = encodeURIComponent('query { __typename }');
    const response = await fetch(`${api().url}?query=${query}&extensions=%7B%7D`);
    expect(response.status).toBe(405);
    const { errors } = (await response.json()) as { errors: { message: string }[] };
    expect(errors[0]?.message).toMatch(/POST/);
    expect(errors[0]?.message).toMatch(/preferGetMethod: false/);
  });
});

describe('in production', () => {
  const INTROSPECTION = '{ __schema { queryType { name } } }';

  it('there is no introspection, no hint at names and no IDE', async () => {
    const production = await startGraphql(database, { nodeEnv: 'production' });
    try {
      const { errors: refused } = await production.post(INTROSPECTION);
      expect(refused?.[0]?.extensions.code).toBe('invalid_query');
      expect(await production.data('{ __typename }')).toEqual({ __typename: 'Query' });
      const { errors } = await production.post('{ featureFlag { id } featureFlagz { id } }');
      expect(JSON.stringify(errors)).not.toMatch(/did you mean/i);
      expect((await fetch(production.url.replace('/graphql', '/ruru'))).status).toBe(404);
    } finally {
      await production.close();
    }
  });

  it('and in development all three', async () => {
    const development = await startGraphql(database, { nodeEnv: 'development' });
    try {
      // The one that IDEs send, which is the deepest that must pass.
      expect(await development.data(getIntrospectionQuery())).toBeDefined();
      const { errors } = await development.post('{ featureFlagz { id } }');
      expect(JSON.stringify(errors)).toMatch(/did you mean/i);
      const ruru = await fetch(development.url.replace('/graphql', '/ruru'));
      expect([ruru.status, ruru.headers.get('content-type')]).toEqual([
        200,
        expect.stringContaining('html'),
      ]);
      // Of a page that is given a token: nothing of other servers, in no other page's frame.
      const policy = ruru.headers.get('content-security-policy') ?? '';
      expect(policy).toMatch(/default-src 'none'; script-src 'self'( 'sha256-[\w+/]+=*'){4}; /);
      // As a browser hashes them, of what it got.
      for (const [, script = ''] of (await ruru.text()).matchAll(/<script[^>]*>([^]*?)<\/script>/g))
        expect(policy).toContain(`'sha256-${hash('sha256', script, 'base64')}'`);
      expect(policy).toContain("connect-src 'self'; ");
      expect(policy).toContain("frame-ancestors 'none'");
    } finally {
      await development.close();
    }
  });
});

describe('errors that are nobody’s business', () => {
  it('are masked, and logged with the request’s id and not on the console', async () => {
    const console_ = [
      vi.spyOn(console, 'error'),
      vi.spyOn(console, 'warn'),
      vi.spyOn(console, 'log'),
    ];
    await withClient(database.ownerUrl, (client) =>
      client.query(`create function app_private.tg_broken() returns trigger language plpgsql as
        $$ begin raise exception 'the secret of the trigger' using errcode = 'XX123'; end $$;
        grant execute on function app_private.tg_broken() to public;
        create trigger broken before update on app_public.feature_flags for each row
          when (new.description = 'broken') execute function app_private.tg_broken();`),
    );
    const { createFeatureFlag } = await api().data<{
      createFeatureFlag: { featureFlag: { id: string } };
    }>(
      'mutation { createFeatureFlag(input: { featureFlag: { flagKey: "broken" } }) { featureFlag { id } } }',
    );
    const answer = await api().post(
      `mutation { updateFeatureFlag(input: { id: "${createFeatureFlag.featureFlag.id}", patch: { description: "broken" } }) { clientMutationId } }`,
      {},
      { headers: { 'x-request-id': 'a-masked-request' } },
    );
    expect(answer.errors?.[0]?.extensions.code).toBe('internal_error');
    expect(JSON.stringify(answer.errors)).not.toContain('secret');
    const line = api().lines.find(({ clientRequestId }) => clientRequestId === 'a-masked-request');
    expect(line).toMatchObject({ level: 'error', err: { code: 'XX123' } });
    for (const spy of console_) expect(spy).not.toHaveBeenCalled();
  });
});
