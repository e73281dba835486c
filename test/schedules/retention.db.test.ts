import type pg from 'pg';
import { expect, test } from 'vitest';
import { actAsOwner, asWorker, withActors } from '../support/actors.ts';
import { useDatabase } from '../support/database.ts';
import { insertFlag, insertSchedule, one } from '../support/factory.ts';
import { sqlStateOf } from '../support/roles.ts';
import { breakFlag, mendFlag, queuedEvents } from '../support/trail.ts';

const database = useDatabase();

interface Removed {
  readonly removed_applied: number;
  readonly removed_cancelled: number;
}

/** One batch of each status. */
async function remove(
  client: pg.ClientBase,
  { setting = 'applied=90,cancelled=30', batch = 100 } = {},
): Promise<Removed> {
  await client.query(`select app_private.set_setting('schedule_retention', $1)`, [setting]);
  const { rows } = await asWorker(client, () =>
    client.query<Removed>(
      `select app_private.remove_old_schedules('applied', $1) as removed_applied,
         app_private.remove_old_schedules('cancelled', $1) as removed_cancelled`,
      [batch],
    ),
  );
  return one(rows);
}

const apply = (client: pg.ClientBase) =>
  asWorker(client, () => client.query('select * from app_private.apply_due()'));

const cancel = (client: pg.ClientBase, id: string) =>
  client.query(`update app_public.feature_flag_schedules set status = 'cancelled' where id = $1`, [
    id,
  ]);

const left = async (client: pg.ClientBase): Promise<string[]> => {
  const { rows } = await client.query<{ id: string }>(
    'select id from app_public.feature_flag_schedules',
  );
  return rows.map(({ id }) => id);
};

/** Makes schedules so much older, past the triggers that stamp them. */
async function age(client: pg.ClientBase, by: string, ids: string[]): Promise<void> {
  await client.query(
    `select set_config('role', 'none', true), set_config('session_replication_role', 'replica', true)`,
  );
  await client.query(
    `update app_public.feature_flag_schedules
     set scheduled_at = scheduled_at - $1::interval, applied_at = applied_at - $1::interval,
       cancelled_at = cancelled_at - $1::interval, updated_at = updated_at - $1::interval
     where id = any ($2)`,
    [by, ids],
  );
  await client.query(`select set_config('session_replication_role', 'origin', true)`);
  await actAsOwner(client);
}

test('a status that is none deletes no schedule by the days of another', async () => {
  await withActors(database, async (client) => {
    const flag = await insertFlag(client);
    const { id } = await insertSchedule(client, flag.id);
    await cancel(client, id);
    await age(client, '100 days', [id]);
    await remove(client, { setting: 'applied=90' });
    for (const status of ['d', 'applied=90|x', '', null])
      expect(
        await sqlStateOf(client, () =>
          client.query('select app_private.remove_old_schedules($1)', [status]),
        ),
      ).toBe('22023');
    expect(await left(client)).toEqual([id]);
  });
});

test('applied ones go after their time, cancelled ones after theirs, failed and pending ones never', async () => {
  await withActors(database, async (client) => {
    const flags = [await insertFlag(client), await insertFlag(client), await insertFlag(client)];
    const [plain, broken, open] = flags.map(({ id }) => id) as [string, string, string];
    const applied = await insertSchedule(client, plain, { dueIn: '-2 seconds' });
    const recent = await insertSchedule(client, plain, { dueIn: '-1 second' });
    const failed = await insertSchedule(client, broken, { dueIn: '-1 second', max_attempts: 1 });
    await breakFlag(client, one(flags.slice(1, 2)).flag_key);
    await apply(client);
    await mendFlag(client);
    const cancelled = await insertSchedule(client, open);
    const cancelledLately = await insertSchedule(client, open);
    const pending = await insertSchedule(client, open);
    await cancel(client, cancelled.id);
    await cancel(client, cancelledLately.id);
    await age(client, '91 days', [applied.id, failed.id, pending.id]);
    await age(client, '89 days', [recent.id]);
    await age(client, '31 days', [cancelled.id]);
    await age(client, '29 days', [cancelledLately.id]);
    expect(await remove(client)).toEqual({ removed_applied: 1, removed_cancelled: 1 });
    expect((await left(client)).toSorted()).toEqual(
      [recent.id, failed.id, pending.id, cancelledLately.id].toSorted(),
    );
    expect(await remove(client)).toEqual({ removed_applied: 0, removed_cancelled: 0 });
    const told = (await queuedEvents(client)).filter(
      (e) => e.event_type === 'flag_schedule.deleted',
    );
    expect(told.map((e) => [e.schedule_id, e.actor_kind]).toSorted()).toEqual(
      [applied.id, cancelled.id].map((id) => [id, 'system']).toSorted(),
    );
  });
});

test('each status is kept forever unless it is named, and batches are bounded', async () => {
  await withActors(database, async (client) => {
    const { id: flag } = await insertFlag(client);
    const ids: string[] = [];
    for (let i = 0; i < 3; i++)
      ids.push((await insertSchedule(client, flag, { dueIn: '-1 second' })).id);
    await apply(client);
    const { id: cancelled } = await insertSchedule(client, flag);
    await cancel(client, cancelled);
    await age(client, '1 year', [...ids, cancelled]);
    expect(await remove(client, { setting: '' })).toEqual({
      removed_applied: 0,
      removed_cancelled: 0,
    });
    expect(await remove(client, { setting: 'applied=90', batch: 2 })).toEqual({
      removed_applied: 2,
      removed_cancelled: 0,
    });
    expect(await remove(client, { setting: 'cancelled=30, applied=90', batch: 2 })).toEqual({
      removed_applied: 1,
      removed_cancelled: 1,
    });
  });
});

test('one that decides over an older one, which failed or waits, stays with it', async () => {
  await withActors(database, async (client) => {
    const { id: flag, flag_key } = await insertFlag(client);
    const { id: other } = await insertFlag(client);
    const older = await insertSchedule(client, flag, { dueIn: '-3 seconds', max_attempts: 1 });
    await breakFlag(client, flag_key);
    await apply(client);
    await mendFlag(client);
    const later = await insertSchedule(client, flag, {
      dueIn: '-1 second',
      updates: { enabled: true },
    });
    const elsewhere = await insertSchedule(client, other, { dueIn: '-1 second' });
    await apply(client);
    await age(client, '100 days', [older.id, later.id, elsewhere.id]);
    expect(await remove(client)).toMatchObject({ removed_applied: 1 });
    expect((await left(client)).toSorted()).toEqual([older.id, later.id].toSorted());
    // Retried at its own old time, it would change what the later one has set, were that one gone.
    await client.query(
      `update app_public.feature_flag_schedules set status = 'pending', attempts = 0 where id = $1`,
      [older.id],
    );
    expect(await remove(client)).toMatchObject({ removed_applied: 0 });
    await apply(client);
    await age(client, '100 days', [older.id]);
    expect(await remove(client)).toMatchObject({ removed_applied: 2 });
  });
});
