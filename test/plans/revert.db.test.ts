import type pg from 'pg';
import { describe, expect, test } from 'vitest';
import { actAsOwner, asWorker, value, withActors } from '../support/actors.ts';
import { useDatabase } from '../support/database.ts';
import { insertFlag, insertSchedule, one } from '../support/factory.ts';
import { retain } from '../support/old_trail.ts';
import { insertPlan } from '../support/plan_points.ts';
import { asAdmin, rowsOf, type Plan } from '../support/plans.ts';
import { writeTrail } from '../support/retention.ts';
import { become, sqlStateOf } from '../support/roles.ts';

const database = useDatabase();

type Flag = Awaited<ReturnType<typeof insertFlag>>;

const rolloutOf = (rollout_percentage: number) => ({ rollout_percentage });
const now = (client: pg.ClientBase) => value<string>(client, 'select clock_timestamp()::text');

/** Calls a function of app_public that reverts, by the connection's role, with arguments by name. */
async function revert(client: pg.ClientBase, what: string, given: object): Promise<Plan> {
  const names = Object.keys(given);
  const { rows } = await client.query<Plan>(
    `select * from app_public.revert_${what}(${names.map((name, n) => `"${name}" => $${n + 1}`).join()})`,
    Object.values(given),
  );
  return one(rows);
}

const revertAsAdmin = (client: pg.ClientBase, what: string, given: object) =>
  asAdmin(client, () => revert(client, what, given));

/** Applies what is due, as the worker. */
const apply = (client: pg.ClientBase) =>
  asWorker(client, () => client.query('select from app_private.apply_due()'));

/** Flags as they are: `on 50`. */
async function states(client: pg.ClientBase, ...flags: Flag[]): Promise<string[]> {
  const { rows } = await client.query<{ text: string }>(
    `select concat(case when f.enabled then 'on' else 'off' end, ' ', f.rollout_percentage) as text
     from unnest($1::uuid[]) with ordinality as i (id, place) join app_public.feature_flags f on f.id = i.id order by i.place`,
    [flags.map(({ id }) => id)],
  );
  return rows.map(({ text }) => text);
}

/** A release of two flags that is applied. */
async function makeRelease(client: pg.ClientBase) {
  const [first, second] = [
    await insertFlag(client, { rollout_percentage: 10 }),
    await insertFlag(client, { environment: 'staging' }),
  ];
  const plan = await insertPlan(client, '-1 second', [
    { flag: first, updates: { enabled: true, ...rolloutOf(50) } },
    { flag: second, updates: { enabled: true, ...rolloutOf(100) } },
  ]);
  await apply(client);
  expect(await states(client, first, second)).toEqual(['on 50', 'on 100']);
  return { first, second, plan };
}

/** What a plan's changes say, by flag: what they set and what they expect. */
const changesOf = async (client: pg.ClientBase, id: string) =>
  (await rowsOf(client, id)).map(({ updates, expects, on_conflict }) => ({
    ...{ updates, expects, on_conflict },
  }));

