import type pg from 'pg';
import { expect, test } from 'vitest';
import { actAsOwner, asWorker, value, withActors } from '../support/actors.ts';
import { useDatabase } from '../support/database.ts';
import { insertFlag, insertSchedule, one } from '../support/factory.ts';
import { asAdmin, changeOf, createPlan, failPoint } from '../support/plans.ts';
import { sqlStateOf } from '../support/roles.ts';
import { queuedEvents } from '../support/trail.ts';

const database = useDatabase();

interface Removed {
  readonly schedules: number[];
  readonly plans: number[];
}

/** One batch of each: applied and cancelled schedules, completed and cancelled plans. */
async function remove(
  client: pg.ClientBase,
  { setting = 'applied=90,cancelled=30', batch = 100 } = {},
): Promise<Removed> {
  await client.query(`select app_private.set_setting('schedule_retention', $1)`, [setting]);
  const { rows } = await asWorker(client, () =>
    client.query<Removed>(
      `select
         array[app_private.remove_old_schedules('applied', $1), app_private.remove_old_schedules('cancelled', $1)] as schedules,
         array[app_private.remove_old_plans('completed', $1), app_private.remove_old_plans('cancelled', $1)] as plans`,
      [batch],
    ),
  );
  return one(rows);
}

/** Makes all that there is so much older, past the triggers that stamp it. */
async function age(client: pg.ClientBase, by: string): Promise<void> {
  await client.query(
    `select set_config('role', 'none', true), set_config('session_replication_role', 'replica', true)`,
  );
  await client.query(
    `update app_public.feature_flag_schedules
     set scheduled_at = scheduled_at - $1::interval, applied_at = applied_at - $1::interval,
       cancelled_at = cancelled_at - $1::interval, updated_at = updated_at - $1::interval`,
    [by],
  );
  await client.query('update app_public.plans set ended_at = ended_at - $1::interval', [by]);
  await client.query(`select set_config('session_replication_role', 'origin', true)`);
  await actAsOwner(client);
}

/** A plan of one flag that is at this status. */
async function insertPlan(
  client: pg.ClientBase,
  flag: { flag_key: string; environment: string },
  status: string,
): Promise<string> {
  const { id } = await asAdmin(client, () =>
    createPlan(client, [changeOf(flag)], { title: status, dueIn: null }),
  );
  if (status === 'paused') await failPoint(client, id);
  if (status === 'skipped') {
    await client.query(
      `update app_public.feature_flag_schedules set status = 'suspended', suspended_for = 'stop' where plan_id = $1`,
      [id],
    );
    await client.query(
      `update app_public.feature_flag_schedules set status = 'skipped' where plan_id = $1`,
      [id],
    );
    await client.query(`select app_private.end_point($1, 'skipped')`, [id]);
  }
  if (status === 'cancelled')
    await asAdmin(client, () => client.query('select app_public.cancel_plan($1)', [id]));
  if (status === 'completed')
    await asWorker(client, () => client.query('select app_private.apply_due()'));
  return id;
}

const titles = async (client: pg.ClientBase): Promise<string[]> =>
  (
    await client.query<{ title: string }>('select title from app_public.plans order by title')
  ).rows.map(({ title }) => title);

test('plans that ended go after their days, with their schedules; others stay', async () => {
  await withActors(database, async (client) => {
    for (const status of ['completed', 'skipped', 'cancelled', 'paused', 'active'])
      await insertPlan(client, await insertFlag(client), status);
    await age(client, '31 days');
    expect(await remove(client)).toEqual({ schedules: [0, 0], plans: [0, 1] });
    expect(await titles(client)).toEqual(['active', 'completed', 'paused', 'skipped']);
    await age(client, '60 days');
    expect(await remove(client, { setting: '' })).toEqual({ schedules: [0, 0], plans: [0, 0] });
    expect(await remove(client, { batch: 1 })).toEqual({ schedules: [0, 0], plans: [1, 0] });
    expect(await remove(client)).toEqual({ schedules: [0, 0], plans: [1, 0] });
    expect(await titles(client)).toEqual(['active', 'paused']);
    expect(
      await value(
        client,
        'select count(*)::int from app_public.feature_flag_schedules where plan_id is not null',
      ),
    ).toBe(2);
    const events = (await queuedEvents(client)).filter(({ event_type }) =>
      event_type.endsWith('.deleted'),
    );
    expect(events.map(({ event_type, actor_kind }) => [event_type, actor_kind])).toEqual(
      Array.from({ length: 3 }, () => [
        ['flag_schedule.deleted', 'system'],
        ['flag_plan.deleted', 'system'],
      ]).flat(),
    );
  });
});

test('a plan that decides over an older schedule, which failed or waits, stays with it', async () => {
  await withActors(database, async (client) => {
    const flag = await insertFlag(client);
    const older = await insertSchedule(client, flag.id, { dueIn: '-1 hour', max_attempts: 1 });
    const set = (status: string) =>
      client.query('update app_public.feature_flag_schedules set status = $2 where id = $1', [
        ...[older.id, status],
      ]);
    await set('failed');
    await insertPlan(client, flag, 'completed');
    await age(client, '91 days');
    expect((await remove(client)).plans).toEqual([0, 0]);
    await set('pending');
    await client.query(
      `update app_public.feature_flag_schedules set status = 'suspended', suspended_for = 'stop' where id = $1`,
      [older.id],
    );
    expect((await remove(client)).plans).toEqual([0, 0]);
    await set('skipped');
    expect(await remove(client)).toEqual({ schedules: [0, 0], plans: [1, 0] });
    await age(client, '31 days');
    expect(await remove(client)).toEqual({ schedules: [0, 1], plans: [0, 0] });
  });
});

test('no other status is one of plans that go', async () => {
  await withActors(database, async (client) => {
    for (const status of ['active', 'applied', '', null])
      expect(
        await sqlStateOf(client, () =>
          client.query('select app_private.remove_old_plans($1)', [status]),
        ),
      ).toBe('22023');
  });
});
