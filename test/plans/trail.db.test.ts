import type pg from 'pg';
import { describe, expect, test } from 'vitest';
import { value } from '../support/actors.ts';
import { cloneDatabase, useDatabase, withClient } from '../support/database.ts';
import { insertFlag } from '../support/factory.ts';
import { changeOf, failPoint, stepsOf } from '../support/plans.ts';
import { asAdmin, problemsOf, reconcileAs } from '../support/reconcile.ts';
import { briefRowProblems, pastTriggers } from '../support/row_problems.ts';
import type { TrailEvent } from '../support/trail.ts';
import type { TestDatabase } from '../support/database.ts';

const database = useDatabase();

/** A database of its own, as the owner's, who can become an admin of the API. */
async function within(work: (client: pg.Client, clone: TestDatabase) => Promise<void>) {
  const clone = await cloneDatabase(database.name);
  try {
    await withClient(clone.rootUrl, async (client) => {
      await client.query('set role halyard_owner');
      await work(client, clone);
    });
  } finally {
    await clone.drop();
  }
}

/** A committed plan of alice's, by its title, of one flag in each of two environments. */
async function commitPlan(client: pg.ClientBase, title: string): Promise<string> {
  const flag = await insertFlag(client);
  const other = await insertFlag(client, { environment: 'staging' });
  return asAdmin<string>(
    client,
    `select id from app_public.create_plan($1, $2, now() + interval '1 hour', 'launch')`,
    [title, stepsOf(changeOf(flag), changeOf(other))],
  );
}

const planEvents = async (client: pg.ClientBase): Promise<TrailEvent[]> => {
  const { rows } = await client.query<TrailEvent>(
    `select * from audit.events where event_type like 'flag_plan.%' or event_type = 'audit.gap' and metadata ? 'planId'
     order by occurred_at, revision`,
  );
  return rows;
};

/** Every kind of change of a plan, each in a transaction of its own. */
async function runPlanLifecycle(client: pg.ClientBase): Promise<void> {
  const plan = await commitPlan(client, 'Launch');
  await asAdmin(client, `select id from app_public.edit_plan($1, 'Start', reason => 'Fair')`, [
    plan,
  ]);
  await asAdmin(
    client,
    `select id from app_public.edit_plan($1, starts_at => now() + interval '2 hours')`,
    [plan],
  );
  await failPoint(client, plan);
  await asAdmin(client, `select id from app_public.retry_plan($1, 'Mended')`, [plan]);
  await failPoint(client, plan);
  await client.query(`update app_public.plans set title = 'By SQL' where id = $1`, [plan]);
  await asAdmin(client, `select id from app_public.edit_plan($1, 'Once more')`, [plan]);
  await client.query(`select app_private.end_point($1, 'applied')`, [plan]);
  const cancelled = await commitPlan(client, 'Dropped');
  await asAdmin(client, `select id from app_public.cancel_plan($1)`, [cancelled]);
  const deleted = await commitPlan(client, 'Deleted');
  await client.query('delete from app_public.feature_flag_schedules where plan_id = $1', [deleted]);
  await client.query('delete from app_public.plans where id = $1', [deleted]);
}

test('plans of every kind of change are as the trail says', async () => {
  await within(async (client) => {
    await runPlanLifecycle(client);
    expect(await briefRowProblems(client)).toEqual([]);
    expect(await problemsOf(client)).toEqual([]);
    expect(await briefRowProblems(client)).toEqual([]);
  });
});

