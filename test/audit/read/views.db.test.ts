import type pg from 'pg';
import { expect, test } from 'vitest';
import { actAs, actAsOwner, asWorker, value, withActors } from '../../support/actors.ts';
import { useDatabase } from '../../support/database.ts';
import { insertFlag, insertSchedule } from '../../support/factory.ts';
import { become } from '../../support/roles.ts';
import { breakFlag, mendFlag } from '../../support/trail.ts';

const database = useDatabase();

const VIEWS = [
  'flag_events',
  'actor_events',
  'applied_schedules',
  'lateness_days',
  'failed_schedules',
  'cancellations_by_others',
  'manual_changes',
] as const;

type Row = Record<string, unknown>;

/** A view's rows as an auditor without limits reads them, oldest first. */
async function read(client: pg.ClientBase, view: string, where = 'true'): Promise<Row[]> {
  await actAs(client, 'halyard_auditor');
  const { rows } = await client.query<Row>(
    `select * from audit.${view} where ${where} order by ${view === 'lateness_days' ? 'day' : 'occurred_at'}`,
  );
  await actAsOwner(client);
  return rows;
}

async function schedule(
  client: pg.ClientBase,
  userId: string | null,
  key: string,
  environment: string,
  email?: string,
) {
  await become(client, 'admin', {
    ...(userId === null ? {} : { userId }),
    ...(email === undefined ? {} : { email }),
  });
  const id = await value<string>(
    client,
    `select id from app_public.schedule_flag_change($1, $2, now() + interval '1 hour', '{"enabled": true}')`,
    [key, environment],
  );
  await actAsOwner(client);
  return id;
}

async function cancel(client: pg.ClientBase, userId: string | null, id: string) {
  await become(client, 'admin', userId === null ? {} : { userId });
  await client.query('select app_public.cancel_flag_schedule($1, $2)', [id, 'too early']);
  await actAsOwner(client);
}

const cancelByHand = (client: pg.ClientBase, id: string) =>
  client.query(`update app_public.feature_flag_schedules set status = 'cancelled' where id = $1`, [
    id,
  ]);

const apply = (client: pg.ClientBase) =>
  asWorker(client, () => client.query('select * from app_private.apply_due()'));

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

test('a failure tells why, and what became of it', async () => {
  await withActors(database, async (client) => {
    const flag = await insertFlag(client, { flag_key: 'broken' });
    const first = await insertSchedule(client, flag.id, { dueIn: '-2 seconds', max_attempts: 1 });
    const second = await insertSchedule(client, flag.id, { dueIn: '-1 second', max_attempts: 1 });
    await breakFlag(client, 'broken');
    await apply(client);
    await mendFlag(client);
    await become(client, 'admin', { userId: 'alice' });
    await client.query('select app_public.retry_flag_schedule($1)', [first.id]);
    await actAsOwner(client);
    const rows = await read(client, 'failed_schedules');
    const told = { error_message: 'the flag is broken', attempts: 1, flag_key: 'broken' };
    expect(rows.find((row) => row.schedule_id === first.id)).toMatchObject({
      ...told,
      since: 'flag_schedule.retried',
    });
    expect(rows.find((row) => row.schedule_id === second.id)).toMatchObject({
      ...told,
      since: null,
    });
    expect(rows).toHaveLength(2);
  });
});

test('cancelled by another is told, also by hand and by nobody known; by the same is not', async () => {
  await withActors(database, async (client) => {
    const flag = await insertFlag(client, { flag_key: 'a', environment: 'production' });
    await insertFlag(client, { flag_key: 'a', environment: 'staging' });
    const make = (by: string | null, environment = 'production') =>
      schedule(client, by, 'a', environment);
    await cancel(client, 'alice', await make('alice'));
    const byOther = await make('alice', 'staging');
    await cancel(client, 'bob', byOther);
    const byHand = await make('alice');
    await cancelByHand(client, byHand);
    const { id: madeByHand } = await insertSchedule(client, flag.id);
    await cancel(client, 'alice', madeByHand);
    await cancelByHand(client, (await insertSchedule(client, flag.id)).id);
    const unknown = await make(null);
    await cancel(client, null, unknown);
    const login = await value(client, 'select session_user::text');
    expect(await read(client, 'cancellations_by_others')).toMatchObject([
      {
        schedule_id: byOther,
        created_by: 'alice',
        cancelled_by: 'bob',
        environment: 'staging',
        reason: 'too early',
      },
      { schedule_id: byHand, created_by: 'alice', cancelled_by: login, canceller_kind: 'database' },
      {
        schedule_id: madeByHand,
        created_by: login,
        creator_kind: 'database',
        cancelled_by: 'alice',
      },
      { schedule_id: unknown, created_by: null, cancelled_by: null },
    ]);
  });
});

