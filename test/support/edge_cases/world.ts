import type pg from 'pg';
import { expect } from 'vitest';
import { asWorker, value } from '../actors.ts';
import { insertSchedule, type insertFlag } from '../factory.ts';
import { asAdmin, changeOf, createPlan, rowsOf, type Plan, type PlanChange } from '../plans.ts';
import { sqlStateOf } from '../roles.ts';

export type Flag = Awaited<ReturnType<typeof insertFlag>>;

/** What a case works with: three flags of production that are off at 10 %, and one of staging. */
export interface World {
  readonly client: pg.ClientBase;
  readonly flags: readonly [Flag, Flag, Flag];
  readonly staging: Flag;
}

export const ROLLOUT = (rollout_percentage: number) => ({ rollout_percentage });
export const GUARD = {
  updates: ROLLOUT(25),
  expects: ROLLOUT(10),
  on_conflict: 'suspend',
} as const;

export async function applyDue({ client }: World, batch = 500): Promise<void> {
  await asWorker(client, () => client.query('select * from app_private.apply_due($1)', [batch]));
}

/** Makes a plan of alice's that is due now. */
export const due = ({ client }: World, changes: PlanChange[]): Promise<Plan> =>
  asAdmin(client, () => createPlan(client, changes, { dueIn: null }));

/** What an admin does in SQL of the API's: null, or the SQLSTATE with which it is refused. */
export function act(
  { client }: World,
  sql: string,
  parameters: unknown[] = [],
  environments?: string[],
): Promise<string | null> {
  const claims = { userId: 'alice', ...(environments && { environments }) };
  return asAdmin(client, () => sqlStateOf(client, () => client.query(sql, parameters)), claims);
}

export const setRollout = (world: World, flag: Flag, percentage: number) =>
  act(world, 'update app_public.feature_flags set rollout_percentage = $2 where id = $1', [
    flag.id,
    percentage,
  ]);

/** Each flag as `on 10`, in the order of the world. */
export async function states({ client, flags, staging }: World): Promise<string[]> {
  const { rows } = await client.query<{ state: string }>(
    `select case when f.enabled then 'on ' else 'off ' end || f.rollout_percentage as state
     from unnest($1::uuid[]) with ordinality as i (id, no) join app_public.feature_flags f using (id) order by i.no`,
    [[...flags, staging].map(({ id }) => id)],
  );
  return rows.map(({ state }) => state);
}

export const UNTOUCHED = ['off 10', 'off 10', 'off 10', 'off 10'];

export const detailsOf = async ({ client }: World, plan: Plan) =>
  (
    await client.query<Record<string, unknown>>(
      `select s.suspended_for as cause, s.suspended_details as details, s.kept
       from app_public.feature_flag_schedules s join app_public.feature_flags f on f.id = s.flag_id
       where s.plan_id = $1 order by f.flag_key`,
      [plan.id],
    )
  ).rows;

export const COMPLETED = { status: 'completed', applied_count: 1, next_at: null };

export const stop = (world: World) =>
  act(world, `select app_public.stop_environment('production', 'errors')`);
export const resume = (world: World, missed: string) =>
  act(world, `select app_public.resume_environment('production', $1, 'mended')`, [missed]);

export const causeOf = ({ client }: World, id: string) =>
  value<string>(
    client,
    `select concat_ws(' ', status, suspended_for) from app_public.feature_flag_schedules where id = $1`,
    [id],
  );

/** Two schedules of the first flag and a plan of the others; and one of staging. Gives the schedules of production. */
export async function comeDueWhileStopped(world: World): Promise<{ id: string }[]> {
  const { client, flags, staging } = world;
  const [first, second, third] = flags;
  const one = await insertSchedule(client, first.id, {
    ...{ dueIn: '-1 second', updates: ROLLOUT(20) },
  });
  const two = await insertSchedule(client, first.id, { dueIn: '-1 ms', updates: ROLLOUT(30) });
  await insertSchedule(client, staging.id, { dueIn: '-1 second' });
  const plan = await due(world, [changeOf(second), changeOf(third)]);
  expect(await stop(world)).toBeNull();
  await applyDue(world);
  return [one, two, ...(await rowsOf(client, plan.id))];
}

/** An edge case of plans: its number in the model, what is expected, and what shows it. */
export type EdgeCase = readonly [id: string, what: string, run: (world: World) => Promise<void>];
