import type pg from 'pg';
import { describe, expect, test } from 'vitest';
import { actAsOwner, asWorker, value, withActors } from '../../support/actors.ts';
import { useDatabase, withRollback } from '../../support/database.ts';
import { insertFlag, insertSchedule, one } from '../../support/factory.ts';
import { become, sqlStateOf } from '../../support/roles.ts';
import { breakFlag, queuedEvents, type TrailEvent } from '../../support/trail.ts';

const database = useDatabase();

const ALICE = { userId: 'alice', email: 'alice@example.com', requestId: 'request-1' };
const ADMIN = { adminUserId: 'alice', adminEmail: 'alice@example.com' };
const INSTANT: unknown = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);

/** The events that `work` adds to those of `prepare`. */
async function eventsOf<T>(
  prepare: (client: pg.ClientBase) => Promise<T>,
  work: (client: pg.ClientBase, prepared: T) => Promise<unknown>,
): Promise<TrailEvent[]> {
  return withActors(database, async (client) => {
    const prepared = await prepare(client);
    const before = await queuedEvents(client);
    await work(client, prepared);
    await actAsOwner(client);
    const events = (await queuedEvents(client)).slice(before.length);
    for (const event of events) expectPayloadToTellTheColumns(event);
    return events;
  });
}

function expectPayloadToTellTheColumns(event: TrailEvent): void {
  const { timestamp, ...rest } = JSON.parse(event.payload) as { timestamp: string };
  expect(rest).toEqual({
    eventType: event.event_type,
    eventId: event.id,
    level: event.level,
    environment: event.environment,
    requestId: event.request_id,
    actorKind: event.actor_kind,
    databaseUser: event.database_user,
    applicationName: event.application_name,
    ...(event.flag_id !== null && { flagId: event.flag_id }),
    ...(event.schedule_id !== null && { scheduleId: event.schedule_id }),
    ...(event.revision !== null && { revision: Number(event.revision) }),
    metadata: event.metadata,
  });
  expect(timestamp).toEqual(INSTANT);
  expect(Date.parse(timestamp)).toBe(event.occurred_at.getTime());
}

async function instant(client: pg.ClientBase, column: string, id: string): Promise<string> {
  return value(
    client,
    `select to_char(${column} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
     from app_public.feature_flag_schedules where id = $1`,
    [id],
  );
}

async function makeSchedule(client: pg.ClientBase) {
  const flag = await insertFlag(client, { flag_key: 'search', environment: 'staging' });
  const { id } = await insertSchedule(client, flag.id, {
    updates: { enabled: true, rollout_percentage: 40 },
  });
  return { id, flagId: flag.id, scheduledAt: await instant(client, 'scheduled_at', id) };
}

async function makeDue(client: pg.ClientBase) {
  const flag = await insertFlag(client, { flag_key: 'search', environment: 'staging' });
  const { id } = await insertSchedule(client, flag.id, {
    dueIn: '-2 seconds',
    max_attempts: 1,
    updates: { enabled: true, rollout_percentage: 40 },
  });
  return { id, flagId: flag.id, scheduledAt: await instant(client, 'scheduled_at', id) };
}

const apply = (client: pg.ClientBase) =>
  asWorker(client, () => client.query('select * from app_private.apply_due()'));

