import type pg from 'pg';
import { expect, test } from 'vitest';
import { asWorker, value, withActors } from '../support/actors.ts';
import { useDatabase, withRollback } from '../support/database.ts';
import { insertFlag, insertSchedule } from '../support/factory.ts';
import { become } from '../support/roles.ts';
import { queuedEvents } from '../support/trail.ts';

const database = useDatabase();

const applyDue = 'select applied, retried, failed, stuck from app_private.apply_due($1)';

/** A due schedule of each of so many flags. @returns the ids of the flags by those of their schedules */
async function dueOfEach(client: pg.ClientBase, count: number): Promise<Map<string, string>> {
  const flags = new Map<string, string>();
  for (let n = 0; n < count; n++) {
    const flag = await insertFlag(client, { flag_key: `set-${n}` });
    const schedule = await insertSchedule(client, flag.id, {
      dueIn: `${n - count} seconds`,
      updates: { rollout_percentage: n },
    });
    flags.set(schedule.id, flag.id);
  }
  return flags;
}

test('each event of a set names its own schedule', async () => {
  await withActors(database, async (client) => {
    const flags = await dueOfEach(client, 12);
    await asWorker(client, () => client.query(applyDue, [500]));
    const events = await queuedEvents(client);
    for (const type of ['feature_flag.updated', 'flag_schedule.applied']) {
      const told = events.filter(({ event_type }) => event_type === type);
      expect(new Map(told.map((event) => [event.schedule_id, event.flag_id]))).toEqual(flags);
    }
    expect(await value(client, `select current_setting('halyard.applying', true)`)).toBe('');
  });
});

test('several of one flag take turns, and each event tells the state that its schedule left', async () => {
  await withRollback(database, async (client) => {
    const flag = await insertFlag(client, { flag_key: 'turns' });
    await dueOfEach(client, 3);
    for (const rollout of [10, 20, 30])
      await insertSchedule(client, flag.id, {
        dueIn: `${rollout - 100} seconds`,
        updates: { rollout_percentage: rollout },
      });
    const { rows } = await client.query(applyDue, [500]);
    expect(rows).toEqual([{ applied: 6, retried: 0, failed: 0, stuck: 0 }]);
    const events = (await queuedEvents(client)).filter(({ flag_key }) => flag_key === 'turns');
    const of = (type: string) => events.filter(({ event_type }) => event_type === type);
    expect(of('flag_schedule.applied').map(({ metadata }) => metadata.flagState)).toMatchObject(
      [10, 20, 30].map((rolloutPercentage) => ({ enabled: false, rolloutPercentage })),
    );
    expect(of('feature_flag.updated').map(({ revision }) => Number(revision))).toEqual([2, 3, 4]);
  });
});

test('a few that can’t be applied are found among many, which are', async () => {
  await withRollback(database, async (client) => {
    const flags = await dueOfEach(client, 20);
    await client.query(`
      create function app_private.tg_test__fail() returns trigger language plpgsql as $$
      begin raise exception 'the flag is broken'; end $$;
      create trigger _050_fail before update on app_public.feature_flags for each row
      when (old.flag_key in ('set-0', 'set-7', 'set-8', 'set-19')) execute function app_private.tg_test__fail()`);
    const { rows } = await client.query(applyDue, [500]);
    expect(rows).toEqual([{ applied: 16, retried: 4, failed: 0, stuck: 0 }]);
    const events = await queuedEvents(client);
    expect(events.filter(({ event_type }) => event_type === 'flag_schedule.applied')).toHaveLength(
      16,
    );
    const attempts = await client.query(
      'select distinct attempts from app_public.feature_flag_schedules where id = any ($1)',
      [[...flags.keys()]],
    );
    expect(attempts.rows).toEqual([{ attempts: 1 }]);
  });
});

test('an insert looks its flag up by the key, and reads no other', async () => {
  await withActors(database, async (client) => {
    await client.query(
      `insert into app_public.feature_flags (flag_key) select 'many-' || n from generate_series(1, 2000) as n`,
    );
    await client.query('set local role postgres');
    await client.query('analyze app_public.feature_flags');
    const id = await value(
      client,
      `select id from app_public.feature_flags where flag_key = 'many-1'`,
    );
    await become(client, 'admin');
    const { rows } = await client.query<{ 'QUERY PLAN': string }>(
      `explain (analyze, costs off, timing off) insert into app_public.feature_flag_schedules (flag_id, scheduled_at, updates)
       values ('${String(id)}', now() + interval '1 day', '{"enabled": true}')`,
    );
    const plan = rows.map((row) => row['QUERY PLAN']).join('\n');
    expect(plan).toMatch(
      /Index Scan using feature_flags_pkey|Index Only Scan using feature_flags_pkey/,
    );
    expect(plan).not.toMatch(/Seq Scan on feature_flags/);
  });
});
