/** Why the open point of a plan `p` is suspended; null when it isn't. */
export const SUSPENDED_FOR = `(
  select s.suspended_for from app_public.feature_flag_schedules s
  where s.plan_id = p.id and s.status = 'suspended'
  order by s.suspended_details is null, s.id
  limit 1)`;

const iso = (column: string) => `app_private.iso(p.${column})`;

/** A plan `p`, under the names of the REST API. */
export const PLAN_JSON = `json_build_object(
  'id', p.id, 'title', p.title, 'status', p.status, 'status_reason', p.status_reason, 'suspended_for', ${SUSPENDED_FOR},
  'reason', p.reason, 'starts_at', p.content -> 'startsAt', 'steps', app_private.plan_steps(p.content),
  'content_hash', encode(p.content_hash, 'hex'), 'environments', p.environments,
  'occurrence_no', p.occurrence_no, 'step_no', p.step_no, 'next_at', ${iso('next_at')},
  'reverts', p.reverts, 'created_by', p.created_by, 'created_at', ${iso('created_at')}, 'updated_at', ${iso('updated_at')},
  'ended_at', ${iso('ended_at')}, 'revision', p.revision)`;