describe('the metadata of each event type, exactly', () => {
  test('flag_schedule.created', async () => {
    let id = '';
    let scheduledAt = '';
    const events = await eventsOf(
      (client) => insertFlag(client, { flag_key: 'search', environment: 'staging' }),
      async (client) => {
        await become(client, 'admin', ALICE);
        id = await value(
          client,
          `select id from app_public.schedule_flag_change('search', 'staging', now() + interval '1 hour', '{"enabled": true, "rollout_percentage": 40}')`,
        );
        scheduledAt = await instant(client, 'scheduled_at', id);
      },
    );
    expect(one(events)).toMatchObject({
      event_type: 'flag_schedule.created',
      level: 'info',
      flag_key: 'search',
      environment: 'staging',
      schedule_id: id,
      revision: '1',
      actor_kind: 'admin',
      admin_user_id: 'alice',
      admin_email: 'alice@example.com',
      request_id: 'request-1',
      application_name: 'halyard test',
    });
    expect(one(events).metadata).toStrictEqual({
      scheduleId: id,
      flagKey: 'search',
      scheduledAt,
      updates: { enabled: true, rollout_percentage: 40 },
      ...ADMIN,
    });
  });

  test.for<[string | null, string]>([
    [null, 'manual_cancellation'],
    ['launch “postponed” \\ "quoted"', 'launch “postponed” \\ "quoted"'],
  ])('flag_schedule.cancelled, with reason %j', async ([given, reason]) => {
    let schedule = { id: '', scheduledAt: '' };
    const events = await eventsOf(
      async (client) => (schedule = await makeSchedule(client)),
      async (client) => {
        await become(client, 'admin', ALICE);
        await client.query('select app_public.cancel_flag_schedule($1, $2)', [schedule.id, given]);
      },
    );
    const event = one(events);
    expect(event).toMatchObject({
      event_type: 'flag_schedule.cancelled',
      level: 'info',
      actor_kind: 'admin',
      schedule_id: schedule.id,
      revision: '2',
      request_id: 'request-1',
    });
    expect(event.metadata).toStrictEqual({
      scheduleId: schedule.id,
      flagKey: 'search',
      scheduledAt: schedule.scheduledAt,
      reason,
      ...ADMIN,
    });
  });

  test('flag_schedule.applied, and the flag’s own event', async () => {
    let schedule = { id: '' };
    let appliedAt = '';
    const events = await eventsOf(
      async (client) => (schedule = await makeDue(client)),
      async (client) => {
        await apply(client);
        appliedAt = await instant(client, 'applied_at', schedule.id);
      },
    );
    const [updated, applied] = events;
    expect(events).toHaveLength(2);
    expect(updated).toMatchObject({
      event_type: 'feature_flag.updated',
      actor_kind: 'system',
      schedule_id: schedule.id,
      admin_user_id: null,
    });
    expect(applied).toMatchObject({
      event_type: 'flag_schedule.applied',
      level: 'info',
      actor_kind: 'system',
      admin_user_id: null,
      admin_email: null,
    });
    const lateness = applied?.metadata.latenessMs;
    expect(applied?.metadata).toStrictEqual({
      scheduleId: schedule.id,
      flagKey: 'search',
      updates: { enabled: true, rollout_percentage: 40 },
      appliedAt,
      flagState: { enabled: true, rolloutPercentage: 40 },
      latenessMs: lateness,
    });
    expect(Number.isInteger(lateness)).toBe(true);
    expect(lateness).toBeGreaterThanOrEqual(2000);
  });

  test('flag_schedule.failed, and nothing of the attempt that was undone', async () => {
    let schedule = { id: '' };
    const events = await eventsOf(
      async (client) => {
        schedule = await makeDue(client);
        await breakFlag(client, 'search');
      },
      (client) => apply(client),
    );
    const event = one(events);
    expect(event).toMatchObject({
      event_type: 'flag_schedule.failed',
      level: 'error',
      actor_kind: 'system',
      admin_user_id: null,
    });
    expect(event.metadata).toStrictEqual({
      scheduleId: schedule.id,
      flagKey: 'search',
      errorMessage: 'the flag is broken',
      failedAt: (JSON.parse(event.payload) as { timestamp: string }).timestamp,
      attempts: 1,
    });
  });

  test('flag_schedule.rescheduled', async () => {
    let schedule = { id: '', scheduledAt: '' };
    let moved = '';
    const events = await eventsOf(
      async (client) => (schedule = await makeSchedule(client)),
      async (client) => {
        await become(client, 'admin', ALICE);
        await client.query(
          `select app_public.reschedule_flag_change($1, now() + interval '5 hours')`,
          [schedule.id],
        );
        moved = await instant(client, 'scheduled_at', schedule.id);
      },
    );
    const state = { status: 'pending', attempts: 0, errorMessage: null };
    expect(one(events)).toMatchObject({ event_type: 'flag_schedule.rescheduled', level: 'info' });
    expect(one(events).metadata).toStrictEqual({
      scheduleId: schedule.id,
      flagKey: 'search',
      before: { ...state, scheduledAt: schedule.scheduledAt },
      after: { ...state, scheduledAt: moved },
      ...ADMIN,
    });
  });

  test('flag_schedule.retried', async () => {
    let schedule = { id: '', scheduledAt: '' };
    const events = await eventsOf(
      async (client) => {
        schedule = await makeDue(client);
        await breakFlag(client, 'search');
        await apply(client);
      },
      async (client) => {
        await become(client, 'admin', ALICE);
        await client.query('select app_public.retry_flag_schedule($1)', [schedule.id]);
      },
    );
    expect(one(events)).toMatchObject({ event_type: 'flag_schedule.retried', level: 'info' });
    expect(one(events).metadata).toStrictEqual({
      scheduleId: schedule.id,
      flagKey: 'search',
      before: {
        status: 'failed',
        attempts: 1,
        errorMessage: 'the flag is broken',
        scheduledAt: schedule.scheduledAt,
      },
      after: { status: 'pending', attempts: 0, errorMessage: null, scheduledAt: INSTANT },
      ...ADMIN,
    });
  });

  test('feature_flag.created, .updated and .deleted, and its schedules’ end', async () => {
    let scheduleId = '';
    const events = await eventsOf(
      () => Promise.resolve(),
      async (client) => {
        await become(client, 'admin', ALICE);
        await client.query(`insert into app_public.feature_flags (flag_key) values ('search')`);
        await client.query(
          `update app_public.feature_flags set enabled = true, description = 'Finds things'`,
        );
        await actAsOwner(client);
        const id = await value<string>(client, 'select id from app_public.feature_flags');
        scheduleId = (await insertSchedule(client, id)).id;
        await client.query('delete from app_public.feature_flags');
      },
    );
    const before = { enabled: false, rolloutPercentage: 100, description: null };
    const after = { enabled: true, rolloutPercentage: 100, description: 'Finds things' };
    const told = events.map((event) => [event.event_type, event.actor_kind, event.metadata]);
    expect(told).toHaveLength(5);
    expect(told).toEqual(
      expect.arrayContaining([
        ['feature_flag.created', 'admin', { flagKey: 'search', after: before, ...ADMIN }],
        ['feature_flag.updated', 'admin', { flagKey: 'search', before, after, ...ADMIN }],
        ['feature_flag.deleted', 'database', { flagKey: 'search', before: after }],
        [
          'flag_schedule.deleted',
          'database',
          {
            scheduleId,
            flagKey: 'search',
            before: { status: 'pending', attempts: 0, errorMessage: null, scheduledAt: INSTANT },
          },
        ],
      ]),
    );
    expect(events.map(({ flag_key }) => flag_key)).toEqual(events.map(() => 'search'));
  });
});