test('one that was made, changed or deleted past the triggers is found, and can be recorded', async () => {
  await within(async (client, clone) => {
    const plans: Record<string, string> = {};
    for (const title of ['changed', 'edited', 'ended', 'gone', 'copied'])
      plans[title] = await commitPlan(client, title);
    await asAdmin(client, `select id from app_public.edit_plan($1, reason => 'Fair')`, [
      plans.edited,
    ]);
    await asAdmin(client, `select id from app_public.edit_plan($1, reason => 'Moon')`, [
      plans.edited,
    ]);
    await client.query(`select app_private.end_point($1, 'applied')`, [plans.ended]);
    await pastTriggers(
      client,
      `update app_public.plans set title = 'other', reason = null, created_by = 'eve' where id = '${plans.changed}'`,
      `update app_public.plans set next_at = '2031-01-01' where id = '${plans.edited}'`,
      `update app_public.plans set skipped_count = 2 where id = '${plans.ended}'`,
      `delete from app_public.feature_flag_schedules where plan_id = '${plans.gone}'`,
      `delete from app_public.plans where id = '${plans.gone}'`,
      `insert into app_public.plans (id, title, content, flag_ids, environments)
       select '00000000-0000-4000-8000-000000000001', 'secret', content, flag_ids, environments
       from app_public.plans where id = '${plans.copied}'`,
    );
    const found = new Map(
      (await briefRowProblems(client)).map(([id, ...rest]) => [id, rest] as const),
    );
    expect(found.get(plans.changed)).toEqual([
      'row_differs',
      [
        ['createdBy', 'alice', 'eve'],
        ['reason', 'launch', null],
        ['title', 'changed', 'other'],
      ],
    ]);
    expect(found.get(plans.edited)).toEqual([
      'row_differs',
      [['nextAt', expect.any(String), '2031-01-01T00:00:00.000000Z']],
    ]);
    expect(found.get(plans.ended)).toEqual(['row_differs', [['skipped', 0, 2]]]);
    expect(found.get(plans.gone)).toEqual(['row_vanished', []]);
    expect(found.get('00000000-0000-4000-8000-000000000001')).toEqual(['row_unrecorded', []]);
    // The two schedules of the plan that is gone.
    expect(found.size).toBe(7);

    expect(await reconcileAs(clone, 'recording')).toMatchObject({ unexplained: 0 });
    expect(await briefRowProblems(client)).toEqual([]);
    const written = (await planEvents(client)).slice(-5);
    expect(written.map(({ event_type }) => event_type).toSorted()).toEqual([
      ...['audit.gap', 'flag_plan.reconciled', 'flag_plan.reconciled', 'flag_plan.reconciled'],
      'flag_plan.reconciled',
    ]);
    expect(written.find(({ event_type }) => event_type === 'audit.gap')).toMatchObject({
      metadata: { planId: plans.gone, lastRevision: 1 },
    });
    const recorded = (await planEvents(client)).find(
      ({ event_type, metadata }) =>
        event_type === 'flag_plan.reconciled' && metadata.planId === plans.changed,
    );
    expect(recorded?.metadata).toMatchObject({
      ...{ revisions: [2], rowRevision: 2, createdBy: 'eve' },
      after: { title: 'other', reason: null },
      differs: [
        { column: 'createdBy', trail: 'alice', row: 'eve' },
        { column: 'reason', trail: 'launch', row: null },
        { column: 'title', trail: 'changed', row: 'other' },
      ],
    });
    expect(await problemsOf(client)).toEqual([]);
  });
});

test('changes that left neither event nor letter get one reconciled event', async () => {
  await within(async (client, clone) => {
    const id = await commitPlan(client, 'Launch');
    await client.query('alter table app_public.plans disable trigger _900_audit_update');
    await client.query(`update app_public.plans set title = 'One'`);
    await client.query(`update app_public.plans set title = 'Two'`);
    await client.query('alter table app_public.plans enable always trigger _900_audit_update');
    expect(await reconcileAs(clone, 'incremental')).toMatchObject({ fromRows: 1 });
    expect((await planEvents(client)).at(-1)).toMatchObject({
      ...{ event_type: 'flag_plan.reconciled', environment: null, actor_kind: 'system' },
      metadata: { planId: id, revisions: [2, 3], rowRevision: 3, after: { title: 'Two' } },
    });
    expect(await briefRowProblems(client)).toEqual([]);
  });
});

