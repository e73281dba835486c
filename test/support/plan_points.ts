import type pg from 'pg';
import { one, type insertFlag } from './factory.ts';
import { changeOf, stepsOf, type PlanChange } from './plans.ts';

type Flag = Awaited<ReturnType<typeof insertFlag>>;
/** A change of a flag, with the flag itself. */
export type FlagChange = { readonly flag: Flag } & Omit<PlanChange, 'flag_key' | 'environment'>;

/**
 * A plan with its open point, inserted by the owner without claims. It is due in `dueIn`, an interval's text, which may be negative:
 * what the API would refuse.
 */
export async function insertPlan(
  client: pg.ClientBase,
  dueIn: string,
  changes: readonly FlagChange[],
): Promise<{ id: string; schedules: string[] }> {
  const steps = stepsOf(...changes.map(({ flag, ...change }) => changeOf(flag, change)));
  const { rows } = await client.query<{ id: string }>(
    `insert into app_public.plans (title, content, next_at)
     values ('A release', app_private.plan_content($1, null), now() + $2::interval) returning id`,
    [steps, dueIn],
  );
  const { id } = one(rows);
  await client.query('select app_private.open_point(p) from app_public.plans p where p.id = $1', [
    id,
  ]);
  const schedules = await client.query<{ id: string }>(
    `select s.id from app_public.plans p
     cross join jsonb_array_elements(p.content #> '{steps,0,changes}') with ordinality as c (change, place)
     join app_public.feature_flag_schedules s on s.plan_id = p.id and s.flag_id = (c.change ->> 'flagId')::uuid
     where p.id = $1 order by c.place`,
    [id],
  );
  return { id, schedules: schedules.rows.map((row) => row.id) };
}
