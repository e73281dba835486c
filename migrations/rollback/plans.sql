-- Takes plans and stops out of use, for the day on which code from before them has to run alone. Not a migration: an administrator runs
-- it once, as halyard_owner, with the API of the newer version stopped:
--
--   psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f migrations/rollback/plans.sql
--
-- Plans that are open are cancelled, with their schedules, and no admin can make, take back or stop anything until the next
-- `npm run halyard -- migrate` of the newer version brings the rights back. Tables and columns stay, and so do the functions that apply:
-- code of 0.1.0 works on them, and nothing that was done is forgotten. An environment that is stopped must be resumed before.

begin;

-- While it waits for locks, changes wait behind it, so after a second it gives up: run it again then.
set local lock_timeout = '1s';
-- No admin makes or edits a plan until this is committed.
lock table app_public.plans in share row exclusive mode;

do $$
declare
  v_stopped text := (select string_agg(e.name, ', ' order by e.name) from app_public.environments e where e.stopped_at is not null);
begin
  if v_stopped is not null then
    raise exception 'Code of 0.1.0 can''t resume an environment: run `npm run halyard -- resume` first for %.', v_stopped;
  end if;
end;
$$;

-- The function asks for an admin's claims; the trail names the login.
select set_config('jwt.claims.role', 'admin', true);
select app_public.cancel_plan(p.id, 'Plans were rolled back.')
from app_public.plans p
where p.status in ('active', 'paused')
order by p.id;

do $$
declare
  v_function regprocedure;
begin
  for v_function in
    select p.oid::regprocedure
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    where n.nspname = 'app_public' and p.proname in (
      'create_plan', 'edit_plan', 'cancel_plan', 'retry_plan', 'change_flags', 'dry_run_plan', 'dry_run_revert', 'dry_run_resume',
      'revert_plan', 'revert_schedule', 'revert_span', 'stop_environment', 'resume_environment', 'resume_schedule')
  loop
    execute format('revoke execute on function %s from halyard_admin', v_function);
  end loop;
end;
$$;

-- So that migrating runs the migration that gives the rights, and all that came after it, again.
delete from graphile_migrate.migrations where filename >= '000004';

commit;
