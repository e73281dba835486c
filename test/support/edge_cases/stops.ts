import { expect } from 'vitest';
import { value } from '../actors.ts';
import { changeOf, stepsOf } from '../plans.ts';
import {
  act,
  applyDue,
  causeOf,
  comeDueWhileStopped,
  resume,
  setRollout,
  states,
  stop,
  type EdgeCase,
} from './world.ts';

/** The emergency stop of an environment. */
export const STOPS: readonly EdgeCase[] = [
  [
    'I1',
    'what comes due in a stopped environment is suspended, and other environments go on',
    async (world) => {
      const due = await comeDueWhileStopped(world);
      expect(await states(world)).toEqual(['off 10', 'off 10', 'off 10', 'on 10']);
      for (const { id } of due) expect(await causeOf(world, id)).toBe('suspended stop');
    },
  ],
  [
    'I2 apply',
    'resumed with apply, it is applied at once, in the order of its times',
    async (world) => {
      await comeDueWhileStopped(world);
      expect(await resume(world, 'apply')).toBeNull();
      await applyDue(world);
      expect(await states(world)).toEqual(['off 30', 'on 10', 'on 10', 'on 10']);
      expect(
        await value(
          world.client,
          `select jsonb_agg(e.metadata -> 'flagState' -> 'rolloutPercentage' order by e.occurred_at, s.scheduled_at)
           from audit.events e join app_public.feature_flag_schedules s on s.id = e.schedule_id
           where e.event_type = 'flag_schedule.applied' and e.flag_id = $1`,
          [world.flags[0].id],
        ),
      ).toEqual([20, 30]);
    },
  ],
  [
    'I2 skip',
    'resumed with skip, it is skipped for the resume’s reason',
    async (world) => {
      const due = await comeDueWhileStopped(world);
      expect(await resume(world, 'skip')).toBeNull();
      await applyDue(world);
      expect(await states(world)).toEqual(['off 10', 'off 10', 'off 10', 'on 10']);
      for (const { id } of due)
        expect(
          await value(
            world.client,
            `select status || ' ' || resolution_reason from app_public.feature_flag_schedules where id = $1`,
            [id],
          ),
        ).toBe('skipped mended');
    },
  ],
  [
    'I3',
    'people may change flags of a stopped environment, one or several',
    async (world) => {
      const [first, second] = world.flags;
      await stop(world);
      expect(await setRollout(world, first, 20)).toBeNull();
      const changes = JSON.parse(stepsOf(changeOf(second))) as [{ changes: object[] }];
      expect(
        await act(world, 'select app_public.change_flags($1)', [
          JSON.stringify(changes[0].changes),
        ]),
      ).toBeNull();
      expect(await states(world)).toEqual(['off 20', 'on 10', 'off 10', 'off 10']);
    },
  ],
];
