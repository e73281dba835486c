import { describe, expect, test } from 'vitest';

import { environmentRowSchema } from '../../src/schemas.ts';
import { contentsOf, useApi } from '../support/api.ts';
import { useDatabase, withClient } from '../support/database.ts';
import { useGraphql } from '../support/graphql.ts';
import { adminToken, auditorToken, viewerToken } from '../support/tokens.ts';

const database = useDatabase();
const api = useApi(database);
const graphql = useGraphql(database);
const token = adminToken();
const limited = adminToken({ environments: ['staging', 'planned'] });

const PRESENT = 'development, elsewhere, large, listed, many, pages, production, staging';

interface Named {
  readonly name: string;
}

async function namesFor(reader: string): Promise<string[]> {
  const { body } = await api.call('GET /api/admin/environments', { token: reader });
  return (body as unknown as Named[]).map(({ name }) => name);
}

test('an environment is made, found, listed, and in the trail with who made it', async () => {
  const made = await api.call('POST /api/admin/environments', {
    token,
    json: { name: 'made', reason: ' a new region ' },
  });
  expect(made.status).toBe(201);
  expect(environmentRowSchema.parse(made.body)).toMatchObject({
    name: 'made',
    created_by: 'alice',
  });
  const found = await api.call(`GET ${made.headers.get('location') ?? ''}`, {
    token: viewerToken(),
  });
  // Who stopped an environment, and why, is not for viewers.
  const { stopped_by, stop_reason, ...seen } = made.body as unknown as Record<string, unknown>;
  expect([stopped_by, stop_reason]).toEqual([null, null]);
  expect([found.status, found.body]).toEqual([200, seen]);
  expect(await namesFor(token)).toContain('made');
  const events = await withClient(database.ownerUrl, async (client) => {
    const { rows } = await client.query(
      `select actor_kind, admin_user_id, environment, metadata from audit.events where event_type = 'environment.created'`,
    );
    return rows as unknown[];
  });
  expect(events).toEqual([
    {
      ...{ actor_kind: 'admin', admin_user_id: 'alice', environment: 'made' },
      metadata: expect.objectContaining({
        ...{ name: 'made', after: { createdBy: 'alice' }, reason: 'a new region' },
      }) as object,
    },
  ]);
  const flag = { flag_key: 'in-it', environment: 'made' };
  expect((await api.call('POST /api/admin/flags', { token, json: flag })).status).toBe(201);
});

test('every role lists those that its token reaches', async () => {
  for (const make of [adminToken, viewerToken, auditorToken]) {
    expect(await namesFor(make())).toContain('production');
    expect(await namesFor(make({ environments: ['staging', 'nowhere'] }))).toEqual(['staging']);
    expect(await namesFor(make({ environments: [] }))).toEqual([]);
  }
});

test('the list has pages', async () => {
  const first = await api.call('GET /api/admin/environments?limit=2', { token });
  expect((first.body as unknown as Named[]).map(({ name }) => name)).toHaveLength(2);
  const next = /<(.*)>; rel="next"/.exec(first.headers.get('link') ?? '')?.[1] ?? '';
  const second = await api.call(`GET ${next}`, { token });
  expect((second.body as unknown as Named[])[0]?.name).toBe('large');
});

test.for<[string, string, unknown, number, string]>([
  ['a name that there is', token, { name: 'production' }, 409, 'environment_exists'],
  ['no name', token, {}, 400, 'invalid_request'],
  ['a name with a space', token, { name: 'two words' }, 400, 'invalid_request'],
  ['a name of 21 characters', token, { name: 'x'.repeat(21) }, 400, 'invalid_request'],
  ['another field', token, { name: 'fine', created_by: 'bob' }, 400, 'invalid_request'],
  ['a token that is limited to environments', limited, { name: 'planned' }, 403, 'forbidden'],
  ['a viewer', viewerToken(), { name: 'fine' }, 403, 'forbidden'],
  ['an auditor', auditorToken(), { name: 'fine' }, 403, 'forbidden'],
])('%s makes none', async ([, caller, json, status, code]) => {
  const before = await contentsOf(database);
  const answer = await api.call('POST /api/admin/environments', { token: caller, json });
  expect([answer.status, answer.body.code]).toEqual([status, code]);
  if (status === 403)
    expect(answer.body.detail).toMatch(/^This takes the token of an admin that isn.t limited/);
  expect(await contentsOf(database)).toBe(before);
});

