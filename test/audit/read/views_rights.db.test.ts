import type pg from 'pg';
import { expect, test } from 'vitest';
import { actAsOwner, value, withActors } from '../../support/actors.ts';
import { useDatabase } from '../../support/database.ts';
import { insertDuePlan } from '../../support/due_plans.ts';
import { insertFlag, insertSchedule } from '../../support/factory.ts';
import { asAdmin } from '../../support/plans.ts';
import { become } from '../../support/roles.ts';
import { breakFlag, mendFlag } from '../../support/trail.ts';
import { read, schedule, cancel, apply } from '../../support/views.ts';

const database = useDatabase();

const VIEWS = [
  'flag_events',
  'actor_events',
  'applied_schedules',
  'lateness_days',
  'failed_schedules',
  'cancellations_by_others',
  'manual_changes',
  'stops',
  'plan_events',
] as const;

const cancelByHand = (client: pg.ClientBase, id: string) =>
  client.query(`update app_public.feature_flag_schedules set status = 'cancelled' where id = $1`, [
    id,
  ]);

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

test('a stop says who and why, and how it ended; a plan’s events are those of all that it did', async () => {
  await withActors(database, async (client) => {
    await insertFlag(client, { flag_key: 'a' });
    await asAdmin(client, () =>
      client.query(`select from app_public.stop_environment('production', 'Incident')`),
    );
    const { id } = await insertDuePlan(
      client,
      [{ flag_key: 'a', environment: 'production', updates: { enabled: true } }],
      { title: 'Launch', reason: 'The fair' },
    );
    await apply(client);
    const stop = { environment: 'production', stopped_by: 'alice', reason: 'Incident' };
    expect(await read(client, 'stops')).toMatchObject([{ ...stop, resumed_at: null }]);
    await asAdmin(
      client,
      () =>
        client.query(`select from app_public.resume_environment('production', 'apply', 'Over')`),
      { userId: 'bob' },
    );
    await apply(client);
    const resumed = { resumed_by: 'bob', resume_reason: 'Over', missed: 'apply', applied: 1 };
    expect(await read(client, 'stops')).toMatchObject([{ ...stop, ...resumed, skipped: 0 }]);
    expect(await read(client, 'plan_events', `plan_id = '${id}'`)).toMatchObject([
      { event_type: 'flag_plan.created', title: 'Launch', reason: 'The fair' },
      { event_type: 'flag_schedule.created', flag_key: 'a', occurrence_no: 1, step_no: 1 },
      { event_type: 'flag_schedule.suspended', flag_key: 'a' },
      { event_type: 'flag_schedule.resumed', flag_key: 'a', admin_user_id: 'bob', reason: 'Over' },
      { event_type: 'feature_flag.updated', before: { enabled: false }, after: { enabled: true } },
      { event_type: 'flag_schedule.applied', actor_kind: 'system', after: { enabled: true } },
      { event_type: 'flag_plan.completed', title: 'Launch' },
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
  await insertDuePlan(client, [{ flag_key: 'fine', environment, updates: { enabled: true } }]);
  await client.query(`select from app_private.stop_environment($1, 'Incident')`, [environment]);
  await client.query(`select from app_private.resume_environment($1, 'apply', 'Over')`, [
    environment,
  ]);
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
