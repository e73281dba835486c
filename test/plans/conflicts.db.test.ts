import type pg from 'pg';
import { expect, test } from 'vitest';
import { actAs, actAsOwner, value, withActors } from '../support/actors.ts';
import { useDatabase } from '../support/database.ts';
import { insertFlag, insertSchedule } from '../support/factory.ts';
import { insertPlan } from '../support/plan_points.ts';
import { become } from '../support/roles.ts';

const database = useDatabase();

const rolloutOf = (percentage: number) => ({ rollout_percentage: percentage });
const RELEASE = { updates: rolloutOf(50), expects: rolloutOf(10), on_conflict: 'suspend' } as const;

const CONFLICTS = (of: 'plan' | 'schedule') =>
  `select concat_ws(' ', flag_key, environment, field, kind, coalesce(expected::text, '-'), found::text, schedule_id, plan_id) as text
   from app_public.${of}_conflicts($1)`;

async function conflicts(client: pg.ClientBase, of: 'plan' | 'schedule', id: string | undefined) {
  const { rows } = await client.query<{ text: string }>(CONFLICTS(of), [id]);
  return rows.map(({ text }) => text);
}

test('conflicts are what a change will find instead of what it expects, and what else comes at its instant', async () => {
  await withActors(database, async (client) => {
    const flag = await insertFlag(client, { rollout_percentage: 10 });
    const { id, schedules } = await insertPlan(client, '2 hours', [{ flag, ...RELEASE }]);
    expect(await conflicts(client, 'plan', id)).toEqual([]);
    const cause = await insertPlan(client, '1 hour', [{ flag, updates: rolloutOf(20) }]);
    const ids = `${String(cause.schedules[0])} ${cause.id}`;
    const expectation = `${flag.flag_key} production rollout_percentage expectation 10 20 ${ids}`;
    expect(await conflicts(client, 'plan', id)).toEqual([expectation]);
    expect(await conflicts(client, 'schedule', schedules[0])).toEqual([expectation]);
    expect(await conflicts(client, 'plan', cause.id)).toEqual([]);

    const twin = await insertPlan(client, '2 hours', [{ flag, updates: rolloutOf(20) }]);
    expect(await conflicts(client, 'plan', twin.id)).toEqual([
      `${flag.flag_key} production rollout_percentage same_instant - 50 ${String(schedules[0])} ${id}`,
    ]);
    expect(await conflicts(client, 'plan', id)).toHaveLength(2);
  });
});

test('conflicts name no plan that the token doesn’t reach, and nothing of one that it doesn’t reach', async () => {
  await withActors(database, async (client) => {
    const flag = await insertFlag(client, { rollout_percentage: 10 });
    const far = await insertFlag(client, { environment: 'staging' });
    const { id, schedules } = await insertPlan(client, '2 hours', [{ flag, ...RELEASE }]);
    const cause = await insertPlan(client, '1 hour', [
      { flag, updates: rolloutOf(20) },
      { flag: far, updates: rolloutOf(20), expects: rolloutOf(100) },
    ]);
    const before = await insertSchedule(client, far.id, {
      dueIn: '1 minute',
      updates: rolloutOf(1),
    });
    expect(before.id).not.toBe('');
    expect(await conflicts(client, 'plan', cause.id)).toHaveLength(1);
    for (const role of ['admin', 'auditor'] as const) {
      await become(client, role, { environments: ['production'] });
      expect(await conflicts(client, 'plan', id)).toEqual([
        `${flag.flag_key} production rollout_percentage expectation 10 20 ${String(cause.schedules[0])}`,
      ]);
      expect(await conflicts(client, 'plan', cause.id)).toEqual([]);
      expect(await conflicts(client, 'schedule', cause.schedules[1])).toEqual([]);
      expect(await conflicts(client, 'schedule', schedules[0])).toHaveLength(1);
      await become(client, role, { environments: [] });
      expect(await conflicts(client, 'schedule', schedules[0])).toEqual([]);
      await actAsOwner(client);
    }
    await actAs(client, 'halyard_viewer');
    const asViewer = value(client, 'select count(*) from app_public.plan_conflicts($1)', [id]);
    await expect(asViewer).rejects.toMatchObject({ code: '42501' });
  });
});
