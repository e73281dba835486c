import { createClient } from 'graphql-ws';
import { Registry } from 'prom-client';
import { expect, onTestFinished, test, vi } from 'vitest';
import { WebSocket } from 'ws';
import { makeGraphql } from '../../src/graphql/index.ts';
import { inMinutes, startTestApi } from '../support/api.ts';
import type { TestApi } from '../support/api.ts';
import { useDatabase, withClient } from '../support/database.ts';
import { insertFlag } from '../support/factory.ts';
import { parseSamples, scrape, startTestMetrics } from '../support/metrics.ts';
import type { Samples } from '../support/metrics.ts';
import { adminToken } from '../support/tokens.ts';

const database = useDatabase();

/** An API of its own, with what its registry says. */
async function startMetered(): Promise<{ api: TestApi; read: () => Promise<Samples> }> {
  const registry = new Registry();
  const api = await startTestApi(database.authenticatorUrl, {
    ...{ makeGraphql, registry, consoleFolder: '/nowhere' },
  });
  onTestFinished(() => api.close());
  return { api, read: async () => parseSamples(await registry.metrics()) };
}

const COUNT = 'halyard_http_request_duration_seconds_count';

/** The counts of requests, by method, route and status. */
function requests(samples: Samples): Record<string, number> {
  return Object.fromEntries(
    [...samples]
      .filter(([name]) => name.startsWith(COUNT))
      .map(([name, count]) => {
        const [, method, route, status] =
          /\{method="(.*)",route="(.*)",status="(.*)"\}/.exec(name) ?? [];
        return [`${method ?? ''} ${route ?? ''} ${status ?? ''}`, count];
      }),
  );
}

test('requests are timed by the pattern of their route, also those that fail', async () => {
  const { api, read } = await startMetered();
  const { flag_key: key } = await withClient(database.ownerUrl, (client) => insertFlag(client));
  const token = adminToken();
  const json = { scheduled_at: inMinutes(60), updates: { enabled: true } };
  await api.call(`POST /api/admin/flags/${key}/schedule`, { token, json });
  await api.call('POST /API/Admin/flags/unknown/schedule?environment=staging', { token, json });
  await api.call(`GET /api/admin/flags/${key}/`, { token });
  await api.call('GET /api/admin/flags', { token });
  await api.call('PUT /api/admin/flags', { token });
  await api.call('GET /api/admin/flags');
  await api.call('GET /nowhere/at/all');
  await api.call('GET /healthz');
  // A page's address may have any number of parts.
  await fetch(`${api.url}/console/flags/production/checkout`);
  await fetch(`${api.url}/console/assets/made-up.js`);
  await api.call('POST /graphql', { token, json: { query: '{ __typename }' } });
  await vi.waitFor(
    async () => {
      expect(requests(await read())).toEqual({
        'POST /api/admin/flags/:flagKey/schedule 2xx': 1,
        'POST /api/admin/flags/:flagKey/schedule 4xx': 1,
        'GET /api/admin/flags/:flagKey 2xx': 1,
        'GET /api/admin/flags 2xx': 1,
        'PUT /api/admin/flags 4xx': 1,
        'GET /console{/*page} 5xx': 1,
        'GET /console/assets/:name 4xx': 1,
        'GET none 4xx': 2,
        'GET /healthz 2xx': 1,
        'POST /graphql 2xx': 1,
      });
    },
    { timeout: 10_000 },
  );
});

test('nobody can make up labels', async () => {
  const { api, read } = await startMetered();
  for (let n = 0; n < 20; n++) {
    await api.call(`GET /made-up-${n}`);
    await api.call(`PROPFIND /api/admin/flags/${n}`);
    await api.call(`GET /api/admin/flags/flag-${n}`, { token: adminToken() });
    await api.call(`GET /api/admin/flags/flag-${n}//..%2F/schedule`, { token: adminToken() });
  }
  await vi.waitFor(
    async () => {
      const counts = requests(await read());
      expect(Object.values(counts).reduce((sum, count) => sum + count)).toBe(80);
      expect(Object.keys(counts).length).toBeLessThan(8);
      expect(JSON.stringify(counts)).not.toMatch(/made-up|flag-\d|PROPFIND/);
    },
    { timeout: 10_000 },
  );
});

test('errors in GraphQL answers are counted by code, though their status is 200', async () => {
  const { api, read } = await startMetered();
  const call = (query: string) =>
    api.call('POST /graphql', { token: adminToken(), json: { query } });
  await call('{ nothing }');
  await call(
    'mutation { cancelFlagSchedule(input: { id: "00000000-0000-4000-8000-000000000000" }) { clientMutationId } }',
  );
  const samples = await read();
  // What an alert counts begins at 0, or it would miss the first.
  expect(samples.get('halyard_graphql_errors_total{code="internal_error"}')).toBe(0);
  expect(samples.get('halyard_graphql_errors_total{code="invalid_query"}')).toBeGreaterThan(0);
  const total = [...samples]
    .filter(([name]) => name.startsWith('halyard_graphql_errors_total'))
    .reduce((sum, [, count]) => sum + count, 0);
  expect(total).toBeGreaterThanOrEqual(2);
});

test('open subscriptions and the use of the pool', async () => {
  const { api, read } = await startMetered();
  await vi.waitFor(async () => expect((await read()).get('halyard_api_listener_healthy')).toBe(1), {
    timeout: 10_000,
  });
  const client = createClient({
    url: `${api.url.replace('http', 'ws')}/graphql`,
    webSocketImpl: WebSocket,
    connectionParams: { authorization: `Bearer ${adminToken()}` },
  });
  const query = 'subscription { auditEventsAdded { truncated } }';
  const ignore = { next: () => undefined, error: () => undefined, complete: () => undefined };
  client.subscribe({ query }, ignore);
  client.subscribe({ query }, ignore);
  await vi.waitFor(
    async () => {
      const samples = await read();
      expect(samples.get('halyard_websockets_open')).toBe(1);
      expect(samples.get('halyard_subscriptions_open')).toBe(2);
    },
    { timeout: 5_000 },
  );
  await client.dispose();
  await vi.waitFor(async () => expect((await read()).get('halyard_subscriptions_open')).toBe(0), {
    timeout: 5_000,
  });

  await withClient(database.ownerUrl, async (owner) => {
    await owner.query('begin; lock table app_public.feature_flags in access exclusive mode');
    const calls = Array.from({ length: 12 }, () =>
      api.call('GET /api/admin/flags', { token: adminToken() }),
    );
    await vi.waitFor(
      async () => {
        const samples = await read();
        // One user alone has all connections but two.
        expect(samples.get('halyard_api_pool_connections{state="in_use"}')).toBe(8);
        expect(samples.get('halyard_api_pool_waiting')).toBe(4);
      },
      { timeout: 5_000 },
    );
    await owner.query('rollback');
    await Promise.all(calls);
  });
  await vi.waitFor(
    async () => {
      const samples = await read();
      expect(samples.get('halyard_api_pool_connections{state="in_use"}')).toBe(0);
      expect(samples.get('halyard_api_pool_waiting')).toBe(0);
    },
    { timeout: 10_000 },
  );
});

test('the API says what the database says, and nothing of a worker', async () => {
  const { url } = await startTestMetrics(database.authenticatorUrl, { delivers: false });
  const samples = await scrape(url);
  expect(samples.get('halyard_database_up')).toBe(1);
  expect(samples.get('halyard_dead_letters')).toBe(0);
  expect(samples.has('halyard_delivery_behind_events{destination="stdout"}')).toBe(false);
  expect(samples.has('halyard_worker_healthy')).toBe(false);
});
