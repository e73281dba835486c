import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { scheduleSchema } from '../../src/schemas.ts';
import { contentsOf, inMinutes, useApi } from '../support/api.ts';
import { useDatabase, withClient } from '../support/database.ts';
import { insertFlag, insertSchedule } from '../support/factory.ts';
import { adminToken, viewerToken } from '../support/tokens.ts';

const database = useDatabase();
const api = useApi(database);

const asOwner = <T>(work: Parameters<typeof withClient<T>>[1]) =>
  withClient(database.ownerUrl, work);
const newFlag = (environment = 'production') =>
  asOwner((client) => insertFlag(client, { environment })).then(({ flag_key }) => flag_key);

async function create(flagKey: string, updates: object = { enabled: true }, query = '') {
  const answer = await api.call(`POST /api/admin/flags/${flagKey}/schedule${query}`, {
    token: adminToken(),
    json: { scheduled_at: inMinutes(60), updates },
  });
  expect(answer.status).toBe(201);
  return answer;
}

test('an admin schedules a change, and the answer says who did', async () => {
  const flag = await newFlag();
  const scheduled_at = inMinutes(60);
  const answer = await api.call(`POST /api/admin/flags/${flag}/schedule`, {
    token: adminToken(),
    json: { scheduled_at, updates: { rollout_percentage: 25 } },
  });
  expect(answer.status).toBe(201);
  expect(scheduleSchema.parse(answer.body)).toMatchObject({
    flag_key: flag,
    environment: 'production',
    scheduled_at,
    status: 'pending',
    updates: { rollout_percentage: 25 },
    applied_at: null,
    error_message: null,
    attempts: 0,
    requested_by: 'alice',
    reason: null,
    created_by: 'alice',
    cancelled_by: null,
    cancelled_at: null,
    cancel_reason: null,
  });
  const found = await api.call(`GET ${answer.headers.get('location') ?? ''}`, {
    token: viewerToken(),
  });
  expect(found.status).toBe(200);
  expect(found.body).toEqual(answer.body);
});

test('a token without a user id schedules too, without a name', async () => {
  const flag = await newFlag();
  const answer = await api.call(`POST /api/admin/flags/${flag}/schedule`, {
    token: adminToken({ userId: undefined }),
    json: { scheduled_at: inMinutes(60), updates: { enabled: true } },
  });
  expect(answer.status).toBe(201);
  expect(answer.body.created_by).toBeNull();
});

test.each(['2:00', '14:00'])(
  'times with an offset of +%s hours mean the same instant',
  async (offset) => {
    const flag = await newFlag();
    const hours = Number(offset.split(':')[0]);
    const instant = new Date(Math.ceil(Date.now() / 1000) * 1000 + 3_600_000);
    const local = new Date(instant.getTime() + hours * 3_600_000).toISOString().slice(0, 19);
    const answer = await api.call(`POST /api/admin/flags/${flag}/schedule`, {
      token: adminToken(),
      json: { scheduled_at: `${local}+${offset.padStart(5, '0')}`, updates: { enabled: true } },
    });
    expect(answer.status).toBe(201);
    expect(answer.body.scheduled_at).toBe(instant.toISOString());
  },
);

test('cancelling answers who, when and why', async () => {
  const flag = await newFlag();
  const { body } = await create(flag);
  const answer = await api.call(`DELETE /api/admin/flags/${flag}/schedule/${body.id}`, {
    token: adminToken({ userId: 'bob' }),
    json: { reason: 'launch moved' },
  });
  expect(answer.status).toBe(200);
  expect(scheduleSchema.parse(answer.body)).toMatchObject({
    id: body.id,
    status: 'cancelled',
    created_by: 'alice',
    cancelled_by: 'bob',
    cancel_reason: 'launch moved',
  });
  expect(Date.parse(String(answer.body.cancelled_at))).toBeGreaterThanOrEqual(
    Date.parse(body.created_at),
  );
});

test('scheduling, moving and retrying say why and who; without a reason the schedule keeps its own', async () => {
  const flag = await newFlag();
  const { body } = await api.call(`POST /api/admin/flags/${flag}/schedule`, {
    token: adminToken(),
    json: { scheduled_at: inMinutes(60), updates: { enabled: true }, reason: ' launch ' },
  });
  expect(body).toMatchObject({ reason: 'launch', requested_by: 'alice' });
  const path = `/api/admin/flags/${flag}/schedule/${body.id}`;
  const as = async (userId: string, target: string, json?: object) =>
    (await api.call(target, { token: adminToken({ userId }), json })).body;
  const moved = { scheduled_at: inMinutes(90) };
  expect(await as('bob', `PATCH ${path}`, moved)).toMatchObject({
    ...{ reason: 'launch', requested_by: 'bob', created_by: 'alice' },
  });
  const again = { scheduled_at: inMinutes(91), reason: 'launch' };
  expect(await as('carol', `PATCH ${path}`, again)).toMatchObject({ requested_by: 'carol' });
  await asOwner((client) =>
    client.query(
      `update app_public.feature_flag_schedules set status = 'failed', error_message = 'broken' where id = $1`,
      [body.id],
    ),
  );
  expect(await as('dora', `POST ${path}/retry`, { reason: 'mended' })).toMatchObject({
    ...{ reason: 'mended', requested_by: 'dora', created_by: 'alice' },
  });
  const { rows } = await asOwner((client) =>
    client.query<{ who: string; why: string | null }>(
      `select admin_user_id as who, metadata ->> 'reason' as why from audit.events
       where schedule_id = $1 and actor_kind = 'admin' order by revision`,
      [body.id],
    ),
  );
  expect(rows).toEqual([
    { who: 'alice', why: 'launch' },
    { who: 'bob', why: null },
    { who: 'carol', why: 'launch' },
    { who: 'dora', why: 'mended' },
  ]);
});

