--! Previous: sha1:c29dfacca9a8e1ec30ed182e0e46344a9f66f02e
--! Hash: sha1:25e950e9fc048ee5c69ebaeab30d85ae93127a34
--! Message: Schedule tracking columns

-- Who created and who cancelled a schedule. All nullable: rows from before have none, and code from before inserts without
-- them. migrations/rollback/schedule_tracking.sql takes them out again.

alter table app_public.feature_flag_schedules
  add column if not exists created_by varchar(255),
  add column if not exists cancelled_by varchar(255),
  add column if not exists cancelled_at timestamptz,
  add column if not exists cancel_reason text;

alter table app_public.feature_flag_schedules drop constraint if exists feature_flag_schedules_cancel_reason_check;
alter table app_public.feature_flag_schedules
  add constraint feature_flag_schedules_cancel_reason_check check (char_length(cancel_reason) <= 500);

comment on column app_public.feature_flag_schedules.created_by is 'The user id of the admin who made the schedule; null when unknown.';
comment on column app_public.feature_flag_schedules.cancelled_by is 'The user id of the admin who cancelled it; null when unknown or not cancelled.';
comment on column app_public.feature_flag_schedules.cancelled_at is 'When it was cancelled.';
comment on column app_public.feature_flag_schedules.cancel_reason is 'Why it was cancelled, if a reason was given: up to 500 characters.';

-- What a rollback has put aside comes back. The state machine, which a rollback leaves in place, would count this as a
-- change of each schedule.
do $$
declare
  v_has_state boolean := exists (
    select from pg_trigger
    where tgrelid = 'app_public.feature_flag_schedules'::regclass and tgname = '_100_state'
  );
begin
  if to_regclass('app_private.rolled_back_tracking') is not null then
    if v_has_state then
      alter table app_public.feature_flag_schedules disable trigger _100_state;
    end if;
    update app_public.feature_flag_schedules s
    set
      created_by = r.created_by,
      cancelled_by = r.cancelled_by,
      cancelled_at = r.cancelled_at,
      cancel_reason = r.cancel_reason
    from app_private.rolled_back_tracking r
    where r.id = s.id;
    drop table app_private.rolled_back_tracking;
    if v_has_state then
      alter table app_public.feature_flag_schedules enable trigger _100_state;
    end if;
  end if;
end;
$$;