describe('of a plan', () => {
  test('a revert sets what was changed to what it was before, at once, guarded by what it is now', async () => {
    await withActors(database, async (client) => {
      const { first, second, plan } = await makeRelease(client);
      const reverted = await revertAsAdmin(client, 'plan', { id: plan.id, reason: 'too slow' });
      expect(reverted).toMatchObject({
        ...{ title: 'Revert of A release', status: 'completed', reason: 'too slow' },
        ...{ reverts: { planId: plan.id }, created_by: 'alice' },
      });
      expect(await states(client, first, second)).toEqual(['off 10', 'off 100']);
      expect(await changesOf(client, reverted.id)).toEqual([
        {
          updates: { enabled: false, rollout_percentage: 10 },
          expects: { enabled: true, rollout_percentage: 50 },
          on_conflict: 'keep',
        },
        // It was at 100 % before.
        { updates: { enabled: false }, expects: { enabled: true }, on_conflict: 'keep' },
      ]);
      // And a revert of the revert.
      const again = await revertAsAdmin(client, 'plan', { id: reverted.id });
      expect(again).toMatchObject({ title: 'Revert of Revert of A release', status: 'completed' });
      expect(await states(client, first, second)).toEqual(['on 50', 'on 100']);
    });
  });

  test('a field that was changed since is kept and named; or it is overwritten, or all waits, as asked', async () => {
    await withActors(database, async (client) => {
      const { first, second, plan } = await makeRelease(client);
      const since = (percentage: number) =>
        client.query('update app_public.feature_flags set rollout_percentage = $2 where id = $1', [
          first.id,
          percentage,
        ]);
      await since(70);
      const given = { id: plan.id, on_conflict: 'suspend' };
      const suspended = await revertAsAdmin(client, 'plan', given);
      expect(suspended).toMatchObject({ status: 'active' });
      expect(await states(client, first, second)).toEqual(['on 70', 'on 100']);
      expect(
        await value(
          client,
          `select jsonb_agg(suspended_details) from app_public.feature_flag_schedules where plan_id = $1`,
          [suspended.id],
        ),
      ).toContainEqual({ expected: rolloutOf(50), found: rolloutOf(70) });
      await asAdmin(client, () =>
        client.query('select app_public.cancel_plan($1)', [suspended.id]),
      );

      const kept = await revertAsAdmin(client, 'plan', { id: plan.id });
      expect(await states(client, first, second)).toEqual(['off 70', 'off 100']);
      expect(
        await value(
          client,
          `select array_agg(kept) from app_public.feature_flag_schedules where plan_id = $1 and kept is not null`,
          [kept.id],
        ),
      ).toEqual([['rollout_percentage']]);
      await revertAsAdmin(client, 'plan', { id: plan.id, on_conflict: 'overwrite' });
      expect(await states(client, first, second)).toEqual(['off 10', 'off 100']);
      const nothing = () => revertAsAdmin(client, 'plan', given);
      await expect(nothing()).rejects.toMatchObject({ code: 'ZF025' });
    });
  });

  test('a field that it didn’t change, because a later schedule had set it or a guard kept it, isn’t taken back', async () => {
    await withActors(database, async (client) => {
      const [late, guarded] = [await insertFlag(client), await insertFlag(client)];
      await insertSchedule(client, late.id, { dueIn: '-1 second', updates: rolloutOf(20) });
      await apply(client);
      const plan = await insertPlan(client, '-1 minute', [
        { flag: late, updates: { enabled: true, ...rolloutOf(50) } },
        {
          flag: guarded,
          updates: { enabled: true, ...rolloutOf(50) },
          expects: rolloutOf(1),
          on_conflict: 'keep',
        },
      ]);
      await apply(client);
      expect(await states(client, late, guarded)).toEqual(['on 20', 'on 100']);
      const { id } = await revertAsAdmin(client, 'plan', { id: plan.id, on_conflict: 'overwrite' });
      const change = { updates: { enabled: false }, expects: { enabled: true } };
      expect(await changesOf(client, id)).toEqual(
        Array(2).fill({ ...change, on_conflict: 'overwrite' }),
      );
      expect(await states(client, late, guarded)).toEqual(['off 20', 'off 100']);
    });
  });

  test('with a time it is a plan that waits, and flags that were deleted are left out', async () => {
    await withActors(database, async (client) => {
      const { first, second, plan } = await makeRelease(client);
      await client.query('delete from app_public.feature_flags where id = $1', [second.id]);
      const at = await value(client, `select (now() + interval '1 hour')::text`);
      const reverted = await revertAsAdmin(client, 'plan', { id: plan.id, at });
      expect(reverted).toMatchObject({ status: 'active', flag_ids: [first.id] });
      expect(await states(client, first)).toEqual(['on 50']);
    });
  });

  test('what wasn’t applied, and what the token doesn’t reach, is refused', async () => {
    await withActors(database, async (client) => {
      const { first, plan } = await makeRelease(client);
      const waiting = await insertPlan(client, '1 hour', [
        { flag: first, updates: { enabled: false } },
      ]);
      const refused = (what: string, given: object) =>
        sqlStateOf(client, () => revert(client, what, given));
      const [row] = plan.schedules;
      await become(client, 'admin', { userId: 'ann' });
      expect(await refused('plan', { id: waiting.id })).toBe('ZF019');
      expect(await refused('schedule', { id: waiting.schedules[0] })).toBe('ZF019');
      expect(await refused('plan', { id: plan.id, at: '2020-01-01' })).toBe('ZF005');
      expect(await refused('plan', { id: plan.id, on_conflict: 'perhaps' })).toBe('ZF028');
      expect(await refused('plan', { id: first.id })).toBe('ZF018');
      await become(client, 'admin', { userId: 'ann', environments: ['staging'] });
      expect(await refused('plan', { id: plan.id })).toBe('ZF018');
      expect(await refused('schedule', { id: row })).toBe('ZF002');
      expect(
        await refused('span', { environment: 'production', from: '2026-01-01', to: '2090-01-01' }),
      ).toBe('ZF014');
      for (const role of ['viewer', 'auditor'] as const) {
        await become(client, role);
        expect(await refused('plan', { id: plan.id })).toBe('42501');
      }
      await actAsOwner(client);
      expect(await value(client, 'select count(*)::int from app_public.plans')).toBe(2);
    });
  });
});

