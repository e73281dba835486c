import type pg from 'pg';
import { describe, expect, test } from 'vitest';
import { value } from '../support/actors.ts';
import { useDatabase, withRollback } from '../support/database.ts';
import { insertFlag, insertSchedule, one } from '../support/factory.ts';
import { breakFlag, mendFlag, queuedEvents } from '../support/trail.ts';
import { apply, outcome, flagState, read } from '../support/apply_due.ts';

const database = useDatabase();

async function makeDue(client: pg.ClientBase, id: string): Promise<void> {
  await client.query(
    'update app_public.feature_flag_schedules set next_attempt_at = now() where id = $1',
    [id],
  );
}

describe('a schedule whose change fails', () => {
  test('stops no other, and is tried again', async () => {
    await withRollback(database, async (client) => {
      const broken = await insertFlag(client, { flag_key: 'broken' });
      const sound = await insertFlag(client);
      const { id } = await insertSchedule(client, broken.id, { dueIn: '-2 seconds' });
      await insertSchedule(client, sound.id, { dueIn: '-1 second' });
      await breakFlag(client, 'broken');

      expect(await apply(client)).toEqual(outcome({ applied: 1, retried: 1 }));
      expect(await flagState(client, sound.id)).toBe('true 100');
      expect(await flagState(client, broken.id)).toBe('false 100');
      const schedule = await read(client, id);
      expect(schedule).toMatchObject({
        status: 'pending',
        attempts: 1,
        error_message: 'the flag is broken',
      });
      expect(schedule.wait).toBeGreaterThan(0);
      expect(schedule.wait).toBeLessThanOrEqual(30);
      expect(await apply(client)).toEqual(outcome({}));
    });
  });

  test('fails for good after max_attempts, with one event at level error', async () => {
    await withRollback(database, async (client) => {
      const flag = await insertFlag(client, { flag_key: 'broken' });
      const { id } = await insertSchedule(client, flag.id, { dueIn: '-1 second', max_attempts: 3 });
      await breakFlag(client, 'broken');
      expect(await apply(client)).toEqual(outcome({ retried: 1 }));
      await makeDue(client, id);
      expect(await apply(client)).toEqual(outcome({ retried: 1 }));
      await makeDue(client, id);
      expect(await apply(client)).toEqual(outcome({ failed: 1 }));

      expect(await read(client, id)).toEqual({
        status: 'failed',
        attempts: 3,
        error_message: 'the flag is broken',
        applied_at: null,
        wait: null,
      });
      const events = (await queuedEvents(client)).filter(
        (event) => event.event_type !== 'feature_flag.created',
      );
      expect(events.map(({ event_type, level }) => `${event_type} ${level}`)).toEqual([
        'flag_schedule.created info',
        'flag_schedule.failed error',
      ]);
    });
  });

  test.for([0, 1])('has no second attempt with max_attempts %i', async (max_attempts) => {
    await withRollback(database, async (client) => {
      const flag = await insertFlag(client, { flag_key: 'broken' });
      const { id } = await insertSchedule(client, flag.id, { dueIn: '-1 second', max_attempts });
      await breakFlag(client, 'broken');
      expect(await apply(client)).toEqual(outcome({ failed: 1 }));
      expect(await read(client, id)).toMatchObject({ status: 'failed', attempts: 1 });
    });
  });

  test('and succeeds later, leaves alone what later schedules have set meanwhile, key by key', async () => {
    await withRollback(database, async (client) => {
      const flag = await insertFlag(client, { flag_key: 'broken' });
      const early = await insertSchedule(client, flag.id, {
        dueIn: '-10 seconds',
        updates: { enabled: true, rollout_percentage: 10 },
      });
      await breakFlag(client, 'broken');
      expect(await apply(client)).toEqual(outcome({ retried: 1 }));
      await mendFlag(client);
      await insertSchedule(client, flag.id, { dueIn: '-5 seconds', updates: { enabled: false } });
      expect(await apply(client)).toEqual(outcome({ applied: 1 }));

      await makeDue(client, early.id);
      expect(await apply(client)).toEqual(outcome({ applied: 1 }));
      expect(await flagState(client, flag.id)).toBe('false 10');
      expect(await read(client, early.id)).toMatchObject({
        status: 'applied',
        attempts: 2,
        error_message: null,
      });
    });
  });

  test('and is retried by an admin after that, counts as a decision of now', async () => {
    await withRollback(database, async (client) => {
      const flag = await insertFlag(client, { flag_key: 'broken' });
      const early = await insertSchedule(client, flag.id, {
        dueIn: '-10 seconds',
        max_attempts: 1,
      });
      await breakFlag(client, 'broken');
      await apply(client);
      await mendFlag(client);
      await insertSchedule(client, flag.id, { dueIn: '-5 seconds', updates: { enabled: false } });
      await apply(client);

      await client.query(`select set_config('jwt.claims.role', 'admin', true)`);
      await client.query('select app_public.retry_flag_schedule($1)', [early.id]);
      expect(await apply(client)).toEqual(outcome({ applied: 1 }));
      expect(await flagState(client, flag.id)).toBe('true 100');
    });
  });

  test('and can’t even be marked, stays due and stops no other', async () => {
    await withRollback(database, async (client) => {
      const flag = await insertFlag(client);
      const { id } = await insertSchedule(client, flag.id, { dueIn: '-2 seconds' });
      const sound = await insertFlag(client);
      await insertSchedule(client, sound.id, { dueIn: '-1 second' });
      await client.query(
        `create function app_private.tg_test__fail() returns trigger language plpgsql as $$
         begin raise exception 'no'; end $$`,
      );
      await client.query(
        `create trigger _050_fail before update on app_public.feature_flag_schedules
         for each row when (old.id = '${id}') execute function app_private.tg_test__fail()`,
      );
      expect(await apply(client)).toEqual(outcome({ applied: 1, stuck: 1 }));
      expect(await flagState(client, flag.id)).toBe('false 100');
      expect(await read(client, id)).toMatchObject({ status: 'pending', attempts: 0 });
      await client.query('drop trigger _050_fail on app_public.feature_flag_schedules');
      expect(await apply(client)).toEqual(outcome({ applied: 1 }));
    });
  });
});

describe('the wait before another attempt', () => {
  test.for([
    [1, 30],
    [2, 60],
    [3, 120],
    [7, 1920],
    [8, 3600],
    [1000, 3600],
  ])('after attempt %i is half to all of %i s', async ([attempts, seconds = 0]) => {
    await withRollback(database, async (client) => {
      const { rows } = await client.query<{ least: number; greatest: number }>(
        `select min(w)::float8 as least, max(w)::float8 as greatest
         from (
           select extract(epoch from app_private.retry_delay($1)) as w from generate_series(1, 300)
         ) as samples`,
        [attempts],
      );
      const { least, greatest } = one(rows);
      expect(least).toBeGreaterThanOrEqual(seconds / 2 - 0.001);
      expect(greatest).toBeLessThanOrEqual(seconds + 0.001);
      expect(greatest - least).toBeGreaterThan(seconds / 4);
    });
  });

  test('begins with the setting retry_base', async () => {
    await withRollback(database, async (client) => {
      await client.query(`select app_private.set_setting('retry_base', '10 ms')`);
      const wait = await value<number>(
        client,
        'select extract(epoch from app_private.retry_delay(1))::float8',
      );
      expect(wait).toBeGreaterThanOrEqual(0.005);
      expect(wait).toBeLessThanOrEqual(0.01);
    });
  });
});
