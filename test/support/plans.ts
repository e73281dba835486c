import type pg from 'pg';
import { actAsOwner } from './actors.ts';
import { insertFlag, one } from './factory.ts';
import { become, sqlStateOf, type TestClaims } from './roles.ts';

/** A change of a flag as a request describes it. */
export interface PlanChange {
  readonly flag_key: string;
  readonly environment: string;
  readonly updates: object;
  readonly expects?: object;
  readonly on_conflict?: 'overwrite' | 'keep' | 'suspend';
}

/** A row of app_public.plans, as far as tests look at it. */
export interface Plan {
  readonly id: string;
  readonly title: string;
  readonly content: { steps: { changes: Record<string, unknown>[] }[]; startsAt: string | null };
  readonly flag_ids: string[];
  readonly environments: string[];
  readonly reason: string | null;
  readonly status: string;
  readonly status_reason: string | null;
  readonly occurrence_no: number | null;
  readonly step_no: number | null;
  readonly next_at: Date | null;
  readonly applied_count: number;
  readonly skipped_count: number;
  readonly created_by: string | null;
  readonly ended_at: Date | null;
  readonly revision: string;
}

/** A schedule of a plan's, as far as tests look at it. */
export interface PlanRow {
  readonly id: string;
  readonly flag_id: string;
  readonly scheduled_at: Date;
  readonly status: string;
  readonly updates: object;
  readonly expects: object | null;
  readonly on_conflict: string;
  readonly attempts: number;
  readonly error_message: string | null;
  readonly cancel_reason: string | null;
  readonly reason: string | null;
}

/** The only step of a plan. */
export const stepsOf = (...changes: PlanChange[]): string => JSON.stringify([{ changes }]);

/** A change that turns this flag on, unless it says otherwise. */
export const changeOf = (
  flag: { flag_key: string; environment: string },
  change: Partial<PlanChange> = {},
): PlanChange => ({
  flag_key: flag.flag_key,
  environment: flag.environment,
  updates: { enabled: true },
  ...change,
});

/** What `work` does as an admin of a request of the API, in a transaction of withActors(); then the owner again. */
export async function asAdmin<T>(
  client: pg.ClientBase,
  work: () => Promise<T>,
  claims: TestClaims = { userId: 'alice', email: 'alice@example.com' },
): Promise<T> {
  await become(client, 'admin', claims);
  const result = await work();
  await actAsOwner(client);
  return result;
}

/** Makes a plan by the connection's role; due in an hour unless `dueIn`, an interval's text or null for now, says otherwise. */
export async function createPlan(
  client: pg.ClientBase,
  changes: PlanChange[],
  options: { title?: string; dueIn?: string | null; reason?: string } = {},
): Promise<Plan> {
  const { title = 'Release', dueIn = '1 hour', reason = null } = options;
  const { rows } = await client.query<Plan>(
    `select * from app_public.create_plan($1, $2, clock_timestamp() + $3::interval, $4)`,
    [title, stepsOf(...changes), dueIn, reason],
  );
  return one(rows);
}

/** Two flags, of production and of staging, and a plan of alice's that turns both on in an hour. */
export async function makePlan(client: pg.ClientBase) {
  const production = await insertFlag(client);
  const staging = await insertFlag(client, { environment: 'staging' });
  const plan = await asAdmin(client, () =>
    createPlan(client, [changeOf(production), changeOf(staging)]),
  );
  return { production, staging, plan };
}

/** A plan as its row is now. */
export async function planOf(client: pg.ClientBase, id: string): Promise<Plan> {
  const { rows } = await client.query<Plan>('select * from app_public.plans where id = $1', [id]);
  return one(rows);
}

/** A plan's schedules, by their flags' environments. */
export async function rowsOf(client: pg.ClientBase, planId: string): Promise<PlanRow[]> {
  const { rows } = await client.query<PlanRow>(
    `select s.* from app_public.feature_flag_schedules s join app_public.feature_flags f on f.id = s.flag_id
     where s.plan_id = $1 order by f.environment, f.flag_key`,
    [planId],
  );
  return rows;
}

/** The statuses of a plan's schedules. */
export const statusesOf = async (client: pg.ClientBase, planId: string): Promise<string[]> =>
  (await rowsOf(client, planId)).map(({ status }) => status);

/** Makes the open point of a plan fail for good, as apply_due() does when its attempts are used up. */
export async function failPoint(client: pg.ClientBase, planId: string): Promise<void> {
  await client.query(
    `update app_public.feature_flag_schedules set status = 'failed', attempts = 3, error_message = 'the flag is broken'
     where plan_id = $1`,
    [planId],
  );
  await client.query(`select app_private.end_point($1, 'failed', 'the flag is broken')`, [planId]);
}

/** Calls a function of plans as alice: what it answers, or the SQLSTATE with which it refuses. */
export async function callPlan(
  client: pg.ClientBase,
  sql: string,
  parameters: unknown[],
): Promise<Plan | string> {
  let plan: Plan | undefined;
  const state = await asAdmin(client, () =>
    sqlStateOf(client, async () => {
      plan = one((await client.query<Plan>(`select * from app_public.${sql}`, parameters)).rows);
    }),
  );
  return plan ?? String(state);
}

/** Ends the open point of a plan as applied, skipped or failed. It leaves the schedules as they are. */
export const endPoint = (client: pg.ClientBase, id: string, outcome: string) =>
  client.query(`select app_private.end_point($1, $2, 'it broke')`, [id, outcome]);
