import { createClient } from 'graphql-ws';
import { Registry } from 'prom-client';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { makeGraphql } from '../../../src/graphql/index.ts';
import { startTestApi, type TestApi } from '../../support/api.ts';
import { value } from '../../support/actors.ts';
import { useDatabase, withClient } from '../../support/database.ts';
import { insertFlag } from '../../support/factory.ts';
import { parseSamples } from '../../support/metrics.ts';
import { reconcileAs } from '../../support/reconcile.ts';
import { findings, sealAll } from '../../support/sealed_trail.ts';
import { adminToken, auditorToken, sign, viewerToken } from '../../support/tokens.ts';
import type { TrailEvent } from '../../support/trail.ts';

const database = useDatabase();
const registry = new Registry();
let api: TestApi;
let users = 0;

beforeAll(async () => {
  await withClient(database.ownerUrl, (client) => insertFlag(client, { flag_key: 'denied' }));
  api = await startTestApi(database.authenticatorUrl, { makeGraphql, registry });
});
afterAll(() => api.close());

/** A user of the test's own, as there are ten events a user and minute. */
const newUser = () => `user-${++users}`;
const FLAG = '/api/admin/flags/denied';
const LATER = '2090-01-01T00:00:00Z';
const CHANGE = { scheduled_at: LATER, updates: { enabled: true } };

async function denials(userId: string | null): Promise<TrailEvent[]> {
  return withClient(database.ownerUrl, async (client) => {
    const { rows } = await client.query<TrailEvent>(
      `select * from audit.events
       where event_type = 'access.denied' and admin_user_id is not distinct from $1
       order by occurred_at`,
      [userId],
    );
    return rows;
  });
}

/** The user's events, once there are as many. */
async function untilDenials(userId: string | null, count: number): Promise<TrailEvent[]> {
  await expect.poll(async () => (await denials(userId)).length, { timeout: 20_000 }).toBe(count);
  return denials(userId);
}

const post = (query: string, token: string, variables?: object) =>
  api.call('POST /graphql', { token, json: { query, variables } });

