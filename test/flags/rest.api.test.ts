import { expect, test } from 'vitest';

import { changedFlagSchema, flagSchema } from '../../src/schemas.ts';
import { useApi } from '../support/api.ts';
import { useDatabase, withClient } from '../support/database.ts';
import { insertSchedule } from '../support/factory.ts';
import { become } from '../support/roles.ts';
import { adminToken, viewerToken } from '../support/tokens.ts';

const database = useDatabase();
const api = useApi(database);
const token = adminToken();

test('a flag is created with the defaults of the table', async () => {
  const created = await api.call('POST /api/admin/flags', { token, json: { flag_key: 'plain' } });
  expect(created.status).toBe(201);
  expect(flagSchema.parse(created.body)).toMatchObject({
    flag_key: 'plain',
    environment: 'production',
    enabled: false,
    rollout_percentage: 100,
    description: null,
  });
  expect(created.headers.get('location')).toBe('/api/admin/flags/plain');
  const found = await api.call('GET /api/admin/flags/plain', { token: viewerToken() });
  expect([found.status, found.body]).toEqual([200, created.body]);
});

test('a flag is created as asked for, in the environment of the body or of the address', async () => {
  const asked = { enabled: true, rollout_percentage: 0, description: 'für 🎉'.padEnd(2_000, 'ä') };
  const inBody = await api.call('POST /api/admin/flags', {
    token,
    json: { flag_key: 'full', environment: 'staging', ...asked },
  });
  expect(inBody.body).toMatchObject({ flag_key: 'full', environment: 'staging', ...asked });
  const inAddress = await api.call('POST /api/admin/flags?environment=staging', {
    token,
    json: { flag_key: 'full-2' },
  });
  expect(inAddress.body.environment).toBe('staging');
  const found = await api.call(`GET ${inBody.headers.get('location') ?? ''}`, { token });
  expect(found.body).toEqual(inBody.body);
});

test('a change leaves alone what it does not mention, and null takes a description away', async () => {
  const json = { flag_key: 'changing', rollout_percentage: 30, description: 'first' };
  await api.call('POST /api/admin/flags', { token, json });
  const change = async (json: object) =>
    (await api.call('PATCH /api/admin/flags/changing', { token, json })).body;
  expect(await change({ enabled: true })).toMatchObject({
    enabled: true,
    rollout_percentage: 30,
    description: 'first',
  });
  expect(await change({ rollout_percentage: 0, description: null })).toMatchObject({
    enabled: true,
    rollout_percentage: 0,
    description: null,
  });
});

test('the answer of a change names the schedules that will change the flag again, nearest first', async () => {
  const { body: flag } = await api.call('POST /api/admin/flags', {
    token,
    json: { flag_key: 'waited-for' },
  });
  const change = async () => {
    const path = 'PATCH /api/admin/flags/waited-for';
    const { status, body } = await api.call(path, { token, json: { enabled: false } });
    expect(status).toBe(200);
    return changedFlagSchema.parse(body);
  };
  expect((await change()).pending_schedules).toEqual([]);
  const at = new Date(Date.now() + 3_600_000).toISOString();
  const { body: first } = await api.call('POST /api/admin/flags/waited-for/schedule', {
    token,
    json: { scheduled_at: at, updates: { enabled: true }, reason: 'launch' },
  });
  await withClient(database.ownerUrl, async (client) => {
    for (let i = 11; i > 0; i--) await insertSchedule(client, flag.id, { dueIn: `${i + 1} hours` });
    const { id } = await insertSchedule(client, flag.id, { dueIn: '1 second' });
    await client.query(
      `update app_public.feature_flag_schedules set status = 'cancelled' where id = $1`,
      [id],
    );
  });
  const { pending_schedules: pending, ...changed } = await change();
  expect(changed).toMatchObject({ flag_key: 'waited-for', enabled: false });
  expect(pending).toHaveLength(10);
  expect(pending[0]).toEqual(first);
  const times = pending.map(({ scheduled_at }) => Date.parse(scheduled_at));
  expect(times).toEqual(times.toSorted((a, b) => a - b));
});

test('the answer of a change that waited for a retry names the schedule that was retried', async () => {
  const key = 'retried-meanwhile';
  const { body: flag } = await api.call('POST /api/admin/flags', {
    token,
    json: { flag_key: key },
  });
  await withClient(database.rootUrl, async (client) => {
    const { id } = await insertSchedule(client, flag.id, { dueIn: '1 hour' });
    const fail = `update app_public.feature_flag_schedules set status = 'failed', error_message = 'x' where id = $1`;
    await client.query(fail, [id]);
    await client.query('begin');
    await become(client, 'admin');
    await client.query('select app_public.retry_flag_schedule($1)', [id]);
    const path = `PATCH /api/admin/flags/${key}`;
    const answer = api.call(path, { token, json: { enabled: false } });
    const waiting = `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`;
    await withClient(database.rootUrl, (watcher) =>
      expect.poll(async () => (await watcher.query(waiting)).rowCount).toBe(1),
    );
    await client.query('commit');
    const { pending_schedules: pending } = changedFlagSchema.parse((await answer).body);
    expect(pending.map((schedule) => schedule.id)).toEqual([id]);
  });
});

test('a flag of another environment is not found', async () => {
  await api.call('POST /api/admin/flags', {
    token,
    json: { flag_key: 'apart', environment: 'staging' },
  });
  for (const [method, json] of [
    ['GET', undefined],
    ['PATCH', { enabled: true }],
  ] as const) {
    const answer = await api.call(`${method} /api/admin/flags/apart`, { token, json });
    expect([answer.status, answer.body.code]).toEqual([404, 'flag_not_found']);
  }
});

/** Types and reasons of a flag's events, in order. */
async function reasonsOf(flagKey: string) {
  return withClient(database.ownerUrl, async (client) => {
    const { rows } = await client.query<{ event_type: string; reason: string | null }>(
      `select event_type, metadata ->> 'reason' as reason from audit.events where flag_key = $1 order by occurred_at, revision`,
      [flagKey],
    );
    return rows.map(({ event_type, reason }) => [event_type, reason]);
  });
}

test('the reason of a change is in its event, without the blanks round it', async () => {
  const flag = 'reasoned';
  await api.call('POST /api/admin/flags', { token, json: { flag_key: flag, reason: ' to try ' } });
  const patch = async (json: object) => {
    const { status, body } = await api.call(`PATCH /api/admin/flags/${flag}`, { token, json });
    return [status, body.code];
  };
  expect(await patch({ enabled: true, reason: 'ticket 7: “on” \\ "now" 🎉' })).toEqual([
    200,
    undefined,
  ]);
  expect(await patch({ enabled: false, reason: ' \n' })).toEqual([200, undefined]);
  expect(await patch({ reason: 'no change' })).toEqual([400, 'invalid_request']);
  for (const reason of ['a\nb', 'x'.repeat(501), 7])
    expect(await patch({ enabled: true, reason })).toEqual([400, 'invalid_request']);
  expect(await reasonsOf(flag)).toEqual([
    ['feature_flag.created', 'to try'],
    ['feature_flag.updated', 'ticket 7: “on” \\ "now" 🎉'],
    ['feature_flag.updated', null],
  ]);
});