describe('events that can’t be written', () => {
  // The second is in the way before an event is even made: the letters have the rows.
  test.each([
    [
      'events',
      `alter table audit.events add constraint broken check (event_type not like 'flag_plan.%') not valid`,
      'alter table audit.events drop constraint broken',
    ],
    [
      'rows',
      'alter table audit.incarnations rename to incarnations_old',
      'alter table audit.incarnations_old rename to incarnations',
    ],
  ])('are dead letters, replayed from their %s', async (holds, breakIt, mendIt) => {
    await within(async (client, clone) => {
      await client.query(breakIt);
      await runPlanLifecycle(client);
      await client.query(mendIt);
      expect(
        await value(
          client,
          `select bool_and((content ->> 'rows' is null and content ->> 'oldRows' is null) = ($1 = 'events')) from audit.dead_letters`,
          [holds],
        ),
      ).toBe(true);
      expect(await briefRowProblems(client)).toEqual([]);
      expect(await reconcileAs(clone, 'full')).toMatchObject({
        ...{ fromRows: 0, refused: 0, unexplained: 0 },
      });
      const events = await planEvents(client);
      expect(events.map(({ event_type }) => event_type.slice(10))).toEqual([
        ...['created', 'updated', 'updated', 'paused', 'resumed', 'paused', 'updated', 'updated'],
        ...['completed', 'created', 'cancelled', 'created', 'deleted'],
      ]);
      expect(events.slice(0, 2)).toMatchObject([
        {
          ...{ reconciled: true, actor_kind: 'admin', admin_user_id: 'alice' },
          metadata: { title: 'Launch', reason: 'launch', adminUserId: 'alice' },
        },
        { metadata: { reason: 'Fair', after: { title: 'Start' } } },
      ]);
      expect(await briefRowProblems(client)).toEqual([]);
      expect(await problemsOf(client)).toEqual([]);
    });
  });
});

describe('a restore that is accepted', () => {
  const accept = (client: pg.ClientBase, overdue: string, asCopy: boolean) =>
    value<{ skipped: number }>(
      client,
      `select app_private.accept_restore('a disk was lost', $1, $2)`,
      [overdue, asCopy],
    );

  test('cancels the plans whose points it skips, and gives waiting events their new ids', async () => {
    await within(async (client) => {
      const due = await commitPlan(client, 'Due');
      await asAdmin(client, `select id from app_public.cancel_plan($1)`, [
        await commitPlan(client, 'Ended'),
      ]);
      const later = await commitPlan(client, 'Later');
      await pastTriggers(
        client,
        `update app_public.feature_flag_schedules set scheduled_at = now() - interval '1 minute' where plan_id = '${due}'`,
      );
      const before = (await planEvents(client)).map(({ id }) => id);
      expect(await accept(client, 'skip', false)).toMatchObject({ skipped: 2 });
      const status = `select status || ' ' || coalesce(status_reason, '') from app_public.plans where id = $1`;
      expect(await value(client, status, [due])).toBe('cancelled a disk was lost');
      expect(await value(client, status, [later])).toBe('active ');
      const after = await planEvents(client);
      expect(after.filter(({ id }) => before.includes(id))).toEqual([]);
      for (const { id, metadata, revision } of after)
        expect(id).toBe(
          await value(
            client,
            `select app_private.event_id(app_private.incarnation(), id, created_at, $2) from app_public.plans where id = $1`,
            [metadata.planId, revision],
          ),
        );
    });
  });

  test('cancels all plans of a copy', async () => {
    await within(async (client) => {
      await commitPlan(client, 'One');
      await commitPlan(client, 'Two');
      await accept(client, 'skip', true);
      expect(
        await value(client, `select array_agg(distinct status::text) from app_public.plans`),
      ).toEqual(['cancelled']);
      expect(await briefRowProblems(client)).toEqual([]);
    });
  });
});
