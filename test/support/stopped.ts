import type pg from 'pg';
import { expect } from 'vitest';
import { value, withActors } from './actors.ts';
import type { TestDatabase } from './database.ts';
import { insertDuePlan } from './due_plans.ts';
import { insertFlag, insertSchedule } from './factory.ts';
import { asAdmin } from './plans.ts';

/** Stops production. */
export const STOP = `select stopped_by from app_public.stop_environment('production', 'Incident 7')`;
/** Resumes an environment: its name, missed, reason, except. */
export const RESUME = 'select last_resume from app_public.resume_environment($1, $2, $3, $4)';

/** Production while it is stopped. */
export interface StoppedEnvironment {
  readonly client: pg.Client;
  /** Three schedules of flags of production: to 1, 2 and 3 %. The first two are of one flag. */
  readonly schedules: readonly string[];
  readonly flags: readonly string[];
  /** A release of a flag of production and one of staging. */
  readonly plan: string;
}

/** What came due in production while it is stopped; in staging one more schedule, which is applied. */
export async function whileStopped(
  database: TestDatabase,
  work: (stopped: StoppedEnvironment) => Promise<void>,
): Promise<void> {
  await withActors(database, async (client) => {
    await asAdmin(client, async () => expect(await value(client, STOP)).toBe('alice'));
    const flags: string[] = [];
    for (const flag_key of ['a', 'b', 'c']) flags.push((await insertFlag(client, { flag_key })).id);
    const schedules: string[] = [];
    for (const [n, flag] of [flags[0], flags[0], flags[1]].entries())
      schedules.push(
        (
          await insertSchedule(client, flag ?? '', {
            dueIn: `${n - 5} seconds`,
            updates: { rollout_percentage: n + 1 },
          })
        ).id,
      );
    const staging = await insertFlag(client, { flag_key: 'd', environment: 'staging' });
    const plan = await insertDuePlan(
      client,
      [
        { flag_key: 'c', environment: 'production', updates: { enabled: true } },
        { flag_key: 'd', environment: 'staging', updates: { enabled: true } },
      ],
      { dueIn: '-1 second' },
    );
    await insertSchedule(client, staging.id, { dueIn: '-4 seconds' });
    await work({ client, schedules, flags, plan: plan.id });
  });
}

/** The statuses of the three schedules. */
export async function statusesOf({ client, schedules }: StoppedEnvironment): Promise<string[]> {
  const { rows } = await client.query<{ status: string }>(
    `select s.status from unnest($1::uuid[]) with ordinality as i (id, no)
     join app_public.feature_flag_schedules s on s.id = i.id order by i.no`,
    [schedules],
  );
  return rows.map(({ status }) => status);
}

/** Resumes production, or another environment, as bob. @returns its last_resume */
export const resume = (
  client: pg.Client,
  missed: string,
  options: { except?: string[]; environments?: string[]; environment?: string } = {},
): Promise<unknown> => {
  const { except = [], environments, environment = 'production' } = options;
  return asAdmin(client, () => value(client, RESUME, [environment, missed, 'All clear', except]), {
    userId: 'bob',
    ...(environments && { environments }),
  });
};
