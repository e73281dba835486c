import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { scheduleSchema } from '../../src/schemas.ts';
import { contentsOf, inMinutes, useApi } from '../support/api.ts';
import { useDatabase } from '../support/database.ts';
import { insertSchedule } from '../support/factory.ts';
import { useSchedules } from '../support/schedule_requests.ts';
import { adminToken, viewerToken } from '../support/tokens.ts';
import { z } from '../../src/lib/zod.ts';

const database = useDatabase();
const api = useApi(database);

const { asOwner, newFlag, create } = useSchedules(database, api);

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
  expect(z.array(scheduleSchema).parse(answer.body)).toMatchObject([
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
