import { expect } from 'vitest';
import { value } from '../actors.ts';
import { asAdmin, changeOf, planOf } from '../plans.ts';
import {
  applyDue,
  COMPLETED,
  detailsOf,
  due,
  ROLLOUT,
  setRollout,
  states,
  UNTOUCHED,
  type EdgeCase,
} from './world.ts';

/** Taking back what was applied. */
export const REVERTS: readonly EdgeCase[] = (['keep', 'suspend', 'overwrite'] as const).map(
  (onConflict): EdgeCase => [
    `H1 ${onConflict}`,
    'a release is taken back; a flag that was changed since is left, waited for, or set back, as is asked',
    async (world) => {
      const [first, second] = world.flags;
      const plan = await due(world, [
        changeOf(first, { updates: ROLLOUT(50) }),
        changeOf(second, { updates: { enabled: true, ...ROLLOUT(50) } }),
      ]);
      await applyDue(world);
      await setRollout(world, second, 75);
      const revert = await asAdmin(world.client, () =>
        value<string>(
          world.client,
          'select id from app_public.revert_plan($1, on_conflict => $2)',
          [plan.id, onConflict],
        ),
      );
      const reverted = (rest: string[]) => [...rest, ...UNTOUCHED.slice(2)];
      const rows = await detailsOf(world, { ...plan, id: revert });
      if (onConflict === 'suspend') {
        expect(await states(world)).toEqual(reverted(['off 50', 'on 75']));
        expect(rows.map(({ cause }) => cause)).toEqual(['conflict', 'conflict']);
        return;
      }
      const kept = onConflict === 'keep';
      expect(await states(world)).toEqual(reverted(['off 10', kept ? 'off 75' : 'off 10']));
      expect(rows.map((row) => row.kept)).toEqual(
        kept ? [null, ['rollout_percentage']] : [null, null],
      );
      expect(await planOf(world.client, revert)).toMatchObject(COMPLETED);
    },
  ],
);
