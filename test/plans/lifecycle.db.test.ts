import type pg from 'pg';
import { describe, expect, test } from 'vitest';
import { actAsOwner, value, withActors } from '../support/actors.ts';
import { useDatabase } from '../support/database.ts';
import { insertFlag, insertSchedule, one } from '../support/factory.ts';
import {
  asAdmin,
  changeOf,
  createPlan,
  failPoint,
  makePlan,
  planOf,
  rowsOf,
  statusesOf,
  stepsOf,
  type Plan,
} from '../support/plans.ts';
import { sqlStateOf } from '../support/roles.ts';

const database = useDatabase();

/** Calls a function of plans as alice: what it answers, or the SQLSTATE with which it refuses. */
async function call(
  client: pg.ClientBase,
  sql: string,
  parameters: unknown[],
): Promise<Plan | string> {
  let plan: Plan | undefined;
  const state = await asAdmin(client, () =>
    sqlStateOf(client, async () => {
      plan = one((await client.query<Plan>(`select * from app_public.${sql}`, parameters)).rows);
    }),
  );
  return plan ?? String(state);
}

const end = (client: pg.ClientBase, id: string, outcome: string) =>
  client.query(`select app_private.end_point($1, $2, 'it broke')`, [id, outcome]);

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
      const edited = await call(client, `edit_plan($1, 'Other', $2, $3, 'Because')`, [
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
      expect(await call(client, 'edit_plan($1)', [plan.id])).toEqual(plan);
      expect(await rowsOf(client, plan.id)).toEqual(rows);
      const edited = await call(client, `edit_plan($1, title => 'Other')`, [plan.id]);
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
      const edited = await call(client, `edit_plan($1, title => 'Again')`, [plan.id]);
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
      expect(await call(client, `cancel_plan($1, ' not now ')`, [plan.id])).toMatchObject({
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

describe('a point that failed for good', () => {
  test('pauses its plan, and a retry makes it due now', async () => {
    await withActors(database, async (client) => {
      const { plan } = await makePlan(client);
      await failPoint(client, plan.id);
      expect(await planOf(client, plan.id)).toMatchObject({
        ...{ status: 'paused', status_reason: 'the flag is broken', next_at: plan.next_at },
      });
      const retried = await call(client, `retry_plan($1, 'Mended')`, [plan.id]);
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
        { flag_id: staging.id, status: 'failed', error_message: problem },
      ]);
      expect(
        await value(client, 'select status from app_public.feature_flag_schedules where id = $1', [
          apart.id,
        ]),
      ).toBe('pending');
      expect(await call(client, 'retry_plan($1)', [plan.id])).toBe('ZF019');
      expect(await call(client, `edit_plan($1, title => 'Other')`, [plan.id])).toBe('ZF001');
      expect(
        await call(client, 'edit_plan($1, steps => $2)', [plan.id, stepsOf(changeOf(staging))]),
      ).toMatchObject({ status: 'active', flag_ids: [staging.id] });
      expect(await statusesOf(client, plan.id)).toEqual(['pending']);
    });
  });

  test('leaves a plan that ended as it is', async () => {
    await withActors(database, async (client) => {
      const { production, plan } = await makePlan(client);
      await call(client, 'cancel_plan($1)', [plan.id]);
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
    await end(client, plan.id, outcome);
    expect(await planOf(client, plan.id)).toMatchObject(expected);
  });
});

/** How a plan comes to be at a status. */
const AT: Record<string, (client: pg.ClientBase, id: string) => Promise<unknown>> = {
  active: () => Promise.resolve(),
  paused: failPoint,
  completed: (client, id) => end(client, id, 'applied'),
  cancelled: (client, id) => call(client, 'cancel_plan($1)', [id]),
};

test.for<[string, string, string]>([
  ['edit_plan($1)', 'completed', 'ZF019'],
  ['edit_plan($1)', 'cancelled', 'ZF019'],
  ['cancel_plan($1)', 'completed', 'ZF019'],
  ['cancel_plan($1)', 'cancelled', 'ZF019'],
  ['retry_plan($1)', 'active', 'ZF019'],
  ['retry_plan($1)', 'completed', 'ZF019'],
  ['retry_plan($1)', 'cancelled', 'ZF019'],
  [`edit_plan($1, title => ' ')`, 'active', 'ZF028'],
  [`edit_plan($1, starts_at => '2001-01-01')`, 'active', 'ZF005'],
  [`edit_plan($1, starts_at => 'infinity')`, 'active', 'ZF006'],
  [`edit_plan($1, steps => '[]')`, 'active', 'ZF028'],
  [`cancel_plan($1, repeat('x', 501))`, 'active', '23514'],
])('%s is refused of a plan that is %s', async ([sql, status, expected]) => {
  await withActors(database, async (client) => {
    const { plan } = await makePlan(client);
    await AT[status]?.(client, plan.id);
    const before = [await planOf(client, plan.id), await rowsOf(client, plan.id)];
    expect(await call(client, sql, [plan.id])).toBe(expected);
    expect([await planOf(client, plan.id), await rowsOf(client, plan.id)]).toEqual(before);
  });
});

const ALLOWED = [
  ...['active → paused', 'active → completed', 'active → cancelled'],
  ...['paused → active', 'paused → completed', 'paused → cancelled'],
];
const STATUSES = Object.keys(AT);

test.for(STATUSES.flatMap((from) => STATUSES.map((to) => [from, to] as const)))(
  'SQL takes a plan from %s to %s only where the state machine allows it',
  async ([from, to]) => {
    await withActors(database, async (client) => {
      const { plan } = await makePlan(client);
      await AT[from]?.(client, plan.id);
      const state = await sqlStateOf(client, () =>
        client.query('update app_public.plans set status = $1 where id = $2', [to, plan.id]),
      );
      expect(state).toBe(from === to || ALLOWED.includes(`${from} → ${to}`) ? null : 'ZF019');
    });
  },
);

test.for<[string, string]>([
  [`id = gen_random_uuid()`, 'ZF010'],
  [`created_at = '2001-01-01'`, 'ZF010'],
  [`created_by = 'eve'`, 'ZF010'],
  [`reverts = '{"planId": "x"}'`, 'ZF010'],
  [`content = '{}'`, 'ZF028'],
  [`content = jsonb_set(content, '{steps,0,changes,0,flagId}', '"x"')`, 'ZF001'],
  [`title = ' '`, 'ZF028'],
  [`status = 'completed', title = 'Other'`, 'ZF019'],
  [`status = 'done'`, '23514'],
])('SQL can’t set %s', async ([assignment, expected]) => {
  await withActors(database, async (client) => {
    const { plan } = await makePlan(client);
    expect(
      await sqlStateOf(client, () => client.query(`update app_public.plans set ${assignment}`)),
    ).toBe(expected);
    expect(await planOf(client, plan.id)).toEqual(plan);
  });
});

test('stamps are no one’s to set', async () => {
  await withActors(database, async (client) => {
    const { plan } = await makePlan(client);
    await client.query(
      `update app_public.plans
       set flag_ids = '{}', environments = '{}', applied_count = 7, ended_at = null, status_reason = 'none', revision = 9`,
    );
    expect(await planOf(client, plan.id)).toEqual(plan);
    expect(await sqlStateOf(client, () => client.query('truncate app_public.plans cascade'))).toBe(
      'ZF009',
    );
  });
});

describe('a change against a revision', () => {
  test.for(['edit_plan($1)', 'cancel_plan($1)', 'retry_plan($1)'])(
    '%s is refused with who changed the plan',
    async (sql) => {
      await withActors(database, async (client) => {
        const { plan } = await makePlan(client);
        await call(client, `edit_plan($1, 'Other')`, [plan.id]);
        const error = await asAdmin(client, async () => {
          await client.query(`savepoint probe`);
          await client.query(`set local halyard.expected_revision = '1'`);
          const found: unknown = await client
            .query(`select app_public.${sql}`, [plan.id])
            .catch((e: unknown) => e);
          await client.query('rollback to savepoint probe');
          return found;
        });
        expect(error).toMatchObject({
          code: 'ZF029',
          message: expect.stringMatching(
            /^alice@example\.com edited it at .* revision 1\.$/,
          ) as string,
          detail: expect.stringMatching(/"revision": 2/) as string,
        });
      });
    },
  );
});

test('pending_per_flag holds for plans', async () => {
  await withActors(database, async (client) => {
    const { plan, production } = await makePlan(client);
    await client.query(`select app_private.set_setting('pending_per_flag', '1')`);
    const create = `create_plan('More', $1, now() + interval '1 day')`;
    expect(await call(client, create, [stepsOf(changeOf(production))])).toBe('ZF013');
    // Its own schedules make room for those that come in their place.
    expect(await call(client, `edit_plan($1, 'Other')`, [plan.id])).toMatchObject({
      title: 'Other',
    });
    await failPoint(client, plan.id);
    await insertSchedule(client, production.id);
    expect(await call(client, 'retry_plan($1)', [plan.id])).toBe('ZF013');
    expect(await call(client, `edit_plan($1, 'Third')`, [plan.id])).toBe('ZF013');
    await actAsOwner(client);
    expect(await statusesOf(client, plan.id)).toEqual(['failed', 'failed']);
  });
});
