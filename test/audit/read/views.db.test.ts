import { expect, test } from 'vitest';
import { actAsOwner, value, withActors } from '../../support/actors.ts';
import { useDatabase } from '../../support/database.ts';
import { insertFlag, insertSchedule } from '../../support/factory.ts';
import { type Row, read, schedule, cancel, apply } from '../../support/views.ts';

const database = useDatabase();

test('a flag’s events are those of its key in its environment, and tell before and after', async () => {
  await withActors(database, async (client) => {
    const flag = await insertFlag(client, { flag_key: 'twice', environment: 'production' });
    await insertFlag(client, { flag_key: 'twice', environment: 'staging' });
    const id = await schedule(client, 'alice', 'twice', 'production');
    await cancel(client, 'bob', id);
    await insertSchedule(client, flag.id, { dueIn: '-1 second' });
    await apply(client);
    const rows = await read(
      client,
      'flag_events',
      `flag_key = 'twice' and environment = 'production'`,
    );
    expect(rows).toMatchObject([
      {
        event_type: 'feature_flag.created',
        actor_kind: 'database',
        after: { enabled: false },
        flag_id: flag.id,
      },
      {
        event_type: 'flag_schedule.created',
        admin_user_id: 'alice',
        schedule_id: id,
        after: { enabled: true },
      },
      { event_type: 'flag_schedule.cancelled', admin_user_id: 'bob', reason: 'too early' },
      { event_type: 'flag_schedule.created', actor_kind: 'database', admin_user_id: null },
      {
        event_type: 'feature_flag.updated',
        actor_kind: 'system',
        before: { enabled: false },
        after: { enabled: true },
      },
      { event_type: 'flag_schedule.applied', actor_kind: 'system' },
    ]);
    expect(rows[1]?.scheduled_at).toBeInstanceOf(Date);
    expect(await read(client, 'flag_events', `environment = 'staging'`)).toHaveLength(1);
  });
});

test('an actor is a user id, whatever the e-mail, or a login; what schedules do is nobody’s', async () => {
  await withActors(database, async (client) => {
    const flag = await insertFlag(client, { flag_key: 'a', environment: 'production' });
    await schedule(client, 'alice', 'a', 'production', 'alice@old.example');
    await schedule(client, 'alice', 'a', 'production', 'alice@new.example');
    await insertSchedule(client, flag.id, { dueIn: '-1 second' });
    await apply(client);
    expect(await read(client, 'actor_events', `admin_user_id = 'alice'`)).toMatchObject([
      { admin_email: 'alice@old.example', event_type: 'flag_schedule.created' },
      { admin_email: 'alice@new.example', event_type: 'flag_schedule.created' },
    ]);
    expect(await read(client, 'actor_events', `actor_kind = 'database'`)).toMatchObject([
      { event_type: 'feature_flag.created' },
      { event_type: 'flag_schedule.created' },
    ]);
    expect(await read(client, 'actor_events')).toHaveLength(4);
  });
});

test('each applied schedule has its times and its lateness, and a day sums them up by environment', async () => {
  await withActors(database, async (client) => {
    for (const environment of ['production', 'staging']) {
      const flag = await insertFlag(client, { environment });
      for (const late of environment === 'staging' ? [5] : [1, 2, 60])
        await client.query(
          `insert into app_public.feature_flag_schedules (flag_id, scheduled_at, updates)
           values ($1, date_trunc('milliseconds', now()) - $2 * interval '1 second', '{"enabled": true}')`,
          [flag.id, late],
        );
    }
    await apply(client);
    const { rows: truth } = await client.query<Row>(
      `select id as schedule_id, scheduled_at, applied_at,
         round(1000 * extract(epoch from applied_at - scheduled_at))::text as lateness_ms
       from app_public.feature_flag_schedules`,
    );
    const rows = await read(client, 'applied_schedules');
    expect(rows).toHaveLength(4);
    for (const row of truth)
      expect(rows).toContainEqual(expect.objectContaining({ ...row, updates: { enabled: true } }));
    const days = await read(client, 'lateness_days', `environment = 'production'`);
    expect(days).toMatchObject([
      { applied: '3', over_one_second: expect.stringMatching(/[23]/) as unknown },
    ]);
    expect(Number(days[0]?.p50_ms)).toBeGreaterThanOrEqual(2_000);
    expect(Number(days[0]?.p50_ms)).toBeLessThan(50_000);
    expect(Number(days[0]?.max_ms)).toBeGreaterThanOrEqual(60_000);
    // Whole milliseconds.
    for (const figure of ['p50_ms', 'p99_ms', 'max_ms']) expect(days[0]?.[figure]).toMatch(/^\d+$/);
    expect(await read(client, 'lateness_days')).toHaveLength(2);
  });
});

test('the time that was scheduled is right for every microsecond of application', async () => {
  await withActors(database, async (client) => {
    await actAsOwner(client);
    const wrong = await value(
      client,
      `with t as (
         select s.scheduled, s.scheduled + i * interval '1 us' as applied
         from (values (timestamptz '2026-03-01 09:00:00.007+00')) as s (scheduled), generate_series(0, 20000, 1) as i)
       select count(*)::int from t
       where date_trunc('milliseconds', applied - round(1000 * extract(epoch from applied - scheduled))::bigint * interval '1 ms'
         + interval '500 us') <> scheduled`,
    );
    expect(wrong).toBe(0);
  });
});
