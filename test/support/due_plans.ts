import type pg from 'pg';
import { one } from './factory.ts';
import { stepsOf, type PlanChange } from './plans.ts';

/**
 * A plan with its open point, made by the owner without claims; due now unless `dueIn` (an interval's text) says otherwise, which
 * may be negative.
 */
export async function insertDuePlan(
  client: pg.ClientBase,
  changes: readonly PlanChange[],
  overrides: { readonly title?: string; readonly dueIn?: string; readonly reason?: string } = {},
): Promise<{ id: string; next_at: Date }> {
  const { title = 'Release', dueIn = null, reason = null } = overrides;
  const { rows } = await client.query<{ id: string; next_at: Date }>(
    `select p.id, p.next_at
     from app_private.insert_plan(
       $1,
       app_private.plan_content($2, null)
         || jsonb_build_object('startsAt', app_private.iso(clock_timestamp() + $3::interval)),
       $4) as p`,
    [title, stepsOf(...changes), dueIn, reason],
  );
  return one(rows);
}

/** A plan's status and counts, and the status of each of its schedules by its flag's key. */
export async function planSummary(client: pg.ClientBase, id: string): Promise<object> {
  const { rows } = await client.query<{ plan: object }>(
    `select jsonb_strip_nulls(jsonb_build_object(
       'status', p.status, 'statusReason', p.status_reason, 'applied', nullif(p.applied_count, 0), 'skipped', nullif(p.skipped_count, 0),
       'schedules', (
         select jsonb_object_agg(f.flag_key, s.status)
         from app_public.feature_flag_schedules s join app_public.feature_flags f on f.id = s.flag_id
         where s.plan_id = p.id))) as plan
     from app_public.plans p where p.id = $1`,
    [id],
  );
  return one(rows).plan;
}