test('what was typed by hand is there, and nothing else; an export changes nothing', async () => {
  await withActors(database, async (client) => {
    const flag = await insertFlag(client, { flag_key: 'a', environment: 'production' });
    await schedule(client, 'alice', 'a', 'production');
    await client.query('update app_public.feature_flags set enabled = true where id = $1', [
      flag.id,
    ]);
    await client.query(
      `select app_private.write_events(array[app_private.make_event(
         gen_random_uuid(), clock_timestamp(), 'audit.exported', null, null, null, null, null, '{}')])`,
    );
    const login = await value(client, 'select session_user::text');
    expect(await read(client, 'manual_changes')).toMatchObject([
      {
        event_type: 'feature_flag.created',
        database_user: login,
        application_name: 'halyard test',
      },
      { event_type: 'feature_flag.updated', before: { enabled: false }, after: { enabled: true } },
    ]);
  });
});

/** Something for every view to show, in one environment. */
async function fill(client: pg.ClientBase, environment: string): Promise<void> {
  const flag = await insertFlag(client, { flag_key: 'fine', environment });
  const broken = await insertFlag(client, { flag_key: 'broken', environment });
  await cancel(client, 'bob', await schedule(client, 'alice', 'fine', environment));
  await insertSchedule(client, flag.id, { dueIn: '-1 second' });
  await insertSchedule(client, broken.id, { dueIn: '-1 second', max_attempts: 1 });
}

test('an auditor who is limited to an environment sees that one only, in every view', async () => {
  await withActors(database, async (client) => {
    for (const environment of ['production', 'staging']) await fill(client, environment);
    await breakFlag(client, 'broken');
    await apply(client);
    for (const view of VIEWS) {
      const environmentsSeen = async () => {
        const { rows } = await client.query<{ environment: string }>(
          `select distinct environment from audit.${view} order by 1`,
        );
        return rows.map(({ environment }) => environment);
      };
      await become(client, 'auditor', { userId: 'dana', environments: ['staging'] });
      expect(await environmentsSeen(), view).toEqual(['staging']);
      await become(client, 'auditor', { userId: 'dana', environments: [] });
      expect(await environmentsSeen(), view).toEqual([]);
      await become(client, 'auditor', { userId: 'dana' });
      expect(await environmentsSeen(), view).toEqual(['production', 'staging']);
      await actAsOwner(client);
    }
  });
});

test('a field has one name in every view, that of the flag’s state', async () => {
  await withActors(database, async (client) => {
    const flag = await insertFlag(client, { flag_key: 'spelt' });
    await client.query(
      `insert into app_public.feature_flag_schedules (flag_id, scheduled_at, updates)
       values ($1, now() - interval '1 second', '{"rollout_percentage": 40}')`,
      [flag.id],
    );
    await apply(client);
    const updates = { rolloutPercentage: 40 };
    const flagEvents = await read(client, 'flag_events', `event_type ~ 'schedule|updated'`);
    expect(flagEvents).toHaveLength(3);
    for (const row of flagEvents) expect(row).toMatchObject({ after: updates });
    expect(await read(client, 'applied_schedules')).toMatchObject([{ updates }]);
    const manual = await read(client, 'manual_changes', `event_type = 'flag_schedule.created'`);
    expect(manual).toMatchObject([{ after: updates }]);
    for (const row of [...flagEvents, ...manual])
      expect(JSON.stringify([row.before, row.after])).not.toContain('_');
  });
});