describe('a denied request is an event, with who, what, where and by which request:', () => {
  const rest: [string, unknown, typeof viewerToken, object, object][] = [
    [
      `POST /api/admin/flags`,
      { flag_key: 'denied-too', environment: 'staging' },
      viewerToken,
      { operation: 'POST /api/admin/flags', flagKey: 'denied-too', role: 'viewer' },
      { flag_key: 'denied-too', environment: 'staging' },
    ],
    [
      `PATCH ${FLAG}?environment=staging`,
      { enabled: true },
      viewerToken,
      { operation: 'PATCH /api/admin/flags/:flagKey', flagKey: 'denied' },
      { flag_key: 'denied', environment: 'staging' },
    ],
    [
      `POST ${FLAG}/schedule`,
      CHANGE,
      viewerToken,
      { operation: 'POST /api/admin/flags/:flagKey/schedule', flagKey: 'denied' },
      { flag_key: 'denied', environment: 'production' },
    ],
    [
      `POST /api/admin/environments`,
      { name: 'denied' },
      (payload) => adminToken({ ...payload, environments: ['staging'] }),
      { operation: 'POST /api/admin/environments', role: 'admin' },
      { flag_key: null },
    ],
    [
      `POST /api/admin/flags`,
      { flag_key: 'denied-too', environment: 'production' },
      (payload) => adminToken({ ...payload, environments: ['staging'] }),
      { operation: 'POST /api/admin/flags', role: 'admin' },
      { flag_key: 'denied-too', environment: 'production' },
    ],
    [
      `GET /api/admin/audit/events?flag=denied`,
      undefined,
      viewerToken,
      { operation: 'GET /api/admin/audit/events', flagKey: 'denied' },
      { flag_key: 'denied', environment: null },
    ],
  ];

  test.each(rest)('%s', async (target, json, token, metadata, columns) => {
    const userId = newUser();
    const answer = await api.call(target, {
      token: token({ userId }),
      json,
      headers: { 'x-request-id': 'of the client' },
    });
    expect([answer.status, answer.body.code]).toEqual([403, 'forbidden']);
    const [event] = await untilDenials(userId, 1);
    expect(event).toMatchObject({
      level: 'warning',
      actor_kind: 'admin',
      admin_user_id: userId,
      database_user: 'halyard_authenticator',
      request_id: answer.body.request_id,
      client_request_id: 'of the client',
      metadata: { code: 'forbidden', adminUserId: userId, ...metadata },
      ...columns,
    });
  });

  const graphql: [string, string, object | undefined, object, string | null][] = [
    [
      'mutation ($flag: FeatureFlagInput!) { made: createFeatureFlag(input: { featureFlag: $flag }) { clientMutationId } }',
      'mutation createFeatureFlag',
      { flag: { flagKey: 'denied-too', environment: 'staging' } },
      { flag_key: 'denied-too', environment: 'staging' },
      null,
    ],
    [
      `mutation { scheduleFlagChange(input: { flagKey: "denied", scheduledAt: "${LATER}", updates: { enabled: true } }) { clientMutationId } }`,
      'mutation scheduleFlagChange',
      undefined,
      { flag_key: 'denied', environment: null },
      null,
    ],
    [
      '{ ...Events featureFlags { nodes { id } } } fragment Events on Query { trail: auditEvents { nodes { id } } again: auditEvents { nodes { id } } }',
      'query auditEvents',
      undefined,
      { flag_key: null, environment: null },
      'trail',
    ],
  ];

  test.each(graphql)('%s', async (query, operation, variables, columns) => {
    const userId = newUser();
    const answer = await post(query, viewerToken({ userId }), variables);
    const [event] = await untilDenials(userId, 1);
    expect(event).toMatchObject({
      request_id: answer.headers.get('x-request-id'),
      metadata: { operation, code: 'forbidden', role: 'viewer' },
      ...columns,
    });
  });

  const subscribe = async (token: string, query: string) => {
    const client = createClient({
      url: `${api.url.replace('http', 'ws')}/graphql`,
      webSocketImpl: WebSocket,
      retryAttempts: 0,
      connectionParams: { authorization: `Bearer ${token}` },
    });
    await new Promise<void>((resolve) => {
      client.subscribe(
        { query },
        { next: () => undefined, error: () => resolve(), complete: () => resolve() },
      );
    });
    await client.dispose();
  };

  test('a subscription', async () => {
    const userId = newUser();
    await subscribe(
      viewerToken({ userId }),
      'subscription { auditEventsAdded(flagKey: "denied") { events { id } } }',
    );
    expect(await untilDenials(userId, 1)).toMatchObject([
      { flag_key: 'denied', metadata: { operation: 'subscription auditEventsAdded' } },
    ]);
  });

  test('a token without a role, by any way in', async () => {
    const userId = newUser();
    const token = sign({ userId });
    expect((await api.call('GET /api/admin/flags', { token })).status).toBe(403);
    expect((await post('{ featureFlags { nodes { id } } }', token)).status).toBe(403);
    await subscribe(token, 'subscription { auditEventsAdded { events { id } } }');
    const events = await untilDenials(userId, 3);
    expect(events.map(({ metadata }) => metadata)).toEqual(
      ['GET /api', 'POST /graphql', 'WEBSOCKET /graphql'].map((operation) => ({
        operation,
        code: 'role_missing',
        adminUserId: userId,
      })),
    );
    for (const { actor_kind } of events) expect(actor_kind).toBe('admin');
  });

  test('and what names no flag that could be is left out', async () => {
    const userId = newUser();
    const path = `/api/admin/flags/${'x'.repeat(500)}?environment=%00${'y'.repeat(500)}`;
    const query =
      'mutation ($k: String!) { scheduleFlagChange(input: { flagKey: $k, scheduledAt: "2090-01-01T00:00:00Z", updates: { enabled: true } }) { clientMutationId } }';
    await post(query, viewerToken({ userId }), { k: 'z'.repeat(5_000) });
    expect((await api.call(`GET ${path}`, { token: auditorToken({ userId }) })).status).toBe(400);
    const [event] = await untilDenials(userId, 1);
    expect(event).toMatchObject({ flag_key: null, environment: null });
    expect(event?.payload.length).toBeLessThan(1_000);
  });
});

