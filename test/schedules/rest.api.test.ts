import { expect, test } from 'vitest';
import { scheduleSchema } from '../../src/schemas.ts';
import { inMinutes, useApi } from '../support/api.ts';
import { useDatabase } from '../support/database.ts';
import { insertFlag, insertSchedule } from '../support/factory.ts';
import { useSchedules } from '../support/schedule_requests.ts';
import { adminToken, viewerToken } from '../support/tokens.ts';

const database = useDatabase();
const api = useApi(database);

const { asOwner, newFlag, create } = useSchedules(database, api);

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
