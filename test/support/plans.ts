import type pg from 'pg';
import { insertFlag, one } from './factory.ts';

/** A flag's change in a plan. */
export interface TestChange {
  readonly flag: { readonly id: string; readonly flag_key: string; readonly environment: string };
  readonly updates: object;
  readonly expects?: object;
  readonly on_conflict?: 'overwrite' | 'keep' | 'suspend';
}

/** A change as `steps` of SQL and REST have it. */
export const stepChange = ({ flag, ...change }: TestChange) => ({
  flag_key: flag.flag_key,
  environment: flag.environment,
  ...change,
});

/** A flag of another environment than production. */
export const insertFlagIn = (client: pg.ClientBase, environment: string) =>
  insertFlag(client, { environment });

/**
 * A plan with its open point, inserted by the owner without claims. It is due in `dueIn`, an interval's text, which may be negative:
 * what the API would refuse.
 */
export async function insertPlan(
  client: pg.ClientBase,
  dueIn: string,
  changes: readonly TestChange[],
): Promise<{ id: string; schedules: string[] }> {
  const content = {
    startsAt: null,
    steps: [
      {
        changes: changes.map(({ flag, updates, expects, on_conflict }) => ({
          flagId: flag.id,
          flagKey: flag.flag_key,
          environment: flag.environment,
          updates,
          ...(expects && { expects }),
          ...(on_conflict && { onConflict: on_conflict }),
        })),
      },
    ],
  };
  const { id } = one(
    (
      await client.query<{ id: string }>(
        `insert into app_public.plans (title, content, flag_ids, environments, occurrence_no, step_no, next_at)
         values ('A release', $1, $2, $3, 1, 1, now() + $4::interval)
         returning id`,
        [
          JSON.stringify(content),
          changes.map(({ flag }) => flag.id),
          [...new Set(changes.map(({ flag }) => flag.environment))],
          dueIn,
        ],
      )
    ).rows,
  );
  const { rows } = await client.query<{ id: string }>(
    `insert into app_public.feature_flag_schedules
       (plan_id, occurrence_no, step_no, flag_id, scheduled_at, updates, expects, on_conflict)
     select p.id, 1, 1, (c ->> 'flagId')::uuid, p.next_at, c -> 'updates', c -> 'expects', coalesce(c ->> 'onConflict', 'overwrite')
     from app_public.plans p, jsonb_array_elements(p.content #> '{steps,0,changes}') as c
     where p.id = $1
     returning id`,
    [id],
  );
  return { id, schedules: rows.map((row) => row.id) };
}