test('ten a user and minute are events, and then one has the number of the others', async () => {
  const userId = newUser();
  const token = viewerToken({ userId });
  for (let round = 0; round < 2; round++)
    await Promise.all(
      Array.from({ length: 20 }, () =>
        api.call(`PATCH ${FLAG}`, { token, json: { enabled: true } }),
      ),
    );
  const count = (client: Parameters<typeof value>[0]) =>
    value(
      client,
      'select coalesce(sum(denied), 0)::int from app_private.denials where user_id = $1',
      [userId],
    );
  await withClient(database.ownerUrl, async (client) => {
    await expect.poll(() => count(client), { timeout: 20_000 }).toBe(40);
    // The minute may have ended meanwhile.
    const written = await value<number>(
      client,
      'select sum(written)::int from app_private.denials where user_id = $1',
      [userId],
    );
    expect([10, 20]).toContain(written);
    expect(await denials(userId)).toHaveLength(written);
    await client.query(`update app_private.denials set minute = minute - interval '2 minutes'`);
    // The next denial, of any user, by any process.
    await api.call(`PATCH ${FLAG}`, {
      token: viewerToken({ userId: newUser() }),
      json: { enabled: true },
    });
    await expect.poll(() => count(client), { timeout: 20_000 }).toBe(0);
    const counts = (await denials(userId)).slice(written);
    expect(counts.reduce((sum, { metadata }) => sum + Number(metadata.count), 0)).toBe(
      40 - written,
    );
    expect(counts[0]).toMatchObject({
      actor_kind: 'admin',
      metadata: { role: 'viewer', minute: expect.stringMatching(/Z$/) as string },
    });
  });
});

test('several processes share the ten, and none of their denials is counted twice', async () => {
  const userId = newUser();
  const deny = () =>
    withClient(database.authenticatorUrl, async (client) => {
      await client.query(`select set_config('jwt.claims.user_id', $1, false)`, [userId]);
      for (let i = 0; i < 5; i++)
        await client.query(`select app_private.record_denial('GET /x', 'forbidden')`);
      await client.query(`select app_private.record_denial(null, 'forbidden', null, null, 7)`);
    });
  await Promise.all(Array.from({ length: 4 }, deny));
  await withClient(database.ownerUrl, async (client) => {
    const { rows } = await client.query<{ denied: number; written: number }>(
      'select sum(denied)::int as denied, sum(written)::int as written from app_private.denials where user_id = $1',
      [userId],
    );
    expect(rows[0]?.denied).toBe(48);
    expect(await denials(userId)).toHaveLength(rows[0]?.written ?? 0);
    expect([10, 20]).toContain(rows[0]?.written);
  });
});

test('an answer neither waits for its event nor fails by it', async () => {
  const ask = (userId: string) =>
    api.call(`PATCH ${FLAG}`, { token: viewerToken({ userId }), json: { enabled: true } });
  const userId = newUser();
  await withClient(database.ownerUrl, async (client) => {
    await client.query('begin; lock table app_private.denials in access exclusive mode');
    expect((await ask(userId)).status).toBe(403);
    await client.query('rollback');
    await untilDenials(userId, 1);
    await client.query('alter table audit.events rename to away');
    expect((await ask(userId)).status).toBe(403);
    const letters = () => value(client, 'select count(*)::int from audit.dead_letters');
    await expect.poll(letters, { timeout: 20_000 }).toBe(1);
    await client.query('alter table audit.away rename to events');
  });
  expect(await reconcileAs(database, 'dead_letters')).toMatchObject({ fromLetters: 1 });
  expect(await denials(userId)).toMatchObject([{ reconciled: false }, { reconciled: true }]);
});

test('a request without a valid token is no event but a number', async () => {
  const refused = async () => {
    const samples = parseSamples(await registry.metrics());
    return ['token_missing', 'token_expired', 'token_invalid'].map((reason) =>
      samples.get(`halyard_authentication_failures_total{reason="${reason}"}`),
    );
  };
  const before = await withClient(database.ownerUrl, (client) =>
    value(client, 'select count(*)::int from audit.events'),
  );
  await api.call('GET /api/admin/flags');
  await api.call('GET /api/admin/flags', { token: sign({ role: 'admin', exp: 1 }) });
  await api.call('POST /graphql', { token: 'x.y.z', json: { query: '{ __typename }' } });
  await api.call('GET /api/admin/flags', { token: sign({ role: 'admin', userId: 42 }) });
  expect(await refused()).toEqual([1, 1, 2]);
  expect(
    await withClient(database.ownerUrl, (client) =>
      value(client, 'select count(*)::int from audit.events'),
    ),
  ).toBe(before);
});

test('the trail with denials in it is whole', async () => {
  await withClient(database.ownerUrl, async (client) => {
    await sealAll(client);
    expect(await findings(client)).toEqual([]);
  });
});
