import type pg from 'pg';
import { describe, expect, test } from 'vitest';
import { useDatabase } from '../../support/database.ts';
import { actAsOwner, value } from '../../support/actors.ts';
import { insertFlag, insertSchedule, one } from '../../support/factory.ts';
import { become } from '../../support/roles.ts';
import { breakFlag } from '../../support/trail.ts';
import {
  ALICE,
  INSTANT,
  eventsOf,
  instant,
  makeSchedule,
  apply,
} from '../../support/recorded_events.ts';

const database = useDatabase();

const ADMIN = { adminUserId: 'alice', adminEmail: 'alice@example.com' };

async function makeDue(client: pg.ClientBase) {
  const flag = await insertFlag(client, { flag_key: 'search', environment: 'staging' });
  const { id } = await insertSchedule(client, flag.id, {
    dueIn: '-2 seconds',
    max_attempts: 1,
    updates: { enabled: true, rollout_percentage: 40 },
  });
  return { id, flagId: flag.id, scheduledAt: await instant(client, 'scheduled_at', id) };
}

describe('the metadata of each event type, exactly', () => {
  test('flag_schedule.created', async () => {
    let id = '';
    let scheduledAt = '';
    const events = await eventsOf(
      database,
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
      database,
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
      database,
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
      database,
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
      database,
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
      database,
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
      database,
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