test('cancelling needs no body', async () => {
  const flag = await newFlag();
  const { body } = await create(flag);
  const answer = await api.call(`DELETE /api/admin/flags/${flag}/schedule/${body.id}`, {
    token: adminToken(),
  });
  expect(answer.status).toBe(200);
  expect(answer.body).toMatchObject({
    status: 'cancelled',
    cancelled_by: 'alice',
    cancel_reason: null,
  });
});

test('only what is pending can be cancelled or moved, and only what failed retried', async () => {
  const flag = await newFlag();
  const { body } = await create(flag);
  const path = `/api/admin/flags/${flag}/schedule/${body.id}`;
  const token = adminToken();
  const retryPending = await api.call(`POST ${path}/retry`, { token });
  expect([retryPending.status, retryPending.body.code]).toEqual([409, 'schedule_not_failed']);
  await api.call(`DELETE ${path}`, { token });
  for (const [target, json] of [
    [`DELETE ${path}`, undefined],
    [`PATCH ${path}`, { scheduled_at: inMinutes(90) }],
  ] as const) {
    const answer = await api.call(target, { token, json });
    expect([answer.status, answer.body.code]).toEqual([409, 'schedule_not_pending']);
  }
});

test('a pending schedule is moved to another time', async () => {
  const flag = await newFlag();
  const { body } = await create(flag);
  const scheduled_at = inMinutes(120);
  const answer = await api.call(`PATCH /api/admin/flags/${flag}/schedule/${body.id}`, {
    token: adminToken(),
    json: { scheduled_at },
  });
  expect(answer.status).toBe(200);
  expect(answer.body).toMatchObject({
    id: body.id,
    scheduled_at,
    status: 'pending',
    created_by: 'alice',
  });
});

test('a failed schedule is made due again', async () => {
  const { flag_key, id } = await asOwner(async (client) => {
    const flag = await insertFlag(client);
    const schedule = await insertSchedule(client, flag.id);
    await client.query(
      `update app_public.feature_flag_schedules set status = 'failed', error_message = 'broken', attempts = 3 where id = $1`,
      [schedule.id],
    );
    return { flag_key: flag.flag_key, id: schedule.id };
  });
  const listed = await api.call(`GET /api/admin/flags/${flag_key}/schedule?status=failed`, {
    token: viewerToken(),
  });
  expect(listed.body).toMatchObject([{ id, error_message: 'broken', attempts: 3 }]);
  const answer = await api.call(`POST /api/admin/flags/${flag_key}/schedule/${id}/retry`, {
    token: adminToken(),
  });
  expect(answer.status).toBe(200);
  expect(answer.body).toMatchObject({ id, status: 'pending', attempts: 0, error_message: null });
});

test('the list has every status, rows from before the tracking columns, and the tracking fields', async () => {
  const flag = await newFlag();
  const cancelled = (await create(flag)).body;
  await api.call(`DELETE /api/admin/flags/${flag}/schedule/${cancelled.id}`, {
    token: adminToken(),
  });
  await asOwner(async (client) => {
    const { rows } = await client.query<{ id: string }>(
      'select id from app_public.feature_flags where flag_key = $1',
      [flag],
    );
    await insertSchedule(client, rows[0]?.id ?? '');
  });
  const answer = await api.call(`GET /api/admin/flags/${flag}/schedule`, { token: viewerToken() });
  expect(answer.status).toBe(200);
  expect(scheduleSchema.array().parse(answer.body)).toMatchObject([
    { status: 'pending', created_by: null, cancelled_by: null, cancelled_at: null },
    { id: cancelled.id, status: 'cancelled', created_by: 'alice', cancelled_by: 'alice' },
  ]);
});

test('a flag without schedules has an empty list, and a flag that is not there has none', async () => {
  const empty = await api.call(`GET /api/admin/flags/${await newFlag()}/schedule`, {
    token: viewerToken(),
  });
  expect([empty.status, empty.body]).toEqual([200, []]);
  const absent = await api.call('GET /api/admin/flags/absent/schedule', { token: viewerToken() });
  expect([absent.status, absent.body.code]).toEqual([404, 'flag_not_found']);
});

