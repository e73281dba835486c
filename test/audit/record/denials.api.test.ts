import { createClient } from 'graphql-ws';
import { Registry } from 'prom-client';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { makeGraphql } from '../../../src/graphql/index.ts';
import { startTestApi, type TestApi } from '../../support/api.ts';
import { useDatabase, withClient } from '../../support/database.ts';
import { insertFlag } from '../../support/factory.ts';
import { findings, sealAll } from '../../support/sealed_trail.ts';
import { adminToken, auditorToken, sign, viewerToken } from '../../support/tokens.ts';
import { untilDenials } from '../../support/denials.ts';

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
    const [event] = await untilDenials(database, userId, 1);
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
    const [event] = await untilDenials(database, userId, 1);
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
    expect(await untilDenials(database, userId, 1)).toMatchObject([
      { flag_key: 'denied', metadata: { operation: 'subscription auditEventsAdded' } },
    ]);
  });

  test('a token without a role, by any way in', async () => {
    const userId = newUser();
    const token = sign({ userId });
    expect((await api.call('GET /api/admin/flags', { token })).status).toBe(403);
    expect((await post('{ featureFlags { nodes { id } } }', token)).status).toBe(403);
    await subscribe(token, 'subscription { auditEventsAdded { events { id } } }');
    const events = await untilDenials(database, userId, 3);
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
    const [event] = await untilDenials(database, userId, 1);
    expect(event).toMatchObject({ flag_key: null, environment: null });
    expect(event?.payload.length).toBeLessThan(1_000);
  });
});

test('the trail with denials in it is whole', async () => {
  await withClient(database.ownerUrl, async (client) => {
    await sealAll(client);
    expect(await findings(client)).toEqual([]);
  });
});
