import { Registry } from 'prom-client';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { makeGraphql } from '../../../src/graphql/index.ts';
import { startTestApi, type TestApi } from '../../support/api.ts';
import { value } from '../../support/actors.ts';
import { useDatabase, withClient } from '../../support/database.ts';
import { insertFlag } from '../../support/factory.ts';
import { parseSamples } from '../../support/metrics.ts';
import { reconcileAs } from '../../support/reconcile.ts';
import { sign, viewerToken } from '../../support/tokens.ts';
import { denials, untilDenials } from '../../support/denials.ts';

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
    expect(await denials(database, userId)).toHaveLength(written);
    await client.query(`update app_private.denials set minute = minute - interval '2 minutes'`);
    // The next denial, of any user, by any process.
    await api.call(`PATCH ${FLAG}`, {
      token: viewerToken({ userId: newUser() }),
      json: { enabled: true },
    });
    await expect.poll(() => count(client), { timeout: 20_000 }).toBe(0);
    const counts = (await denials(database, userId)).slice(written);
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
    expect(await denials(database, userId)).toHaveLength(rows[0]?.written ?? 0);
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
    await untilDenials(database, userId, 1);
    await client.query('alter table audit.events rename to away');
    expect((await ask(userId)).status).toBe(403);
    const letters = () => value(client, 'select count(*)::int from audit.dead_letters');
    await expect.poll(letters, { timeout: 20_000 }).toBe(1);
    await client.query('alter table audit.away rename to events');
  });
  expect(await reconcileAs(database, 'dead_letters')).toMatchObject({ fromLetters: 1 });
  expect(await denials(database, userId)).toMatchObject([
    { reconciled: false },
    { reconciled: true },
  ]);
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
