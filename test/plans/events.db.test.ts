import type pg from 'pg';
import { describe, expect, test } from 'vitest';
import { value, withActors } from '../support/actors.ts';
import { cloneDatabase, useDatabase, withClient } from '../support/database.ts';
import { insertFlag } from '../support/factory.ts';
import { asAdmin, changeOf, createPlan, failPoint, makePlan, stepsOf } from '../support/plans.ts';
import { briefRowProblems } from '../support/row_problems.ts';
import { deadLetters, queuedEvents, type TrailEvent } from '../support/trail.ts';

const database = useDatabase();

const planEvents = async (client: pg.ClientBase): Promise<TrailEvent[]> =>
  (await queuedEvents(client)).filter(({ event_type }) => event_type.startsWith('flag_plan.'));

const brief = ({ event_type, level, environment, revision, actor_kind }: TrailEvent) => [
  ...[event_type, level, environment, revision, actor_kind],
];

const act = (client: pg.ClientBase, sql: string, parameters: unknown[]) =>
  asAdmin(client, () => client.query(`select app_public.${sql}`, parameters), {
    ...{ userId: 'alice', email: 'alice@example.com', requestId: 'request-1' },
  });

test('each change of a plan has its event', async () => {
  await withActors(database, async (client) => {
    const { plan } = await makePlan(client);
    await act(client, `edit_plan($1, 'Other', reason => 'Because')`, [plan.id]);
    await failPoint(client, plan.id);
    await act(client, `retry_plan($1, 'Mended')`, [plan.id]);
    await act(client, `cancel_plan($1, 'Not now')`, [plan.id]);
    const events = await planEvents(client);
    expect(events.map(brief)).toEqual([
      ['flag_plan.created', 'info', null, '1', 'admin'],
      ['flag_plan.updated', 'info', null, '2', 'admin'],
      ['flag_plan.paused', 'info', null, '3', 'database'],
      ['flag_plan.resumed', 'info', null, '4', 'admin'],
      ['flag_plan.cancelled', 'info', null, '5', 'admin'],
    ]);
    const admin = { adminUserId: 'alice', adminEmail: 'alice@example.com' };
    const same = { planId: plan.id, environments: ['production', 'staging'] };
    const state = {
      content: plan.content,
      contentHash: expect.stringMatching(/^[0-9a-f]{64}$/) as string,
    };
    expect(events.map(({ metadata }) => metadata)).toEqual([
      { ...same, ...admin, ...state, title: 'Release', firstAt: plan.content.startsAt },
      {
        ...{ ...same, ...admin, reason: 'Because' },
        before: {
          ...state,
          title: 'Release',
          status: 'active',
          nextAt: plan.content.startsAt,
          reason: null,
        },
        after: {
          ...state,
          title: 'Other',
          status: 'active',
          nextAt: plan.content.startsAt,
          reason: 'Because',
        },
      },
      { ...same, title: 'Other', occurrenceNo: 1, stepNo: 1, reason: 'the flag is broken' },
      {
        ...{ ...same, ...admin, title: 'Other', occurrenceNo: 1, stepNo: 1, reason: 'Mended' },
        nextAt: expect.any(String) as string,
      },
      { ...same, ...admin, title: 'Other', reason: 'Not now' },
    ]);
    expect(events[1]?.request_id).toBe('request-1');
  });
});

test('edits of one transaction have an event each', async () => {
  await withActors(database, async (client) => {
    const flag = await insertFlag(client);
    const plan = await asAdmin(client, () => createPlan(client, [changeOf(flag)]));
    for (const enabled of [false, true])
      await act(client, 'edit_plan($1, steps => $2)', [
        ...[plan.id, stepsOf(changeOf(flag, { updates: { enabled, rollout_percentage: 50 } }))],
      ]);
    const made = (await queuedEvents(client)).filter(
      ({ event_type }) => event_type === 'flag_schedule.created',
    );
    expect(made.map(({ metadata }) => metadata.updates)).toEqual([
      { enabled: true },
      { enabled: false, rollout_percentage: 50 },
      { enabled: true, rollout_percentage: 50 },
    ]);
    expect(new Set(made.map((event) => event.id)).size).toBe(3);
    expect(await briefRowProblems(client)).toEqual([]);
  });
});