describe('an environment that there isn’t', () => {
  const schedule = { scheduled_at: '2090-01-01T00:00:00Z', updates: { enabled: true } };
  const id = '4d6d1f0e-6a3c-4a43-9a58-4b2c1c3a7d11';

  test.for<[string, unknown]>([
    ['GET /api/admin/flags?environment=prodction', undefined],
    ['POST /api/admin/flags', { flag_key: 'a', environment: 'prodction' }],
    ['GET /api/admin/flags/a?environment=prodction', undefined],
    ['PATCH /api/admin/flags/a?environment=prodction', { enabled: true }],
    ['GET /api/admin/flags/a/schedule?environment=prodction', undefined],
    ['POST /api/admin/flags/a/schedule?environment=prodction', schedule],
    [`GET /api/admin/flags/a/schedule/${id}?environment=prodction`, undefined],
    [`DELETE /api/admin/flags/a/schedule/${id}?environment=prodction`, undefined],
    [
      `PATCH /api/admin/flags/a/schedule/${id}?environment=prodction`,
      { scheduled_at: '2090-01-01T00:00:00Z' },
    ],
    [`POST /api/admin/flags/a/schedule/${id}/retry?environment=prodction`, undefined],
    ['GET /api/admin/audit/events?environment=prodction', undefined],
    ['GET /api/admin/environments/prodction', undefined],
  ])('%s names those that there are', async ([target, json]) => {
    const before = await contentsOf(database);
    const answer = await api.call(target, { token, json });
    expect([answer.status, answer.body.code]).toEqual([404, 'environment_not_found']);
    expect(answer.body.detail.replace('made, ', '')).toBe(
      `There is no environment 'prodction'. You may see: ${PRESENT}.`,
    );
    expect(await contentsOf(database)).toBe(before);
  });

  test('is answered like one outside of the token, which names the token’s own', async () => {
    for (const name of ['production', 'prodction', 'planned']) {
      for (const path of ['flags?', 'flags/a?', 'flags/a/schedule?', 'audit/events?']) {
        const target = `GET /api/admin/${path}environment=${name}`;
        const { body } = await api.call(target, { token: limited });
        expect([body.code, body.detail]).toEqual([
          'environment_not_found',
          `There is no environment '${name}'. You may see: staging.`,
        ]);
      }
    }
  });

  test('a flag is refused where the token doesn’t reach, whether there is such an environment or not', async () => {
    for (const environment of ['production', 'prodction']) {
      const json = { flag_key: 'a', environment };
      const { status, body } = await api.call('POST /api/admin/flags', { token: limited, json });
      expect([status, body.code]).toEqual([403, 'forbidden']);
    }
  });

  test('the trail has the events of one that was deleted', async () => {
    await api.call('POST /api/admin/environments', { token, json: { name: 'brief' } });
    await withClient(database.ownerUrl, (client) =>
      client.query(`delete from app_public.environments where name = 'brief'`),
    );
    const read = (target: string) =>
      api.call(`GET /api/admin/${target}?environment=brief`, { token });
    expect((await read('audit/events')).status).toBe(200);
    expect((await read('flags')).body.code).toBe('environment_not_found');
    const query = '{ auditEvents(condition: { environment: "brief" }) { nodes { eventType } } }';
    expect(await graphql().data(query)).toEqual({
      auditEvents: {
        nodes: [{ eventType: 'environment.deleted' }, { eventType: 'environment.created' }],
      },
    });
  });
});

describe('GraphQL', () => {
  const CREATE = `mutation ($name: String!) {
    createEnvironment(input: { name: $name, reason: "why not" }) { environment { name createdAt createdBy } }
  }`;

  test('makes an environment and lists them', async () => {
    expect(await graphql().data(CREATE, { name: 'by-graphql' })).toEqual({
      createEnvironment: {
        environment: {
          name: 'by-graphql',
          createdAt: expect.any(String) as string,
          createdBy: 'alice',
        },
      },
    });
    const events = await graphql().data(
      '{ auditEvents(condition: { eventType: "environment.created" }, first: 1) { nodes { metadata } } }',
    );
    expect(events).toMatchObject({
      auditEvents: { nodes: [{ metadata: { name: 'by-graphql', reason: 'why not' } }] },
    });
    const query = '{ environments { nodes { name } } environment(name: "by-graphql") { name } }';
    const found = await graphql().data<{ environments: { nodes: Named[] } }>(query);
    expect(found).toMatchObject({ environment: { name: 'by-graphql' } });
    expect(found.environments.nodes.map(({ name }) => name)).toContain('production');
    const reader = auditorToken({ environments: ['staging'] });
    expect(await graphql().data('{ environments { nodes { name } } }', {}, reader)).toEqual({
      environments: { nodes: [{ name: 'staging' }] },
    });
  });

  test.for<[string, string, string]>([
    ['production', token, 'environment_exists'],
    ['two words', token, 'invalid_value'],
    ['x'.repeat(21), token, 'invalid_value'],
    ['planned', limited, 'forbidden'],
    ['fine', viewerToken(), 'forbidden'],
    ['fine', auditorToken(), 'forbidden'],
  ])('makes no %s', async ([name, caller, code]) => {
    const before = await contentsOf(database);
    expect(await graphql().codeOf(CREATE, { name }, caller)).toBe(code);
    expect(await contentsOf(database)).toBe(before);
  });
});
