import type pg from 'pg';
import { describe, expect, test } from 'vitest';
import { withActors } from '../support/actors.ts';
import { useDatabase } from '../support/database.ts';
import { insertFlag, insertSchedule } from '../support/factory.ts';
import { insertPlan } from '../support/plan_points.ts';

const database = useDatabase();

interface State {
  readonly enabled: boolean;
  readonly rollout_percentage: number;
  readonly certain: boolean;
  readonly sources: Readonly<Record<string, Record<string, unknown>>>;
}

type Flag = Awaited<ReturnType<typeof insertFlag>>;

/** A flag's state in a day, when all of these tests' changes have come. */
async function tomorrow(client: pg.ClientBase, flag: Flag): Promise<State | undefined> {
  const { rows } = await client.query<State>(
    `select enabled, rollout_percentage, certain, sources
     from app_public.flag_state_at($1, now() + interval '1 day') where flag_key = $2`,
    [flag.environment, flag.flag_key],
  );
  return rows[0];
}

/** A flag's rollout percentage in a day, with a question mark when it isn't certain. */
async function rollout(client: pg.ClientBase, flag: Flag): Promise<string> {
  const state = await tomorrow(client, flag);
  return `${String(state?.rollout_percentage)}${state?.certain === true ? '' : '?'}`;
}

/** What comes in an environment: key's updates, then the state, `!` for a conflict and `?` for what isn't certain. */
async function upcoming(client: pg.ClientBase, environment = 'production'): Promise<string[]> {
  const { rows } = await client.query<{ text: string }>(
    `select concat(
       u.updates, ' -> ', u.rollout_percentage, case when u.in_conflict then '!' end, case when not u.certain then '?' end) as text
     from app_public.upcoming_changes($1, now() - interval '1 hour', now() + interval '1 day') u`,
    [environment],
  );
  return rows.map(({ text }) => text);
}

const rolloutOf = (percentage: number) => ({ rollout_percentage: percentage });
const RELEASE = { updates: rolloutOf(50), expects: rolloutOf(10), on_conflict: 'suspend' } as const;

