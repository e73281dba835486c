import type pg from 'pg';
import { describe, expect, test } from 'vitest';
import { actAsOwner, withActors } from '../support/actors.ts';
import { useDatabase } from '../support/database.ts';
import { insertSchedule } from '../support/factory.ts';
import {
  asAdmin,
  callPlan,
  changeOf,
  endPoint,
  failPoint,
  makePlan,
  planOf,
  rowsOf,
  statusesOf,
  stepsOf,
} from '../support/plans.ts';
import { sqlStateOf } from '../support/roles.ts';

const database = useDatabase();

/** How a plan comes to be at a status. */
const AT: Record<string, (client: pg.ClientBase, id: string) => Promise<unknown>> = {
  active: () => Promise.resolve(),
  paused: failPoint,
  completed: (client, id) => endPoint(client, id, 'applied'),
  cancelled: (client, id) => callPlan(client, 'cancel_plan($1)', [id]),
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
    expect(await callPlan(client, sql, [plan.id])).toBe(expected);
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
        await callPlan(client, `edit_plan($1, 'Other')`, [plan.id]);
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
    expect(await callPlan(client, create, [stepsOf(changeOf(production))])).toBe('ZF013');
    // Its own schedules make room for those that come in their place.
    expect(await callPlan(client, `edit_plan($1, 'Other')`, [plan.id])).toMatchObject({
      title: 'Other',
    });
    await failPoint(client, plan.id);
    await insertSchedule(client, production.id);
    expect(await callPlan(client, 'retry_plan($1)', [plan.id])).toBe('ZF013');
    expect(await callPlan(client, `edit_plan($1, 'Third')`, [plan.id])).toBe('ZF013');
    await actAsOwner(client);
    expect(await statusesOf(client, plan.id)).toEqual(['failed', 'failed']);
  });
});