describe('why, and who asked for it', () => {
  const REASONS = { ...ALICE, reason: 'launch day' };

  test('a flag’s change has the reason of the request; without one there is no key', async () => {
    const events = await eventsOf(
      () => Promise.resolve(),
      async (client) => {
        await become(client, 'admin', REASONS);
        await client.query(`insert into app_public.feature_flags (flag_key) values ('search')`);
        await client.query(`update app_public.feature_flags set enabled = true`);
        await become(client, 'admin', ALICE);
        await client.query(`update app_public.feature_flags set enabled = false`);
        await actAsOwner(client);
        // Of another login it is no reason, but what the session says.
        await client.query(`select set_config('halyard.reason', 'because', true)`);
        await client.query('delete from app_public.feature_flags');
      },
    );
    expect(events.map(({ metadata }) => metadata.reason)).toEqual([
      'launch day',
      'launch day',
      undefined,
      undefined,
    ]);
    expect(events[2]?.metadata).not.toHaveProperty('reason');
    expect(events[3]?.metadata.claimed).toEqual({ reason: 'because' });
  });

  test('a schedule has its own, until a move or a retry has another; what it does says who asked last, and why', async () => {
    let schedule = { id: '' };
    const row = (client: pg.ClientBase) =>
      value<object>(
        client,
        `select jsonb_build_object('by', requested_by, 'why', reason, 'made', created_by) from app_public.feature_flag_schedules`,
      );
    const rows: object[] = [];
    const events = await eventsOf(
      (client) => insertFlag(client, { flag_key: 'search' }),
      async (client) => {
        const as = async (userId: string, reason: string, sql: string) => {
          await become(client, 'admin', { userId, reason });
          const id = await value<string>(client, sql, reason === '' ? [] : [reason]);
          await actAsOwner(client);
          rows.push(await row(client));
          return id;
        };
        const id = await as(
          'alice',
          'launch day',
          `select id from app_public.schedule_flag_change('search', null, now() + interval '1 hour', '{"enabled": true}', '  ' || $1 || chr(10))`,
        );
        schedule = { id };
        const move = `app_public.reschedule_flag_change('${id}', clock_timestamp() + interval '1 hour'`;
        await as('bob', '', `select id from ${move})`);
        await as('carol', 'launch day', `select id from ${move}, $1)`);
        await client.query(
          `update app_public.feature_flag_schedules set status = 'failed', error_message = 'broken'`,
        );
        await as(
          'dora',
          'it works now',
          `select id from app_public.retry_flag_schedule('${id}', $1)`,
        );
        await apply(client);
      },
    );
    expect(rows).toEqual([
      { by: 'alice', why: 'launch day', made: 'alice' },
      { by: 'bob', why: 'launch day', made: 'alice' },
      { by: 'carol', why: 'launch day', made: 'alice' },
      { by: 'dora', why: 'it works now', made: 'alice' },
    ]);
    expect(events.map(({ event_type, metadata }) => [event_type, metadata.reason])).toEqual([
      ['flag_schedule.created', 'launch day'],
      ['flag_schedule.rescheduled', undefined],
      ['flag_schedule.rescheduled', 'launch day'],
      ['flag_schedule.failed', undefined],
      ['flag_schedule.retried', 'it works now'],
      ['feature_flag.updated', 'it works now'],
      ['flag_schedule.applied', undefined],
    ]);
    expect(events[4]?.metadata).toMatchObject({
      before: { reason: 'launch day' },
      after: { reason: 'it works now' },
    });
    expect(events[5]?.schedule_id).toBe(schedule.id);
    expect(events[5]?.metadata).toMatchObject({ requestedBy: 'dora' });
  });

  test.for([
    ['a'.repeat(501), '23514'],
    ['two\nlines', '23514'],
    ['🎉'.repeat(500), null],
  ])('a reason of %j is judged by the database too', async ([reason, code]) => {
    await withActors(database, async (client) => {
      await insertFlag(client, { flag_key: 'search' });
      await become(client, 'admin', ALICE);
      const schedule = () =>
        client.query(
          `select app_public.schedule_flag_change('search', null, now() + interval '1 hour', '{"enabled": true}', $1)`,
          [reason],
        );
      expect(await sqlStateOf(client, schedule)).toBe(code);
    });
  });

  test('the reason of a schedule that has ended stands', async () => {
    await withActors(database, async (client) => {
      const { id } = await makeSchedule(client);
      const set = (changes: string) =>
        sqlStateOf(client, () =>
          client.query(`update app_public.feature_flag_schedules set ${changes} where id = $1`, [
            id,
          ]),
        );
      expect(await set(`reason = 'x', requested_by = 'eve'`)).toBeNull();
      expect(await set(`reason = 'y', status = 'applied'`)).toBe('ZF003');
      expect(await set(`status = 'cancelled'`)).toBeNull();
      expect(await set(`reason = 'y'`)).toBe('ZF003');
      const { rows } = await client.query(
        'select reason, requested_by from app_public.feature_flag_schedules where id = $1',
        [id],
      );
      expect(rows).toEqual([{ reason: 'x', requested_by: null }]);
    });
  });
});

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
    expect(await eventsOf(makeSchedule, (client) => client.query(statement))).toEqual([]);
  });

  test('upserts, merges and copies are told like any other', async () => {
    const events = await eventsOf(
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
