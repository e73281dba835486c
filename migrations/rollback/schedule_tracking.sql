-- Takes the tracking columns (created_by, cancelled_by, cancelled_at, cancel_reason) out again, for the day on which code
-- from before them has to run. Not a migration: an administrator runs it once, as halyard_owner, with the API stopped:
--
--   psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f migrations/rollback/schedule_tracking.sql
--
-- No schedule is lost, and neither is who did what: the values are put aside in app_private.rolled_back_tracking, and the
-- next `npm run halyard -- migrate` brings columns and values back. The trail stays and goes on, the state machine and
-- row-level security stay; the worker may keep running. What old code inserts meanwhile has null in those columns later.

begin;

-- The only table that this takes. Requests wait as long as this does, so after a second it gives up: run it again then.
set local lock_timeout = '1s';
lock table app_public.feature_flag_schedules in access exclusive mode;

create table app_private.rolled_back_tracking (
  id uuid primary key,
  created_by varchar(255),
  cancelled_by varchar(255),
  cancelled_at timestamptz,
  cancel_reason text
);
comment on table app_private.rolled_back_tracking is
  'What the tracking columns held before they were rolled back; migration 2 restores it and drops this table.';
alter table app_private.rolled_back_tracking enable row level security;

insert into app_private.rolled_back_tracking
select id, created_by, cancelled_by, cancelled_at, cancel_reason
from app_public.feature_flag_schedules
where num_nonnulls(created_by, cancelled_by, cancelled_at, cancel_reason) > 0;

-- What can't be without the columns. The events of the trail read cancel_reason only if it is there.
drop trigger _200_track on app_public.feature_flag_schedules;
drop function app_private.tg_feature_flag_schedules__track();
drop function app_public.cancel_flag_schedule(uuid, text);

alter table app_public.feature_flag_schedules
  drop column created_by,
  drop column cancelled_by,
  drop column cancelled_at,
  drop column cancel_reason;

-- So that migrating runs the second migration, and all that came after it, again.
delete from graphile_migrate.migrations where filename >= '000002';

commit;
