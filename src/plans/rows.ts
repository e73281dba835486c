/** Rows of plans, as every statement of REST reads them. */
import type { PlanContent } from './content.ts';
import { requestedSteps } from './content.ts';
import type { ChangeConflict, Plan } from './schemas.ts';
import type { FlagDiff } from './result_schemas.ts';

/** What a plan takes back, as the table has it. */
type Reverts =
  | { readonly planId: string }
  | { readonly scheduleId: string }
  | { readonly environment: string; readonly from: string; readonly to: string };

/** Dates, because pg makes them; in JSON they become ISO 8601 in UTC with milliseconds. */
interface Times {
  readonly next_at: Date | null;
  readonly created_at: Date;
  readonly updated_at: Date;
  readonly ended_at: Date | null;
}

export interface PlanRow
  extends
    Omit<Plan, keyof Times | 'starts_at' | 'steps' | 'approval' | 'reverts' | 'conflicts'>,
    Times {
  readonly content: PlanContent;
  readonly reverts: Reverts | null;
  /** Of one plan, and not of a list. */
  readonly conflicts?: readonly ChangeConflict[];
}

/** Of a plan `p`. Of a point that is suspended all rows are, for the same. */
export const COLUMNS = `
  p.id, p.title, p.content, p.reason, p.status, encode(p.content_hash, 'hex') as content_hash, p.occurrence_no, p.step_no, p.next_at,
  p.created_by, p.created_at, p.revision::float8 as revision, p.status_reason,
  (
    select min(s.suspended_for)
    from app_public.feature_flag_schedules s
    where s.plan_id = p.id and s.status = 'suspended'
  ) as suspended_for,
  p.reverts, p.updated_at, p.ended_at`;

/** What stands against the plan `p`, as JSON. */
export const CONFLICTS = `(
  select coalesce(jsonb_agg(c order by c.flag_key, c.environment, c.field), '[]')
  from app_public.plan_conflicts(p.id) c
) as conflicts`;

/** A plan as it is answered: what was sent, and behind it what became of it. */
export function planBody(row: PlanRow) {
  const { title, reason, content, id, status, content_hash, conflicts } = row;
  return {
    title,
    starts_at: content.startsAt === null ? null : new Date(content.startsAt),
    reason,
    steps: requestedSteps(content),
    ...{ id, status, content_hash },
    ...{ occurrence_no: row.occurrence_no, step_no: row.step_no, next_at: row.next_at },
    ...{ created_by: row.created_by, created_at: row.created_at, revision: row.revision },
    approval: null,
    ...{ status_reason: row.status_reason, suspended_for: row.suspended_for },
    reverts: row.reverts && revertsBody(row.reverts),
    ...{ updated_at: row.updated_at, ended_at: row.ended_at },
    ...(conflicts && { conflicts: conflicts.map(conflictBody) }),
  };
}

function revertsBody(reverts: Reverts) {
  if ('planId' in reverts) return { plan_id: reverts.planId };
  if ('scheduleId' in reverts) return { schedule_id: reverts.scheduleId };
  const { environment, from, to } = reverts;
  return { environment, from: new Date(from), to: new Date(to) };
}

/** A conflict as it is answered; in the database's JSON its keys have no order, and its time has an offset and microseconds. */
export function conflictBody(conflict: ChangeConflict) {
  const { flag_key, environment, field, kind, expected, found, at, schedule_id, plan_id } =
    conflict;
  return {
    ...{ flag_key, environment, field, kind, expected, found },
    ...{ at: new Date(at), schedule_id, plan_id },
  };
}

/** A flag before and after, in the order in which it is read. */
export function diffBody({ flag_key, environment, before, after }: FlagDiff): FlagDiff {
  return { flag_key, environment, before, after };
}
