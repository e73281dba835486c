import type pg from 'pg';
import { describe, expect, test } from 'vitest';
import { value, withActors } from '../support/actors.ts';
import { useDatabase } from '../support/database.ts';
import { insertFlag, insertSchedule } from '../support/factory.ts';
import {
  asAdmin,
  callPlan,
  changeOf,
  createPlan,
  endPoint,
  failPoint,
  makePlan,
  planOf,
  rowsOf,
  statusesOf,
  stepsOf,
  type Plan,
} from '../support/plans.ts';

const database = useDatabase();

test('a plan stands as schedules that are due at one instant', async () => {
  await withActors(database, async (client) => {
    const flag = await insertFlag(client);
    const other = await insertFlag(client, { environment: 'staging' });
    const plan = await asAdmin(client, () =>
      createPlan(
        client,
        [
          changeOf(other, { updates: { rollout_percentage: 50 } }),
          changeOf(flag, { expects: { rollout_percentage: 100 }, on_conflict: 'suspend' }),
        ],
        { title: ' Black Friday ', reason: ' Sales ' },
      ),
    );
    expect(plan).toMatchObject({
      ...{ title: 'Black Friday', reason: 'Sales', status: 'active', created_by: 'alice' },
      ...{ occurrence_no: 1, step_no: 1, revision: '1', ended_at: null },
      flag_ids: [flag.id, other.id].toSorted(),
      environments: ['production', 'staging'],
    });
    expect(
      await value(
        client,
        `select app_private.iso(next_at) = content ->> 'startsAt' from app_public.plans where id = $1`,
        [plan.id],
      ),
    ).toBe(true);
    const rows = await rowsOf(client, plan.id);
    expect(rows).toMatchObject([
      {
        ...{ flag_id: flag.id, status: 'pending', updates: { enabled: true }, reason: 'Sales' },
        ...{ expects: { rollout_percentage: 100 }, on_conflict: 'suspend' },
      },
      {
        ...{ flag_id: other.id, status: 'pending', updates: { rollout_percentage: 50 } },
        ...{ expects: null, on_conflict: 'overwrite' },
      },
    ]);
    for (const row of rows) {
      expect(row.scheduled_at).toEqual(plan.next_at);
      expect(row.id).toBe(
        await value(
          client,
          'select app_private.point_id($1, $2, 1, next_at) from app_public.plans where id = $1',
          [plan.id, row.flag_id],
        ),
      );
    }
  });
});

test('without starts_at a plan is due now', async () => {
  await withActors(database, async (client) => {
    const flag = await insertFlag(client);
    const plan = await asAdmin(client, () => createPlan(client, [changeOf(flag)], { dueIn: null }));
    expect(plan.content.startsAt).toBeNull();
    expect(
      await value(
        client,
        `select next_at between created_at and clock_timestamp() from app_public.plans where id = $1`,
        [plan.id],
      ),
    ).toBe(true);
    expect(await statusesOf(client, plan.id)).toEqual(['pending']);
  });
});

describe('an edit', () => {
  test('makes the schedules of the open point again', async () => {
    await withActors(database, async (client) => {
      const { production, staging, plan } = await makePlan(client);
      const third = await insertFlag(client);
      const edited = await callPlan(client, `edit_plan($1, 'Other', $2, $3, 'Because')`, [
        plan.id,
        stepsOf(changeOf(third), changeOf(staging, { updates: { enabled: false } })),
        '2030-01-01T00:00:00Z',
      ]);
      expect(edited).toMatchObject({
        ...{ title: 'Other', reason: 'Because', status: 'active', revision: '2' },
        flag_ids: [staging.id, third.id].toSorted(),
        next_at: new Date('2030-01-01T00:00:00Z'),
      });
      const rows = await rowsOf(client, plan.id);
      expect(rows.map((row) => [row.flag_id, row.updates, row.scheduled_at.toISOString()])).toEqual(
        [
          [third.id, { enabled: true }, '2030-01-01T00:00:00.000Z'],
          [staging.id, { enabled: false }, '2030-01-01T00:00:00.000Z'],
        ],
      );
      expect(rows.map(({ flag_id }) => flag_id)).not.toContain(production.id);
    });
  });

  test('leaves what it doesn’t name, and does nothing where it changes nothing', async () => {
    await withActors(database, async (client) => {
      const { plan } = await makePlan(client);
      const rows = await rowsOf(client, plan.id);
      expect(await callPlan(client, 'edit_plan($1)', [plan.id])).toEqual(plan);
      expect(await rowsOf(client, plan.id)).toEqual(rows);
      const edited = await callPlan(client, `edit_plan($1, title => 'Other')`, [plan.id]);
      expect(edited).toMatchObject({
        ...{ title: 'Other', reason: plan.reason, content: plan.content, next_at: plan.next_at },
      });
      expect((await rowsOf(client, plan.id)).map(({ id }) => id)).toEqual(rows.map(({ id }) => id));
    });
  });

  test('of a plan that failed after its time makes it due now', async () => {
    await withActors(database, async (client) => {
      const { plan } = await makePlan(client);
      await failPoint(client, plan.id);
      const edited = await callPlan(client, `edit_plan($1, title => 'Again')`, [plan.id]);
      expect(edited).toMatchObject({ status: 'active', status_reason: null });
      expect(await statusesOf(client, plan.id)).toEqual(['pending', 'pending']);
    });
  });
});

