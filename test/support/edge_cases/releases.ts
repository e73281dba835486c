import { expect } from 'vitest';
import { value } from '../actors.ts';
import { changeOf, planOf, rowsOf, statusesOf, stepsOf } from '../plans.ts';
import { breakFlag, mendFlag } from '../trail.ts';
import { act, applyDue, COMPLETED, due, states, UNTOUCHED, type EdgeCase } from './world.ts';

/** Several flags at one instant. */
export const RELEASES: readonly EdgeCase[] = [
  [
    'D1',
    'of a release of three, one of which can’t be changed, none is; all are tried again together',
    async (world) => {
      const [first, second, third] = world.flags;
      await world.client.query(`select app_private.set_setting('retry_base', '1 ms')`);
      const plan = await due(
        world,
        [first, second, third].map((flag) => changeOf(flag)),
      );
      await breakFlag(world.client, second.flag_key);
      await applyDue(world);
      expect(await states(world)).toEqual(UNTOUCHED);
      expect(
        (await rowsOf(world.client, plan.id)).map(({ status, attempts }) => [status, attempts]),
      ).toEqual(Array.from({ length: 3 }, () => ['pending', 1]));
      await mendFlag(world.client);
      await applyDue(world);
      expect(await states(world)).toEqual(['on 10', 'on 10', 'on 10', 'off 10']);
      expect(await planOf(world.client, plan.id)).toMatchObject(COMPLETED);
    },
  ],
  [
    'D3',
    'a batch’s limit cuts no release',
    async (world) => {
      const plan = await due(
        world,
        [...world.flags, world.staging].map((flag) => changeOf(flag)),
      );
      await applyDue(world, 1);
      expect(new Set(await statusesOf(world.client, plan.id))).toEqual(new Set(['applied']));
      expect(await states(world)).toEqual(['on 10', 'on 10', 'on 10', 'on 10']);
    },
  ],
  [
    'D4',
    'a release of a flag that the token doesn’t reach is refused as if there were none',
    async (world) => {
      const [first] = world.flags;
      const steps = stepsOf(changeOf(first), changeOf(world.staging));
      const create = 'select app_public.create_plan($1, $2)';
      expect(await act(world, create, ['Both', steps], ['production'])).toMatch(/^ZF0(01|14)$/);
      expect(await value(world.client, 'select count(*)::int from app_public.plans')).toBe(0);
      expect(await act(world, create, ['Both', steps], ['production', 'staging'])).toBeNull();
    },
  ],
  [
    'D5',
    'a flag of a plan that is deleted pauses the plan; an edit without it goes on, a retry doesn’t',
    async (world) => {
      const [first, second] = world.flags;
      const plan = await due(world, [changeOf(first), changeOf(second)]);
      await world.client.query('delete from app_public.feature_flags where id = $1', [second.id]);
      expect(await planOf(world.client, plan.id)).toMatchObject({
        status: 'paused',
        status_reason: `The flag ${second.flag_key} of production was deleted.`,
      });
      await applyDue(world);
      expect((await states(world))[0]).toBe('off 10');
      expect(await act(world, 'select app_public.retry_plan($1)', [plan.id])).toBe('ZF019');
      const edit = 'select app_public.edit_plan($1, steps => $2)';
      expect(await act(world, edit, [plan.id, stepsOf(changeOf(first))])).toBeNull();
      await applyDue(world);
      expect((await states(world))[0]).toBe('on 10');
      expect(await planOf(world.client, plan.id)).toMatchObject(COMPLETED);
    },
  ],
];
