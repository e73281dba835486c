import { describe, expect, test } from 'vitest';
import { value, withActors } from '../../support/actors.ts';
import { useDatabase, withRollback } from '../../support/database.ts';
import { insertFlag, insertSchedule, one } from '../../support/factory.ts';
import { become } from '../../support/roles.ts';
import { queuedEvents } from '../../support/trail.ts';
import { eventsOf, makeSchedule } from '../../support/recorded_events.ts';

const database = useDatabase();

describe('who did it', () => {
  test('SQL typed by hand is attributed to the login', async () => {
    const events = await withRollback(database, async (client) => {
      await insertFlag(client);
      return queuedEvents(client);
    });
    const event = one(events);
    expect(event).toMatchObject({
      actor_kind: 'database',
      database_user: 'halyard_owner',
      application_name: 'halyard test',
      admin_user_id: null,
      request_id: null,
    });
    expect(Object.keys(event.metadata).toSorted()).toEqual(['after', 'flagKey']);
  });

  test('an admin without user id and e-mail: the keys are absent', async () => {
    const events = await eventsOf(
      database,
      (client) => insertFlag(client, { flag_key: 'search' }),
      async (client) => {
        await become(client, 'admin');
        await client.query(
          `select app_public.schedule_flag_change('search', null, now() + interval '1 hour', '{"enabled": true}')`,
        );
      },
    );
    expect(one(events)).toMatchObject({ actor_kind: 'admin', admin_user_id: null });
    expect(Object.keys(one(events).metadata).toSorted()).toEqual([
      'flagKey',
      'scheduleId',
      'scheduledAt',
      'updates',
    ]);
  });

  test('text that would break JSON or a log line doesn’t', async () => {
    const userId = 'a"}\\, "level": "error", {"x": "é🚀';
    const events = await eventsOf(
      database,
      () => Promise.resolve(),
      async (client) => {
        await become(client, 'admin', { userId, requestId: userId });
        await client.query(`insert into app_public.feature_flags (flag_key) values ('search')`);
      },
    );
    expect(one(events)).toMatchObject({ admin_user_id: userId, request_id: userId });
    expect(one(events).payload).not.toContain('\n');
    const shipped = await withRollback(database, (client) =>
      value<string>(client, 'select app_private.shipped_message($1, 7)', [one(events).payload]),
    );
    expect(JSON.parse(shipped)).toEqual({ ...(JSON.parse(one(events).payload) as object), seq: 7 });
  });
});

describe('statements', () => {
  test('one that changes three rows makes three events', async () => {
    const events = await eventsOf(
      database,
      async (client) => {
        for (let i = 0; i < 3; i++) await insertFlag(client);
      },
      async (client) => {
        await client.query('update app_public.feature_flags set enabled = true');
        await client.query('update app_public.feature_flags set enabled = true');
        await client.query('delete from app_public.feature_flags');
      },
    );
    expect(events.map(({ event_type }) => event_type)).toEqual([
      ...Array<string>(3).fill('feature_flag.updated'),
      ...Array<string>(3).fill('feature_flag.deleted'),
    ]);
    expect(new Set(events.map(({ id }) => id)).size).toBe(6);
  });

  test.for([
    'update app_public.feature_flags set enabled = enabled',
    'update app_public.feature_flags set enabled = true where false',
    'delete from app_public.feature_flags where false',
    'update app_public.feature_flag_schedules set max_attempts = 5',
    `update app_public.feature_flag_schedules set attempts = 1, next_attempt_at = now()`,
    `insert into app_public.feature_flags (flag_key) select 'x' where false`,
  ])('one that changes nothing that is told makes none: %s', async (statement) => {
    expect(await eventsOf(database, makeSchedule, (client) => client.query(statement))).toEqual([]);
  });

  test('upserts, merges and copies are told like any other', async () => {
    const events = await eventsOf(
      database,
      (client) => insertFlag(client, { flag_key: 'search' }),
      async (client) => {
        await client.query(
          `insert into app_public.feature_flags (flag_key) values ('search'), ('new')
           on conflict (environment, flag_key) do update set enabled = true`,
        );
        await client.query(
          `merge into app_public.feature_flags f using (values ('new'), ('newer')) as v (key) on f.flag_key = v.key
           when matched then delete
           when not matched then insert (flag_key) values (v.key)`,
        );
      },
    );
    expect(
      events.map(({ event_type, flag_key }) => `${event_type} ${flag_key ?? ''}`).toSorted(),
    ).toEqual([
      'feature_flag.created new',
      'feature_flag.created newer',
      'feature_flag.deleted new',
      'feature_flag.updated search',
    ]);
  });

  test('what is rolled back leaves no event', async () => {
    const events = await eventsOf(
      database,
      (client) => insertFlag(client),
      async (client) => {
        await client.query('savepoint undone');
        await client.query('update app_public.feature_flags set enabled = true');
        await client.query('rollback to savepoint undone');
      },
    );
    expect(events).toEqual([]);
  });
});

test('the text depends on no setting of the session', async () => {
  const render = (settings: readonly string[]) =>
    withRollback(database, async (client) => {
      for (const setting of settings) await client.query(`set local ${setting}`);
      const flag = await insertFlag(client, { flag_key: 'search' });
      await client.query(
        `insert into app_public.feature_flag_schedules (flag_id, scheduled_at, updates, reason)
         values ($1, '2000-01-02 03:04:05.000006+00', '{"rollout_percentage": 7}', $2)`,
        [flag.id, '\u00a0because '],
      );
      await client.query('select app_private.apply_due()');
      return (await queuedEvents(client)).map(({ payload }) =>
        payload
          .replaceAll(/[0-9a-f]{8}-[0-9a-f-]{27}/g, 'UUID')
          .replaceAll(/20(?!00)\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z/g, 'INSTANT')
          .replace(/"latenessMs": \d+/, '"latenessMs": N'),
      );
    });
  const plain = await render([]);
  expect(plain).toHaveLength(4);
  expect(plain.join('\n')).toContain('"scheduledAt": "2000-01-02T03:04:05.000006Z"');
  expect(plain.join('\n')).toContain('"reason": "because"');
  expect(
    await render([
      `timezone = 'Asia/Kolkata'`,
      `datestyle = 'German'`,
      `intervalstyle = 'sql_standard'`,
      `extra_float_digits = -15`,
      `bytea_output = 'escape'`,
      `search_path = 'public'`,
      `standard_conforming_strings = off`,
      `array_nulls = off`,
    ]),
  ).toEqual(plain);
});

test('session_replication_role = replica, which silences ordinary triggers, doesn’t silence the trail', async () => {
  await withActors(database, async (client) => {
    await client.query('reset role');
    await client.query('set local session_replication_role = replica');
    const flag = await insertFlag(client);
    await insertSchedule(client, flag.id);
    await client.query('update app_public.feature_flags set enabled = true');
    expect((await queuedEvents(client)).map(({ event_type }) => event_type)).toEqual([
      'feature_flag.created',
      'flag_schedule.created',
      'feature_flag.updated',
    ]);
  });
});