describe('a cancellation', () => {
  test('cancels what waits, and leaves what failed', async () => {
    await withActors(database, async (client) => {
      const { plan } = await makePlan(client);
      const [first] = await rowsOf(client, plan.id);
      await client.query(
        `update app_public.feature_flag_schedules set status = 'failed' where id = $1`,
        [first?.id],
      );
      expect(await callPlan(client, `cancel_plan($1, ' not now ')`, [plan.id])).toMatchObject({
        ...{ status: 'cancelled', status_reason: 'not now', next_at: null, step_no: null },
        ended_at: expect.any(Date) as Date,
      });
      const rows = await rowsOf(client, plan.id);
      expect(rows.map(({ status, cancel_reason }) => [status, cancel_reason])).toEqual([
        ['failed', null],
        ['cancelled', 'not now'],
      ]);
    });
  });
});

/** Suspends the open point of a plan, as apply_due() does in a stopped environment. */
const suspend = (client: pg.ClientBase, id: string) =>
  client.query(
    `update app_public.feature_flag_schedules set status = 'suspended', suspended_for = 'stop' where plan_id = $1`,
    [id],
  );

test('a plan whose point is suspended can be cancelled, and an edit makes it pending', async () => {
  await withActors(database, async (client) => {
    const { plan } = await makePlan(client);
    await suspend(client, plan.id);
    expect(await callPlan(client, 'retry_plan($1)', [plan.id])).toBe('ZF019');
    // What changes nothing leaves it suspended.
    await callPlan(client, 'edit_plan($1)', [plan.id]);
    expect(await statusesOf(client, plan.id)).toEqual(['suspended', 'suspended']);
    await callPlan(client, `edit_plan($1, 'Other')`, [plan.id]);
    expect(await statusesOf(client, plan.id)).toEqual(['pending', 'pending']);
    await suspend(client, plan.id);
    expect(await callPlan(client, 'cancel_plan($1)', [plan.id])).toMatchObject({
      status: 'cancelled',
    });
    expect(await statusesOf(client, plan.id)).toEqual(['cancelled', 'cancelled']);
  });
});

test('a deleted flag fails also what is suspended', async () => {
  await withActors(database, async (client) => {
    const { production, plan } = await makePlan(client);
    await suspend(client, plan.id);
    await client.query('delete from app_public.feature_flags where id = $1', [production.id]);
    expect(await statusesOf(client, plan.id)).toEqual(['failed']);
    expect((await planOf(client, plan.id)).status).toBe('paused');
  });
});

describe('a point that failed for good', () => {
  test('pauses its plan, and a retry makes it due now', async () => {
    await withActors(database, async (client) => {
      const { plan } = await makePlan(client);
      await failPoint(client, plan.id);
      expect(await planOf(client, plan.id)).toMatchObject({
        ...{ status: 'paused', status_reason: 'the flag is broken', next_at: plan.next_at },
      });
      const retried = await callPlan(client, `retry_plan($1, 'Mended')`, [plan.id]);
      expect(retried).toMatchObject({ status: 'active', status_reason: null, reason: 'Mended' });
      const rows = await rowsOf(client, plan.id);
      expect(rows).toMatchObject([
        { status: 'pending', attempts: 0, error_message: null, reason: 'Mended' },
        { status: 'pending', attempts: 0, error_message: null, reason: 'Mended' },
      ]);
      for (const { scheduled_at } of rows) expect(scheduled_at).toEqual((retried as Plan).next_at);
      expect((retried as Plan).next_at?.getTime()).toBeLessThan(plan.next_at?.getTime() ?? 0);
    });
  });
});

describe('a deleted flag', () => {
  test('pauses the plan that changes it, until the plan is edited without it', async () => {
    await withActors(database, async (client) => {
      const { production, staging, plan } = await makePlan(client);
      const apart = await insertSchedule(client, staging.id);
      await client.query('delete from app_public.feature_flags where id = $1', [production.id]);
      const problem = `The flag ${production.flag_key} of production was deleted.`;
      expect(await planOf(client, plan.id)).toMatchObject({
        ...{ status: 'paused', status_reason: problem },
      });
      expect(await rowsOf(client, plan.id)).toMatchObject([
        {
          ...{ flag_id: staging.id, status: 'failed' },
          // An admin or a viewer of staging reads it.
          error_message: 'A flag of the plan in another environment was deleted.',
        },
      ]);
      expect(
        await value(client, 'select status from app_public.feature_flag_schedules where id = $1', [
          apart.id,
        ]),
      ).toBe('pending');
      expect(await callPlan(client, 'retry_plan($1)', [plan.id])).toBe('ZF019');
      expect(await callPlan(client, `edit_plan($1, title => 'Other')`, [plan.id])).toBe('ZF001');
      expect(
        await callPlan(client, 'edit_plan($1, steps => $2)', [plan.id, stepsOf(changeOf(staging))]),
      ).toMatchObject({ status: 'active', flag_ids: [staging.id] });
      expect(await statusesOf(client, plan.id)).toEqual(['pending']);
    });
  });

  test('leaves a plan that ended as it is', async () => {
    await withActors(database, async (client) => {
      const { production, plan } = await makePlan(client);
      await callPlan(client, 'cancel_plan($1)', [plan.id]);
      const before = await planOf(client, plan.id);
      await client.query('delete from app_public.feature_flags where id = $1', [production.id]);
      expect(await planOf(client, plan.id)).toEqual(before);
    });
  });
});

test.for<[string, Partial<Plan>]>([
  ['applied', { status: 'completed', applied_count: 1, skipped_count: 0 }],
  ['skipped', { status: 'completed', applied_count: 0, skipped_count: 1 }],
  ['failed', { status: 'paused', applied_count: 0, skipped_count: 0, status_reason: 'it broke' }],
])('a point that was %s ends', async ([outcome, expected]) => {
  await withActors(database, async (client) => {
    const { plan } = await makePlan(client);
    await endPoint(client, plan.id, outcome);
    expect(await planOf(client, plan.id)).toMatchObject(expected);
  });
});
