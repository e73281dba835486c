// What processes of 0.1.0 send. It stays as it is, also when newer versions send something else: they run beside newer ones for the length of
// a deployment.

/** Of its API, each with the type of its event. */
export const FLAG = `insert into app_public.feature_flags (flag_key, description) values ($1, 'new') returning id`;
export const PATCH = `update app_public.feature_flags set description = $2 where flag_key = $1 and environment = 'production' returning id`;
export const SCHEDULE = `select id from app_public.schedule_flag_change($1, null, now() + $2::interval, '{"enabled": true}', 'upgrade')`;
export const MOVE = `select id from app_public.reschedule_flag_change($1, now() + interval '2 days', null)`;
export const CANCEL = `select id from app_public.cancel_flag_schedule($1, 'too early')`;

const BATCH = `applied, retried, failed, stuck, lateness_ms as "latenessMs", stuck_ids as "stuckIds", untried`;
/** Of its worker. */
export const APPLY = `select ${BATCH} from app_private.apply_due($1, $2)`;
export const APPLY_FLAG = `select ${BATCH} from app_private.apply_flag($1, $2, $3)`;
export const NEXT_DUE = `select overdue_for as "overdueForMs", due_in as "dueInMs" from app_private.next_due()`;
export const OVERDUE = `select flag_id as "id", flag_key as "flagKey", environment from app_private.overdue_flags($1, $2, $3)`;
export const REMOVE = 'select app_private.remove_old_schedules($1, $2)';
/** The size of its batch, and no schedule that it leaves alone. */
export const ANY = [500, '{}'] as const;
