import { expect } from 'vitest';
import { value } from '../actors.ts';
import { asAdmin, changeOf, planOf, statusesOf, stepsOf } from '../plans.ts';
import {
  act,
  applyDue,
  COMPLETED,
  detailsOf,
  due,
  GUARD,
  ROLLOUT,
  setRollout,
  states,
  UNTOUCHED,
  type EdgeCase,
} from './world.ts';

/** Changes that expect to find something. */
export const GUARDS: readonly EdgeCase[] = [
  [
    'C1',
    'a guarded change whose field was changed since is suspended, with what was expected and found, and so is its plan',
    async (world) => {
      const [first, second] = world.flags;
      const plan = await due(world, [changeOf(first, GUARD), changeOf(second)]);
      await setRollout(world, first, 15);
      await applyDue(world);
      expect(await statusesOf(world.client, plan.id)).toEqual(['suspended', 'suspended']);
      expect(await detailsOf(world, plan)).toEqual([
        {
          ...{ cause: 'conflict', kept: null },
          details: { expected: ROLLOUT(10), found: ROLLOUT(15) },
        },
        { cause: 'conflict', details: null, kept: null },
      ]);
      expect(await states(world)).toEqual(['off 15', ...UNTOUCHED.slice(1)]);
      expect(await planOf(world.client, plan.id)).toMatchObject({ status: 'active' });
    },
  ],
  [
    'C1 due',
    'a dry run foresees that a guarded change which is due, and not applied yet, will be suspended',
    async (world) => {
      const [first] = world.flags;
      await due(world, [changeOf(first, { ...GUARD, expects: ROLLOUT(11) })]);
      const changes = await asAdmin(world.client, () =>
        value<object[]>(
          world.client,
          `select d.changes from app_public.dry_run_plan('Try', $1) as d`,
          [stepsOf(changeOf(first))],
        ),
      );
      const before = { enabled: false, ...ROLLOUT(10) };
      expect(changes).toMatchObject([{ before, after: { ...before, enabled: true } }]);
    },
  ],
  [
    'C2',
    'a description that was changed is no conflict',
    async (world) => {
      const [first] = world.flags;
      const plan = await due(world, [changeOf(first, GUARD)]);
      await act(world, `update app_public.feature_flags set description = 'new' where id = $1`, [
        first.id,
      ]);
      await applyDue(world);
      expect(await statusesOf(world.client, plan.id)).toEqual(['applied']);
    },
  ],
  [
    'C3',
    'steps of one flag that expect what the one before sets are no conflict, in one batch',
    async (world) => {
      const [first] = world.flags;
      const plans = [
        await due(world, [changeOf(first, GUARD)]),
        await due(world, [
          changeOf(first, { ...GUARD, updates: ROLLOUT(50), expects: ROLLOUT(25) }),
        ]),
      ];
      await applyDue(world);
      expect(await states(world)).toEqual(['off 50', ...UNTOUCHED.slice(1)]);
      for (const { id } of plans) expect(await planOf(world.client, id)).toMatchObject(COMPLETED);
    },
  ],
  [
    'C4',
    'a field that was changed and changed back is no conflict',
    async (world) => {
      const [first] = world.flags;
      const plan = await due(world, [changeOf(first, GUARD)]);
      await setRollout(world, first, 99);
      await setRollout(world, first, 10);
      await applyDue(world);
      expect(await statusesOf(world.client, plan.id)).toEqual(['applied']);
    },
  ],
  [
    'C5',
    'a change of a flag against a stale revision is refused with ZF017, and writes nothing',
    async (world) => {
      const [first] = world.flags;
      await setRollout(world, first, 20);
      await world.client.query(`select set_config('halyard.expected_revision', '1', true)`);
      expect(await setRollout(world, first, 30)).toBe('ZF017');
      await world.client.query(`select set_config('halyard.expected_revision', '', true)`);
      expect(await states(world)).toEqual(['off 20', ...UNTOUCHED.slice(1)]);
    },
  ],
];