test('a plan of one environment has events of that environment', async () => {
  await withActors(database, async (client) => {
    const flag = await insertFlag(client, { environment: 'staging' });
    const other = await insertFlag(client);
    const plan = await asAdmin(client, () => createPlan(client, [changeOf(flag)]));
    await client.query(`select app_private.end_point($1, 'skipped')`, [plan.id]);
    await client.query('delete from app_public.feature_flag_schedules');
    await client.query('delete from app_public.plans');
    const [created, completed, deleted] = await planEvents(client);
    expect([created, completed, deleted].map((event) => event?.environment)).toEqual([
      ...['staging', 'staging', 'staging'],
    ]);
    expect(created?.metadata).toMatchObject({ environments: ['staging'] });
    expect(completed?.metadata).toEqual({
      ...{ planId: plan.id, title: 'Release', applied: 0, skipped: 1 },
    });
    expect(deleted?.metadata).toMatchObject({
      before: { title: 'Release', status: 'completed', nextAt: null },
    });
    const moved = await asAdmin(client, () => createPlan(client, [changeOf(flag)]));
    await act(client, 'edit_plan($1, steps => $2)', [
      moved.id,
      stepsOf(changeOf(flag), changeOf(other)),
    ]);
    expect((await planEvents(client)).at(-1)).toMatchObject({
      environment: null,
      metadata: { environments: ['production', 'staging'] },
    });
  });
});

test('a statement’s event ids are those of the rows’ revisions, and its text is whole', async () => {
  await withActors(database, async (client) => {
    const { plan } = await makePlan(client);
    const [created] = await planEvents(client);
    expect(created?.id).toBe(
      await value(
        client,
        `select app_private.event_id(app_private.incarnation(), id, created_at, 1) from app_public.plans where id = $1`,
        [plan.id],
      ),
    );
    expect(JSON.parse(created?.payload ?? '')).toMatchObject({
      ...{ eventType: 'flag_plan.created', environment: null, revision: 1 },
      metadata: { planId: plan.id },
    });
  });
});

test('events that can’t be made leave a letter, and the change stands', async () => {
  await withActors(database, async (client) => {
    const flag = await insertFlag(client);
    await client.query('drop function app_private.plan_state(app_public.plans) cascade');
    const plan = await asAdmin(client, () => createPlan(client, [changeOf(flag)]));
    const letters = await deadLetters(client);
    expect(letters.map(({ content }) => content)).toMatchObject([
      { table: 'plans', operation: 'INSERT', events: null, rows: [{ id: plan.id }], oldRows: null },
    ]);
  });
});

describe('the hint', () => {
  test('names the plans that changed, and those whose schedules did', async () => {
    const clone = await cloneDatabase(database.name);
    try {
      await withClient(clone.rootUrl, async (client) => {
        const hints: { plans: string[] | null; truncated: boolean }[] = [];
        client.on('notification', ({ payload = '' }) => hints.push(JSON.parse(payload) as never));
        await client.query('listen halyard_audit');
        await client.query('begin');
        const { plan } = await makePlan(client);
        await client.query('commit');
        await client.query('select');
        expect(hints.flatMap(({ plans }) => plans ?? [])).toContain(plan.id);
        expect(hints.every(({ truncated }) => !truncated)).toBe(true);
      });
    } finally {
      await clone.drop();
    }
  });

  test('stays within its bytes when it names as many of each as it can', async () => {
    await withActors(database, async (client) => {
      await client.query(
        `select app_private.notify_audit(ids, ids, ids)
         from (select array_agg(gen_random_uuid()) as ids from generate_series(1, 100)) as many`,
      );
    });
  });
});
