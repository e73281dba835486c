import type pg from 'pg';
import { expect, test } from 'vitest';
import { asWorker, value, withActors } from '../support/actors.ts';
import { apply, flagState, outcome } from '../support/apply_due.ts';
import { useDatabase } from '../support/database.ts';
import { insertDuePlan, planSummary } from '../support/due_plans.ts';
import { insertFlag, insertSchedule } from '../support/factory.ts';
import { asAdmin } from '../support/plans.ts';
import { sqlStateOf } from '../support/roles.ts';
import { briefRowProblems } from '../support/row_problems.ts';
import { queuedEvents } from '../support/trail.ts';

const database = useDatabase();

const RESUME = `select status from app_public.resume_schedule($1, 'It is meant to.')`;

/** A flag at 10 %, off, and a release of it and of another flag: to 50 %, where it is at 10 %, and turned on. */
async function withRelease(
  on_conflict: 'overwrite' | 'keep' | 'suspend',
  work: (client: pg.Client, ids: { a: string; b: string; plan: string }) => Promise<void>,
): Promise<void> {
  await withActors(database, async (client) => {
    const a = await insertFlag(client, { flag_key: 'a', rollout_percentage: 10 });
    const b = await insertFlag(client, { flag_key: 'b' });
    const plan = await insertDuePlan(client, [
      {
        ...{ flag_key: 'a', environment: 'production', on_conflict },
        ...{
          updates: { rollout_percentage: 50, enabled: true },
          expects: { rollout_percentage: 10 },
        },
      },
      { flag_key: 'b', environment: 'production', updates: { enabled: true } },
    ]);
    await work(client, { a: a.id, b: b.id, plan: plan.id });
  });
}

const change = (client: pg.Client, id: string, set: string) =>
  client.query(`update app_public.feature_flags set ${set} where id = $1`, [id]);

const scheduleOf = (client: pg.Client, flag: string): Promise<string> =>
  value(
    client,
    'select id from app_public.feature_flag_schedules where flag_id = $1 and plan_id is not null',
    [flag],
  );

const APPLIED = { a: 'applied', b: 'applied' };
const SUSPENDED = { a: 'suspended', b: 'suspended' };

test.for<[string, string[], boolean]>([
  ['C1: changed since', ['rollout_percentage = 20'], true],
  ['C2: changed in another field', [`description = 'new'`, 'enabled = true'], false],
  ['C4: changed and changed back', ['rollout_percentage = 20', 'rollout_percentage = 10'], false],
])('a release that waits for a person where its flag was %s', async ([, changes, waits]) => {
  await withRelease('suspend', async (client, { a, b, plan }) => {
    for (const set of changes) await change(client, a, set);
    const { rows } = await asWorker(client, () =>
      client.query('select applied, suspended_for_conflict from app_private.apply_due()'),
    );
    expect(rows).toEqual([{ applied: waits ? 0 : 2, suspended_for_conflict: waits ? 2 : 0 }]);
    expect(await planSummary(client, plan)).toMatchObject(
      waits
        ? { status: 'active', schedules: SUSPENDED }
        : { status: 'completed', schedules: APPLIED },
    );
    expect(await flagState(client, b)).toBe(waits ? 'false 100' : 'true 100');
    expect(await briefRowProblems(client)).toEqual([]);
  });
});

test('what was expected and found stands on the row and in the event, and in no other of the point', async () => {
  await withRelease('suspend', async (client, { a }) => {
    await change(client, a, 'rollout_percentage = 20');
    await asWorker(client, () => apply(client));
    const details = { expected: { rollout_percentage: 10 }, found: { rollout_percentage: 20 } };
    const { rows } = await client.query(
      `select suspended_details from app_public.feature_flag_schedules order by flag_id = $1`,
      [a],
    );
    expect(rows).toEqual([{ suspended_details: null }, { suspended_details: details }]);
    const events = (await queuedEvents(client)).filter(
      ({ event_type }) => event_type === 'flag_schedule.suspended',
    );
    expect(
      events.map(({ flag_key, level, actor_kind, metadata }) => [
        ...[flag_key, level, actor_kind, metadata.for, metadata.details],
      ]),
    ).toEqual(
      expect.arrayContaining([
        ['a', 'warning', 'system', 'conflict', details],
        ['b', 'warning', 'system', 'conflict', undefined],
      ]),
    );
  });
});

test('an admin resumes all of it with a reason: it is due now, and sets its fields with all that it finds', async () => {
  await withRelease('suspend', async (client, { a, b, plan }) => {
    await change(client, a, 'rollout_percentage = 20');
    await asWorker(client, () => apply(client));
    const [ofA, ofB] = [await scheduleOf(client, a), await scheduleOf(client, b)];
    await asAdmin(client, async () => {
      expect(
        await sqlStateOf(client, () =>
          client.query(`select from app_public.resume_schedule($1, ' ')`, [ofA]),
        ),
      ).toBe('22023');
      expect(await value(client, RESUME, [ofB])).toBe('pending');
      expect(await sqlStateOf(client, () => client.query(RESUME, [ofA]))).toBe('ZF031');
    });
    expect(
      await value(
        client,
        `select jsonb_agg(jsonb_build_array(s.on_conflict, s.requested_by, s.resolution_reason, s.scheduled_at = p.next_at)
           order by s.flag_id = $1)
         from app_public.feature_flag_schedules s join app_public.plans p on p.id = s.plan_id`,
        [a],
      ),
    ).toEqual([
      ['overwrite', 'alice', 'It is meant to.', true],
      ['overwrite', 'alice', 'It is meant to.', true],
    ]);
    expect(await asWorker(client, () => apply(client))).toEqual(outcome({ applied: 2 }));
    expect(await flagState(client, a)).toBe('true 50');
    expect(await planSummary(client, plan)).toMatchObject({ status: 'completed' });
    const resumed = (await queuedEvents(client)).filter(
      ({ event_type }) => event_type === 'flag_schedule.resumed',
    );
    expect(
      resumed.map(({ flag_key, admin_user_id, metadata }) => [
        ...[flag_key, admin_user_id, metadata.reason, metadata.suspendedFor, metadata.acknowledged],
      ]),
    ).toEqual(
      expect.arrayContaining([
        ['a', 'alice', 'It is meant to.', 'conflict', true],
        ['b', 'alice', 'It is meant to.', 'conflict', undefined],
      ]),
    );
    expect(await briefRowProblems(client)).toEqual([]);
  });
});

