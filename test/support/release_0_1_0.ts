// What processes of 0.1.0 send. It stays as it is, also when newer versions send something else: they run beside newer ones for the length of
// a deployment.

/** Of its API, each with the type of its event. */
export const FLAG = `insert into app_public.feature_flags (flag_key, description) values ($1, 'new') returning id`;
export const PATCH = `update app_public.feature_flags set description = $2 where flag_key = $1 and environment = 'production' returning id`;
export const SCHEDULE = `
  select s.id
  from (select $1::text as flag_key, 'production'::text as environment) f
  cross join lateral app_public.schedule_flag_change(f.flag_key, f.environment, now() + $2::interval, '{"enabled": true}', 'upgrade') s`;

/** As REST does: the schedule's flag is looked up by the same statement. */
const change = (call: string) => `
  with f as materialized (
    select f.flag_key, f.environment, s.id
    from app_public.feature_flags f
    join app_public.feature_flag_schedules s on s.flag_id = f.id
    where s.id = $1
  )
  select s.id from f cross join lateral app_public.${call} s`;
export const MOVE = change(`reschedule_flag_change(f.id, now() + interval '2 days', null)`);
export const CANCEL = change(`cancel_flag_schedule(f.id, 'too early')`);

const BATCH = `applied, retried, failed, stuck, lateness_ms as "latenessMs", stuck_ids as "stuckIds", untried`;
/** Of its worker. */
export const APPLY = `select ${BATCH} from app_private.apply_due($1, $2)`;
export const APPLY_FLAG = `select ${BATCH} from app_private.apply_flag($1, $2, $3)`;
export const NEXT_DUE = `select overdue_for as "overdueForMs", due_in as "dueInMs" from app_private.next_due()`;
export const OVERDUE = `select flag_id as "id", flag_key as "flagKey", environment from app_private.overdue_flags($1, $2, $3)`;
export const REMOVE = 'select app_private.remove_old_schedules($1, $2)';
/** The size of its batch, and no schedule that it leaves alone. */
export const ANY = [500, '{}'] as const;