describe('of a schedule', () => {
  test('a schedule of its own is reverted by the trail, one of a plan by itself', async () => {
    await withActors(database, async (client) => {
      const flag = await insertFlag(client, { rollout_percentage: 10 });
      const schedule = await insertSchedule(client, flag.id, {
        dueIn: '-1 second',
        updates: { enabled: true, ...rolloutOf(10) },
      });
      await apply(client);
      const reverted = await revertAsAdmin(client, 'schedule', { id: schedule.id });
      expect(reverted).toMatchObject({ reverts: { scheduleId: schedule.id }, status: 'completed' });
      expect(reverted.title).toMatch(`Revert of ${flag.flag_key} of production, as changed at 20`);
      expect(await changesOf(client, reverted.id)).toMatchObject([{ updates: { enabled: false } }]);
      expect(await states(client, flag)).toEqual(['off 10']);

      const { first, second, plan } = await makeRelease(client);
      await revertAsAdmin(client, 'schedule', { id: plan.schedules[0] });
      expect(await states(client, first, second)).toEqual(['off 10', 'on 100']);
    });
  });
});

describe('of a span of time', () => {
  const span = { environment: 'production' };

  test('everything goes back to what it was before its first change, but flags that were made stay', async () => {
    await withActors(database, async (client) => {
      const [one, two, three] = [
        await insertFlag(client, { rollout_percentage: 10 }),
        await insertFlag(client, { rollout_percentage: 20 }),
        await insertFlag(client, { rollout_percentage: 30 }),
      ];
      const change = (set: string, ...flags: Flag[]) =>
        client.query(`update app_public.feature_flags set ${set} where id = any ($1)`, [
          flags.map(({ id }) => id),
        ]);
      const from = await now(client);
      await change('enabled = true', one, two);
      await change('rollout_percentage = 99', one);
      const made = await insertFlag(client);
      await change('enabled = true', made);
      const to = await now(client);
      await change('rollout_percentage = 98', one);
      await change('enabled = true', three);
      const given = { ...span, from, to };
      await revertAsAdmin(client, 'span', { ...given, flag_keys: [two.flag_key] });
      expect(await states(client, one, two, three, made)).toEqual([
        'on 98',
        'off 20',
        'on 30',
        'on 100',
      ]);
      const reverted = await revertAsAdmin(client, 'span', given);
      expect(reverted).toMatchObject({
        reverts: { environment: 'production' },
        status: 'completed',
      });
      // The first was changed once more since.
      expect(await states(client, one, two, three, made)).toEqual([
        'off 98',
        'off 20',
        'on 30',
        'off 100',
      ]);
    });
  });

  test('what was purged, and what isn’t a span, is refused', async () => {
    await withActors(database, async (client) => {
      await writeTrail(client);
      await retain(client, '10 months');
      const given = { ...span, from: '2020-01-01T00:00:00Z', to: await now(client) };
      const refused = (wrong: object) =>
        sqlStateOf(client, () => revertAsAdmin(client, 'span', { ...given, ...wrong }));
      expect(await refused({})).toBe('ZF026');
      expect(await refused({ from: given.to })).toBe('22008');
      expect(
        await refused({ from: await now(client), to: '2090-01-01', flag_keys: ['no-such'] }),
      ).toBe('ZF001');
      expect(await refused({ from: await now(client), to: '2090-01-01' })).toBe('ZF025');
    });
  });
});
