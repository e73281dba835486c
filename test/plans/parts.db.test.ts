import type pg from 'pg';
import { expect, test } from 'vitest';
import { value, withActors } from '../support/actors.ts';
import { useDatabase } from '../support/database.ts';
import { insertDuePlan } from '../support/due_plans.ts';
import { insertFlag } from '../support/factory.ts';
import { asAdmin } from '../support/plans.ts';
import { sqlStateOf } from '../support/roles.ts';

const database = useDatabase();

const scheduleOf = (client: pg.Client, flag: string): Promise<string> =>
  value(client, 'select id from app_public.feature_flag_schedules where flag_id = $1', [flag]);

test.for([
  'cancel_flag_schedule($1)',
  `reschedule_flag_change($1, now() + interval '1 day')`,
  'retry_flag_schedule($1)',
])(
  '%s refuses a schedule of a plan, and names the plan where the token reaches it',
  async (call) => {
    await withActors(database, async (client) => {
      const flags = [
        await insertFlag(client),
        await insertFlag(client, { environment: 'staging' }),
      ];
      const plan = await insertDuePlan(
        client,
        flags.map(({ flag_key, environment }) => ({
          flag_key,
          environment,
          updates: { enabled: true },
        })),
        { title: 'Launch', dueIn: '1 hour' },
      );
      const schedule = await scheduleOf(client, flags[0]?.id ?? '');
      const refused = (environments?: string[]) =>
        asAdmin(
          client,
          async () => {
            await client.query('savepoint call');
            const error: unknown = await client
              .query(`select from app_public.${call}`, [schedule])
              .catch((reason: unknown) => reason);
            await client.query('rollback to savepoint call');
            return error;
          },
          { userId: 'alice', ...(environments && { environments }) },
        );
      expect(await refused()).toMatchObject({
        code: 'ZF020',
        message: expect.stringContaining(`${plan.id}, "Launch"`) as string,
      });
      expect(await refused(['production'])).toMatchObject({
        code: 'ZF020',
        message:
          "The schedule belongs to a plan that also changes environments that you don't reach, which is changed as a whole.",
      });
    });
  },
);

test.for<[string, string, string]>([
  ['its expectation', `expects = '{"enabled": false}'`, 'ZF010'],
  ['its guard', `on_conflict = 'overwrite'`, 'ZF010'],
  ['its plan', 'plan_id = null, occurrence_no = null, step_no = null', 'ZF010'],
  ['its status from pending to resumed', `status = 'failed', scheduled_at = now()`, 'ZF003'],
])('SQL can’t change a schedule in %s', async ([, set, state]) => {
  await withActors(database, async (client) => {
    const { flag_key, environment } = await insertFlag(client);
    await insertDuePlan(client, [
      {
        ...{ flag_key, environment, on_conflict: 'suspend' as const },
        ...{ updates: { enabled: true }, expects: { rollout_percentage: 10 } },
      },
    ]);
    expect(
      await sqlStateOf(client, () =>
        client.query(
          `update app_public.feature_flag_schedules set ${set} where expects is not null`,
        ),
      ),
    ).toBe(state);
  });
});