describe('guards', () => {
  test('a guard that will suspend its plan changes nothing, in any environment', async () => {
    await withActors(database, async (client) => {
      const guarded = await insertFlag(client, { rollout_percentage: 20 });
      const other = await insertFlag(client, { environment: 'staging' });
      const plan = await insertPlan(client, '1 hour', [
        { flag: guarded, ...RELEASE },
        { flag: other, updates: rolloutOf(50) },
      ]);
      expect(await rollout(client, guarded)).toBe('20');
      expect(await rollout(client, other)).toBe('100');
      expect(await upcoming(client)).toEqual(['{"rollout_percentage": 50} -> 20!']);
      expect(await upcoming(client, 'staging')).toEqual(['{"rollout_percentage": 50} -> 100!']);

      await client.query(
        'update app_public.feature_flags set rollout_percentage = 10 where id = $1',
        [guarded.id],
      );
      expect(await rollout(client, guarded)).toBe('50');
      expect(await upcoming(client, 'staging')).toEqual(['{"rollout_percentage": 50} -> 50']);
      expect((await tomorrow(client, other))?.sources).toEqual({
        rollout_percentage: {
          schedule_id: expect.any(String) as string,
          at: expect.any(String) as string,
          plan_id: plan.id,
          occurrence_no: 1,
          step_no: 1,
        },
      });
    });
  });

  test('keep leaves only the fields that differ, overwrite none', async () => {
    await withActors(database, async (client) => {
      const [kept, overwritten] = [await insertFlag(client), await insertFlag(client)];
      const change = {
        updates: { enabled: true, ...rolloutOf(50) },
        expects: { enabled: false, ...rolloutOf(10) },
      };
      await insertPlan(client, '1 hour', [
        { flag: kept, ...change, on_conflict: 'keep' },
        { flag: overwritten, ...change, on_conflict: 'overwrite' },
      ]);
      expect(await tomorrow(client, kept)).toMatchObject({
        enabled: true,
        rollout_percentage: 100,
      });
      expect(await tomorrow(client, overwritten)).toMatchObject({
        enabled: true,
        rollout_percentage: 50,
      });
      expect((await upcoming(client)).toSorted()).toEqual([
        '{"enabled": true, "rollout_percentage": 50} -> 100!',
        '{"enabled": true, "rollout_percentage": 50} -> 50!',
      ]);
    });
  });

  test('a guard meets what the changes before it leave, also those that a guard left out', async () => {
    await withActors(database, async (client) => {
      const flag = await insertFlag(client, { rollout_percentage: 10 });
      const other = await insertFlag(client, { environment: 'staging' });
      // Suspended, as the other flag is at 100 %: so the second finds 10 and not 30.
      await insertPlan(client, '1 hour', [
        { flag, updates: rolloutOf(30) },
        { flag: other, ...RELEASE },
      ]);
      await insertPlan(client, '2 hours', [{ flag, ...RELEASE }]);
      expect(await upcoming(client)).toEqual([
        '{"rollout_percentage": 30} -> 10!',
        '{"rollout_percentage": 50} -> 50',
      ]);
      // The release at 50 is what this one expects, and the third finds 60.
      await insertPlan(client, '3 hours', [
        { flag, updates: rolloutOf(60), expects: rolloutOf(50), on_conflict: 'suspend' },
      ]);
      await insertPlan(client, '4 hours', [
        {
          flag,
          updates: { enabled: true, ...rolloutOf(70) },
          expects: rolloutOf(50),
          on_conflict: 'keep',
        },
      ]);
      expect(await tomorrow(client, flag)).toMatchObject({
        ...{ enabled: true, rollout_percentage: 60, certain: true },
      });
      // A change before them all that makes the second one's guard fail, and so the third one's.
      await insertSchedule(client, flag.id, { dueIn: '30 minutes', updates: rolloutOf(5) });
      expect(await tomorrow(client, flag)).toMatchObject({ enabled: true, rollout_percentage: 5 });
    });
  });

  test('a guard asks only for its fields, and not for those that a later change has set already', async () => {
    await withActors(database, async (client) => {
      const flag = await insertFlag(client, { rollout_percentage: 10 });
      await insertSchedule(client, flag.id, { dueIn: '30 minutes', updates: { enabled: true } });
      await insertPlan(client, '1 hour', [{ flag, ...RELEASE }]);
      expect(await rollout(client, flag)).toBe('50');
      // It is overdue, and waits for another attempt until after a change that decides then.
      const late = await insertPlan(client, '-1 hour', [{ flag, ...RELEASE }]);
      await client.query(
        `update app_public.feature_flag_schedules set next_attempt_at = now() + interval '3 hours' where id = any ($1)`,
        [late.schedules],
      );
      expect(await upcoming(client)).toEqual([
        '{"enabled": true} -> 10?',
        '{"rollout_percentage": 50} -> 50?',
        '{"rollout_percentage": 50} -> 50?',
      ]);
    });
  });

  test('another change of the field at the same instant makes it uncertain, and all that hangs on it', async () => {
    await withActors(database, async (client) => {
      const [flag, beside] = [
        await insertFlag(client, { rollout_percentage: 10 }),
        await insertFlag(client, { rollout_percentage: 10 }),
      ];
      const plan = await insertPlan(client, '1 hour', [
        { flag, ...RELEASE },
        { flag: beside, updates: rolloutOf(60) },
      ]);
      await insertPlan(client, '2 hours', [
        {
          flag: beside,
          updates: { enabled: true },
          expects: rolloutOf(60),
          on_conflict: 'suspend',
        },
      ]);
      expect(await upcoming(client)).toHaveLength(3);
      expect((await upcoming(client)).join()).not.toMatch(/[!?]/);
      await client.query(
        `insert into app_public.feature_flag_schedules (flag_id, scheduled_at, updates)
         select $1, p.next_at, '{"rollout_percentage": 11}' from app_public.plans p where p.id = $2`,
        [flag.id, plan.id],
      );
      expect((await upcoming(client)).filter((text) => text.endsWith('?'))).toHaveLength(3);
      // Decided again by what comes later.
      await insertSchedule(client, flag.id, { dueIn: '3 hours', updates: rolloutOf(99) });
      expect(await rollout(client, flag)).toBe('99');
      expect(await rollout(client, beside)).toMatch(/[?]$/);
    });
  });
});

describe('a stop', () => {
  test('changes of a stopped environment count, and aren’t certain; those of another aren’t where their plan reaches into it', async () => {
    await withActors(database, async (client) => {
      const [flag, unchanged] = [await insertFlag(client), await insertFlag(client)];
      const [far, apart] = [
        await insertFlag(client, { environment: 'staging' }),
        await insertFlag(client, { environment: 'staging' }),
      ];
      await insertPlan(client, '1 hour', [
        { flag, updates: rolloutOf(50) },
        { flag: far, updates: rolloutOf(60) },
      ]);
      await insertSchedule(client, apart.id, { updates: rolloutOf(70) });
      const states = async () => {
        const flags = [flag, unchanged, far, apart];
        const texts: string[] = [];
        for (const each of flags) texts.push(await rollout(client, each));
        return texts;
      };
      expect(await states()).toEqual(['50', '100', '60', '70']);
      await client.query(
        `update app_public.environments set stopped_at = now(), stopped_by = 'ann', stop_reason = 'fire' where name = 'production'`,
      );
      expect(await states()).toEqual(['50?', '100', '60?', '70']);
      expect(await upcoming(client)).toEqual(['{"rollout_percentage": 50} -> 50?']);
      expect(await upcoming(client, 'staging')).toEqual([
        '{"rollout_percentage": 60} -> 60?',
        '{"rollout_percentage": 70} -> 70',
      ]);
    });
  });
});