test('keep leaves the fields that differ, sets the others, and says which it left', async () => {
  await withRelease('keep', async (client, { a }) => {
    await change(client, a, 'rollout_percentage = 20');
    expect(await asWorker(client, () => apply(client))).toEqual(outcome({ applied: 2 }));
    expect(await flagState(client, a)).toBe('true 20');
    const { rows } = await client.query(
      'select kept, before from app_public.feature_flag_schedules where flag_id = $1',
      [a],
    );
    expect(rows).toMatchObject([
      { kept: ['rollout_percentage'], before: { enabled: false, rollout_percentage: 20 } },
    ]);
    const applied = (await queuedEvents(client)).find(
      ({ event_type, flag_key }) => event_type === 'flag_schedule.applied' && flag_key === 'a',
    );
    expect(applied?.metadata.kept).toEqual(['rollout_percentage']);
    expect(await briefRowProblems(client)).toEqual([]);
  });
});

test('a field that was kept was not set: an earlier schedule that comes late sets it', async () => {
  await withRelease('keep', async (client, { a }) => {
    await change(client, a, 'rollout_percentage = 20');
    await asWorker(client, () => apply(client));
    await insertSchedule(client, a, { dueIn: '-1 minute', updates: { rollout_percentage: 7 } });
    await asWorker(client, () => apply(client));
    expect(await flagState(client, a)).toBe('true 7');
  });
});

test('overwrite asks for nothing', async () => {
  await withRelease('overwrite', async (client, { a }) => {
    await change(client, a, 'rollout_percentage = 20');
    await asWorker(client, () => apply(client));
    expect(await flagState(client, a)).toBe('true 50');
  });
});

test('C3: a guard sees what earlier schedules of its batch have set, and not what a later one has set already', async () => {
  await withRelease('suspend', async (client, { a, plan }) => {
    await change(client, a, 'rollout_percentage = 1');
    await insertSchedule(client, a, { dueIn: '-5 s', updates: { rollout_percentage: 10 } });
    const late = await insertDuePlan(
      client,
      [
        {
          ...{ flag_key: 'a', environment: 'production', on_conflict: 'suspend' },
          ...{
            updates: { enabled: true, rollout_percentage: 2 },
            expects: { rollout_percentage: 2 },
          },
        },
      ],
      { dueIn: '-1 hour' },
    );
    await client.query(
      `update app_public.feature_flag_schedules set next_attempt_at = clock_timestamp() + interval '1 hour' where plan_id = $1`,
      [late.id],
    );
    expect(await asWorker(client, () => apply(client))).toEqual(outcome({ applied: 3 }));
    expect(await planSummary(client, plan)).toMatchObject({ status: 'completed' });
    await client.query('update app_public.feature_flag_schedules set next_attempt_at = now()');
    expect(await asWorker(client, () => apply(client))).toEqual(outcome({ applied: 1 }));
    expect(await flagState(client, a)).toBe('true 50');
  });
});

test('a single schedule may be guarded too, by SQL', async () => {
  await withActors(database, async (client) => {
    const { id } = await insertFlag(client);
    await client.query(
      `insert into app_public.feature_flag_schedules (flag_id, scheduled_at, updates, expects, on_conflict)
       select $1, clock_timestamp() - n * interval '1 s', '{"enabled": true}', jsonb_build_object('rollout_percentage', 100 / n), 'suspend'
       from generate_series(1, 2) as n`,
      [id],
    );
    const { rows } = await asWorker(client, () =>
      client.query('select applied, suspended_for_conflict from app_private.apply_due()'),
    );
    expect(rows).toEqual([{ applied: 1, suspended_for_conflict: 1 }]);
    await asAdmin(client, async () => {
      const schedule = await value(
        client,
        `select id from app_public.feature_flag_schedules where status = 'suspended'`,
      );
      expect(
        await value(client, 'select status from app_public.cancel_flag_schedule($1)', [schedule]),
      ).toBe('cancelled');
    });
    expect(await briefRowProblems(client)).toEqual([]);
  });
});

test('who doesn’t reach all of a plan resumes no part of it', async () => {
  await withActors(database, async (client) => {
    const flag = await insertFlag(client, { environment: 'staging' });
    const other = await insertFlag(client);
    const guard = { expects: { enabled: true }, on_conflict: 'suspend' } as const;
    await insertDuePlan(
      client,
      [flag, other].map(({ flag_key, environment }) => ({
        ...{ flag_key, environment, updates: { enabled: true } },
        ...guard,
      })),
    );
    await asWorker(client, () => apply(client));
    const schedule = await scheduleOf(client, flag.id);
    await asAdmin(
      client,
      async () => {
        expect(await sqlStateOf(client, () => client.query(RESUME, [schedule]))).toBe('ZF002');
      },
      { userId: 'alice', environments: ['staging'] },
    );
  });
});