test('environments are apart', async () => {
  const flag = await newFlag('staging');
  const { body, headers } = await create(flag, { enabled: true }, '?environment=staging');
  expect(body.environment).toBe('staging');
  expect(headers.get('location')).toBe(
    `/api/admin/flags/${flag}/schedule/${body.id}?environment=staging`,
  );
  const path = `/api/admin/flags/${flag}/schedule`;
  const token = adminToken();
  const list = await api.call(`GET ${path}`, { token });
  expect([list.status, list.body.code]).toEqual([404, 'flag_not_found']);
  const cancel = await api.call(`DELETE ${path}/${body.id}`, { token });
  expect([cancel.status, cancel.body.code]).toEqual([404, 'schedule_not_found']);
  const there = await api.call(`DELETE ${path}/${body.id}?environment=staging`, { token });
  expect(there.status).toBe(200);
});

test('a schedule of another flag is not found under this one, whatever is asked of it', async () => {
  const [mine, other] = [await newFlag(), await newFlag()];
  const { body } = await create(mine);
  const path = `/api/admin/flags/${other}/schedule/${body.id}`;
  const token = adminToken();
  for (const [target, json] of [
    [`GET ${path}`, undefined],
    [`DELETE ${path}`, undefined],
    [`PATCH ${path}`, { scheduled_at: inMinutes(90) }],
    [`POST ${path}/retry`, undefined],
  ] as const) {
    const answer = await api.call(target, { token, json });
    expect([target, answer.status, answer.body.code]).toEqual([target, 404, 'schedule_not_found']);
  }
  const still = await api.call(`GET /api/admin/flags/${mine}/schedule/${body.id}`, { token });
  expect(still.body).toEqual(body);
});

describe('a flag with as many pending schedules as it may have', () => {
  const limitTo = (count: number) =>
    asOwner((client) =>
      client.query(`select app_private.set_setting('pending_per_flag', $1)`, [String(count)]),
    );
  beforeAll(() => limitTo(3));
  afterAll(() => limitTo(1_000));

  const tryToCreate = async (flag: string) => {
    const { status, body } = await api.call(`POST /api/admin/flags/${flag}/schedule`, {
      token: adminToken(),
      json: { scheduled_at: inMinutes(60), updates: { enabled: true } },
    });
    return [status, body.code];
  };
  const full = async () => {
    const flag = await newFlag();
    const schedules = [];
    for (let i = 0; i < 3; i++) schedules.push((await create(flag)).body);
    return { flag, schedules };
  };

  test('gets no more by the API, until one of them is cancelled; other flags do', async () => {
    const { flag, schedules } = await full();
    const before = await contentsOf(database);
    expect(await tryToCreate(flag)).toEqual([409, 'too_many_schedules']);
    expect(await contentsOf(database)).toBe(before);
    await create(await newFlag());
    const [first] = schedules;
    const path = `/api/admin/flags/${flag}/schedule/${first?.id ?? ''}`;
    const moved = { token: adminToken(), json: { scheduled_at: inMinutes(90) } };
    expect((await api.call(`PATCH ${path}`, moved)).status).toBe(200);
    expect((await api.call(`DELETE ${path}`, { token: adminToken() })).status).toBe(200);
    await create(flag);
    expect(await tryToCreate(flag)).toEqual([409, 'too_many_schedules']);
  });

  test('gets none of its failed ones back by a retry', async () => {
    const { flag, schedules } = await full();
    const id = schedules[0]?.id ?? '';
    await asOwner((client) =>
      client.query(
        `update app_public.feature_flag_schedules set status = 'failed', error_message = 'broken' where id = $1`,
        [id],
      ),
    );
    await create(flag);
    const before = await contentsOf(database);
    const retry = () =>
      api.call(`POST /api/admin/flags/${flag}/schedule/${id}/retry`, { token: adminToken() });
    const { status, body } = await retry();
    expect([status, body.code]).toEqual([409, 'too_many_schedules']);
    expect(await contentsOf(database)).toBe(before);
    await api.call(`DELETE /api/admin/flags/${flag}/schedule/${schedules[1]?.id ?? ''}`, {
      token: adminToken(),
    });
    expect((await retry()).status).toBe(200);
  });

  test('gets any number by SQL', async () => {
    const { flag } = await full();
    await asOwner(async (client) => {
      for (const claim of ['user_id', 'role'])
        await client.query(`select set_config('jwt.claims.${claim}', 'admin', false)`);
      const { rows } = await client.query<{ status: string }>(
        `select status from app_public.schedule_flag_change($1, null, now() + interval '1 hour', '{"enabled": true}')`,
        [flag],
      );
      expect(rows).toEqual([{ status: 'pending' }]);
    });
    expect(await tryToCreate(flag)).toEqual([409, 'too_many_schedules']);
  });
});
