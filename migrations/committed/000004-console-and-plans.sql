--! Previous: sha1:7f25ffaf51d4d7c77437abfd7df3352c57d95503
--! Hash: sha1:1a02f88c6f166e96b09e032370ca7f12be5f55d6
--! Message: Console and plans

--! Included platform/locks.sql
-- The beginning of every migration: takes all of Halyard's tables and views, so that nothing behind it waits for a lock. Relations
-- that aren't there yet are left out. Where it can't have them all in time the migration fails, and its
-- runner (src/postgres/migrate.ts) tries again some seconds later: requests wait behind a lock that is waited for.
do $$
declare
  -- In the order in which the running code takes them: a statement of ours names flags before schedules, and reads what the trail is
  -- made of behind them. Once these two are held no change is under way, and the order of the rest is that of forwarding and
  -- numbering. Views come last, because to lock a view locks its tables.
  v_names constant text[] := '{
    app_private.locks,
    app_private.leases,
    app_private.apply_gates,
    app_public.feature_flags,
    app_public.feature_flag_schedules,
    app_public.plans,
    app_public.environments,
    app_private.settings,
    app_private.denials,
    app_private.console_sessions,
    audit.cursors,
    audit.incarnations,
    audit.divergences,
    audit.seals,
    audit.ledger,
    audit.dead_letters,
    audit.queue,
    audit.events,
    audit.event_types,
    audit.reconciliations,
    app_private.audited_rows,
    audit.flag_events,
    audit.actor_events,
    audit.applied_schedules,
    audit.lateness_days,
    audit.failed_schedules,
    audit.cancellations_by_others,
    audit.manual_changes,
    audit.stops,
    audit.plan_events
  }';
  v_deadlock_timeout constant interval := current_setting('deadlock_timeout');
  v_relations regclass[];
  v_relation regclass;
  v_deadline timestamptz;
  v_wait interval;
begin
  perform set_config('lock_timeout', '1s', true);
  -- Code that numbers, reconciles, purges or makes a partition has a row of this table before anything else: from here on none of it runs.
  if to_regclass('app_private.locks') is not null then
    lock table app_private.locks in access exclusive mode;
  end if;

  -- This mode keeps vacuums, index builds and purges out and holds up no request, so it may wait longer than deadlock_timeout: only
  -- then does PostgreSQL cancel an autovacuum that is in the way. Where that is more than 5 s an autovacuum isn't cancelled, and the
  -- migration is tried again until it has ended.
  v_wait := least(v_deadlock_timeout, interval '5 seconds') + interval '1 second';
  perform set_config('lock_timeout', ceil(extract(epoch from v_wait) * 1000)::text, true);
  -- From here on the trail has the partitions that it has.
  if to_regclass('audit.events') is not null then
    lock table only audit.events in share update exclusive mode;
  end if;
  -- Partitions are locked by themselves, each within the time that is left.
  v_relations := array(
    select c.oid::regclass
    from unnest(v_names) with ordinality as n (name, position)
    cross join lateral (
      select to_regclass(n.name)::oid as oid
      union all
      select i.inhrelid from pg_inherits i where i.inhparent = to_regclass(n.name)
    ) as r
    join pg_class c on c.oid = r.oid
    order by n.position, c.relispartition, c.relname);
  foreach v_relation in array v_relations loop
    if (select c.relkind <> 'v' from pg_class c where c.oid = v_relation) then
      execute format('lock table only %s in share update exclusive mode', v_relation);
    end if;
  end loop;

  -- From here on requests wait. SQL at a prompt, and what deletes a flag, may take tables in another order, so while this side holds
  -- some it waits only 100 ms for another, and then gives all back and begins again. In all it takes less than deadlock_timeout: it
  -- must not come to a deadlock, whose victim could be a request, or the event of a change.
  v_deadline := clock_timestamp() + 0.9 * least(v_deadlock_timeout, interval '1 second');
  loop
    begin
      v_wait := v_deadline - clock_timestamp();
      foreach v_relation in array v_relations loop
        perform set_config('lock_timeout', greatest(1, floor(extract(epoch from v_wait) * 1000))::text, true);
        execute format('lock table only %s in access exclusive mode', v_relation);
        -- What waits for the first two holds no other table yet.
        if v_relation not in (coalesce(to_regclass('app_private.locks'), 0), coalesce(to_regclass('app_private.leases'), 0)) then
          v_wait := least(interval '100 ms', v_deadline - clock_timestamp());
        end if;
      end loop;
      exit;
    exception when lock_not_available then
      if clock_timestamp() >= v_deadline then
        raise;
      end if;
      perform pg_sleep(0.02);
    end;
  end loop;
  perform set_config('lock_timeout', '1s', true);
end;
$$;
--! EndIncluded platform/locks.sql

-- Sessions of the console (console/sessions.sql). The bounds keep a row small, and keep none that never expires.
create table if not exists app_private.console_sessions (
  id_hash bytea primary key constraint console_sessions_id_hash_check check (octet_length(id_hash) = 32),
  token bytea not null constraint console_sessions_token_check check (octet_length(token) between 1 and 16384),
  expires_at timestamptz not null constraint console_sessions_expires_at_check check (isfinite(expires_at)),
  created_at timestamptz not null default now()
);
create index if not exists console_sessions_expires_at_idx on app_private.console_sessions (expires_at);
comment on table app_private.console_sessions is 'Sessions of the console: console/sessions.sql.';
comment on column app_private.console_sessions.id_hash is 'SHA-256 of the id in the browser''s cookie.';
comment on column app_private.console_sessions.token is 'The user''s token, encrypted by the API.';
comment on column app_private.console_sessions.expires_at is 'When the session ends; the row is deleted some time later.';
comment on column app_private.console_sessions.created_at is 'When the user signed in.';
alter table app_private.console_sessions enable row level security;

-- The pending schedules of a flag by their time, for projections; it serves what the narrower one did.
create index if not exists feature_flag_schedules_pending_flag_idx
  on app_public.feature_flag_schedules (flag_id, scheduled_at, id) where status = 'pending';
drop index if exists app_public.feature_flag_schedules_pending_of_flag_idx;

-- The states of a flag by their time.
create index if not exists events_flag_states_idx on audit.events (flag_id, occurred_at desc, revision desc)
  where event_type in ('feature_flag.created', 'feature_flag.updated', 'feature_flag.deleted', 'feature_flag.reconciled');

--! Included plans/content.sql
-- What a plan does, as one document. Its hash stands for it: what is shown, approved and applied is the same document.
--
-- {"steps": [{"changes": [{"flagId", "flagKey", "environment", "updates", "expects"?, "onConflict"?}, …]}], "startsAt": "…" or null}
--
-- A flag's id never comes back, and its key and environment are fixed, so the document names a flag by all three.

-- Declared immutable, which is true: the database's encoding is fixed, and jsonb's text is canonical (keys in order, no duplicates, one
-- spacing). convert_to() is stable, and a generated column takes nothing that says so.
create or replace function app_private.content_hash(content jsonb)
returns bytea
language sql
immutable
parallel safe
set search_path to pg_catalog, pg_temp
as $$ select sha256(convert_to(content::text, 'UTF8')) $$;

comment on function app_private.content_hash(jsonb) is 'SHA-256 of a plan''s content.';

-- plpgsql, as updates_problem() is. Which fields there are is its list alone.
create or replace function app_private.change_problem(change jsonb)
returns text
language plpgsql
immutable
parallel safe
set search_path to pg_catalog, pg_temp
as $$
declare
  v_problem text;
begin
  if jsonb_typeof(change) is distinct from 'object' then
    return 'a change must be an object';
  elsif change - '{flagId,flagKey,environment,updates,expects,onConflict}'::text[] <> '{}' then
    return 'a change may have only: flag_key, environment, updates, expects, on_conflict';
  elsif jsonb_typeof(change -> 'flagKey') is distinct from 'string' or jsonb_typeof(change -> 'environment') is distinct from 'string' then
    return 'a change must name its flag by flag_key and environment';
  end if;
  v_problem := app_private.updates_problem(change -> 'updates');
  if v_problem is null and change ? 'expects' then
    v_problem := regexp_replace(app_private.updates_problem(change -> 'expects'), '^updates ', 'expects ');
  end if;
  if v_problem is null and change ? 'onConflict' and coalesce(change ->> 'onConflict', '') not in ('overwrite', 'keep', 'suspend') then
    v_problem := 'on_conflict must be overwrite, keep or suspend';
  elsif v_problem is null and coalesce(change ->> 'onConflict', 'overwrite') <> 'overwrite' and not change ? 'expects' then
    v_problem := format('on_conflict %s needs expects: what the change expects to find', change ->> 'onConflict');
  end if;
  return format('%s of %s: ', change ->> 'flagKey', change ->> 'environment') || v_problem;
end;
$$;

comment on function app_private.change_problem(jsonb) is
  'Why a plan can''t have this change, as a sentence that begins with its flag; null when it can.';

create or replace function app_private.plan_problem(content jsonb)
returns text
language plpgsql
immutable
parallel safe
set search_path to pg_catalog, pg_temp
as $$
declare
  c_most_changes constant integer := 200;
  c_sample constant text := '2030-01-01T00:00:00.000000Z';
  v_changes jsonb := content #> '{steps,0,changes}';
  v_change jsonb;
  v_problem text;
  v_flags text[] := '{}';
  v_flag text;
begin
  if jsonb_typeof(content) is distinct from 'object' or content - '{steps,startsAt}'::text[] <> '{}' then
    return 'a plan''s content must be an object with steps and startsAt only';
  elsif coalesce(content ->> 'startsAt', c_sample) !~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[.][0-9]{6}Z$' then
    return 'startsAt must be an instant in UTC with microseconds, or null';
  elsif jsonb_typeof(content -> 'steps') is distinct from 'array' or jsonb_array_length(content -> 'steps') <> 1 then
    return 'steps must be an array of one step';
  elsif jsonb_typeof(content #> '{steps,0}') is distinct from 'object' or (content #> '{steps,0}') - 'changes' <> '{}' then
    return 'a step must be an object with changes only';
  elsif jsonb_typeof(v_changes) is distinct from 'array' or jsonb_array_length(v_changes) not between 1 and c_most_changes then
    return format('changes must be an array of 1 to %s changes', c_most_changes);
  end if;
  for v_change in select c.value from jsonb_array_elements(v_changes) as c loop
    v_problem := app_private.change_problem(v_change);
    if v_problem is not null then
      return v_problem;
    end if;
    v_flag := format('%s of %s', v_change ->> 'flagKey', v_change ->> 'environment');
    if v_flag = any (v_flags) then
      return v_flag || ' is changed twice: put both into one change';
    end if;
    v_flags := v_flags || v_flag;
  end loop;
  return null;
end;
$$;

comment on function app_private.plan_problem(jsonb) is
  'Why a plan can''t have this content, as a sentence; null when it can. Immutable, because the plans'' CHECK calls it.';
--! EndIncluded plans/content.sql

-- The gate of applying: apply_due() holds a share of it, and who stops an environment takes it alone. Any login may take an advisory lock.
create table if not exists app_private.apply_gates (
  the_one boolean primary key default true check (the_one)
);
alter table app_private.apply_gates enable row level security;
comment on table app_private.apply_gates is
  'Has no rows: its lock keeps applying and the stop of an environment apart. Only the owner and the worker may take it.';
comment on column app_private.apply_gates.the_one is 'A primary key for a table without rows.';

alter table app_public.environments
  add column if not exists stopped_at timestamptz,
  add column if not exists stopped_by varchar(255),
  add column if not exists stop_reason varchar(500),
  add column if not exists last_resume jsonb;
alter table app_public.environments drop constraint if exists environments_stop_check;
alter table app_public.environments
  add constraint environments_stop_check check ((stopped_at is null) = (stop_reason is null));
comment on column app_public.environments.stopped_at is
  'Since when schedules of this environment''s flags are not applied; null while they are.';
comment on column app_public.environments.stopped_by is 'Who stopped it; null where that is not known.';
comment on column app_public.environments.stop_reason is 'Why it was stopped.';
comment on column app_public.environments.last_resume is
  'Of the last time that it was resumed: at, by, reason, missed, applied, skipped and stoppedForMs.';

create table if not exists app_public.plans (
  id uuid primary key default gen_random_uuid(),
  title varchar(200) not null,
  content jsonb not null,
  content_hash bytea not null generated always as (app_private.content_hash(content)) stored,
  flag_ids uuid[] not null,
  environments varchar(20)[] not null,
  reason varchar(500),
  status text not null default 'active',
  status_reason varchar(500),
  occurrence_no integer,
  step_no integer,
  next_at timestamptz,
  applied_count integer not null default 0,
  skipped_count integer not null default 0,
  reverts jsonb,
  created_by varchar(255),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  ended_at timestamptz,
  revision bigint not null default 1,
  constraint plans_title_check check (btrim(title) <> '' and title collate "C" !~ '[[:cntrl:]]'),
  constraint plans_content_check check (app_private.plan_problem(content) is null),
  constraint plans_reason_check check (char_length(reason) >= 1 and reason collate "C" !~ '[[:cntrl:]]'),
  constraint plans_status_check check (status in ('active', 'paused', 'completed', 'cancelled')),
  constraint plans_point_check check ((occurrence_no is null) = (step_no is null) and (step_no is null) = (next_at is null)),
  constraint plans_ended_check check ((status in ('completed', 'cancelled')) = (ended_at is not null))
);
alter table app_public.plans enable row level security;
create index if not exists plans_environments_idx on app_public.plans using gin (environments) where status in ('active', 'paused');
create index if not exists plans_flag_ids_idx on app_public.plans using gin (flag_ids) where status in ('active', 'paused');
create index if not exists plans_created_at_idx on app_public.plans (created_at, id);

comment on table app_public.plans is
  'Plans: changes of several flags that are made at one instant, all or nothing. A plan''s open point stands in feature_flag_schedules.';
comment on column app_public.plans.id is 'The plan''s id.';
comment on column app_public.plans.title is 'What the plan is called.';
comment on column app_public.plans.content is 'What the plan does: its steps with their changes, and when it starts.';
comment on column app_public.plans.content_hash is 'SHA-256 of the content.';
comment on column app_public.plans.flag_ids is 'The flags that the content changes.';
comment on column app_public.plans.environments is 'The environments of these flags: a token must reach all of them.';
comment on column app_public.plans.reason is 'Why its author made it; null when they gave no reason.';
comment on column app_public.plans.status is
  'active; paused, until an admin retries, edits or cancels it; completed, when nothing of it is left to do; or cancelled.';
comment on column app_public.plans.status_reason is 'Why it is paused or cancelled.';
comment on column app_public.plans.occurrence_no is 'Which occurrence the open point belongs to; null when no point is open.';
comment on column app_public.plans.step_no is 'Which step the open point is, from 1.';
comment on column app_public.plans.next_at is 'When the open point is due.';
comment on column app_public.plans.applied_count is 'How many of its points were applied.';
comment on column app_public.plans.skipped_count is 'How many of its points were skipped.';
comment on column app_public.plans.reverts is 'What the plan takes back: planId, or scheduleId, or environment with from and to; null when it takes nothing back.';
comment on column app_public.plans.created_by is 'Who made it; null where that is not known.';
comment on column app_public.plans.created_at is 'When it was made.';
comment on column app_public.plans.updated_at is 'When it was changed last.';
comment on column app_public.plans.ended_at is 'When it was completed or cancelled.';
comment on column app_public.plans.revision is 'How often it was changed with an event.';

do $$
begin
  if to_regtype('app_public.change_result') is null then
    create type app_public.change_result as (plan_id uuid, changes jsonb);
    create type app_public.dry_run as (changes jsonb, events jsonb, conflicts jsonb);
    create type app_public.change_conflict as (
      flag_key text, environment text, field text, kind text, expected jsonb, found jsonb, at timestamptz, schedule_id uuid, plan_id uuid
    );
  end if;
end;
$$;
comment on type app_public.change_result is 'What change_flags() did: the plan that has it, and each flag before and after.';
comment on type app_public.dry_run is
  'What would happen: flags with flag_key, environment, before and after; the events that would be written; what stands against it.';
comment on type app_public.change_conflict is
  'What stands against a change: expectation, when the field will have another value than is expected then, or same_instant, when another change of the field is for the same time; and the schedule or plan that is the cause.';
comment on column app_public.change_result.plan_id is 'The plan that has the changes.';
comment on column app_public.change_result.changes is 'Each flag that it names: flag_key, environment, before and after.';
comment on column app_public.dry_run.changes is 'Each flag that it names: flag_key, environment, before and after.';
comment on column app_public.dry_run.events is 'The events that would be written, without their numbers.';
comment on column app_public.dry_run.conflicts is 'What stands against it, as plan_conflicts() has it.';
comment on column app_public.change_conflict.flag_key is 'The flag''s key.';
comment on column app_public.change_conflict.environment is 'The flag''s environment.';
comment on column app_public.change_conflict.field is 'The field.';
comment on column app_public.change_conflict.kind is 'expectation or same_instant.';
comment on column app_public.change_conflict.expected is 'The value that the change expects; of same_instant the value that it sets.';
comment on column app_public.change_conflict.found is 'The value that the field will have; of same_instant the value that the other change sets.';
comment on column app_public.change_conflict.at is 'When the change is due.';
comment on column app_public.change_conflict.schedule_id is 'The schedule that is the cause; null where none is known.';
comment on column app_public.change_conflict.plan_id is 'The plan that is the cause; null where none is known.';

-- PostgreSQL 15 adds no column with a default while the body of a function is bound to the row's type. These functions, and what hangs
-- on them, are made again below.
drop function if exists
  app_private.schedule_state(app_public.feature_flag_schedules),
  app_private.schedule_found(app_public.feature_flag_schedules),
  app_private.schedule_change(app_public.feature_flag_schedules, app_public.feature_flag_schedules),
  app_private.schedule_created_event(timestamptz, uuid, app_public.feature_flag_schedules, app_public.feature_flags),
  app_private.is_held(app_public.feature_flag_schedules, timestamptz, timestamptz)
cascade;
alter table app_public.feature_flag_schedules
  add column if not exists plan_id uuid,
  add column if not exists occurrence_no integer,
  add column if not exists step_no integer,
  add column if not exists expects jsonb,
  add column if not exists on_conflict text not null default 'overwrite',
  add column if not exists suspended_for text,
  add column if not exists suspended_details jsonb,
  add column if not exists resolution_reason varchar(500),
  add column if not exists before jsonb,
  add column if not exists kept text[];
-- In one statement, which reads the table once.
alter table app_public.feature_flag_schedules
  drop constraint if exists feature_flag_schedules_status_check,
  drop constraint if exists feature_flag_schedules_plan_id_fkey,
  drop constraint if exists feature_flag_schedules_point_check,
  drop constraint if exists feature_flag_schedules_expects_check,
  drop constraint if exists feature_flag_schedules_on_conflict_check,
  drop constraint if exists feature_flag_schedules_suspended_check;
alter table app_public.feature_flag_schedules
  add constraint feature_flag_schedules_status_check
    check (status in ('pending', 'suspended', 'applied', 'failed', 'cancelled', 'skipped')),
  add constraint feature_flag_schedules_plan_id_fkey foreign key (plan_id) references app_public.plans (id) on delete restrict,
  add constraint feature_flag_schedules_point_check check (num_nulls(plan_id, occurrence_no, step_no) in (0, 3)),
  add constraint feature_flag_schedules_expects_check check (expects is null or app_private.updates_problem(expects) is null),
  add constraint feature_flag_schedules_on_conflict_check
    check (on_conflict in ('overwrite', 'keep', 'suspend') and (on_conflict = 'overwrite' or expects is not null)),
  add constraint feature_flag_schedules_suspended_check check (
    (status = 'suspended') = (suspended_for is not null)
    and (suspended_for is null or suspended_for in ('stop', 'conflict'))
    and (suspended_details is null or suspended_for is not null));
create unique index if not exists feature_flag_schedules_point_idx
  on app_public.feature_flag_schedules (plan_id, occurrence_no, step_no, flag_id) where plan_id is not null;
create index if not exists feature_flag_schedules_suspended_idx
  on app_public.feature_flag_schedules (scheduled_at, id) where status = 'suspended';
-- The guards that are to come, for projections: there are few, and mostly none.
create index if not exists feature_flag_schedules_guarded_idx
  on app_public.feature_flag_schedules (flag_id) where status = 'pending' and expects is not null;

comment on column app_public.feature_flag_schedules.plan_id is 'The plan that it belongs to; null for a schedule of its own.';
comment on column app_public.feature_flag_schedules.occurrence_no is 'Which occurrence of its plan it belongs to.';
comment on column app_public.feature_flag_schedules.step_no is 'Which step of its plan it belongs to, from 1.';
comment on column app_public.feature_flag_schedules.expects is 'What its author expects to find in the flag; null for anything.';
comment on column app_public.feature_flag_schedules.on_conflict is
  'What happens where something else is found: overwrite sets all fields, keep leaves the fields that differ, suspend waits for an admin.';
comment on column app_public.feature_flag_schedules.suspended_for is
  'Why it is suspended: stop (its environment is stopped) or conflict (its flag isn''t as it expects); null when it isn''t.';
comment on column app_public.feature_flag_schedules.suspended_details is
  'Of a conflict what was expected and what was found, of a stop its reason; null for a part of a point that waits with another part.';
comment on column app_public.feature_flag_schedules.resolution_reason is 'Why it was resumed or skipped.';
comment on column app_public.feature_flag_schedules.before is 'Of a plan''s: the fields of the flag as they were found when it was applied.';
comment on column app_public.feature_flag_schedules.kept is 'The fields that it left alone because they weren''t as it expects.';

create index if not exists events_plan_idx on audit.events ((metadata ->> 'planId'), occurred_at) where metadata ? 'planId';

-- It gets the plans besides.
drop function if exists app_private.notify_audit(uuid[], uuid[]);

--! Included platform/claims.sql
-- Who asks. The API sets these settings for each transaction (src/postgres/request_settings.ts); nothing else in the database reads them.
--
-- Access and attribution are two things. Access goes by claims, in policies: any login that may become halyard_admin sets them for
-- itself. Attribution (who did it, by which request, for which schedule) goes by session_user, which a session can't set: what another
-- login than Halyard's own says of itself counts for nothing. SET ROLE and security definer functions leave session_user alone; only a
-- superuser changes it, by SET SESSION AUTHORIZATION. The logins' names are fixed (migrations/roles.sql).
--
-- A setting that was once set locally reads '' afterwards in the same session, and NULL in a session that never set it:
-- both mean "unknown", hence nullif. Policies call these as `(select app_private.claim_role())`, so that they run once a
-- statement and not once a row (500,000 rows: 22 ms instead of 135 ms).
--
-- Bodies that are bound when they are made (`return …`) need no search_path, so the planner puts them in line; an insert asks
-- a dozen times, and each call that isn't in line takes 6 to 15 us (bench/sql/insert.md).

-- The form is the API's to check (src/auth/claims.ts, src/http/request_id.ts), as no other login is believed: a regular expression here
-- took up to half of an event's time. The bound holds in any case.
create or replace function app_private.attributed_setting(name text, max_length integer)
returns text
language sql
stable
parallel safe
return case
  when session_user = 'halyard_authenticator'
    and length(current_setting(name, true)) <= max_length
  then nullif(current_setting(name, true), '')
end;

create or replace function app_private.claim_user_id()
returns text
language sql
stable
parallel safe
return app_private.attributed_setting('jwt.claims.user_id', 255);

create or replace function app_private.claim_email()
returns text
language sql
stable
parallel safe
return app_private.attributed_setting('jwt.claims.email', 320);

-- Of the policies: text that is no role opens nothing, and must not read as unknown.
create or replace function app_private.claim_role()
returns text
language sql
stable
parallel safe
return nullif(current_setting('jwt.claims.role', true), '');

-- Asked before the environments themselves: those take a call, and few tokens are limited.
create or replace function app_private.claims_are_limited()
returns boolean
language sql
stable
parallel safe
return nullif(current_setting('jwt.claims.environments', true), '') is not null;

-- The environments that the request may see: null for all, an empty array for none. Text that is no JSON array of
-- strings is an error and so fails closed.
create or replace function app_private.claim_environments()
returns text[]
language sql
stable
parallel safe
set search_path to pg_catalog, pg_temp
as $$
  select case
    when nullif(current_setting('jwt.claims.environments', true), '') is not null
      then array(select jsonb_array_elements_text(current_setting('jwt.claims.environments', true)::jsonb))
  end
$$;

create or replace function app_private.request_id()
returns text
language sql
stable
parallel safe
return app_private.attributed_setting('halyard.request_id', 128);

create or replace function app_private.client_request_id()
returns text
language sql
stable
parallel safe
return app_private.attributed_setting('halyard.client_request_id', 128);

-- Beside the claims, because a change of a flag is a plain UPDATE, which has no place for it.
create or replace function app_private.change_reason()
returns text
language sql
stable
parallel safe
return app_private.attributed_setting('halyard.reason', 500);

-- Beside the claims for the same reason. Of the API's login alone, so that no setting of a server can hold the worker's changes.
create or replace function app_private.expected_revision()
returns bigint
language sql
stable
parallel safe
return app_private.attributed_setting('halyard.expected_revision', 18)::bigint;

-- What a session of another login says of itself, for its event: shown, not believed.
create or replace function app_private.claimed()
returns jsonb
language sql
stable
parallel safe
return case
  when concat(
    current_setting('jwt.claims.user_id', true), current_setting('jwt.claims.email', true), current_setting('jwt.claims.role', true),
    current_setting('halyard.request_id', true), current_setting('halyard.reason', true)) = ''
  then '{}'::jsonb
  else jsonb_build_object('claimed', jsonb_strip_nulls(jsonb_build_object(
    'userId', nullif(left(current_setting('jwt.claims.user_id', true), 255), ''),
    'email', nullif(left(current_setting('jwt.claims.email', true), 320), ''),
    'role', nullif(left(current_setting('jwt.claims.role', true), 32), ''),
    'requestId', nullif(left(current_setting('halyard.request_id', true), 128), ''),
    'reason', nullif(left(current_setting('halyard.reason', true), 500), ''))))
end;

-- record_rows() raises a revision and writes the event itself. A login that isn't the owner's, or can't become the owner, has no such
-- right, with any setting.
create or replace function app_private.is_recording()
returns boolean
language sql
stable
return coalesce(current_setting('halyard.recording', true) = 'on', false)
  and (session_user = 'halyard_worker' or pg_has_role(session_user, 'halyard_owner', 'member'));

-- Functions that run with their owner's rights call this first: row-level security doesn't stand behind them.
create or replace function app_private.require_admin()
returns void
language plpgsql
stable
set search_path to pg_catalog, pg_temp
as $$
begin
  if app_private.claim_role() is distinct from 'admin' then
    raise exception 'Only an admin may do this.' using errcode = 'insufficient_privilege';
  end if;
end;
$$;

-- Whether the claims let through a row of this environment: the same rule as in the policies, for functions that run
-- with their owner's rights.
create or replace function app_private.environment_is_visible(environment text)
returns boolean
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
  select not app_private.claims_are_limited() or environment = any (app_private.claim_environments())
$$;

-- The same rule as in the policies of plans, which change flags of several environments.
create or replace function app_private.environments_are_visible(environments varchar[])
returns boolean
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
  select not app_private.claims_are_limited() or environments <@ (app_private.claim_environments())::varchar[]
$$;

comment on function app_private.attributed_setting(text, integer) is
  'A setting that says who did something: null unless the API''s login set it, to 1 to `max_length` characters.';
comment on function app_private.claim_user_id() is 'The user id in the verified token of a request of the API; null otherwise.';
comment on function app_private.claim_email() is 'The e-mail address in the verified token of a request of the API; null otherwise.';
comment on function app_private.claim_role() is 'admin, viewer or auditor; null when there is no verified token.';
comment on function app_private.claims_are_limited() is 'Whether the token is limited to some environments, or to none.';
comment on function app_private.claim_environments() is 'The environments that the token is limited to; null means all.';
comment on function app_private.request_id() is 'The API''s id of the HTTP request that this transaction serves; null in sessions of other logins.';
comment on function app_private.client_request_id() is 'The id that the client gave that request; null when it gave none.';
comment on function app_private.change_reason() is
  'Why the client of the API makes this change, as the request says; null when it gave no reason, and in sessions of other logins.';
comment on function app_private.expected_revision() is
  'The revision that the row must have for the API''s client to change it; null when the request names none, and in sessions of other logins.';
comment on function app_private.claimed() is
  '`claimed` with the claims, the request id and the reason that a session set, cut to length; an empty object when it set none.';
comment on function app_private.is_recording() is
  'Whether the running statement is record_rows()''s: it sets halyard.recording, and the login is the worker''s or may become the owner.';
comment on function app_private.require_admin() is 'Raises insufficient_privilege unless the verified token is an admin''s.';
comment on function app_private.environment_is_visible(text) is 'Whether the token lets through rows of this environment.';
comment on function app_private.environments_are_visible(varchar[]) is 'Whether the token lets through what is of all these environments.';

-- These run inside policies and stamps, as the role that asks.
grant usage on schema app_private to halyard_admin, halyard_viewer, halyard_auditor;
grant execute on function
  app_private.claim_user_id(), app_private.claim_email(), app_private.claim_role(), app_private.claims_are_limited(),
  app_private.claim_environments(), app_private.request_id(), app_private.attributed_setting(text, integer)
to halyard_admin, halyard_viewer, halyard_auditor;
grant execute on function app_private.is_recording(), app_private.expected_revision() to halyard_admin;
--! EndIncluded platform/claims.sql
--! Included audit/record/event_types.sql
-- The catalogue of event types: one row for each. A new type is a row here and the function that makes its details; `npm run schema`
-- prints docs/events.md and src/audit/event_types.json from the table.
--
-- What is gone from this list is deleted, unless the trail has events of it. A type that was released stays here for as long as that may
-- be so: `audit verify` names a row that the release doesn't have.
with listed (type, level, metadata_keys, description) as (
  values
    ('feature_flag.created', 'info', '{flagKey,after,reason}', 'A flag was created. `after` is its state.'),
    ('feature_flag.updated', 'info', '{flagKey,before,after,requestedBy,reason,planId,occurrenceNo,stepNo}',
      'A flag was changed, by an admin, by a schedule, or in SQL. `before` and `after` are its state. Where a schedule changed it, the event''s `scheduleId` names that schedule, `requestedBy` is the user who scheduled it, or moved or retried it last, and `reason` is the schedule''s; `planId`, `occurrenceNo` and `stepNo` name the plan that it belongs to, if it belongs to one.'),
    ('feature_flag.deleted', 'info', '{flagKey,before}', 'A flag was deleted, which only SQL can do. `before` is its last state.'),
    ('feature_flag.reconciled', 'warning', '{flagKey,revisions,rowRevision,rowCreatedAt,rowUpdatedAt,after,differs}',
      'A flag changed, and these changes have no event. `revisions` are the changes that this event stands for. `after` is the row as it was found, at `rowRevision`, created at `rowCreatedAt` and last changed at `rowUpdatedAt`. `differs`, by `audit reconcile --record-rows` only, has each column that wasn''t what the trail said of it: the `trail`''s value and the `row`''s.'),
    ('flag_schedule.created', 'info', '{scheduleId,flagKey,scheduledAt,updates,reason,expects,onConflict,planId,occurrenceNo,stepNo}',
      'A change of a flag was scheduled: `updates`, for `scheduledAt`. `expects` is what it expects to find in the flag, and `onConflict` what happens where it finds something else: keep or suspend. In this and the other events of schedules `planId`, `occurrenceNo` and `stepNo` name the plan that it belongs to, if it belongs to one.'),
    ('flag_schedule.rescheduled', 'info', '{scheduleId,flagKey,before,after,reason,planId,occurrenceNo,stepNo}',
      'A pending schedule was moved to another time. `before` and `after` have its `scheduledAt`.'),
    ('flag_schedule.retried', 'info', '{scheduleId,flagKey,before,after,reason,planId,occurrenceNo,stepNo}',
      'A schedule that had failed was made due again. `before` has the time that it was scheduled for first.'),
    ('flag_schedule.cancelled', 'info', '{scheduleId,flagKey,scheduledAt,reason,planId,occurrenceNo,stepNo}',
      'A pending or suspended schedule was cancelled, by an admin, in SQL, or by `restore accept`. `reason` is `manual_cancellation` unless one was given.'),
    ('flag_schedule.applied', 'info', '{scheduleId,flagKey,updates,appliedAt,flagState,latenessMs,kept,planId,occurrenceNo,stepNo}',
      'A schedule was applied, `latenessMs` milliseconds after its time: by the worker, or by the admin who changed several flags at once. `kept` are the fields that it left alone, because they weren''t as it expects. `flagState` is the flag from then on; an event that was written afterwards from a dead letter lacks it. The change of the flag is a `feature_flag.updated` of its own, if there was any.'),
    ('flag_schedule.failed', 'error', '{scheduleId,flagKey,errorMessage,failedAt,attempts,planId,occurrenceNo,stepNo}',
      'A schedule failed for good, after `attempts` attempts. `errorMessage` is what the last one ended with. A person must mend the cause and retry it.'),
    ('flag_schedule.suspended', 'warning', '{scheduleId,flagKey,scheduledAt,for,details,planId,occurrenceNo,stepNo}',
      'A schedule came due and was not applied. `for` says why: stop, its environment is stopped, and `details` have the `environment`, whose `environment.stopped` has the reason; or conflict, the flag isn''t as the schedule expects, and `details` have what was `expected` and what was `found`. All changes of a plan''s point are suspended together; those without `details` wait with the others.'),
    ('flag_schedule.resumed', 'info', '{scheduleId,flagKey,scheduledAt,suspendedFor,reason,acknowledged,planId,occurrenceNo,stepNo}',
      'A suspended schedule is due again, at `scheduledAt`. `acknowledged` says that an admin accepted its conflict: it sets its fields, with all that it finds.'),
    ('flag_schedule.skipped', 'info', '{scheduleId,flagKey,scheduledAt,reason,planId,occurrenceNo,stepNo}',
      'A schedule that came due while its environment was stopped will not be applied.'),
    ('flag_schedule.deleted', 'info', '{scheduleId,flagKey,before,planId,occurrenceNo,stepNo}',
      'A schedule was deleted, by `schedule_retention`, with its flag, or in SQL. `before` is its last state.'),
    ('flag_schedule.reconciled', 'warning',
      '{scheduleId,flagKey,revisions,rowRevision,rowCreatedAt,rowUpdatedAt,updates,after,appliedAt,requestedBy,createdBy,cancelledBy,cancelReason,differs}',
      'A schedule changed, and these changes have no event: as `feature_flag.reconciled`. `appliedAt`, `requestedBy`, `createdBy`, `cancelledBy` and `cancelReason` are what the row says, which is not proof.'),
    ('flag_plan.created', 'info', '{planId,title,contentHash,content,environments,firstAt,reason,reverts}',
      'A plan was made: changes of several flags for one instant, all or nothing. `content` is what it does, `contentHash` its SHA-256. `firstAt` is when it is due, and `reverts` what it takes back. The events of a plan have an environment when all its changes are in that one, else `environments`.'),
    ('flag_plan.updated', 'info', '{planId,environments,before,after,reason}',
      'A plan was edited before it was applied. Its schedules were deleted and made again.'),
    ('flag_plan.paused', 'info', '{planId,environments,title,occurrenceNo,stepNo,reason}',
      'A plan failed for good, or one of its flags was deleted: `reason` says what happened. A person must retry, edit or cancel it.'),
    ('flag_plan.resumed', 'info', '{planId,environments,title,occurrenceNo,stepNo,nextAt,reason}',
      'A paused plan was made due again, at `nextAt`.'),
    ('flag_plan.completed', 'info', '{planId,environments,title,applied,skipped}',
      'Nothing of a plan is left to do. `applied` and `skipped` are how many of its points were.'),
    ('flag_plan.cancelled', 'info', '{planId,environments,title,reason}',
      'A plan was cancelled, by an admin, in SQL, or by `restore accept`.'),
    ('flag_plan.deleted', 'info', '{planId,environments,before}',
      'A plan was deleted, by `schedule_retention` or in SQL. `before` is its last state.'),
    ('flag_plan.reconciled', 'warning',
      '{planId,environments,revisions,rowRevision,rowCreatedAt,rowUpdatedAt,after,statusReason,applied,skipped,reverts,createdBy,differs}',
      'A plan changed, and these changes have no event: as `feature_flag.reconciled`.'),
    ('environment.created', 'info', '{name,after,reason}',
      'An environment was created. The event''s environment is its name, so readers of that environment see it. `after` has `createdBy`.'),
    ('environment.updated', 'info', '{name,before,after}', 'An environment was changed in SQL past the trigger that refuses any change.'),
    ('environment.stopped', 'warning', '{name,reason,before,after}',
      'An environment was stopped: no schedule changes its flags until it is resumed. `after` has `stoppedAt`, `stoppedBy` and `stopReason`.'),
    ('environment.resumed', 'warning', '{name,reason,before,after,missed,applied,skipped,stoppedForMs}',
      'The stop of an environment ended. `missed` says what was done with the changes that came due meanwhile, but for exceptions: apply or skip. `applied` and `skipped` count them.'),
    ('environment.deleted', 'info', '{name,before}', 'An environment was deleted, which only SQL can do. `before` has `createdBy`.'),
    ('environment.reconciled', 'warning', '{name,revisions,rowRevision,rowCreatedAt,after,differs}',
      'An environment changed, and these changes have no event: as `feature_flag.reconciled`.'),
    ('setting.changed', 'info', '{name,before,after}',
      'A setting in the database was changed, by `settings set` or in SQL. `databaseUser` is the login.'),
    ('setting.reconciled', 'warning', '{name,revisions,rowRevision,rowUpdatedAt,after,differs}',
      'A setting changed, and these changes have no event: as `feature_flag.reconciled`. `after` is its value.'),
    ('access.denied', 'warning', '{operation,code,flagKey,role,count,minute}',
      'A request with a verified token was refused for want of rights. `operation` is the method and the route, or the GraphQL operation and its field at the root; `code` is the answer''s. A user has ten such events a minute at most; one with `count` and `minute` stands for the others.'),
    ('audit.exported', 'info', '{format,filters,follow}',
      'An admin or an auditor began an export by the API. `filters` are as they were given; `follow` says whether it waits for new events.'),
    ('audit.purged', 'info', '{month,before,events,firstSeq,lastSeq,eventsInAll,lastSeqInAll}',
      'A month of the trail was purged: all events before `before`. `eventsInAll` and `lastSeqInAll` count the months before it too.'),
    ('audit.restored', 'warning',
      '{trail,incarnation,previousIncarnation,reason,overdue,asCopy,lastSeal,lastSeq,skipped,destinations,refused}',
      'An operator accepted that a restore or a failover lost the end of the trail, and another incarnation began. `lastSeal` and `lastSeq` are of the state that was restored. `destinations` have their newest seals, or the last event that arrived without one, and in `notSentFrom` from which number on they aren''t sent the events up to `lastSeq`. `skipped` is how many schedules were cancelled; a copy (`asCopy`) forwards nothing to those `refused`.'),
    ('audit.gap', 'warning', '{flagKey,flagId,scheduleId,planId,lastRevision,lastEventId,lastEventAt}',
      'A flag, a schedule or a plan is gone, and no event says when it was deleted or by whom. `lastRevision`, `lastEventId` and `lastEventAt` are the last that is known; changes after that may be lost too.'),
    ('audit.cursor_moved', 'warning', '{destination,renamedFrom,before,after}',
      'Another login than the worker''s moved the cursor of a destination, or the worker''s moved it back: the destination may lack events, or get some twice. `before` is 0 for a cursor that was inserted. `databaseUser` is the login.'),
    ('audit.undeliverable', 'warning', '{destination,eventId,seq,eventType,status}',
      'A destination refused an event for good, and the worker passed it over: the copy there lacks it. `eventId`, `seq` and `eventType` name it, `audit.sealed` for a seal; `status` is the answer''s. A refused `audit.undeliverable` makes no other.'),
    ('audit.destination_forgotten', 'info', '{destination,lastSeq}',
      'The cursor of a destination was deleted, by `audit.forget_destination()` or by DELETE. What is sent there later begins at 1 again.')
), removed as (
  delete from audit.event_types t
  where not exists (select from listed l where l.type = t.type)
    and not exists (select from audit.events e where e.event_type = t.type)
)
insert into audit.event_types as t (type, position, level, metadata_keys, description)
select l.type, row_number() over (), l.level, l.metadata_keys::text[], l.description
from listed l
on conflict (type) do update
set position = excluded.position, level = excluded.level, metadata_keys = excluded.metadata_keys, description = excluded.description
where (t.position, t.level, t.metadata_keys, t.description)
  is distinct from (excluded.position, excluded.level, excluded.metadata_keys, excluded.description);
--! EndIncluded audit/record/event_types.sql
--! Included platform/settings.sql
-- Settings that hold for the database, for every process: one row each, in every dump. The owner writes them, by
-- `halyard settings set` or by UPDATE; the rules, the stamp and the event are the table's own.

create or replace function app_private.setting_definitions()
returns table (name text, default_value text, description text)
language sql
immutable
set search_path to pg_catalog, pg_temp
as $$
  values
    ('audit_mode', 'lax', 'lax: a change whose event can''t be written goes through, and the event becomes a dead letter. strict: such a change fails with audit_unavailable. A session can only make itself strict.'),
    ('audit_retention', '', 'How long the worker keeps the audit trail, in whole months or years, as in 24 months; empty: forever.'),
    ('pending_per_flag', '1000', 'How many pending schedules one flag may have by the API; further ones are refused with too_many_schedules. SQL isn''t limited.'),
    ('retry_base', '30 seconds', 'How long a schedule waits after its first failed attempt; each further attempt doubles it, up to an hour. An error that passes by itself, such as a lock or a full disk, counts as no attempt.'),
    ('schedule_retention', '', 'Days after which the worker deletes schedules and plans that ended: applied=90 what was applied, cancelled=30 what was cancelled or skipped, or one of them; empty: never.')
$$;

comment on function app_private.setting_definitions() is 'Every setting with its default and what it means.';

create or replace function app_private.setting_problem(name text, value text)
returns text
language plpgsql
stable
set search_path to pg_catalog, pg_temp
as $$
declare
  v_is_good boolean;
  v_rule text;
begin
  case name
    when 'audit_mode' then
      v_rule := 'lax or strict';
      v_is_good := value in ('lax', 'strict');
    when 'audit_retention' then
      v_rule := 'whole months or years, as in 24 months, or empty to keep the trail forever';
      v_is_good := value ~ '^([1-9][0-9]{0,2} (month|year)s?)?$';
    when 'pending_per_flag' then
      v_rule := 'a whole number from 1 to 999999';
      v_is_good := value ~ '^[1-9][0-9]{0,5}$';
    when 'retry_base' then
      v_rule := 'a time from 1 ms to 1 hour, as in 1 second';
      v_is_good := value ~ '^[1-9][0-9]{0,6} ?(ms|milliseconds?|s|seconds?|min|minutes?|h|hours?)$'
        and value::interval <= interval '1 hour';
    when 'schedule_retention' then
      v_rule := 'days by status, as in applied=90,cancelled=30, or empty to keep schedules forever';
      v_is_good := value ~ '^((applied|cancelled)=[1-9][0-9]{0,4}(, ?(applied|cancelled)=[1-9][0-9]{0,4})?)?$'
        and value !~ 'applied.*applied|cancelled.*cancelled';
    else
      return format('There is no setting %s: the settings are %s.', name,
        (select string_agg(d.name, ', ') from app_private.setting_definitions() as d));
  end case;
  return case when not v_is_good then format('%s must be %s.', name, v_rule) end;
end;
$$;

comment on function app_private.setting_problem(text, text) is
  'Why a setting can''t have this value, or that there is none of this name, as a sentence; null when it can.';

create or replace function app_private.setting(name text)
returns text
language sql
stable
set search_path to pg_catalog, pg_temp
as $$ select s.value from app_private.settings s where s.name = setting.name $$;

comment on function app_private.setting(text) is 'The value of a setting; null when its row is gone.';

-- For who watches: /readyz, /metrics and `audit verify` say it. They must not wait for a lock that somebody holds.
create or replace function app_private.audit_mode()
returns text
language plpgsql
stable
security definer
set search_path to pg_catalog, pg_temp
set lock_timeout to '200ms'
as $$
begin
  return coalesce(app_private.setting('audit_mode'), 'lax');
exception
  when undefined_table then
    return 'lax';
  when lock_not_available then
    return null;
end;
$$;

comment on function app_private.audit_mode() is
  'The setting audit_mode, lax or strict; null while somebody holds the lock of the settings. A session may be stricter.';

grant execute on function app_private.audit_mode() to halyard_auditor;

create or replace function app_private.set_setting(name text, value text)
returns bigint
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
declare
  v_revision bigint;
begin
  insert into app_private.settings as s (name, value)
  values (set_setting.name, set_setting.value)
  on conflict on constraint settings_pkey do update set value = excluded.value
  returning s.revision into v_revision;
  return v_revision;
end;
$$;

comment on function app_private.set_setting(text, text) is
  'Sets a setting, as the owner, and returns its revision; raises invalid_parameter_value for an unknown name or a bad value.';

-- The identity of a setting in the ids of its events: what a row's id is for flags and schedules.
create or replace function app_private.setting_id(name text)
returns uuid
language sql
stable
parallel safe
return app_private.uuid_of(sha256(convert_to('setting ' || name, 'UTF8')));

comment on function app_private.setting_id(text) is 'The id that events of a setting are derived from.';

-- An INSERT finds no row where somebody deleted it past the triggers: the trail goes on above what it has of the setting. Where it
-- can't be read the setting can be set all the same, which takes a database out of strict mode.
create or replace function app_private.next_setting_revision(name text)
returns bigint
language plpgsql
stable
set search_path to pg_catalog, pg_temp
as $$
begin
  -- set_setting() comes here each time.
  if exists (select from app_private.settings s where s.name = next_setting_revision.name) then
    return 1;
  end if;
  return 1 + app_private.highest_revision('settings', app_private.setting_id(name), 'epoch', 0, array[name]);
exception when others then
  return 1;
end;
$$;

comment on function app_private.next_setting_revision(text) is 'The revision that a setting without a row begins at.';

create or replace function app_private.tg_settings__stamp()
returns trigger
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
declare
  v_problem text;
begin
  if tg_op = 'UPDATE' and new.name <> old.name then
    raise exception 'The name of a setting can''t be changed.' using errcode = 'ZF010';
  end if;
  new.value := coalesce(btrim(new.value), '');
  v_problem := app_private.setting_problem(new.name, new.value);
  if v_problem is not null then
    raise exception '%', v_problem using errcode = 'invalid_parameter_value';
  end if;
  new.revision := case
    when tg_op = 'INSERT' then app_private.next_setting_revision(new.name)
    when new.value <> old.value then old.revision + 1
    when new.revision > old.revision and app_private.is_recording() then new.revision
    else old.revision
  end;
  new.updated_at := case when tg_op = 'INSERT' or new.value <> old.value then now() else old.updated_at end;
  return new;
end;
$$;

comment on function app_private.tg_settings__stamp() is 'Refuses values that are not valid, and stamps revision and updated_at.';

-- The system acts, by the event's type: the event's database_user says which login it was. To leave strict mode while the
-- trail is broken works, because the new row counts already; to enter it doesn't.
create or replace function app_private.tg_settings__audit()
returns trigger
language plpgsql
volatile
security definer
set search_path to pg_catalog, pg_temp
set timezone to 'UTC'
as $$
declare
  v_at timestamptz := clock_timestamp();
  v_id uuid;
  v_details jsonb := jsonb_build_object('name', new.name, 'before', old.value, 'after', new.value);
  v_events app_private.audit_event[];
begin
  if new.value is not distinct from old.value then
    return null;
  end if;
  begin
    v_id := app_private.event_id(app_private.incarnation(), app_private.setting_id(new.name), 'epoch', new.revision);
    v_events := array[app_private.as_system(app_private.make_event(
      v_id, v_at, 'setting.changed', null, null, null, null, new.revision, v_details))];
    perform app_private.write_events(v_events);
  exception when others then
    perform app_private.write_dead_letter(
      jsonb_build_object(
        'table', tg_table_name, 'operation', tg_op, 'at', v_at, 'events', to_jsonb(v_events),
        'rows', jsonb_build_array(jsonb_build_object('id', app_private.setting_id(new.name))),
        'eventType', 'setting.changed', 'eventId', v_id, 'revision', new.revision, 'details', v_details),
      sqlstate, sqlerrm);
  end;
  perform app_private.notify_audit((select array_agg(e.id) from unnest(v_events) as e), null);
  return null;
end;
$$;

comment on function app_private.tg_settings__audit() is 'Writes the event setting.changed.';

-- Ahead of the triggers when the table is new: a default is no change.
insert into app_private.settings (name, value)
select d.name, d.default_value from app_private.setting_definitions() as d
on conflict (name) do nothing;

create or replace trigger _100_stamp
  before insert or update on app_private.settings
  for each row execute function app_private.tg_settings__stamp();
create or replace trigger _900_audit
  after insert or update on app_private.settings
  for each row execute function app_private.tg_settings__audit();
alter table app_private.settings enable always trigger _100_stamp;
alter table app_private.settings enable always trigger _900_audit;
--! EndIncluded platform/settings.sql
--! Included audit/record/notify.sql
-- The hint that something happened: ids only, one notification a statement. Rows are the truth, and every listener has a
-- catch-up read behind it.

create or replace function app_private.notify_audit(event_ids uuid[], schedule_ids uuid[], plan_ids uuid[] default null)
returns void
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
begin
  -- A listener stuck in a transaction fills the queue, and then every commit that notifies fails, past any exception
  -- block. So stop hinting long before.
  if pg_notification_queue_usage() >= 0.5 then
    return;
  end if;
  -- A payload must stay under 8,000 bytes; 60 ids of each kind take 7,200.
  perform pg_notify('halyard_audit', json_build_object(
    'events', event_ids[1:60],
    'schedules', schedule_ids[1:60],
    'plans', plan_ids[1:60],
    'truncated', coalesce(cardinality(event_ids), 0) > 60
  )::text);
end;
$$;

comment on function app_private.notify_audit(uuid[], uuid[], uuid[]) is
  'Notifies channel halyard_audit of new events, and of the schedules and plans that they are about, unless the notification queue is half full.';

-- For a truncated hint: it names some of the rows that changed, and its reader looks at all that changed lately. The events name the
-- schedules. Callers get ids alone; their own policies say which of the rows they see. An index on updated_at would cost every change.
-- Of environments that the token doesn't reach they get none: many of those would leave no room for their own.
-- Events of one statement share their time: by the id, two calls find the same of them.
create or replace function app_private.recent_schedule_ids(most integer)
returns setof uuid
language sql
stable
security definer
set search_path to pg_catalog, pg_temp
as $$
  select e.schedule_id
  from audit.events e
  where e.occurred_at > now() - interval '10 minutes' and e.schedule_id is not null
    and ((select true where not app_private.claims_are_limited()) is not null
      or e.environment = any ((select app_private.claim_environments())::text[]))
  order by e.occurred_at desc, e.id
  limit least(most, 1000)
$$;

comment on function app_private.recent_schedule_ids(integer) is
  'The schedule of each event of the last ten minutes that has one, in the environments that the token reaches, newest first; 1,000 at most.';

grant execute on function app_private.recent_schedule_ids(integer) to halyard_admin, halyard_viewer, halyard_auditor;

-- As recent_schedule_ids(), for plans. Events of a plan of several environments have none of their own.
create or replace function app_private.recent_plan_ids(most integer)
returns setof uuid
language sql
stable
security definer
set search_path to pg_catalog, pg_temp
as $$
  select (e.metadata ->> 'planId')::uuid
  from audit.events e
  where e.occurred_at > now() - interval '10 minutes' and e.metadata ? 'planId' and starts_with(e.event_type, 'flag_')
    and ((select true where not app_private.claims_are_limited()) is not null
      or e.environment = any ((select app_private.claim_environments())::text[])
      or e.metadata -> 'environments' <@ (select to_jsonb(app_private.claim_environments())))
  order by e.occurred_at desc, e.id
  limit least(most, 1000)
$$;

comment on function app_private.recent_plan_ids(integer) is
  'The plan of each event of the last ten minutes that has one, in the environments that the token reaches, newest first; 1,000 at most.';

grant execute on function app_private.recent_plan_ids(integer) to halyard_admin, halyard_auditor;

-- The flags that events say were created or changed: a hint names no flags. Callers get ids alone, and their own policies say
-- which of the flags they see.
create or replace function app_private.flag_ids_of_events(event_ids uuid[])
returns setof uuid
language sql
stable
security definer
rows 50
set search_path to pg_catalog, pg_temp
as $$
  select distinct e.flag_id
  from audit.events e
  where e.id = any (event_ids) and e.flag_id is not null and starts_with(e.event_type, 'feature_flag.')
$$;

comment on function app_private.flag_ids_of_events(uuid[]) is 'The flags that were created or changed by what these events say.';

-- As recent_schedule_ids(), for flags.
create or replace function app_private.recent_flag_ids(most integer)
returns setof uuid
language sql
stable
security definer
set search_path to pg_catalog, pg_temp
as $$
  select e.flag_id
  from audit.events e
  where e.occurred_at > now() - interval '10 minutes' and e.flag_id is not null and starts_with(e.event_type, 'feature_flag.')
    and ((select true where not app_private.claims_are_limited()) is not null
      or e.environment = any ((select app_private.claim_environments())::text[]))
  order by e.occurred_at desc, e.id
  limit least(most, 1000)
$$;

comment on function app_private.recent_flag_ids(integer) is
  'The flag of each event of the last ten minutes that says that a flag was created or changed, in the environments that the token reaches, newest first; 1,000 at most.';

grant execute on function app_private.flag_ids_of_events(uuid[]), app_private.recent_flag_ids(integer)
  to halyard_admin, halyard_viewer, halyard_auditor;

-- As flag_ids_of_events(), for environments that were made, stopped or resumed. A name is the environment's key.
create or replace function app_private.environments_of_events(event_ids uuid[])
returns setof text
language sql
stable
security definer
rows 5
set search_path to pg_catalog, pg_temp
as $$
  select distinct e.metadata ->> 'name'
  from audit.events e
  where e.id = any (event_ids) and starts_with(e.event_type, 'environment.')
$$;

comment on function app_private.environments_of_events(uuid[]) is 'The environments that were made, changed or deleted by what these events say.';

grant execute on function app_private.environments_of_events(uuid[]) to halyard_admin, halyard_viewer, halyard_auditor;
--! EndIncluded audit/record/notify.sql
--! Included audit/record/trail.sql
-- The audit trail: events are made by AFTER triggers in the transaction of the change, one call a statement.
--
-- The trigger functions (flags/events.sql, schedules/events.sql) share one shape. Inside one subtransaction the events are made
-- and written; if that fails, the change itself succeeds and the events go to the dead letters; if those are broken too,
-- to the server's log. In strict mode the change fails instead; in any mode it fails where a full disk, or another want of
-- resources, leaves room for neither: losing nothing wins over succeeding.

-- Writes events, and queues them for the sequencer. Here each event gets its level from audit.event_types, and its text is rendered,
-- once, for good. An event that is written again keeps its level. A type that isn't in the table, as when an administrator emptied it, is
-- a warning: no change and no event is lost by it, and `audit verify` names what is missing.
create or replace function app_private.write_events(events app_private.audit_event[])
returns void
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
-- The planner expects many events and so would plan for each call what is written by it: 0.3 ms.
set plan_cache_mode to force_generic_plan
as $$
begin
  with written as (
    insert into audit.events (
      id, occurred_at, event_type, level, flag_id, flag_key, environment, schedule_id, revision, actor_kind, admin_user_id,
      admin_email, request_id, client_request_id, database_user, application_name, reconciled, metadata, payload)
    select
      e.id, e.occurred_at, e.event_type, l.level, e.flag_id, e.flag_key, e.environment, e.schedule_id, e.revision, e.actor_kind,
      e.admin_user_id, e.admin_email, e.request_id, e.client_request_id, e.database_user, e.application_name, e.reconciled,
      e.metadata,
      app_private.render_event(row(
        e.id, e.occurred_at, e.event_type, l.level, e.flag_id, e.flag_key, e.environment, e.schedule_id, e.revision,
        e.actor_kind, e.admin_user_id, e.admin_email, e.request_id, e.client_request_id, e.database_user, e.application_name,
        e.reconciled, e.metadata, null)::app_private.audit_event)
    from unnest(events) as e
    -- One by one, by the limit: a hash of the table takes longer than one look into it.
    left join lateral (select t.level from audit.event_types t where t.type = e.event_type limit 1) as t on true
    cross join lateral (select coalesce(e.level, t.level, 'warning') as level) as l
    returning id, occurred_at
  )
  insert into audit.queue (event_id, occurred_at)
  select w.id, w.occurred_at
  from written w;
end;
$$;

comment on function app_private.write_events(app_private.audit_event[]) is 'Appends events to the trail and to the sequencer''s queue.';

-- A session may make itself strict by halyard.audit_mode, but not lax where the setting is strict: any login can set that.
-- Without the table of settings the mode is lax, which keeps a broken database working. Where the table can't be read for another
-- reason, as while a stranger holds its lock, the mode isn't known, and the change fails: losing nothing wins over succeeding.
create or replace function app_private.audit_is_strict()
returns boolean
language plpgsql
stable
set search_path to pg_catalog, pg_temp
as $$
begin
  if current_setting('halyard.audit_mode', true) = 'strict' then
    return true;
  end if;
  return coalesce(app_private.setting('audit_mode') = 'strict', false);
exception when undefined_table or undefined_column or undefined_function then
  return false;
end;
$$;

comment on function app_private.audit_is_strict() is 'Whether a change must fail when its event can''t be written.';

-- What is left when writing failed: the dead letters, and behind them the server's log. Never raises, but in strict mode, and
-- where the server lacks resources, be it for the event or for the letter: a small change may fit its page while the trail's tables
-- can't grow, and the log may lie on the same full disk. Such an error is of class 53, in strict mode too: it passes by itself, and a
-- schedule that meets it stays due. Lack of resources is SQLSTATE class 53 (no disk, no memory), 58 (a disk that fails), and XX: what
-- PostgreSQL has no class for, such as a quota of the file system (EDQUOT), and damaged pages. A file system that is read only
-- is 42501, as a missing privilege is: the letter's error is the former when the owner has the privilege, and no policy counts.
-- The context is read without Halyard's functions: one of those may be what is broken. Any login may set what it says, so it is cut to
-- length; attribute_event() believes it only of Halyard's own logins.
create or replace function app_private.write_dead_letter(what jsonb, error_code text, error_message text)
returns void
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
declare
  c_shortage constant text := 'insufficient_resources';
  v_content jsonb := what || jsonb_build_object('context', jsonb_build_object(
    'userId', left(current_setting('jwt.claims.user_id', true), 255),
    'email', left(current_setting('jwt.claims.email', true), 320),
    'role', left(current_setting('jwt.claims.role', true), 32),
    'requestId', left(current_setting('halyard.request_id', true), 128),
    'clientRequestId', left(current_setting('halyard.client_request_id', true), 128),
    'reason', left(current_setting('halyard.reason', true), 500),
    -- As text: it may be no JSON.
    'applying', case when session_user in ('halyard_worker', 'halyard_authenticator') then current_setting('halyard.applying', true) end,
    'databaseUser', session_user,
    'applicationName', current_setting('application_name')));
  v_shortage text := case left(error_code, 2) when '53' then error_code when '58' then c_shortage when 'XX' then c_shortage end;
begin
  if app_private.audit_is_strict() then
    raise exception 'The audit trail can''t be written, and this database allows no change without it: %', error_message
      using errcode = coalesce(v_shortage, 'ZF011'), detail = error_code;
  end if;
  begin
    insert into audit.dead_letters (content, error_code, error_message)
    values (v_content, write_dead_letter.error_code, write_dead_letter.error_message);
    raise warning 'halyard: audit event not written, kept as a dead letter (%): %', error_code, error_message;
  exception when others then
    v_shortage := coalesce(
      case
        when sqlstate like '53%' then sqlstate
        when sqlstate like '58%' or sqlstate like 'XX%' then c_shortage
        when sqlstate = '42501' and has_table_privilege('audit.dead_letters', 'insert')
          and not row_security_active('audit.dead_letters') then c_shortage
      end,
      v_shortage);
    if v_shortage is not null then
      raise exception 'Neither the audit event nor its dead letter can be written, so nothing is changed: %', sqlerrm
        using
          errcode = v_shortage,
          detail = format('The event: %s (%s). The dead letter: %s (%s).', error_message, error_code, sqlerrm, sqlstate),
          hint = 'Give the server room, and try again.';
    end if;
    raise log 'halyard: audit event lost to the trail, and no dead letter (%; %): %', error_message, sqlerrm, v_content;
    raise warning 'halyard: audit event not written and no dead letter; it is in the server log only (%): %', error_code, error_message;
  end;
end;
$$;

comment on function app_private.write_dead_letter(jsonb, text, text) is
  'Keeps what could not be written to the trail. Raises ZF011 when the audit mode is strict, and an error of class 53 when the server lacks the resources for the event or the dead letter, and neither can be written.';

-- For an event that is about no row of an audited table: a new type of such events is a row of audit.event_types and a call of this. Who
-- acts is the session's actor, or with `names_user` the user whom the details name.
create or replace function app_private.record_event(
  event_type text, operation text, details jsonb, flag_key text default null, environment text default null, names_user boolean default false,
  id uuid default null
)
returns uuid
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
set timezone to 'UTC'
as $$
declare
  v_at timestamptz := clock_timestamp();
  v_id uuid := coalesce(record_event.id, gen_random_uuid());
  v_events app_private.audit_event[];
begin
  begin
    v_events := array[app_private.make_event(v_id, v_at, event_type, null, flag_key, environment, null, null, details)];
    if names_user then
      v_events[1].actor_kind := 'admin';
      v_events[1].admin_user_id := details ->> 'adminUserId';
      v_events[1].admin_email := details ->> 'adminEmail';
      v_events[1].metadata := details;
    end if;
    perform app_private.write_events(v_events);
  exception when others then
    perform app_private.write_dead_letter(
      jsonb_build_object(
        'operation', operation, 'at', v_at, 'events', to_jsonb(v_events), 'eventType', event_type, 'eventId', v_id,
        'environment', environment, 'details', details),
      sqlstate, sqlerrm);
  end;
  perform app_private.notify_audit(array[v_id], null);
  return v_id;
end;
$$;

comment on function app_private.record_event(text, text, jsonb, text, text, boolean, uuid) is
  'Writes an event that is about no row, under this id or a random one, or keeps it as a dead letter, in which `operation` says what was done (DENY, DELIVER); returns its id.';

create or replace function app_private.is_applying_text(value text)
returns boolean
language sql
immutable
parallel safe
return value ~ '^[{](?:"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}": "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", )*"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}": "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"[}]$';

comment on function app_private.is_applying_text(text) is 'Whether this is a JSON object of UUIDs, as halyard.applying is.';

-- The schedules that are being applied just now, by flag: halyard.applying is set by apply_schedules() for the length of its
-- statements. A setting and no table: it ends with the transaction in any case, and costs no other session anything. It counts
-- in sessions of the worker and of the API, in which an admin's change of several flags is applied, and only in the form that
-- apply_schedules() gives it: a cast that fails would lose the event.
create or replace function app_private.applying()
returns jsonb
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
  select case
    when session_user in ('halyard_worker', 'halyard_authenticator') and app_private.is_applying_text(current_setting('halyard.applying', true))
      then current_setting('halyard.applying', true)::jsonb
  end
$$;

comment on function app_private.applying() is
  'The schedule that is being applied, by flag; null where none is, where the login is neither the worker''s nor the API''s, and where the setting has another form.';

create or replace function app_private.applying_schedules()
returns table (flag_id uuid, schedule_id uuid)
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
  select s.key::uuid, s.value::uuid
  from jsonb_each_text(app_private.applying()) as s
$$;

comment on function app_private.applying_schedules() is 'The schedules whose changes of flags the running statement makes.';
--! EndIncluded audit/record/trail.sql
--! Included audit/record/append_only.sql
-- Append-only. A statement trigger refuses what touches no row too, and TRUNCATE; the row trigger is copied to every
-- partition, and each partition gets a TRUNCATE trigger of its own when it is made (partitions.sql).
create or replace function app_private.tg__reject_write()
returns trigger
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
begin
  raise exception '% of %.% is refused: it is append-only.', tg_op, tg_table_schema, tg_table_name using errcode = 'ZF009';
end;
$$;

comment on function app_private.tg__reject_write() is 'Refuses a statement on a table that is append-only, of every login: raises ZF009.';

do $$
declare
  v_trigger record;
begin
  for v_trigger in
    select *
    from (values
      ('_100_append_only', 'update or delete or truncate', 'statement', '{audit.events,audit.ledger,audit.seals,audit.incarnations,audit.divergences}'),
      ('_200_append_only_rows', 'update or delete', 'row', '{audit.events}'),
      -- Truncating these would take every row past the triggers that write its event.
      ('_100_no_truncate', 'truncate', 'statement', '{app_public.environments,app_public.feature_flags,app_public.feature_flag_schedules,app_public.plans,audit.cursors}'),
      -- A setting is set, and never taken away.
      ('_100_no_delete', 'delete or truncate', 'statement', '{app_private.settings}')
    ) as t (name, occasions, level, tables)
    cross join unnest(t.tables::text[]) as u (table_name)
  loop
    execute format(
      'create or replace trigger %I before %s on %s for each %s execute function app_private.tg__reject_write()',
      v_trigger.name, v_trigger.occasions, v_trigger.table_name, v_trigger.level);
    execute format('alter table %s enable always trigger %I', v_trigger.table_name, v_trigger.name);
  end loop;
end;
$$;
--! EndIncluded audit/record/append_only.sql
--! Included console/sessions.sql
-- Sessions of the console: a browser has a random id in a cookie, and the row has the user's token. The API hashes the id, and encrypts the
-- token with a key that the database doesn't have: a reader of the table, or of a backup, gets neither. Only the API's login reaches
-- the rows, by these functions and by the hash that it knows.

-- A row of this id isn't replaced: ids are random, so a second one with the same hash is a mistake or an attack.
create or replace function app_private.put_console_session(id_hash bytea, token bytea, expires_at timestamptz)
returns void
language plpgsql
volatile
security definer
set search_path to pg_catalog, pg_temp
as $$
begin
  -- Each new row takes up to a hundred that are over with it, so there are never many. One that another session deletes is left to it.
  delete from app_private.console_sessions s
  where s.id_hash in (
    select e.id_hash
    from app_private.console_sessions e
    where e.expires_at <= clock_timestamp()
    order by e.expires_at
    limit 100
    for update skip locked);
  insert into app_private.console_sessions (id_hash, token, expires_at)
  values (put_console_session.id_hash, put_console_session.token, put_console_session.expires_at);
end;
$$;

comment on function app_private.put_console_session(bytea, bytea, timestamptz) is
  'Keeps a session of the console until it expires, and deletes up to 100 that have expired. Raises unique_violation when there is one of this id.';

create or replace function app_private.console_session(id_hash bytea)
returns table (token bytea, expires_at timestamptz)
language sql
stable
security definer
set search_path to pg_catalog, pg_temp
as $$
  select s.token, s.expires_at
  from app_private.console_sessions s
  where s.id_hash = console_session.id_hash and s.expires_at > clock_timestamp()
$$;

comment on function app_private.console_session(bytea) is
  'The encrypted token of a session of the console, and when the session expires; no row when it has expired, or there is none.';

create or replace function app_private.drop_console_session(id_hash bytea)
returns void
language sql
volatile
security definer
set search_path to pg_catalog, pg_temp
as $$
  delete from app_private.console_sessions s where s.id_hash = drop_console_session.id_hash
$$;

comment on function app_private.drop_console_session(bytea) is 'Ends a session of the console at once; nothing happens when there is none.';

revoke all on table app_private.console_sessions from public, halyard_admin, halyard_viewer, halyard_auditor, halyard_worker;
grant execute on function
  app_private.put_console_session(bytea, bytea, timestamptz), app_private.console_session(bytea), app_private.drop_console_session(bytea)
to halyard_authenticator;
--! EndIncluded console/sessions.sql
--! Included console/server_time.sql
-- The console shows how long it is until a change, and a browser's clock may be minutes off: the clock that applies schedules counts.

-- stable, though the clock isn't: GraphQL makes a mutation of what is volatile, and a statement asks once.
create or replace function app_public.server_time()
returns timestamptz
language sql
stable
return clock_timestamp();

comment on function app_public.server_time() is 'The time by the database''s clock, by which schedules are applied.';

grant execute on function app_public.server_time() to halyard_admin, halyard_viewer, halyard_auditor;
--! EndIncluded console/server_time.sql
--! Included environments/fields.sql
-- What of an environment is audited, how it is known in the trail, and the question whether there is one.

-- The keys of the stop are there only where they say something: most environments were never stopped.
create or replace function app_private.environment_state(environment app_public.environments)
returns jsonb
language sql
stable
return jsonb_build_object('createdBy', (environment).created_by)
  || case
    when (environment).stopped_at is null and (environment).last_resume is null then '{}'
    else jsonb_strip_nulls(jsonb_build_object(
      'stoppedAt', app_private.iso((environment).stopped_at),
      'stoppedBy', (environment).stopped_by,
      'stopReason', (environment).stop_reason,
      'lastResume', (environment).last_resume))
  end;

comment on function app_private.environment_state(app_public.environments) is
  'What of an environment is audited: it stands in before and after of events, and a change of it is an event.';

-- The identity of an environment in the ids of its events: what a row's id is for flags and schedules.
create or replace function app_private.environment_id(name text)
returns uuid
language sql
stable
parallel safe
return app_private.uuid_of(sha256(convert_to('environment ' || name, 'UTF8')));

comment on function app_private.environment_id(text) is 'The id that events of an environment are derived from.';

-- With the owner's rights, because row-level security hides the trail from viewers; so it asks the claims itself. An environment that
-- the token doesn't reach is answered as one that doesn't exist.
create or replace function app_private.require_environment(name text, in_trail boolean default false)
returns void
language plpgsql
stable
security definer
set search_path to pg_catalog, pg_temp
as $$
declare
  c_shown constant integer := 20;
  v_names text[];
begin
  if app_private.environment_is_visible(require_environment.name) then
    if exists (select from app_public.environments e where e.name = require_environment.name) then
      return;
    end if;
    -- Its deletion is its last event: once that is purged, the trail has nothing of it.
    if in_trail and exists (
      select from audit.events d where d.event_type = 'environment.deleted' and d.environment = require_environment.name)
    then
      return;
    end if;
  end if;
  v_names := array(
    select e.name::text from app_public.environments e where app_private.environment_is_visible(e.name) order by e.name);
  raise exception 'There is no environment %. You may see: %.',
    quote_literal(left(coalesce(require_environment.name, ''), 40)),
    case
      when cardinality(v_names) = 0 then 'none'
      when cardinality(v_names) > c_shown
        then format('%s and %s more', array_to_string(v_names[:c_shown], ', '), cardinality(v_names) - c_shown)
      else array_to_string(v_names, ', ')
    end
    using errcode = 'ZF014', hint = 'An admin without limits makes one: POST /api/admin/environments, or app_public.create_environment().';
end;
$$;

comment on function app_private.require_environment(text, boolean) is
  'Raises ZF014, which names the environments that the claims let through, unless this is one of them. With in_trail, one that was deleted counts too.';

-- The flag's stamp calls it, as the role that makes the flag; the API calls it when it found nothing.
grant execute on function app_private.require_environment(text, boolean) to halyard_admin, halyard_viewer, halyard_auditor;
--! EndIncluded environments/fields.sql
--! Included environments/environments.sql
-- Environments: made on purpose, so that a misspelt name makes none. They are made, stopped and resumed (stop.sql), and deleted by SQL when
-- no flag is in them; nothing else of them changes.

-- It begins and ends; between the two nothing of it changes.
create or replace function app_private.stamp_stop(before app_public.environments, after app_public.environments)
returns app_public.environments
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
begin
  if before.stopped_at is null and after.stopped_at is not null then
    after.stopped_at := clock_timestamp();
    after.stopped_by := app_private.claim_user_id();
    after.last_resume := before.last_resume;
  elsif after.stopped_at is null then
    after.stopped_by := null;
    after.stop_reason := null;
    if before.stopped_at is null then
      after.last_resume := before.last_resume;
    end if;
  else
    after.stopped_at := before.stopped_at;
    after.stopped_by := before.stopped_by;
    after.stop_reason := before.stop_reason;
    after.last_resume := before.last_resume;
  end if;
  return after;
end;
$$;

comment on function app_private.stamp_stop(app_public.environments, app_public.environments) is
  'The environment after a change, with when and by whom it was stopped, and with nothing of the stop changed but its begin and its end.';

create or replace function app_private.tg_environments__stamp()
returns trigger
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
begin
  if tg_op = 'INSERT' then
    -- Not the transaction's: the same name may be deleted and made again within one.
    new.created_at := clock_timestamp();
    new.created_by := app_private.claim_user_id();
    new.revision := 1;
    new.stopped_at := null;
    new.stopped_by := null;
    new.stop_reason := null;
    new.last_resume := null;
  else
    if (new.name, new.created_at, new.created_by) is distinct from (old.name, old.created_at, old.created_by) then
      raise exception 'An environment''s name, created_at and created_by can''t be changed.'
        using errcode = 'ZF010', hint = 'Create another environment instead.';
    end if;
    new := app_private.stamp_stop(old, new);
    new.revision := case
      when app_private.environment_state(new) is distinct from app_private.environment_state(old) then old.revision + 1
      when new.revision > old.revision and app_private.is_recording() then new.revision
      else old.revision
    end;
  end if;
  return new;
end;
$$;

comment on function app_private.tg_environments__stamp() is
  'Stamps created_at, created_by, the stop and revision, and refuses any other change of an environment.';

create or replace trigger _100_stamp
  before insert or update on app_public.environments
  for each row execute function app_private.tg_environments__stamp();

-- A token that is limited to environments could make one that it then doesn't reach.
create or replace function app_public.create_environment(name text)
returns app_public.environments
language plpgsql
volatile
security definer
set search_path to pg_catalog, pg_temp
as $$
declare
  v_environment app_public.environments;
begin
  perform app_private.require_admin();
  if app_private.claims_are_limited() then
    raise exception 'This takes the token of an admin that isn’t limited to environments.' using errcode = 'ZF015';
  end if;
  insert into app_public.environments (name) values (create_environment.name) returning * into v_environment;
  return v_environment;
end;
$$;

comment on function app_public.create_environment(text) is
  'Creates an environment: flags can be created in it from then on. For admins whose token isn''t limited to environments.';

grant execute on function app_public.create_environment(text) to halyard_admin;

drop policy if exists admin_select on app_public.environments;
create policy admin_select on app_public.environments
  for select to halyard_admin
  using (
    (select true where app_private.claim_role() = 'admin') is not null
    and (
      (select true where not app_private.claims_are_limited()) is not null
      or name = any ((select app_private.claim_environments())::text[])
    )
  );

drop policy if exists viewer_select on app_public.environments;
create policy viewer_select on app_public.environments
  for select to halyard_viewer
  using (
    (select true where app_private.claim_role() = 'viewer') is not null
    and (
      (select true where not app_private.claims_are_limited()) is not null
      or name = any ((select app_private.claim_environments())::text[])
    )
  );

drop policy if exists auditor_select on app_public.environments;
create policy auditor_select on app_public.environments
  for select to halyard_auditor
  using (
    (select true from (select app_private.claim_role() as role) as c where coalesce(c.role, 'auditor') = 'auditor') is not null
    and (
      (select true where not app_private.claims_are_limited()) is not null
      or name = any ((select app_private.claim_environments())::text[])
    )
  );

revoke all on table app_public.environments from public, halyard_admin, halyard_viewer, halyard_auditor, halyard_worker;
grant select on table app_public.environments to halyard_admin, halyard_auditor;
-- Viewers see that and since when an environment is stopped, and not by whom and why.
grant select (name, created_at, created_by, revision, stopped_at) on table app_public.environments to halyard_viewer;
--! EndIncluded environments/environments.sql
--! Included environments/events.sql
-- The events of environments, in the shape of flags/events.sql.

create or replace function app_private.environment_change(before app_public.environments, after app_public.environments)
returns text
language sql
stable
return case
  when (before).name is null then 'environment.created'
  when (after).name is null then 'environment.deleted'
  when (before).stopped_at is null and (after).stopped_at is not null then 'environment.stopped'
  when (before).stopped_at is not null and (after).stopped_at is null then 'environment.resumed'
  else 'environment.updated'
end;

comment on function app_private.environment_change(app_public.environments, app_public.environments) is
  'The event type of an environment''s change.';

create or replace function app_private.stop_details(before app_public.environments, after app_public.environments)
returns jsonb
language sql
stable
return case app_private.environment_change(before, after)
  when 'environment.stopped' then jsonb_build_object('reason', (after).stop_reason)
  when 'environment.resumed' then coalesce(jsonb_strip_nulls((after).last_resume), '{}') - '{at,by}'::text[]
  else '{}'
end;

comment on function app_private.stop_details(app_public.environments, app_public.environments) is
  'What the event of a stop''s begin or end says besides before and after: its reason, and what was done with the changes that came due meanwhile.';

-- One of the two is null for an environment that was created or deleted. Nothing of one that stays can change but its stop, unless past
-- the stamp.
create or replace function app_private.environment_event(
  at timestamptz, incarnation uuid, before app_public.environments, after app_public.environments, reason text
)
returns app_private.audit_event
language sql
volatile
return app_private.make_event(
  app_private.changed_event_id(
    incarnation, app_private.environment_id(coalesce((after).name, (before).name)), coalesce((after).created_at, (before).created_at),
    (before).revision, coalesce((after).revision, (before).revision + 1)),
  at,
  app_private.environment_change(before, after),
  null,
  null,
  coalesce((after).name, (before).name),
  null,
  coalesce((after).revision, (before).revision + 1),
  jsonb_build_object('name', coalesce((after).name, (before).name))
  || case when (before).name is null then '{}' else jsonb_build_object('before', app_private.environment_state(before)) end
  || case when (after).name is null then '{}' else jsonb_build_object('after', app_private.environment_state(after)) end
  || case when reason is null then '{}' else jsonb_build_object('reason', reason) end
  || app_private.stop_details(before, after));

comment on function app_private.environment_event(timestamptz, uuid, app_public.environments, app_public.environments, text) is
  'The environment event of a change from `before` to `after`, with its reason, if one is known.';

create or replace function app_private.tg_environments__audit()
returns trigger
language plpgsql
volatile
security definer
set search_path to pg_catalog, pg_temp
set timezone to 'UTC'
as $$
declare
  v_at timestamptz := clock_timestamp();
  v_incarnation uuid;
  v_reason text;
  v_events app_private.audit_event[];
  v_rows jsonb;
  v_old_rows jsonb;
begin
  begin
    v_incarnation := app_private.incarnation();
    v_reason := app_private.change_reason();
    if tg_op = 'INSERT' then
      select array_agg(app_private.environment_event(v_at, v_incarnation, null, n, v_reason)) into v_events from new_rows n;
    elsif tg_op = 'UPDATE' then
      -- A name is another row, also where the stamp was off.
      select array_agg(app_private.environment_event(v_at, v_incarnation, o, n, v_reason)) into v_events
      from old_rows o
      full join new_rows n on n.name = o.name
      where o.name is null or n.name is null
        or o.revision <> n.revision and not app_private.is_recording()
        or app_private.environment_state(o) is distinct from app_private.environment_state(n);
    else
      select array_agg(app_private.environment_event(v_at, v_incarnation, o, null, v_reason)) into v_events from old_rows o;
    end if;
    if v_events is null then
      return null;
    end if;
    perform app_private.write_events(v_events);
  exception when others then
    if tg_op <> 'DELETE' then
      v_rows := (select jsonb_agg(to_jsonb(n) || jsonb_build_object('id', app_private.environment_id(n.name))) from new_rows n);
    end if;
    if tg_op <> 'INSERT' then
      v_old_rows := (select jsonb_agg(to_jsonb(o) || jsonb_build_object('id', app_private.environment_id(o.name))) from old_rows o);
    end if;
    perform app_private.write_dead_letter(
      jsonb_build_object(
        'table', tg_table_name, 'operation', tg_op, 'at', v_at,
        'events', to_jsonb(v_events), 'rows', v_rows, 'oldRows', v_old_rows),
      sqlstate, sqlerrm);
  end;
  perform app_private.notify_audit((select array_agg(e.id) from unnest(v_events) as e), null);
  return null;
end;
$$;

comment on function app_private.tg_environments__audit() is
  'Writes one event for each environment that a statement created, stopped, resumed or deleted, or changed past the stamp.';

create or replace trigger _900_audit_insert
  after insert on app_public.environments
  referencing new table as new_rows
  for each statement execute function app_private.tg_environments__audit();
create or replace trigger _900_audit_update
  after update on app_public.environments
  referencing old table as old_rows new table as new_rows
  for each statement execute function app_private.tg_environments__audit();
create or replace trigger _900_audit_delete
  after delete on app_public.environments
  referencing old table as old_rows
  for each statement execute function app_private.tg_environments__audit();
alter table app_public.environments enable always trigger _900_audit_insert;
alter table app_public.environments enable always trigger _900_audit_update;
alter table app_public.environments enable always trigger _900_audit_delete;
--! EndIncluded environments/events.sql
--! Included environments/recorded.sql
-- Environments held against the trail: audit/verify and audit/reconcile.

-- Events leave out what of a stop there isn't. Here it is null, so that a stop that somebody began or ended past the triggers differs.
create or replace function app_private.environment_recorded(event audit.events)
returns jsonb
language sql
stable
return '{"stoppedAt": null, "stoppedBy": null, "stopReason": null, "lastResume": null}'::jsonb || ((event).metadata -> 'after');

create or replace function app_private.environment_found(environment app_public.environments)
returns jsonb
language sql
stable
return '{"stoppedAt": null, "stoppedBy": null, "stopReason": null, "lastResume": null}'::jsonb
  || app_private.environment_state(environment);

comment on function app_private.environment_recorded(audit.events) is
  'What an event says of its environment after it; null when it says nothing of that.';
comment on function app_private.environment_found(app_public.environments) is
  'What an environment''s row says, with the keys of environment_recorded().';

-- What was there before the trail began, as production, has no event. It has revision 0, and is older than the trail's first incarnation.
-- Who created it was never known: the row itself isn't asked, for it is what is checked.
create or replace function app_private.original_environments(names text[])
returns table (name text, state jsonb)
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
  select e.name::text, jsonb_build_object('createdBy', null, 'stoppedAt', null, 'stoppedBy', null, 'stopReason', null, 'lastResume', null)
  from app_public.environments e
  where e.name = any (names) and e.revision = 0
    and e.created_at <= (select i.started_at from audit.incarnations i where i.incarnation_no = 1)
$$;

comment on function app_private.original_environments(text[]) is
  'Of these environments those that were there before the trail began, and so have no event.';

create or replace function app_private.vanished_environments()
returns table (name text)
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
  select l.name
  from (
    select distinct on (e.metadata ->> 'name') e.metadata ->> 'name' as name, e.event_type
    from audit.events e
    where e.event_type in (
      'environment.created', 'environment.updated', 'environment.stopped', 'environment.resumed', 'environment.deleted',
      'environment.reconciled')
    order by e.metadata ->> 'name', e.occurred_at desc, e.revision desc
  ) as l
  where l.event_type <> 'environment.deleted' and l.name is not null
    and not exists (select from app_public.environments n where n.name = l.name)
$$;

comment on function app_private.vanished_environments() is 'Environments whose row is gone though the trail doesn''t say that they were deleted.';
--! EndIncluded environments/recorded.sql
--! Included audit/read/last_change.sql
-- What a change says that was made against an older revision than the row's: who changed the row since, what, and when.
--
-- The caller may change the row, so it is an admin who reaches its environment, and may read the row's events.

create or replace function app_private.actor_text(event audit.events)
returns text
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
  select case
    when (event).actor_kind = 'admin' then coalesce((event).admin_email, (event).admin_user_id, 'An admin')
    when (event).actor_kind = 'database' then 'The database login ' || (event).database_user
    when (event).event_type like 'feature_flag.%' and (event).schedule_id is not null
      then coalesce('A schedule of ' || ((event).metadata ->> 'requestedBy'), 'A schedule')
    else 'The worker'
  end
$$;

comment on function app_private.actor_text(audit.events) is 'Who made the change of an event, as the beginning of a sentence.';

-- The day only where it isn't today: the change is mostly minutes old. The revision is the row's: an event of another one is no answer.
create or replace function app_private.stale_text(event audit.events, change text, revision bigint)
returns text
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
  select concat(
    case
      when (event).revision = stale_text.revision and stale_text.change is not null then concat_ws(
        ' ', app_private.actor_text(event), stale_text.change, 'at',
        to_char(
          (event).occurred_at at time zone 'UTC',
          case
            when date_trunc('day', (event).occurred_at, 'UTC') = date_trunc('day', now(), 'UTC') then 'HH24:MI'
            else 'YYYY-MM-DD HH24:MI'
          end),
        'UTC')
      else concat('It is at revision ', stale_text.revision, ' now')
    end,
    '; your change was made against revision ', app_private.expected_revision(), '.')
$$;

comment on function app_private.stale_text(audit.events, text, bigint) is
  'The sentence that refuses a change made against another revision than the row''s: with the row''s last event, if it is that of its revision, and with what it changed.';

create or replace function app_private.stale_detail(event audit.events, revision bigint)
returns text
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'revision', stale_detail.revision,
    'changedAt', case when (event).revision = stale_detail.revision then app_private.iso((event).occurred_at) end,
    'changedBy',
    case when (event).revision = stale_detail.revision then coalesce((event).admin_email, (event).admin_user_id) end)::text
$$;

comment on function app_private.stale_detail(audit.events, bigint) is
  'What stale_text() says, as JSON for the client: the row''s revision, when it came to be, and the admin who made it, as far as they are known.';

-- The stamp of flags runs with the rights of the role that changes the row.
grant execute on function
  app_private.iso(timestamptz), app_private.actor_text(audit.events), app_private.stale_text(audit.events, text, bigint), app_private.stale_detail(audit.events, bigint)
to halyard_admin;
--! EndIncluded audit/read/last_change.sql
--! Included flags/fields.sql
-- The fields of a flag: what of it is audited, what schedules may change, and how fields are set. A new field is a column (a
-- migration), a line in each function here, and one in src/flags/fields.ts.

-- The list that the guarantee hangs on: the stamp counts a revision, and the audit trigger writes an event, when this differs.
-- A test holds every column that a role may update, and every key of `updates`, against it.
create or replace function app_private.flag_state(flag app_public.feature_flags)
returns jsonb
language sql
stable
return jsonb_build_object(
  'enabled', (flag).enabled, 'rolloutPercentage', (flag).rollout_percentage, 'description', (flag).description);

comment on function app_private.flag_state(app_public.feature_flags) is
  'What of a flag is audited: it stands in before, after and flagState of events, and a change of it is an event.';

create or replace function app_private.flag_values(flag app_public.feature_flags)
returns jsonb
language sql
stable
return jsonb_build_object('enabled', (flag).enabled, 'rollout_percentage', (flag).rollout_percentage);

comment on function app_private.flag_values(app_public.feature_flags) is
  'The fields of a flag that schedules may change, with the names that they have in `updates`.';

create or replace function app_private.flag_state_values(state jsonb)
returns jsonb
language sql
immutable
parallel safe
return jsonb_strip_nulls(jsonb_build_object('enabled', state -> 'enabled', 'rollout_percentage', state -> 'rolloutPercentage'));

comment on function app_private.flag_state_values(jsonb) is
  'The same of a flag_state(), as events have it; what the event lacks is absent.';

-- plpgsql, which keeps what it has compiled for the session: PostgreSQL prepares a CHECK again for each statement, and there a
-- body of SQL is read, planned or put in line each time (30 us instead of 6; bench/sql/insert.md).
create or replace function app_private.updates_problem(updates jsonb)
returns text
language plpgsql
immutable
parallel safe
set search_path to pg_catalog, pg_temp
as $$
declare
  v_fields constant text[] := '{enabled,rollout_percentage}';
begin
  if updates is null or jsonb_typeof(updates) <> 'object' then
    return 'updates must be an object';
  elsif updates = '{}' then
    return 'updates must have at least one of: ' || array_to_string(v_fields, ', ');
  elsif updates - v_fields <> '{}' then
    return 'updates may have only: ' || array_to_string(v_fields, ', ');
  elsif jsonb_typeof(updates -> 'enabled') <> 'boolean' then
    return 'enabled must be true or false';
  elsif jsonb_typeof(updates -> 'rollout_percentage') <> 'number'
    or updates ->> 'rollout_percentage' !~ '^(100|[1-9]?[0-9])$'
  then
    return 'rollout_percentage must be a whole number from 0 to 100';
  end if;
  return null;
end;
$$;

comment on function app_private.updates_problem(jsonb) is
  'Why these updates can''t be scheduled, as a sentence; null when they can. Immutable, because the schedules'' CHECK calls it.';

-- For the worker: an admin's changes are UPDATE statements of their own. plpgsql, which keeps the plan for the session.
create or replace function app_private.patch_flags(flag_ids uuid[], updates jsonb[])
returns void
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
begin
  update app_public.feature_flags f
  set
    enabled = coalesce((c.updates ->> 'enabled')::boolean, f.enabled),
    rollout_percentage = coalesce((c.updates ->> 'rollout_percentage')::integer, f.rollout_percentage)
  from unnest(flag_ids, patch_flags.updates) as c (flag_id, updates)
  where f.id = c.flag_id;
end;
$$;

comment on function app_private.patch_flags(uuid[], jsonb[]) is
  'Sets the fields that each schedule''s updates name, of the flag at the same place.';

-- The stamp and the CHECK run with the rights of the role that changes the row.
grant execute on function
  app_private.flag_state(app_public.feature_flags), app_private.updates_problem(jsonb)
to halyard_admin;

revoke all on table app_public.feature_flags from public, halyard_admin, halyard_viewer, halyard_auditor, halyard_worker;
grant select on table app_public.feature_flags to halyard_admin, halyard_viewer, halyard_auditor;
grant insert (flag_key, environment, enabled, rollout_percentage, description) on table app_public.feature_flags to halyard_admin;
grant update (enabled, rollout_percentage, description) on table app_public.feature_flags to halyard_admin;
--! EndIncluded flags/fields.sql
--! Included flags/flags.sql
-- Feature flags: stamps, who may see and change them.

create or replace function app_private.tg_feature_flags__stamp()
returns trigger
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
begin
  if tg_op = 'INSERT' then
    new.created_at := now();
    new.updated_at := now();
    new.revision := 1;
    -- The foreign key refuses it too, but can't name those that there are. What the token doesn't reach, the policy refuses.
    if not exists (select from app_public.environments e where e.name = new.environment)
      and (not app_private.claims_are_limited() or new.environment = any (app_private.claim_environments()))
    then
      perform app_private.require_environment(new.environment);
    end if;
  else
    -- `old` is the row as it is now that this statement has its lock.
    if app_private.expected_revision() <> old.revision then
      perform app_private.refuse_stale_flag(old);
    end if;
    if (new.id, new.flag_key, new.environment, new.created_at)
       is distinct from (old.id, old.flag_key, old.environment, old.created_at) then
      raise exception 'A flag''s id, flag_key, environment and created_at can''t be changed.'
        using errcode = 'ZF010', hint = 'Create another flag instead: the audit trail knows this one by its key.';
    end if;
    new.updated_at := now();
    -- Counts audited changes and nothing else: a revision without an event is a lost event. Only record_rows() raises it.
    new.revision := case
      when app_private.flag_state(new) is distinct from app_private.flag_state(old) then old.revision + 1
      when new.revision > old.revision and app_private.is_recording() then new.revision
      else old.revision
    end;
  end if;
  return new;
end;
$$;

comment on function app_private.tg_feature_flags__stamp() is
  'Stamps created_at, updated_at and revision, and keeps a flag''s identity fixed. Raises ZF017 for a change that was made against another revision.';

create or replace trigger _100_stamp
  before insert or update on app_public.feature_flags
  for each row execute function app_private.tg_feature_flags__stamp();

-- Ahead of the foreign key's cascade, which comes when the flag is gone, and with it the way to know whose the schedules were.
create or replace function app_private.tg_feature_flags__delete_schedules()
returns trigger
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
begin
  perform app_private.pause_plans_of(old);
  delete from app_public.feature_flag_schedules s where s.flag_id = old.id;
  return old;
end;
$$;

comment on function app_private.tg_feature_flags__delete_schedules() is
  'Pauses the plans that change a flag, and deletes its schedules while their flag still stands, so that the trail can name it.';

create or replace trigger _200_delete_schedules
  before delete on app_public.feature_flags
  for each row execute function app_private.tg_feature_flags__delete_schedules();

drop policy if exists admin_all on app_public.feature_flags;
create policy admin_all on app_public.feature_flags
  for all to halyard_admin
  using (
    (select true where app_private.claim_role() = 'admin') is not null
    and (
      (select true where not app_private.claims_are_limited()) is not null
      or environment = any ((select app_private.claim_environments())::text[])
    )
  );

drop policy if exists viewer_select on app_public.feature_flags;
create policy viewer_select on app_public.feature_flags
  for select to halyard_viewer
  using (
    (select true where app_private.claim_role() = 'viewer') is not null
    and (
      (select true where not app_private.claims_are_limited()) is not null
      or environment = any ((select app_private.claim_environments())::text[])
    )
  );

-- A DBA without a token too, as in the trail (audit/read/policies.sql).
drop policy if exists auditor_select on app_public.feature_flags;
create policy auditor_select on app_public.feature_flags
  for select to halyard_auditor
  using (
    (select true from (select app_private.claim_role() as role) as c where coalesce(c.role, 'auditor') = 'auditor') is not null
    and (
      (select true where not app_private.claims_are_limited()) is not null
      or environment = any ((select app_private.claim_environments())::text[])
    )
  );
--! EndIncluded flags/flags.sql
--! Included flags/events.sql
-- Which change of a flag makes which event, and the triggers that write it.
--
-- Bodies are bound when they are made, so that the planner puts them in line: in the triggers' one statement there is no call
-- left, whether it makes one event or ten thousand (bench/sql/insert.md). Keys that are unknown are absent.

-- Without the last parameter it was another function.
drop function if exists app_private.flag_event(timestamptz, uuid, app_public.feature_flags, app_public.feature_flags, uuid, text, text);

-- One of the two is null for a flag that was created or deleted. requestedBy and reason are keys only where they are known.
create or replace function app_private.flag_event(
  at timestamptz, incarnation uuid, before app_public.feature_flags, after app_public.feature_flags, schedule_id uuid,
  requested_by text, reason text, point jsonb default null
)
returns app_private.audit_event
language sql
volatile
return app_private.make_event(
  app_private.changed_event_id(
    incarnation, coalesce((after).id, (before).id), coalesce((after).created_at, (before).created_at), (before).revision,
    coalesce((after).revision, (before).revision + 1)),
  at,
  case
    when (before).id is null then 'feature_flag.created'
    when (after).id is null then 'feature_flag.deleted'
    else 'feature_flag.updated'
  end,
  coalesce((after).id, (before).id),
  coalesce((after).flag_key, (before).flag_key),
  coalesce((after).environment, (before).environment),
  schedule_id,
  coalesce((after).revision, (before).revision + 1),
  case
    when (before).id is null then jsonb_build_object('flagKey', (after).flag_key, 'after', app_private.flag_state(after))
    when (after).id is null then jsonb_build_object('flagKey', (before).flag_key, 'before', app_private.flag_state(before))
    else jsonb_build_object(
      'flagKey', (after).flag_key, 'before', app_private.flag_state(before), 'after', app_private.flag_state(after))
  end || case
    when requested_by is null and reason is null then coalesce(point, '{}')
    -- Putting parts together takes as long as making them, and most have no point.
    when point is null then jsonb_strip_nulls(jsonb_build_object('requestedBy', requested_by, 'reason', reason))
    else jsonb_strip_nulls(jsonb_build_object('requestedBy', requested_by, 'reason', reason)) || point
  end);

comment on function app_private.flag_event(timestamptz, uuid, app_public.feature_flags, app_public.feature_flags, uuid, text, text, jsonb) is
  'The feature_flag event of a change from `before` to `after`, with its reason, if one is known, and with the schedule that made it, who requested that, and its place in a plan (schedule_point), if one did.';

-- Statements and their plans: schedules/events.sql.
create or replace function app_private.tg_feature_flags__audit()
returns trigger
language plpgsql
volatile
security definer
set search_path to pg_catalog, pg_temp
set timezone to 'UTC'
as $$
declare
  v_at timestamptz := clock_timestamp();
  v_incarnation uuid;
  v_reason text;
  v_events app_private.audit_event[];
  v_rows jsonb;
  v_old_rows jsonb;
begin
  begin
    v_incarnation := app_private.incarnation();
    v_reason := app_private.change_reason();
    if tg_op = 'INSERT' then
      select array_agg(app_private.flag_event(v_at, v_incarnation, null, n, null, null, v_reason)) into v_events from new_rows n;
    elsif tg_op = 'UPDATE' then
      select array_agg(app_private.flag_event(
        v_at, v_incarnation, o, n, s.schedule_id, w.requested_by, coalesce(w.reason, v_reason), w.point))
      into v_events
      from old_rows o
      full join new_rows n on n.id = o.id
      left join app_private.applying_schedules() as s on s.flag_id = n.id
      -- By its key, one by one: LIMIT keeps it so.
      left join lateral (
        select w.requested_by, w.reason, case when w.plan_id is not null then app_private.schedule_point(w) end as point
        from app_public.feature_flag_schedules w
        where w.id = s.schedule_id
        limit 1
      ) as w on true
      -- A revision that counts says it already; it stands still when the stamp was switched off. record_rows(), which raises it,
      -- writes the event itself.
      where o.revision <> n.revision and not app_private.is_recording()
        or app_private.flag_state(o) is distinct from app_private.flag_state(n);
    else
      select array_agg(app_private.flag_event(v_at, v_incarnation, o, null, null, null, v_reason)) into v_events from old_rows o;
    end if;
    if v_events is null then
      return null;
    end if;
    perform app_private.write_events(v_events);
  exception when others then
    if v_events is null then
      if tg_op <> 'DELETE' then
        v_rows := (select jsonb_agg(to_jsonb(n)) from new_rows n);
      end if;
      if tg_op <> 'INSERT' then
        v_old_rows := (select jsonb_agg(to_jsonb(o)) from old_rows o);
      end if;
    end if;
    perform app_private.write_dead_letter(
      jsonb_build_object(
        'table', tg_table_name, 'operation', tg_op, 'at', v_at,
        'events', to_jsonb(v_events), 'rows', v_rows, 'oldRows', v_old_rows),
      sqlstate, sqlerrm);
  end;
  perform app_private.notify_audit(array_agg(e.id), null) from unnest(v_events) as e;
  return null;
end;
$$;

comment on function app_private.tg_feature_flags__audit() is
  'Writes one event for each flag that a statement created, changed or deleted.';

-- `enable always`: also under session_replication_role = replica, where ordinary triggers sleep.
create or replace trigger _900_audit_insert
  after insert on app_public.feature_flags
  referencing new table as new_rows
  for each statement execute function app_private.tg_feature_flags__audit();
create or replace trigger _900_audit_update
  after update on app_public.feature_flags
  referencing old table as old_rows new table as new_rows
  for each statement execute function app_private.tg_feature_flags__audit();
create or replace trigger _900_audit_delete
  after delete on app_public.feature_flags
  referencing old table as old_rows
  for each statement execute function app_private.tg_feature_flags__audit();
alter table app_public.feature_flags enable always trigger _900_audit_insert;
alter table app_public.feature_flags enable always trigger _900_audit_update;
alter table app_public.feature_flags enable always trigger _900_audit_delete;
--! EndIncluded flags/events.sql
--! Included flags/stale.sql
-- A change of a flag that was made against another revision than the row's.

-- A field that isn't here is a change all the same.
create or replace function app_private.flag_change_text(event audit.events)
returns text
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
  select case (event).event_type
    when 'feature_flag.created' then 'created it'
    when 'feature_flag.updated' then coalesce(
      nullif(concat_ws(
        ' and ',
        case
          when c.before -> 'enabled' is distinct from c.after -> 'enabled'
            then case c.after ->> 'enabled' when 'true' then 'turned it on' else 'turned it off' end
        end,
        case
          when c.before -> 'rolloutPercentage' is distinct from c.after -> 'rolloutPercentage'
            then concat('set ', c.after ->> 'rolloutPercentage', ' %')
        end,
        case when c.before -> 'description' is distinct from c.after -> 'description' then 'changed its description' end), ''),
      'changed it')
  end
  from (select (event).metadata -> 'before' as before, (event).metadata -> 'after' as after) as c
$$;

comment on function app_private.flag_change_text(audit.events) is
  'What an event changed of its flag, as the rest of a sentence; null for an event that doesn''t say.';

create or replace function app_private.refuse_stale_flag(flag app_public.feature_flags)
returns void
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
declare
  v_event audit.events;
begin
  -- Behind the row's lock, so the event of its last change is there, unless writing it failed.
  select e.* into v_event
  from audit.events e
  where e.flag_key = flag.flag_key and e.flag_id = flag.id
    and e.event_type in ('feature_flag.created', 'feature_flag.updated', 'feature_flag.reconciled')
  order by e.occurred_at desc, e.id desc
  limit 1;
  raise exception '%', app_private.stale_text(v_event, app_private.flag_change_text(v_event), flag.revision)
    using errcode = 'ZF017', detail = app_private.stale_detail(v_event, flag.revision);
end;
$$;

comment on function app_private.refuse_stale_flag(app_public.feature_flags) is
  'Raises ZF017: the sentence has who changed the flag last, and the detail, as JSON, its revision.';

grant execute on function app_private.flag_change_text(audit.events), app_private.refuse_stale_flag(app_public.feature_flags) to halyard_admin;
--! EndIncluded flags/stale.sql
--! Included schedules/fields.sql
-- The fields of a schedule that are audited, and its place in a plan.

-- The list that the guarantee hangs on: the state machine counts a revision, and the audit trigger writes an event, when this
-- differs. Attempts aren't in it: what is tried again is no decision. Neither is requested_by: it changes with these alone. Of the keys
-- behind the first two each is there only where it says something, because most schedules have none of them.
create or replace function app_private.schedule_state(schedule app_public.feature_flag_schedules)
returns jsonb
language sql
stable
return case
  when (schedule).on_conflict = 'overwrite' and (schedule).suspended_for is null and (schedule).resolution_reason is null then case
    when (schedule).reason is null
      then jsonb_build_object('status', (schedule).status, 'scheduledAt', app_private.iso((schedule).scheduled_at))
    else jsonb_build_object(
      'status', (schedule).status, 'scheduledAt', app_private.iso((schedule).scheduled_at), 'reason', (schedule).reason)
  end
  else jsonb_strip_nulls(jsonb_build_object(
    'status', (schedule).status,
    'scheduledAt', app_private.iso((schedule).scheduled_at),
    'reason', (schedule).reason,
    'onConflict', nullif((schedule).on_conflict, 'overwrite'),
    'suspendedFor', (schedule).suspended_for,
    'suspendedDetails', (schedule).suspended_details,
    'resolutionReason', (schedule).resolution_reason))
end;

create or replace function app_private.schedule_snapshot(schedule app_public.feature_flag_schedules)
returns jsonb
language sql
stable
return app_private.schedule_state(schedule)
  || jsonb_build_object('attempts', (schedule).attempts, 'errorMessage', (schedule).error_message);

create or replace function app_private.schedule_point(schedule app_public.feature_flag_schedules)
returns jsonb
language sql
stable
return case
  when (schedule).plan_id is null then '{}'
  else jsonb_build_object(
    'planId', (schedule).plan_id, 'occurrenceNo', (schedule).occurrence_no, 'stepNo', (schedule).step_no)
end;

comment on function app_private.schedule_state(app_public.feature_flag_schedules) is
  'What of a schedule is audited: a change of it is an event.';
comment on function app_private.schedule_snapshot(app_public.feature_flag_schedules) is
  'A schedule as it stands in before and after of events: its state, and how its attempts went.';
comment on function app_private.schedule_point(app_public.feature_flag_schedules) is
  'The place of a schedule in its plan, as events have it: planId, occurrenceNo and stepNo; an empty object for a schedule of its own.';
--! EndIncluded schedules/fields.sql
--! Included schedules/schedules.sql
-- Schedules: who may see them, the state machine, the stamps.

-- Refuses a time that can't be scheduled. Compared with the clock and not with the transaction's start, so that a time
-- that passes while a lock is waited for is refused too.
create or replace function app_private.require_schedulable(scheduled_at timestamptz)
returns void
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
begin
  if scheduled_at is null then
    raise exception 'scheduled_at is required.' using errcode = 'ZF006';
  elsif not isfinite(scheduled_at) or scheduled_at >= timestamptz '10000-01-01 00:00:00+00' then
    raise exception 'scheduled_at must be before the year 10000.' using errcode = 'ZF006';
  elsif scheduled_at <= clock_timestamp() then
    raise exception 'scheduled_at must be in the future.' using errcode = 'ZF005';
  end if;
end;
$$;

comment on function app_private.require_schedulable(timestamptz) is
  'Raises ZF005 for a time that has passed, ZF006 for one that is missing or beyond the year 9999.';

-- The blanks are those of JavaScript's trim(), so that one reason is the same by REST, by GraphQL and in the event.
create or replace function app_private.trim_reason(reason text)
returns text
language sql
immutable
parallel safe
return nullif(btrim(
  reason,
  ' ' || chr(9) || chr(10) || chr(11) || chr(12) || chr(13) || chr(160) || chr(5760) || chr(8192) || chr(8193)
    || chr(8194) || chr(8195) || chr(8196) || chr(8197) || chr(8198) || chr(8199) || chr(8200) || chr(8201)
    || chr(8202) || chr(8232) || chr(8233) || chr(8239) || chr(8287) || chr(12288) || chr(65279)
), '');

comment on function app_private.trim_reason(text) is 'A reason without the blanks round it; null when nothing is left.';

-- pending -> applied | failed | cancelled | suspended | skipped; suspended -> pending | skipped | cancelled | failed;
-- failed -> pending. Everything else is refused, to every role.
create or replace function app_private.tg_feature_flag_schedules__state()
returns trigger
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
declare
  v_problem text;
  v_is_changed boolean;
begin
  if tg_op = 'INSERT' then
    v_problem := app_private.updates_problem(new.updates);
    if v_problem is not null then
      raise exception '%.', v_problem using errcode = 'ZF007';
    end if;
    if new.status <> 'pending' then
      raise exception 'A schedule starts as pending, not as %.', new.status using errcode = 'ZF004';
    end if;
    -- A DBA without claims may insert a schedule that is due already: it is applied at once. A plan's time was asked for when it was made.
    if app_private.claim_role() is not null and new.plan_id is null then
      perform app_private.require_schedulable(new.scheduled_at);
    end if;
    new.applied_at := null;
    new.error_message := null;
    new.attempts := 0;
    new.next_attempt_at := null;
    new.suspended_for := null;
    new.suspended_details := null;
    new.resolution_reason := null;
    new.before := null;
    new.kept := null;
    -- Not the transaction's for a plan's: edits of one transaction make the row with the same id again, and the ids of its events come
    -- from the two.
    new.created_at := case when new.plan_id is null then now() else clock_timestamp() end;
    new.updated_at := now();
    new.revision := 1;
    new.requested_by := app_private.claim_user_id();
    -- Most have none, and a call costs a few percent of the insert.
    if new.reason is not null then
      new.reason := app_private.trim_reason(new.reason);
    end if;
    return new;
  end if;

  if (new.id, new.flag_id, new.updates, new.created_at, new.expects, new.plan_id, new.occurrence_no, new.step_no)
    is distinct from (old.id, old.flag_id, old.updates, old.created_at, old.expects, old.plan_id, old.occurrence_no, old.step_no)
  then
    raise exception 'A schedule''s id, flag_id, updates, expects, created_at and its place in a plan can''t be changed.'
      using errcode = 'ZF010', hint = 'Cancel it and schedule another one.';
  elsif new.on_conflict <> old.on_conflict and (old.status, new.status) is distinct from ('suspended', 'pending') then
    raise exception 'A schedule''s on_conflict can''t be changed but when it is resumed.'
      using errcode = 'ZF010', hint = 'Cancel it and schedule another one.';
  end if;
  if new.status <> old.status
     and (old.status, new.status) not in (
       ('pending', 'applied'), ('pending', 'failed'), ('pending', 'cancelled'), ('pending', 'suspended'), ('pending', 'skipped'),
       ('suspended', 'pending'), ('suspended', 'skipped'), ('suspended', 'cancelled'), ('suspended', 'failed'), ('failed', 'pending')
     )
  then
    raise exception 'A schedule that is % can''t become %.', old.status, new.status using errcode = 'ZF004';
  end if;
  if old.status <> 'pending' and new.status = old.status and new.scheduled_at is distinct from old.scheduled_at then
    raise exception 'A schedule that is % can''t be moved.', old.status using errcode = 'ZF003';
  end if;
  -- No event of its end says the reason.
  if new.status <> 'pending' and new.reason is distinct from old.reason then
    raise exception 'The reason of a schedule that is % can''t be changed.', new.status using errcode = 'ZF003';
  end if;
  -- The failed event doesn't say when the schedule was for, so the trail would never say that it was moved.
  if new.status = 'failed' and old.status <> 'failed' and new.scheduled_at is distinct from old.scheduled_at then
    raise exception 'A schedule can''t fail and be moved in one statement.' using errcode = 'ZF003';
  end if;
  new.applied_at := case
    when new.status = 'applied' and old.status <> 'applied' then clock_timestamp()
    when new.status = 'applied' then old.applied_at
  end;
  if new.status <> 'pending' then
    new.next_attempt_at := null;
  end if;
  -- Applying alone says what was found before it; what is pending isn't suspended.
  if (old.status, new.status) is distinct from ('pending', 'applied') then
    new.before := old.before;
    new.kept := old.kept;
    if new.status <> 'suspended' then
      new.suspended_for := null;
      new.suspended_details := null;
    elsif old.status = 'suspended' then
      new.suspended_for := old.suspended_for;
      new.suspended_details := old.suspended_details;
    end if;
    if new.status = old.status or new.status <> 'skipped' and old.status <> 'suspended' then
      new.resolution_reason := old.resolution_reason;
    end if;
  end if;
  new.updated_at := now();
  if new.reason is distinct from old.reason then
    new.reason := app_private.trim_reason(new.reason);
  end if;
  v_is_changed := app_private.schedule_state(new) is distinct from app_private.schedule_state(old);
  -- Counts audited changes and nothing else: a revision without an event is a lost event. Only record_rows() raises it.
  new.revision := case
    when v_is_changed then old.revision + 1
    when new.revision > old.revision and app_private.is_recording() then new.revision
    else old.revision
  end;
  -- A change that leaves it pending is a move, a retry or a resume despite a conflict: a person's decision, which is theirs from then
  -- on. The end of a stop is none about the schedule.
  new.requested_by := case
    when v_is_changed and new.status = 'pending' and old.suspended_for is distinct from 'stop' then app_private.claim_user_id()
    else old.requested_by
  end;
  return new;
end;
$$;

comment on function app_private.tg_feature_flag_schedules__state() is
  'The state machine: raises ZF004 for a transition that isn''t allowed, ZF010 for a change of what is fixed; stamps applied_at, requested_by and revision, and clears what belongs to a suspension that is over.';

-- A function of its own, because the tracking columns can be rolled back and the state machine stays.
create or replace function app_private.tg_feature_flag_schedules__track()
returns trigger
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
begin
  if tg_op = 'INSERT' then
    new.created_by := app_private.claim_user_id();
    new.cancelled_by := null;
    new.cancelled_at := null;
    new.cancel_reason := null;
  elsif new.status = 'cancelled' and old.status <> 'cancelled' then
    new.created_by := old.created_by;
    new.cancelled_by := app_private.claim_user_id();
    new.cancelled_at := now();
  else
    new.created_by := old.created_by;
    new.cancelled_by := old.cancelled_by;
    new.cancelled_at := old.cancelled_at;
    new.cancel_reason := old.cancel_reason;
  end if;
  return new;
end;
$$;

comment on function app_private.tg_feature_flag_schedules__track() is
  'Stamps created_by and cancelled_by with the user of a request of the API, null for any other session, and cancelled_at; what a client sends for them is ignored.';

create or replace trigger _100_state
  before insert or update on app_public.feature_flag_schedules
  for each row execute function app_private.tg_feature_flag_schedules__state();

create or replace trigger _200_track
  before insert or update on app_public.feature_flag_schedules
  for each row execute function app_private.tg_feature_flag_schedules__track();

-- A schedule is visible when its flag is; its environment is looked up only where a token is limited to some. `is not null`,
-- which the planner takes for nearly always true, where it takes `= 'admin'` for rare and so reads and sorts all of a flag's
-- schedules instead of walking the index. No `exists (…)`: it takes that for a set of all flags, which it gathers for each
-- statement (bench/sql/flag_schedules.md, bench/sql/insert.md).
drop policy if exists admin_select on app_public.feature_flag_schedules;
create policy admin_select on app_public.feature_flag_schedules
  for select to halyard_admin
  using (
    (select true where app_private.claim_role() = 'admin') is not null
    and (
      (select true where not app_private.claims_are_limited()) is not null
      or (select f.environment from app_public.feature_flags f where f.id = flag_id)
        = any ((select app_private.claim_environments())::text[])
    )
  );

drop policy if exists admin_insert on app_public.feature_flag_schedules;
create policy admin_insert on app_public.feature_flag_schedules
  for insert to halyard_admin
  with check (
    (select app_private.claim_role()) = 'admin'
    and flag_id = (select f.id from app_public.feature_flags f where f.id = flag_id)
  );

drop policy if exists viewer_select on app_public.feature_flag_schedules;
create policy viewer_select on app_public.feature_flag_schedules
  for select to halyard_viewer
  using (
    (select true where app_private.claim_role() = 'viewer') is not null
    and (
      (select true where not app_private.claims_are_limited()) is not null
      or (select f.environment from app_public.feature_flags f where f.id = flag_id)
        = any ((select app_private.claim_environments())::text[])
    )
  );

-- A DBA without a token too, as in the trail (audit/read/policies.sql).
drop policy if exists auditor_select on app_public.feature_flag_schedules;
create policy auditor_select on app_public.feature_flag_schedules
  for select to halyard_auditor
  using (
    (select true from (select app_private.claim_role() as role) as c where coalesce(c.role, 'auditor') = 'auditor') is not null
    and (
      (select true where not app_private.claims_are_limited()) is not null
      or (select f.environment from app_public.feature_flags f where f.id = flag_id)
        = any ((select app_private.claim_environments())::text[])
    )
  );

-- No update and no delete: a schedule changes only through the functions of lifecycle.sql.
revoke all on table app_public.feature_flag_schedules
  from public, halyard_admin, halyard_viewer, halyard_auditor, halyard_worker;
grant select on table app_public.feature_flag_schedules to halyard_admin, halyard_viewer, halyard_auditor;
grant insert (flag_id, scheduled_at, updates, max_attempts, reason) on table app_public.feature_flag_schedules to halyard_admin;

-- The state machine's trigger runs with the rights of the role that inserts.
grant execute on function app_private.require_schedulable(timestamptz), app_private.trim_reason(text) to halyard_admin;
--! EndIncluded schedules/schedules.sql
--! Included schedules/events.sql
-- Which change of a schedule makes which event, and the triggers that write it.
--
-- Bodies are bound when they are made, so that the planner puts them in line: in the triggers' one statement there is no call
-- left, whether it makes one event or ten thousand (bench/sql/insert.md). Keys that are unknown are absent.

create or replace function app_private.schedule_created_event(
  at timestamptz, incarnation uuid, schedule app_public.feature_flag_schedules, flag app_public.feature_flags
)
returns app_private.audit_event
language sql
volatile
return app_private.make_event(
  app_private.event_id(incarnation, (schedule).id, (schedule).created_at, (schedule).revision),
  at, 'flag_schedule.created', (schedule).flag_id, (flag).flag_key, (flag).environment, (schedule).id, (schedule).revision,
  jsonb_build_object(
    'scheduleId', (schedule).id,
    'flagKey', (flag).flag_key,
    'scheduledAt', app_private.iso((schedule).scheduled_at),
    'updates', (schedule).updates)
  || case when (schedule).reason is null then '{}' else jsonb_build_object('reason', (schedule).reason) end
  || case
    when (schedule).plan_id is null and (schedule).expects is null then '{}'
    else app_private.schedule_point(schedule) || jsonb_strip_nulls(jsonb_build_object(
      'expects', (schedule).expects, 'onConflict', nullif((schedule).on_conflict, 'overwrite')))
  end);

create or replace function app_private.schedule_change(
  before app_public.feature_flag_schedules, after app_public.feature_flag_schedules
)
returns text
language sql
stable
return case
  when (after).status = (before).status then 'flag_schedule.rescheduled'
  when (after).status = 'pending' then case (before).status when 'suspended' then 'flag_schedule.resumed' else 'flag_schedule.retried' end
  else 'flag_schedule.' || (after).status
end;

-- One object a branch: putting parts together takes as long as making them.
create or replace function app_private.schedule_change_own_details(
  at timestamptz,
  before app_public.feature_flag_schedules,
  after app_public.feature_flag_schedules,
  flag app_public.feature_flags
)
returns jsonb
language sql
stable
return case app_private.schedule_change(before, after)
  when 'flag_schedule.applied' then jsonb_build_object(
    'scheduleId', (after).id,
    'flagKey', (flag).flag_key,
    'updates', (after).updates,
    'appliedAt', app_private.iso((after).applied_at),
    'flagState', app_private.flag_state(flag) - 'description',
    'latenessMs', round(1000 * extract(epoch from (after).applied_at - (after).scheduled_at)))
  when 'flag_schedule.cancelled' then jsonb_build_object(
    'scheduleId', (after).id,
    'flagKey', (flag).flag_key,
    'scheduledAt', app_private.iso((after).scheduled_at),
    -- Not after.cancel_reason: the tracking columns can be rolled back, and the trail goes on.
    'reason', coalesce(to_jsonb(after) ->> 'cancel_reason', 'manual_cancellation'))
  when 'flag_schedule.failed' then jsonb_build_object(
    'scheduleId', (after).id,
    'flagKey', (flag).flag_key,
    'errorMessage', coalesce((after).error_message, 'unknown'),
    'failedAt', app_private.iso(at),
    'attempts', (after).attempts)
  when 'flag_schedule.suspended' then jsonb_strip_nulls(jsonb_build_object(
    'scheduleId', (after).id,
    'flagKey', (flag).flag_key,
    'scheduledAt', app_private.iso((after).scheduled_at),
    'for', (after).suspended_for,
    'details', (after).suspended_details))
  when 'flag_schedule.resumed' then jsonb_strip_nulls(jsonb_build_object(
    'scheduleId', (after).id,
    'flagKey', (flag).flag_key,
    'scheduledAt', app_private.iso((after).scheduled_at),
    'suspendedFor', (before).suspended_for,
    'reason', (after).resolution_reason,
    'acknowledged', case when (after).on_conflict <> (before).on_conflict then true end))
  when 'flag_schedule.skipped' then jsonb_strip_nulls(jsonb_build_object(
    'scheduleId', (after).id,
    'flagKey', (flag).flag_key,
    'scheduledAt', app_private.iso((after).scheduled_at),
    'reason', (after).resolution_reason))
  else jsonb_build_object(
    'scheduleId', (after).id,
    'flagKey', (flag).flag_key,
    'before', app_private.schedule_snapshot(before),
    'after', app_private.schedule_snapshot(after))
  -- Of this change. Without one the schedule keeps what it had, which `after` has.
  || jsonb_strip_nulls(jsonb_build_object('reason', coalesce(
    app_private.change_reason(), case when (after).reason is distinct from (before).reason then (after).reason end)))
end;

create or replace function app_private.schedule_change_details(
  at timestamptz,
  before app_public.feature_flag_schedules,
  after app_public.feature_flag_schedules,
  flag app_public.feature_flags
)
returns jsonb
language sql
stable
return case
  when (after).plan_id is null and (after).kept is null then app_private.schedule_change_own_details(at, before, after, flag)
  else app_private.schedule_change_own_details(at, before, after, flag) || app_private.schedule_point(after) || case
    when (after).status = 'applied' and (after).kept is not null then jsonb_build_object('kept', (after).kept)
    else '{}'
  end
end;

create or replace function app_private.schedule_changed_event(
  at timestamptz,
  incarnation uuid,
  before app_public.feature_flag_schedules,
  after app_public.feature_flag_schedules,
  flag app_public.feature_flags
)
returns app_private.audit_event
language sql
volatile
return app_private.make_event(
  app_private.changed_event_id(incarnation, (after).id, (after).created_at, (before).revision, (after).revision),
  at, app_private.schedule_change(before, after), (after).flag_id, (flag).flag_key, (flag).environment, (after).id,
  (after).revision, app_private.schedule_change_details(at, before, after, flag));

-- The API deletes no schedule; a DBA may, and deleting a flag takes its schedules along.
create or replace function app_private.schedule_deleted_event(
  at timestamptz, incarnation uuid, schedule app_public.feature_flag_schedules, flag app_public.feature_flags
)
returns app_private.audit_event
language sql
volatile
return app_private.make_event(
  app_private.event_id(incarnation, (schedule).id, (schedule).created_at, (schedule).revision + 1),
  at, 'flag_schedule.deleted', (schedule).flag_id, (flag).flag_key, (flag).environment, (schedule).id,
  (schedule).revision + 1,
  jsonb_build_object(
    'scheduleId', (schedule).id, 'flagKey', (flag).flag_key, 'before', app_private.schedule_snapshot(schedule))
  || app_private.schedule_point(schedule));

comment on function app_private.schedule_created_event(timestamptz, uuid, app_public.feature_flag_schedules, app_public.feature_flags) is
  'The flag_schedule.created event.';
comment on function app_private.schedule_change(app_public.feature_flag_schedules, app_public.feature_flag_schedules) is
  'The event type of a schedule''s change.';
comment on function app_private.schedule_change_own_details(timestamptz, app_public.feature_flag_schedules, app_public.feature_flag_schedules, app_public.feature_flags) is
  'The metadata of the event of a schedule''s change, without the admin and without what belongs to a plan or a guard.';
comment on function app_private.schedule_change_details(timestamptz, app_public.feature_flag_schedules, app_public.feature_flag_schedules, app_public.feature_flags) is
  'The metadata of the event of a schedule''s change, without the admin.';
comment on function app_private.schedule_changed_event(timestamptz, uuid, app_public.feature_flag_schedules, app_public.feature_flag_schedules, app_public.feature_flags) is
  'The flag_schedule event of a change of status or time.';
comment on function app_private.schedule_deleted_event(timestamptz, uuid, app_public.feature_flag_schedules, app_public.feature_flags) is
  'The flag_schedule.deleted event.';

-- One cached plan serves a statement of one row and one of ten thousand, so it must suit both. Old and new rows are joined by
-- FULL JOIN, which is never a nested loop (with IS DISTINCT FROM: another comparison would make it an inner join); flags are
-- looked up one by one (LIMIT keeps it so), which is never a scan of them all.
--
-- The settings pinned here hold for all that the functions below call.
create or replace function app_private.tg_feature_flag_schedules__audit()
returns trigger
language plpgsql
volatile
security definer
set search_path to pg_catalog, pg_temp
set timezone to 'UTC'
as $$
declare
  v_at timestamptz := clock_timestamp();
  v_incarnation uuid;
  v_events app_private.audit_event[];
  v_rows jsonb;
  v_old_rows jsonb;
begin
  begin
    v_incarnation := app_private.incarnation();
    if tg_op = 'INSERT' then
      select array_agg(app_private.schedule_created_event(v_at, v_incarnation, n, f.flag)) into v_events
      from new_rows n
      cross join lateral (select f as flag from app_public.feature_flags f where f.id = n.flag_id limit 1) as f;
    elsif tg_op = 'UPDATE' then
      select array_agg(app_private.schedule_changed_event(v_at, v_incarnation, o, n, f.flag)) into v_events
      from old_rows o
      full join new_rows n on n.id = o.id
      cross join lateral (select f as flag from app_public.feature_flags f where f.id = n.flag_id limit 1) as f
      -- A revision that counts says it already; it stands still when the stamp was switched off. record_rows(), which raises it,
      -- writes the event itself.
      where o.revision <> n.revision and not app_private.is_recording()
        or app_private.schedule_state(o) is distinct from app_private.schedule_state(n);
    else
      select array_agg(app_private.schedule_deleted_event(v_at, v_incarnation, o, f.flag)) into v_events
      from old_rows o
      left join lateral (select f as flag from app_public.feature_flags f where f.id = o.flag_id limit 1) as f on true;
    end if;
    if v_events is null then
      return null;
    end if;
    perform app_private.write_events(v_events);
  exception when others then
    if v_events is null then
      -- Not even made: keep the rows that they were to be made of.
      if tg_op <> 'DELETE' then
        v_rows := (select jsonb_agg(to_jsonb(n)) from new_rows n);
      end if;
      if tg_op <> 'INSERT' then
        v_old_rows := (select jsonb_agg(to_jsonb(o)) from old_rows o);
      end if;
    end if;
    perform app_private.write_dead_letter(
      jsonb_build_object(
        'table', tg_table_name, 'operation', tg_op, 'at', v_at,
        'events', to_jsonb(v_events), 'rows', v_rows, 'oldRows', v_old_rows),
      sqlstate, sqlerrm);
  end;
  perform app_private.notify_audit(
    array_agg(e.id), array_agg(e.schedule_id),
    array_agg(distinct (e.metadata ->> 'planId')::uuid) filter (where e.metadata ? 'planId'))
  from unnest(v_events) as e;
  return null;
end;
$$;

comment on function app_private.tg_feature_flag_schedules__audit() is
  'Writes one event for each schedule that a statement created, cancelled, applied, failed, rescheduled, retried, suspended, resumed, skipped or deleted.';

-- `enable always`: also under session_replication_role = replica, where ordinary triggers sleep.
create or replace trigger _900_audit_insert
  after insert on app_public.feature_flag_schedules
  referencing new table as new_rows
  for each statement execute function app_private.tg_feature_flag_schedules__audit();
create or replace trigger _900_audit_update
  after update on app_public.feature_flag_schedules
  referencing old table as old_rows new table as new_rows
  for each statement execute function app_private.tg_feature_flag_schedules__audit();
create or replace trigger _900_audit_delete
  after delete on app_public.feature_flag_schedules
  referencing old table as old_rows
  for each statement execute function app_private.tg_feature_flag_schedules__audit();
alter table app_public.feature_flag_schedules enable always trigger _900_audit_insert;
alter table app_public.feature_flag_schedules enable always trigger _900_audit_update;
alter table app_public.feature_flag_schedules enable always trigger _900_audit_delete;
--! EndIncluded schedules/events.sql
--! Included schedules/stale.sql
-- A change of a schedule that was made against another revision than the row's.

create or replace function app_private.schedule_change_text(event audit.events)
returns text
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
  select case (event).event_type
    when 'flag_schedule.created' then 'scheduled it'
    when 'flag_schedule.rescheduled' then case
      when (event).metadata #> '{before,scheduledAt}' is distinct from (event).metadata #> '{after,scheduledAt}' then concat(
        'moved it to ',
        to_char(((event).metadata #>> '{after,scheduledAt}')::timestamptz at time zone 'UTC', 'YYYY-MM-DD HH24:MI'), ' UTC')
      else 'changed its reason'
    end
    when 'flag_schedule.retried' then 'retried it'
    when 'flag_schedule.cancelled' then 'cancelled it'
    when 'flag_schedule.applied' then 'applied it'
    when 'flag_schedule.failed' then 'failed to apply it'
    when 'flag_schedule.suspended' then 'suspended it'
    when 'flag_schedule.resumed' then 'resumed it'
    when 'flag_schedule.skipped' then 'skipped it'
  end
$$;

comment on function app_private.schedule_change_text(audit.events) is
  'What an event changed of its schedule, as the rest of a sentence; null for an event that doesn''t say.';

create or replace function app_private.refuse_stale_schedule(schedule app_public.feature_flag_schedules)
returns void
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
declare
  v_event audit.events;
begin
  select e.* into v_event
  from audit.events e
  where e.schedule_id = schedule.id and e.event_type like 'flag_schedule.%'
  order by e.occurred_at desc, e.id desc
  limit 1;
  raise exception '%', app_private.stale_text(v_event, app_private.schedule_change_text(v_event), schedule.revision)
    using errcode = 'ZF027', detail = app_private.stale_detail(v_event, schedule.revision);
end;
$$;

comment on function app_private.refuse_stale_schedule(app_public.feature_flag_schedules) is
  'Raises ZF027: the sentence has who changed the schedule last, and the detail, as JSON, its revision.';
--! EndIncluded schedules/stale.sql
--! Included schedules/recorded.sql
-- What the trail says of a schedule, and what the row says, under the same keys: audit.verify_rows() compares the two. Not every
-- event says all of it: what it leaves out, an earlier one says. An applied event has the lateness and not the time it was scheduled
-- for, which may have been moved in the same statement; so of an applied schedule only the lateness is compared.
--
-- Who created and who cancelled is compared where an admin did it: of a session at a prompt the event has the login, and the row
-- nothing. How the attempts went is compared when the schedule has failed: before that they make no event.
create or replace function app_private.schedule_recorded(event audit.events)
returns jsonb
language sql
stable
return jsonb_build_object('flagId', (event).flag_id)
  || case
    when (event).actor_kind <> 'admin' then '{}'
    when (event).event_type = 'flag_schedule.created' then jsonb_build_object('createdBy', (event).admin_user_id)
    when (event).event_type = 'flag_schedule.cancelled' then jsonb_build_object('cancelledBy', (event).admin_user_id)
    else '{}'
  end
  || case (event).event_type
    when 'flag_schedule.created' then jsonb_build_object(
      'status', 'pending',
      'scheduledAt', (event).metadata -> 'scheduledAt',
      'updates', (event).metadata -> 'updates',
      'requestedBy', (event).admin_user_id,
      'reason', (event).metadata -> 'reason',
      'planId', (event).metadata -> 'planId',
      'occurrenceNo', (event).metadata -> 'occurrenceNo',
      'stepNo', (event).metadata -> 'stepNo',
      'expects', (event).metadata -> 'expects',
      'onConflict', (event).metadata -> 'onConflict',
      'resolutionReason', null)
    when 'flag_schedule.applied' then jsonb_build_object(
      'status', 'applied',
      'updates', (event).metadata -> 'updates',
      'appliedAt', (event).metadata -> 'appliedAt',
      'latenessMs', (event).metadata -> 'latenessMs',
      'kept', (event).metadata -> 'kept')
    when 'flag_schedule.cancelled' then jsonb_build_object(
      'status', 'cancelled',
      'scheduledAt', (event).metadata -> 'scheduledAt',
      'cancelReason', (event).metadata -> 'reason')
    when 'flag_schedule.failed' then jsonb_build_object(
      'status', 'failed',
      'attempts', (event).metadata -> 'attempts',
      'errorMessage', (event).metadata -> 'errorMessage')
    when 'flag_schedule.suspended' then jsonb_build_object(
      'status', 'suspended',
      'scheduledAt', (event).metadata -> 'scheduledAt',
      'suspendedFor', (event).metadata -> 'for',
      'suspendedDetails', (event).metadata -> 'details')
    when 'flag_schedule.resumed' then jsonb_build_object(
      'status', 'pending',
      'scheduledAt', (event).metadata -> 'scheduledAt',
      'resolutionReason', (event).metadata -> 'reason')
      || case when (event).metadata ->> 'suspendedFor' = 'conflict' then jsonb_build_object('requestedBy', (event).admin_user_id) else '{}' end
      || case when (event).metadata ? 'acknowledged' then jsonb_build_object('onConflict', null) else '{}' end
    when 'flag_schedule.skipped' then jsonb_build_object(
      'status', 'skipped',
      'scheduledAt', (event).metadata -> 'scheduledAt',
      'resolutionReason', (event).metadata -> 'reason')
    when 'flag_schedule.rescheduled' then ((event).metadata -> 'after') - '{attempts,errorMessage}'::text[]
      || jsonb_build_object('requestedBy', (event).admin_user_id, 'reason', (event).metadata #> '{after,reason}')
    when 'flag_schedule.retried' then ((event).metadata -> 'after') - '{attempts,errorMessage}'::text[]
      || jsonb_build_object('requestedBy', (event).admin_user_id, 'reason', (event).metadata #> '{after,reason}')
    when 'flag_schedule.reconciled' then ((event).metadata -> 'after')
      || jsonb_build_object(
        'updates', (event).metadata -> 'updates',
        'appliedAt', (event).metadata -> 'appliedAt',
        'requestedBy', (event).metadata -> 'requestedBy',
        'reason', (event).metadata #> '{after,reason}',
        'onConflict', (event).metadata #> '{after,onConflict}',
        'resolutionReason', (event).metadata #> '{after,resolutionReason}',
        'errorMessage', coalesce((event).metadata #>> '{after,errorMessage}', 'unknown'))
      || jsonb_strip_nulls(jsonb_build_object(
        'createdBy', (event).metadata -> 'createdBy',
        'cancelledBy', (event).metadata -> 'cancelledBy',
        'cancelReason', (event).metadata -> 'cancelReason'))
  end;

-- The tracking columns by name: they can be rolled back, and the trail goes on.
create or replace function app_private.schedule_found(schedule app_public.feature_flag_schedules)
returns jsonb
language sql
stable
return jsonb_build_object(
    'flagId', (schedule).flag_id, 'status', (schedule).status, 'updates', (schedule).updates,
    'requestedBy', (schedule).requested_by, 'reason', (schedule).reason,
    'planId', (schedule).plan_id, 'occurrenceNo', (schedule).occurrence_no, 'stepNo', (schedule).step_no,
    'expects', (schedule).expects, 'onConflict', nullif((schedule).on_conflict, 'overwrite'),
    'resolutionReason', (schedule).resolution_reason)
  || case (schedule).status
    when 'applied' then jsonb_build_object('kept', (schedule).kept)
    when 'suspended' then jsonb_build_object(
      'suspendedFor', (schedule).suspended_for, 'suspendedDetails', (schedule).suspended_details)
    else '{}'
  end
  || case when (schedule).applied_at is null
    then jsonb_build_object('scheduledAt', app_private.iso((schedule).scheduled_at))
    else jsonb_build_object(
      'appliedAt', app_private.iso((schedule).applied_at),
      'latenessMs', round(1000 * extract(epoch from (schedule).applied_at - (schedule).scheduled_at)))
  end
  || case when (schedule).status = 'failed'
    then jsonb_build_object('attempts', (schedule).attempts, 'errorMessage', coalesce((schedule).error_message, 'unknown'))
    else '{}'
  end
  || case when to_jsonb(schedule) ? 'created_by'
    then jsonb_build_object('createdBy', to_jsonb(schedule) -> 'created_by')
    else '{}'
  end
  || case when (schedule).status = 'cancelled' and to_jsonb(schedule) ? 'cancelled_by'
    then jsonb_build_object(
      'cancelledBy', to_jsonb(schedule) -> 'cancelled_by',
      'cancelReason', coalesce(to_jsonb(schedule) ->> 'cancel_reason', 'manual_cancellation'))
    else '{}'
  end;

comment on function app_private.schedule_recorded(audit.events) is
  'What an event says of its schedule after it; null when it says nothing of that.';
comment on function app_private.schedule_found(app_public.feature_flag_schedules) is
  'What a schedule''s row says, with the keys of schedule_recorded().';
--! EndIncluded schedules/recorded.sql
--! Included schedules/lifecycle.sql
-- What an admin does with schedules. GraphQL mutations and REST routes both call these, so there is one path.

-- A client that schedules in a loop would make one flag's lists and its applying slow. Only what comes by the API is limited: a DBA
-- knows what a statement does. At most so many index entries are counted, about 0.2 ms for 1,000. No lock is taken for it, so calls
-- at the same moment may go beyond the limit by as many as they are. Put in line: a call takes as long as the look itself.
create or replace function app_private.has_no_room_for_pending(flag_id uuid)
returns boolean
language sql
stable
return session_user = 'halyard_authenticator' and exists (
  select
  from app_public.feature_flag_schedules s
  where s.flag_id = has_no_room_for_pending.flag_id and s.status = 'pending'
  offset coalesce((select p.value::integer from app_private.settings p where p.name = 'pending_per_flag'), 1000) - 1);

comment on function app_private.has_no_room_for_pending(uuid) is
  'Whether the API calls, and the flag has as many pending schedules as the setting pending_per_flag allows.';

create or replace function app_private.refuse_pending()
returns void
language plpgsql
stable
set search_path to pg_catalog, pg_temp
as $$
begin
  raise exception 'The flag has % pending schedules, and may not have more: cancel some, or wait until some are applied.',
    coalesce(app_private.setting('pending_per_flag'), '1000')
    using errcode = 'ZF013', hint = 'The setting pending_per_flag limits them.';
end;
$$;

comment on function app_private.refuse_pending() is 'Raises ZF013.';

-- With the owner's rights, as its sisters below: row-level security would look the flag up three times more.
create or replace function app_public.schedule_flag_change(
  flag_key text,
  environment text,
  scheduled_at timestamptz,
  updates jsonb,
  reason text default null
)
returns app_public.feature_flag_schedules
language plpgsql
volatile
security definer
set search_path to pg_catalog, pg_temp
as $$
declare
  v_flag_id uuid;
  v_is_full boolean;
  v_schedule app_public.feature_flag_schedules;
begin
  perform app_private.require_admin();
  select f.id, app_private.has_no_room_for_pending(f.id) into v_flag_id, v_is_full
  from app_public.feature_flags f
  where f.flag_key = schedule_flag_change.flag_key
    and f.environment = coalesce(schedule_flag_change.environment, 'production')
    and (not app_private.claims_are_limited() or app_private.environment_is_visible(f.environment));
  if v_flag_id is null then
    perform app_private.require_environment(coalesce(schedule_flag_change.environment, 'production'));
    raise exception 'There is no flag % in %.',
      quote_literal(coalesce(schedule_flag_change.flag_key, '')), coalesce(schedule_flag_change.environment, 'production')
      using errcode = 'ZF001', hint = 'Create the flag first, or name another environment.';
  elsif v_is_full then
    perform app_private.refuse_pending();
  end if;

  -- What is wrong with the time and the updates, the table's trigger says. It takes the blanks off the reason, too.
  insert into app_public.feature_flag_schedules (flag_id, scheduled_at, updates, reason)
  values (v_flag_id, schedule_flag_change.scheduled_at, schedule_flag_change.updates, schedule_flag_change.reason)
  returning * into v_schedule;
  return v_schedule;
end;
$$;

comment on function app_public.schedule_flag_change(text, text, timestamptz, jsonb, text) is
  'Schedules a change of a flag for a time in the future. `environment` is production unless given; `reason` is free text of up to 500 characters.';

-- Finds a schedule that the claims let through and holds its flag against the worker, in the worker's own order (flag,
-- then schedule): so a cancel and an apply of the same moment can't deadlock, and one of them wins.
create or replace function app_private.lock_schedule(schedule_id uuid)
returns app_public.feature_flag_schedules
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
declare
  v_schedule app_public.feature_flag_schedules;
begin
  perform app_private.require_admin();
  perform
  from app_public.feature_flags f
  join app_public.feature_flag_schedules s on s.flag_id = f.id
  where s.id = schedule_id and app_private.environment_is_visible(f.environment)
  for share of f;
  if not found then
    raise exception 'There is no schedule %.', schedule_id using errcode = 'ZF002';
  end if;
  select s.* into v_schedule
  from app_public.feature_flag_schedules s
  where s.id = schedule_id
  for update;
  -- Deleted in SQL since the statement before.
  if not found then
    raise exception 'There is no schedule %.', schedule_id using errcode = 'ZF002';
  end if;
  -- Before its status: who applied or cancelled it meanwhile says more.
  if app_private.expected_revision() <> v_schedule.revision then
    perform app_private.refuse_stale_schedule(v_schedule);
  end if;
  return v_schedule;
end;
$$;

comment on function app_private.lock_schedule(uuid) is
  'Locks and returns a schedule for an admin''s change; raises insufficient_privilege, ZF002, or ZF027 where it isn''t the revision that the client expects.';

-- What the token doesn't reach is not named.
create or replace function app_private.refuse_part_of_plan(schedule app_public.feature_flag_schedules)
returns void
language plpgsql
stable
set search_path to pg_catalog, pg_temp
as $$
declare
  v_plan app_public.plans;
begin
  if schedule.plan_id is null then
    return;
  end if;
  select p.* into v_plan
  from app_public.plans p
  where p.id = schedule.plan_id and app_private.environments_are_visible(p.environments);
  raise exception 'The schedule belongs to %, which is changed as a whole.',
    case
      when v_plan.id is null then 'a plan that also changes environments that you don''t reach'
      else format('the plan %s, "%s"', v_plan.id, v_plan.title)
    end
    using errcode = 'ZF020', hint = 'Edit, cancel or retry the plan.';
end;
$$;

comment on function app_private.refuse_part_of_plan(app_public.feature_flag_schedules) is 'Raises ZF020 for a schedule of a plan, with the plan''s id and title.';

create or replace function app_public.cancel_flag_schedule(id uuid, reason text default null)
returns app_public.feature_flag_schedules
language plpgsql
volatile
security definer
set search_path to pg_catalog, pg_temp
as $$
declare
  v_schedule app_public.feature_flag_schedules := app_private.lock_schedule(cancel_flag_schedule.id);
begin
  perform app_private.refuse_part_of_plan(v_schedule);
  if v_schedule.status not in ('pending', 'suspended') then
    raise exception 'The schedule is %, so it can''t be cancelled.', v_schedule.status using errcode = 'ZF003';
  end if;
  update app_public.feature_flag_schedules s
  set status = 'cancelled', cancel_reason = app_private.trim_reason(cancel_flag_schedule.reason)
  where s.id = v_schedule.id
  returning s.* into v_schedule;
  return v_schedule;
end;
$$;

comment on function app_public.cancel_flag_schedule(uuid, text) is
  'Cancels a pending or suspended schedule and records who did it; `reason` is free text of up to 500 characters.';

create or replace function app_public.reschedule_flag_change(id uuid, scheduled_at timestamptz, reason text default null)
returns app_public.feature_flag_schedules
language plpgsql
volatile
security definer
set search_path to pg_catalog, pg_temp
as $$
declare
  v_schedule app_public.feature_flag_schedules := app_private.lock_schedule(reschedule_flag_change.id);
begin
  perform app_private.refuse_part_of_plan(v_schedule);
  if v_schedule.status <> 'pending' then
    raise exception 'The schedule is %, so it can''t be moved.', v_schedule.status using errcode = 'ZF003';
  end if;
  perform app_private.require_schedulable(reschedule_flag_change.scheduled_at);
  update app_public.feature_flag_schedules s
  set
    scheduled_at = reschedule_flag_change.scheduled_at, attempts = 0, next_attempt_at = null, error_message = null,
    reason = coalesce(app_private.trim_reason(reschedule_flag_change.reason), s.reason)
  where s.id = v_schedule.id
  returning s.* into v_schedule;
  return v_schedule;
end;
$$;

comment on function app_public.reschedule_flag_change(uuid, timestamptz, text) is
  'Moves a pending schedule to another time in the future. `reason` is free text of up to 500 characters; without one the schedule keeps its own.';

-- A retry is a new decision, taken now: the schedule becomes due now, after all that was applied since its first time,
-- so it isn't outdone by them. The time it was meant for stays in the trail.
create or replace function app_public.retry_flag_schedule(id uuid, reason text default null)
returns app_public.feature_flag_schedules
language plpgsql
volatile
security definer
set search_path to pg_catalog, pg_temp
as $$
declare
  v_schedule app_public.feature_flag_schedules := app_private.lock_schedule(retry_flag_schedule.id);
begin
  perform app_private.refuse_part_of_plan(v_schedule);
  if v_schedule.status <> 'failed' then
    raise exception 'The schedule is %; only one that failed can be retried.', v_schedule.status using errcode = 'ZF008';
  end if;
  if app_private.has_no_room_for_pending(v_schedule.flag_id) then
    perform app_private.refuse_pending();
  end if;
  update app_public.feature_flag_schedules s
  set
    status = 'pending', scheduled_at = clock_timestamp(), attempts = 0, next_attempt_at = null, error_message = null,
    reason = coalesce(app_private.trim_reason(retry_flag_schedule.reason), s.reason)
  where s.id = v_schedule.id
  returning s.* into v_schedule;
  return v_schedule;
end;
$$;

comment on function app_public.retry_flag_schedule(uuid, text) is
  'Makes a failed schedule due again, now, with all its attempts. `reason` is free text of up to 500 characters; without one the schedule keeps its own.';

grant execute on function
  app_public.schedule_flag_change(text, text, timestamptz, jsonb, text),
  app_public.cancel_flag_schedule(uuid, text),
  app_public.reschedule_flag_change(uuid, timestamptz, text),
  app_public.retry_flag_schedule(uuid, text)
to halyard_admin;
--! EndIncluded schedules/lifecycle.sql
--! Included schedules/resume.sql
-- What an admin does with a schedule that is suspended.

create or replace function app_private.require_reason(reason text)
returns text
language plpgsql
immutable
set search_path to pg_catalog, pg_temp
as $$
declare
  v_reason constant text := app_private.trim_reason(reason);
begin
  if v_reason is null or char_length(v_reason) > 500 then
    raise exception 'Give a reason of 1 to 500 characters.' using errcode = 'invalid_parameter_value';
  end if;
  return v_reason;
end;
$$;

comment on function app_private.require_reason(text) is
  'The reason without the blanks round it; raises invalid_parameter_value unless 1 to 500 characters are left.';

-- The point of a plan is one thing: who doesn't reach all environments of the plan can't resume a part of it.
create or replace function app_private.lock_point_of(schedule_id uuid)
returns uuid
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
declare
  v_plan app_public.plans;
begin
  select p.* into v_plan
  from app_public.feature_flag_schedules s
  join app_public.plans p on p.id = s.plan_id
  where s.id = schedule_id;
  if v_plan.id is null then
    return null;
  elsif not app_private.environments_are_visible(v_plan.environments) then
    raise exception 'The schedule % can''t be resumed alone: its plan also changes environments that you don''t reach.', schedule_id
      using errcode = 'ZF002';
  end if;
  perform from app_private.lock_point(v_plan.id) as s;
  return v_plan.id;
end;
$$;

comment on function app_private.lock_point_of(uuid) is
  'Locks the plan that a schedule belongs to, with its open point, and returns the plan''s id, or null for a schedule of its own; raises ZF002 unless the token reaches all of the plan.';

create or replace function app_private.require_no_stop(schedule app_public.feature_flag_schedules)
returns void
language plpgsql
stable
set search_path to pg_catalog, pg_temp
as $$
declare
  v_environment app_public.environments;
begin
  select e.* into v_environment
  from app_public.environments e
  where e.stopped_at is not null
    and (
      e.name = (select f.environment from app_public.feature_flags f where f.id = schedule.flag_id)
      or e.name = any (select unnest(p.environments) from app_public.plans p where p.id = schedule.plan_id))
  order by e.name
  limit 1;
  if found then
    raise exception '%', app_private.stop_text(v_environment) using errcode = 'ZF023', hint = 'Resume the environment.';
  end if;
end;
$$;

comment on function app_private.require_no_stop(app_public.feature_flag_schedules) is
  'Raises ZF023 while an environment of a schedule, or of its plan, is stopped.';

create or replace function app_public.resume_schedule(id uuid, reason text)
returns app_public.feature_flag_schedules
language plpgsql
volatile
security definer
set search_path to pg_catalog, pg_temp
as $$
declare
  v_now constant timestamptz := clock_timestamp();
  v_reason text;
  v_plan_id uuid;
  v_schedule app_public.feature_flag_schedules;
begin
  perform app_private.require_admin();
  v_reason := app_private.require_reason(resume_schedule.reason);
  v_plan_id := app_private.lock_point_of(resume_schedule.id);
  v_schedule := app_private.lock_schedule(resume_schedule.id);
  if v_schedule.status <> 'suspended' then
    raise exception 'The schedule is %; only one that is suspended can be resumed.', v_schedule.status using errcode = 'ZF031';
  elsif v_schedule.suspended_for = 'stop' then
    perform app_private.require_no_stop(v_schedule);
    update app_public.feature_flag_schedules s
    set status = 'pending', resolution_reason = v_reason
    where s.id = v_schedule.id or s.plan_id = v_plan_id and s.status = 'suspended';
  else
    -- A new decision, taken now, as a retry is.
    update app_public.plans p set next_at = v_now where p.id = v_plan_id;
    update app_public.feature_flag_schedules s
    set
      status = 'pending', scheduled_at = v_now, attempts = 0, error_message = null, resolution_reason = v_reason,
      on_conflict = case when s.suspended_details is null then s.on_conflict else 'overwrite' end
    where s.id = v_schedule.id or s.plan_id = v_plan_id and s.status = 'suspended';
  end if;
  select s.* into strict v_schedule from app_public.feature_flag_schedules s where s.id = v_schedule.id;
  return v_schedule;
end;
$$;

comment on function app_public.resume_schedule(uuid, text) is
  'Makes a suspended schedule pending again, and of a plan''s schedule all of its point. One that was suspended for a conflict is due now and sets its fields, with all that it finds; one that a stop suspended keeps its time. `reason` is free text of 1 to 500 characters.';

grant execute on function app_public.resume_schedule(uuid, text) to halyard_admin;
--! EndIncluded schedules/resume.sql
--! Included schedules/attempts.sql
-- What becomes of a schedule that could not be applied: when it is tried again, and which errors use an attempt up.

-- How long to wait before attempt n + 1: 30 s, 60 s, 120 s … up to an hour, each between half and all of it, so that many
-- schedules that failed together don't come back together: three attempts take about a minute. The setting retry_base changes the 30 s.
create or replace function app_private.retry_delay(attempts integer)
returns interval
language sql
volatile
set search_path to pg_catalog, pg_temp
as $$
  select least(
    coalesce(app_private.setting('retry_base')::interval, interval '30 seconds')
      * power(2, least(attempts, 20) - 1),
    interval '1 hour'
  ) * (0.5 + random() / 2)
$$;

comment on function app_private.retry_delay(integer) is
  'Exponential back-off with jitter after this many failed attempts (1 or more).';

-- Errors that say nothing against the schedule: the connection (08), a deadlock or a race (40), no room or no memory (53), a
-- server that stops or a statement that was cancelled (57), a disk that fails (58), what PostgreSQL has no class for, such as a
-- quota of the file system, and damaged pages (XX), a lock that another session holds (55P03), and strict mode while the trail
-- can't be written (ZF011). In strict mode a failure for good couldn't be recorded either.
create or replace function app_private.is_transient(error_code text)
returns boolean
language sql
immutable
set search_path to pg_catalog, pg_temp
as $$
  select left(error_code, 2) in ('08', '40', '53', '57', '58', 'XX') or error_code in ('55P03', 'ZF011')
$$;

comment on function app_private.is_transient(text) is
  'Whether an error of this SQLSTATE passes by itself, so that it doesn''t use an attempt of a schedule up.';

-- Doubles from 1 s to 30 s, each between half and all of it: a schedule waits about as long again as the trouble has lasted.
-- No column counts these waits: the last one is what the row's times leave between them, and the time that its batch took.
create or replace function app_private.postponement(schedule app_public.feature_flag_schedules)
returns interval
language sql
volatile
set search_path to pg_catalog, pg_temp
as $$
  select least(
    greatest(2 * (schedule.next_attempt_at - schedule.updated_at), interval '1 second'),
    interval '30 seconds'
  ) * (0.5 + random() / 2)
$$;

comment on function app_private.postponement(app_public.feature_flag_schedules) is
  'How long a schedule waits after an error that passes by itself.';

-- Before points of plans it took one schedule.
drop function if exists app_private.record_failure(uuid, text, text);

-- What is applied together is tried again together, so all have one time for the next attempt. They have the same attempts behind them,
-- unless SQL made them differ: then the one with the fewest attempts left counts.
create or replace function app_private.record_failure(schedule_ids uuid[], error_code text, problem text)
returns text
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
declare
  v_schedule app_public.feature_flag_schedules;
  v_is_transient constant boolean := app_private.is_transient(error_code);
  v_status text := 'pending';
  v_next_attempt_at timestamptz;
  v_count integer;
begin
  select s.* into strict v_schedule
  from app_public.feature_flag_schedules s
  where s.id = any (schedule_ids)
  order by s.max_attempts - s.attempts, s.id
  limit 1;
  if v_is_transient then
    v_next_attempt_at := clock_timestamp() + app_private.postponement(v_schedule);
  elsif v_schedule.attempts + 1 >= v_schedule.max_attempts then
    v_status := 'failed';
  else
    v_next_attempt_at := clock_timestamp() + app_private.retry_delay(v_schedule.attempts + 1);
  end if;
  update app_public.feature_flag_schedules s
  set
    attempts = s.attempts + case when v_is_transient then 0 else 1 end,
    error_message = left(problem, 2000),
    status = v_status,
    next_attempt_at = v_next_attempt_at
  where s.id = any (schedule_ids);
  get diagnostics v_count = row_count;
  if v_count <> cardinality(schedule_ids) then
    raise exception 'The failure of % of % schedules was recorded.', v_count, cardinality(schedule_ids) using errcode = 'data_exception';
  end if;
  if v_status = 'failed' and v_schedule.plan_id is not null then
    perform app_private.end_point(v_schedule.plan_id, 'failed', left(problem, 500));
  end if;
  return v_status;
end;
$$;

comment on function app_private.record_failure(uuid[], text, text) is
  'Records why these schedules, one or all of a plan''s point, could not be applied. Counts an attempt, unless the error passes by itself: pending again with a time for the next attempt, or failed for good, which pauses their plan. Returns the status.';
--! EndIncluded schedules/attempts.sql
--! Included schedules/gates.sql
-- What keeps a schedule that is due from being applied: its environment is stopped, or the flag isn't as the schedule expects.

-- Asked at the schedule's turn, so the flag has what earlier schedules of the batch have set. A field that a later schedule has set
-- already isn't asked for: that one decides it, and this schedule leaves it alone.
create or replace function app_private.unmet_expectations(
  schedule app_public.feature_flag_schedules, flag app_public.feature_flags
)
returns table (field text, expected jsonb, found jsonb)
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
  select e.key, e.value, app_private.flag_values(flag) -> e.key
  from jsonb_each((schedule).expects) as e
  where app_private.flag_values(flag) -> e.key is distinct from e.value
    and not exists (
      select
      from app_public.feature_flag_schedules l
      where l.flag_id = (schedule).flag_id and l.status = 'applied'
        and (l.scheduled_at, l.id) > ((schedule).scheduled_at, (schedule).id)
        and l.updates ? e.key and (l.kept is null or e.key <> all (l.kept)))
$$;

comment on function app_private.unmet_expectations(app_public.feature_flag_schedules, app_public.feature_flags) is
  'The fields in which a flag isn''t as its schedule expects, with what is expected and what is found.';

-- plpgsql, which keeps the plan for the session: each point of a plan asks.
create or replace function app_private.found_before(schedule_ids uuid[])
returns jsonb
language plpgsql
stable
set search_path to pg_catalog, pg_temp
as $$
begin
  return (
    select jsonb_object_agg(s.id, jsonb_strip_nulls(jsonb_build_object(
      'before', case when s.plan_id is not null then app_private.flag_values(f) end,
      'kept', case when s.on_conflict = 'keep' then (
        select jsonb_agg(u.field order by u.field) from app_private.unmet_expectations(s, f) as u where s.updates ? u.field)
      end)))
    from app_public.feature_flag_schedules s
    join app_public.feature_flags f on f.id = s.flag_id
    where s.id = any (schedule_ids));
end;
$$;

comment on function app_private.found_before(uuid[]) is
  'By the id of each schedule: `before`, the fields of the flag of a plan''s schedule as they are now, and `kept`, the fields that its guard leaves alone.';

-- The whole of a point waits, also where one change conflicts: it is all or nothing.
create or replace function app_private.suspend_conflicts(schedule_ids uuid[])
returns boolean
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
declare
  v_conflicts jsonb;
begin
  select jsonb_object_agg(c.id, jsonb_build_object('expected', c.expected, 'found', c.found)) into v_conflicts
  from (
    select s.id, jsonb_object_agg(u.field, u.expected) as expected, jsonb_object_agg(u.field, u.found) as found
    from app_public.feature_flag_schedules s
    join app_public.feature_flags f on f.id = s.flag_id
    cross join lateral app_private.unmet_expectations(s, f) as u
    where s.id = any (schedule_ids) and s.on_conflict = 'suspend'
    group by s.id
  ) as c;
  if v_conflicts is null then
    return false;
  end if;
  update app_public.feature_flag_schedules s
  set status = 'suspended', suspended_for = 'conflict', suspended_details = v_conflicts -> s.id::text
  where s.id = any (schedule_ids);
  return true;
end;
$$;

comment on function app_private.suspend_conflicts(uuid[]) is
  'Suspends all of these schedules when one of them has the guard suspend and its flag isn''t as it expects; returns whether it did.';

-- Without the reason of the stop: viewers read schedules, and not why an environment is stopped.
create or replace function app_private.stopped_schedules(schedule_ids uuid[])
returns jsonb
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
  with stopped as materialized (
    select s.id, s.plan_id, jsonb_build_object('environment', e.name) as details
    from app_public.feature_flag_schedules s
    join app_public.feature_flags f on f.id = s.flag_id
    join app_public.environments e on e.name = f.environment
    where s.id = any (schedule_ids) and e.stopped_at is not null
  )
  select coalesce(jsonb_object_agg(s.id, d.details), '{}')
  from app_public.feature_flag_schedules s
  left join stopped d on d.id = s.id
  where s.id = any (schedule_ids) and (d.id is not null or s.plan_id in (select p.plan_id from stopped p))
$$;

comment on function app_private.stopped_schedules(uuid[]) is
  'Of these schedules those that a stop keeps from being applied, by id: its environment, or null for one whose plan has another change in a stopped environment.';

create or replace function app_private.suspend_for_stop(stopped jsonb)
returns void
language sql
volatile
set search_path to pg_catalog, pg_temp
as $$
  update app_public.feature_flag_schedules s
  set status = 'suspended', suspended_for = 'stop', suspended_details = nullif(stopped -> s.id::text, 'null')
  where s.id in (select d.id::uuid from jsonb_object_keys(stopped) as d (id))
$$;

comment on function app_private.suspend_for_stop(jsonb) is 'Suspends pending schedules, given what stopped_schedules() says of them.';
--! EndIncluded schedules/gates.sql
--! Included schedules/apply.sql
-- Applying what is due. Called by the worker only; any number of workers may call it at once.

create or replace function app_private.is_held(
  schedule app_public.feature_flag_schedules, held_until timestamptz, held_created_until timestamptz
)
returns boolean
language sql
immutable
return (schedule).scheduled_at <= held_until and (schedule).created_at <= held_created_until;

comment on function app_private.is_held(app_public.feature_flag_schedules, timestamptz, timestamptz) is
  'Whether a schedule waits until a person decides about a lost history (audit/deliver/divergence.sql), given held_schedules().';

-- Whether a schedule can be applied at this time. The body is bound, so that the planner puts it in line and the indexes serve it.
create or replace function app_private.is_due(
  schedule app_public.feature_flag_schedules, at timestamptz, held_until timestamptz, held_created_until timestamptz
)
returns boolean
language sql
stable
return (schedule).status = 'pending'
  and (schedule).scheduled_at <= at
  and not app_private.is_held(schedule, held_until, held_created_until)
  -- After the time it was scheduled for, whenever there is one.
  and ((schedule).next_attempt_at is null or (schedule).next_attempt_at <= at);

comment on function app_private.is_due(app_public.feature_flag_schedules, timestamptz, timestamptz, timestamptz) is
  'Whether a schedule waits to be applied at this time and isn''t held: both apply_due() and apply_flag() ask this.';

-- Applies schedules of as many different flags, each flag by one of them. A flag's state is decided by the schedule with the
-- latest (scheduled_at, id): one that comes to its turn late, after a retry, leaves alone what a later one has set meanwhile.
-- Two statements, however many schedules: each costs a tenth of what it costs alone (bench/sql/apply.md). Only of schedules of plans and
-- of guarded ones it is asked what they find.
create or replace function app_private.apply_schedules(schedule_ids uuid[])
returns void
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
declare
  v_applying text;
  v_is_plain boolean;
  v_found jsonb;
begin
  select
    set_config('halyard.applying', jsonb_object_agg(s.flag_id, s.id)::text, true),
    bool_and(s.plan_id is null and s.on_conflict = 'overwrite')
  into v_applying, v_is_plain
  from app_public.feature_flag_schedules s
  where s.id = any (schedule_ids);
  if not v_is_plain then
    v_found := app_private.found_before(schedule_ids);
  end if;

  perform app_private.patch_flags(array_agg(due.flag_id), array_agg(due.updates))
  from (
    select
      s.flag_id,
      s.updates - case
        when v_found is null then later.keys
        else later.keys || array(select jsonb_array_elements_text(v_found -> s.id::text -> 'kept'))
      end as updates
    from app_public.feature_flag_schedules s
    cross join lateral (
      select coalesce(array_agg(k.key), '{}') as keys
      from app_public.feature_flag_schedules l
      cross join lateral jsonb_object_keys(l.updates) as k (key)
      where l.flag_id = s.flag_id and l.status = 'applied' and (l.scheduled_at, l.id) > (s.scheduled_at, s.id)
        and (l.kept is null or k.key <> all (l.kept))
    ) as later
    where s.id = any (schedule_ids)
  ) as due
  where due.updates <> '{}';

  update app_public.feature_flag_schedules s
  set
    status = 'applied', attempts = s.attempts + 1, error_message = null,
    before = case when v_found is not null then v_found -> s.id::text -> 'before' end,
    kept = case
      when v_found is not null and v_found -> s.id::text ? 'kept'
        then array(select jsonb_array_elements_text(v_found -> s.id::text -> 'kept'))
    end
  where s.id = any (schedule_ids);
  perform set_config('halyard.applying', '', true);
end;
$$;

comment on function app_private.apply_schedules(uuid[]) is
  'Changes the flags of these schedules, no two of one flag, and marks them applied. Runs inside the caller''s subtransaction: all of it or nothing.';

-- Applies them together if that works, else each half by itself, and so on: one that can't be applied stops no other. Larger sets come
-- first, so that each round of halves applies all but those that hold such a one, also when time is short: a set that waits for a
-- lock fails only after the lock_timeout. What is left at the deadline stays due; the worker asks for fewer then.
--
-- A cancelled statement (statement_timeout) is caught too, or one schedule that takes too long would undo every batch that it is in.
-- It is over then: PostgreSQL times a statement out only once.
create or replace function app_private.apply_or_bisect(schedule_ids uuid[], deadline timestamptz)
returns table (schedule_id uuid, outcome text)
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
declare
  -- The sets to try, as ranges of schedule_ids.
  v_first integer[] := array[1];
  v_last integer[] := array[cardinality(schedule_ids)];
  v_next integer := 1;
  v_middle integer;
  v_set uuid[];
  v_code text;
  v_problem text;
  v_stuck integer := 0;
  v_warning text;
begin
  while v_next <= cardinality(v_first) loop
    v_set := schedule_ids[v_first[v_next]:v_last[v_next]];
    v_middle := (v_first[v_next] + v_last[v_next]) / 2;
    v_next := v_next + 1;
    if clock_timestamp() > deadline then
      return query select i.id, 'untried' from unnest(v_set) as i (id);
      continue;
    end if;
    begin
      perform app_private.apply_schedules(v_set);
      return query select i.id, 'applied' from unnest(v_set) as i (id);
      continue;
    exception when query_canceled or others then
      v_code := sqlstate;
      v_problem := sqlerrm;
    end;
    if v_code = '57014' then
      deadline := '-infinity';
    end if;
    if cardinality(v_set) > 1 then
      v_first := v_first || v_first[v_next - 1] || (v_middle + 1);
      v_last := v_last || v_middle || v_last[v_next - 1];
      continue;
    end if;
    schedule_id := v_set[1];
    begin
      outcome := app_private.record_failure(array[schedule_id], v_code, v_problem);
    exception when others then
      -- Neither applied nor marked: it stays due.
      outcome := 'stuck';
      v_stuck := v_stuck + 1;
      v_warning := coalesce(v_warning, format('schedule %s can''t be applied and its failure can''t be recorded (%s): %s',
        schedule_id, sqlstate, sqlerrm));
    end;
    return next;
  end loop;
  if v_stuck > 0 then
    raise warning 'halyard: %', v_warning || case when v_stuck > 1 then format(' (and %s more like it)', v_stuck - 1) else '' end;
  end if;
end;
$$;

comment on function app_private.apply_or_bisect(uuid[], timestamptz) is
  'Applies these schedules, no two of one flag, each all or nothing. Says of each: applied, pending (it is tried again later), failed for good, stuck (it could not even be marked), or untried, because the deadline had passed.';

-- Several of one flag take turns: the first of each, then the second of each …
create or replace function app_private.apply_turns(schedule_ids uuid[], deadline timestamptz)
returns table (schedule_id uuid, outcome text)
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
declare
  v_turn uuid[];
begin
  for v_turn in
    select array_agg(t.id order by t.position)
    from (
      select s.id, i.position, row_number() over (partition by s.flag_id order by i.position) as turn
      from unnest(schedule_ids) with ordinality as i (id, position)
      join app_public.feature_flag_schedules s on s.id = i.id
    ) as t
    group by t.turn
    order by t.turn
  loop
    return query select o.schedule_id, o.outcome from app_private.apply_or_bisect(v_turn, deadline) as o;
  end loop;
end;
$$;

comment on function app_private.apply_turns(uuid[], timestamptz) is
  'Applies these schedules in the order given, each all or nothing; says of each what apply_or_bisect() does.';
--! EndIncluded schedules/apply.sql
--! Included schedules/points.sql
-- The point of a plan is applied whole or not at all: its changes are locked together, applied together, and fail together.

-- Ahead of its schedules, in the order in which all that deals with a plan takes its locks. So of two workers one has all of a point.
create or replace function app_private.try_lock_plan(plan_id uuid)
returns boolean
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
begin
  perform from app_public.plans p where p.id = try_lock_plan.plan_id for update skip locked;
  return found;
end;
$$;

comment on function app_private.try_lock_plan(uuid) is 'Locks a plan, unless another session has it locked; returns whether it is locked now.';

-- The end of a batch cuts a point, and another session may have one of its flags locked. Exactly one point of a plan is open, so its
-- pending schedules are that point.
create or replace function app_private.complete_points(
  schedule_ids uuid[], skipped uuid[], out ids uuid[], out left_plans uuid[]
)
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
declare
  v_plans uuid[];
begin
  v_plans := array(
    select distinct s.plan_id from app_public.feature_flag_schedules s where s.id = any (schedule_ids) and s.plan_id is not null);
  ids := schedule_ids || array(
    select s.id
    from app_public.feature_flag_schedules s
    join app_public.feature_flags f on f.id = s.flag_id
    where s.plan_id = any (v_plans) and s.status = 'pending' and s.id not in (select unnest(schedule_ids))
    for no key update of f skip locked
    for update of s skip locked);
  left_plans := array(
    select distinct s.plan_id
    from app_public.feature_flag_schedules s
    where s.plan_id = any (v_plans) and s.status = 'pending'
      and (s.id not in (select unnest(ids)) or s.id in (select unnest(skipped))));
  ids := array(
    select s.id
    from app_public.feature_flag_schedules s
    where s.id = any (ids) and (s.plan_id is null or s.plan_id <> all (left_plans))
    order by s.scheduled_at, s.id);
end;
$$;

comment on function app_private.complete_points(uuid[], uuid[]) is
  'Adds the rest of each plan''s point to these schedules, in order, and takes out the points that aren''t free: another session has a part of one locked, or a part is in `skipped`. left_plans are the plans of those.';

create or replace function app_private.require_whole_point(plan_id uuid, schedule_ids uuid[])
returns void
language plpgsql
stable
set search_path to pg_catalog, pg_temp
as $$
declare
  v_plan app_public.plans;
begin
  select p.* into strict v_plan from app_public.plans p where p.id = require_whole_point.plan_id;
  if v_plan.status <> 'active' then
    raise exception 'The plan is %, so its changes are not made%.', v_plan.status, coalesce(': ' || v_plan.status_reason, '')
      using errcode = 'ZF019';
  elsif cardinality(schedule_ids) <> cardinality(v_plan.flag_ids) then
    raise exception 'The plan has % changes, and % of them can be made: all of them are made together or none.',
      cardinality(v_plan.flag_ids), cardinality(schedule_ids) using errcode = 'ZF019', hint = 'Edit the plan, or cancel it.';
  end if;
end;
$$;

comment on function app_private.require_whole_point(uuid, uuid[]) is
  'Raises ZF019 unless the plan is active and these schedules are all of its point, as when SQL deleted or cancelled one of them.';

create or replace function app_private.apply_or_suspend(schedule_ids uuid[])
returns text
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
declare
  v_plan_id uuid;
begin
  select s.plan_id into v_plan_id from app_public.feature_flag_schedules s where s.id = schedule_ids[1];
  if v_plan_id is not null then
    perform app_private.require_whole_point(v_plan_id, schedule_ids);
  end if;
  if app_private.suspend_conflicts(schedule_ids) then
    return 'suspended';
  end if;
  perform app_private.apply_schedules(schedule_ids);
  if v_plan_id is not null then
    perform app_private.end_point(v_plan_id, 'applied', null);
  end if;
  return 'applied';
end;
$$;

comment on function app_private.apply_or_suspend(uuid[]) is
  'Applies all changes of a plan''s point, or one guarded schedule, which the caller has locked; or suspends them for a conflict. Returns applied or suspended, and raises what applying raises.';

-- No halves: a point fails whole. As in apply_or_bisect() a statement that was cancelled is caught too.
create or replace function app_private.try_point(schedule_ids uuid[], deadline timestamptz)
returns text
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
declare
  v_code text;
  v_problem text;
begin
  if clock_timestamp() > deadline then
    return 'untried';
  end if;
  begin
    return app_private.apply_or_suspend(schedule_ids);
  exception when query_canceled or others then
    v_code := sqlstate;
    v_problem := sqlerrm;
  end;
  begin
    return app_private.record_failure(schedule_ids, v_code, v_problem);
  exception when others then
    raise warning 'halyard: schedule % and the % others of its point can''t be applied and their failure can''t be recorded (%): %',
      schedule_ids[1], cardinality(schedule_ids) - 1, sqlstate, sqlerrm;
    return 'stuck';
  end;
end;
$$;

comment on function app_private.try_point(uuid[], timestamptz) is
  'Applies all changes of a plan''s point, or one guarded schedule. Says what became of all of them: applied, suspended, pending (tried again later), failed for good, stuck (not even marked), or untried, because the deadline had passed.';

-- In the order plan, flags, schedules, each by id.
create or replace function app_private.lock_point(plan_id uuid)
returns setof app_public.feature_flag_schedules
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
begin
  perform from app_public.plans p where p.id = lock_point.plan_id for update;
  perform
  from app_public.feature_flags f
  where f.id in (
    select s.flag_id from app_public.feature_flag_schedules s
    where s.plan_id = lock_point.plan_id and s.status in ('pending', 'suspended'))
  order by f.id
  for no key update;
  return query
    select s.*
    from app_public.feature_flag_schedules s
    where s.plan_id = lock_point.plan_id and s.status in ('pending', 'suspended')
    order by s.id
    for update;
end;
$$;

comment on function app_private.lock_point(uuid) is
  'Locks a plan, and the flags and the schedules of its open point, and returns these; waits for each as long as the session''s lock_timeout says.';

-- An admin's change of several flags is an admin's act: no stop keeps it.
create or replace function app_private.apply_point(plan_id uuid)
returns text
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
begin
  return app_private.apply_or_suspend(array(
    select p.id from app_private.lock_point(apply_point.plan_id) as p where p.status = 'pending' order by p.scheduled_at, p.id));
end;
$$;

comment on function app_private.apply_point(uuid) is
  'Applies a plan''s open point at once, in the caller''s session, also in a stopped environment. Returns applied, or suspended where a guard found something else; raises what applying raises.';
--! EndIncluded schedules/points.sql
--! Included schedules/batches.sql
-- Batches of what is due. Called by the worker only; any number of workers may call it at once.
--
-- A batch holds a share of the lock of app_private.apply_gates, and who stops an environment takes that alone: so no batch that began
-- before a stop is under way when the stop returns, and one that begins later sees it.

-- These two returned fewer columns. They have other arguments now, because the migration that made them may be run again
-- (migrations/rollback), and no function can be replaced by one with another result.
drop function if exists app_private.apply_due(integer, uuid[]);
drop function if exists app_private.apply_flag(uuid, integer, uuid[]);

-- First what is stopped is suspended: it needs no turn. Then, in order, stretches of schedules as sets, and each point of a plan and
-- each guarded schedule by itself.
create or replace function app_private.apply_outcomes(schedule_ids uuid[], is_plain boolean, within interval)
returns table (schedule_id uuid, outcome text)
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
declare
  v_deadline timestamptz := clock_timestamp() + within;
  v_stopped jsonb;
  v_outcome text := 'stopped';
  v_stretch record;
begin
  if is_plain then
    return query select t.schedule_id, t.outcome from app_private.apply_turns(schedule_ids, v_deadline) as t;
    return;
  end if;
  v_stopped := app_private.stopped_schedules(schedule_ids);
  begin
    perform app_private.suspend_for_stop(v_stopped);
  exception when query_canceled or others then
    -- Neither applied nor suspended: they stay due.
    v_outcome := 'stuck';
    raise warning 'halyard: % schedules of stopped environments can''t be suspended (%): %',
      (select count(*) from jsonb_object_keys(v_stopped)), sqlstate, sqlerrm;
  end;
  return query select k.id::uuid, v_outcome from jsonb_object_keys(v_stopped) as k (id);

  for v_stretch in
    select x.point is not null as is_point, array_agg(x.id order by x.position) as ids
    from (
      select
        s.id, i.position, p.point,
        -- The same for all between two points.
        case when p.point is null then count(p.point) over (order by i.position) end as stretch
      from unnest(schedule_ids) with ordinality as i (id, position)
      join app_public.feature_flag_schedules s on s.id = i.id
      cross join lateral (select coalesce(s.plan_id, case when s.on_conflict <> 'overwrite' then s.id end) as point) as p
      where not v_stopped ? s.id::text
    ) as x
    group by x.point, x.stretch
    order by min(x.position)
  loop
    if v_stretch.is_point then
      v_outcome := app_private.try_point(v_stretch.ids, v_deadline);
      return query select i.id, v_outcome from unnest(v_stretch.ids) as i (id);
    else
      return query select t.schedule_id, t.outcome from app_private.apply_turns(v_stretch.ids, v_deadline) as t;
    end if;
  end loop;
end;
$$;

comment on function app_private.apply_outcomes(uuid[], boolean, interval) is
  'Applies these schedules in the order given, all of each plan''s point among them. Says of each: applied, stopped or suspended (it waits for an admin), pending (it is tried again later), failed for good, stuck, or untried. is_plain: none of them is of a plan or guarded, and no environment is stopped.';

create or replace function app_private.apply_in_turns(schedule_ids uuid[], is_plain boolean, within interval)
returns table (
  applied integer, retried integer, failed integer, stuck integer, lateness_ms double precision[], stuck_ids uuid[], untried integer,
  suspended_for_stop integer, suspended_for_conflict integer
)
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
declare
  v_applied uuid[];
begin
  select
    coalesce(array_agg(o.schedule_id) filter (where o.outcome = 'applied'), '{}'),
    count(*) filter (where o.outcome = 'pending'),
    count(*) filter (where o.outcome = 'failed'),
    coalesce(array_agg(o.schedule_id) filter (where o.outcome = 'stuck'), '{}'),
    count(*) filter (where o.outcome = 'untried'),
    count(*) filter (where o.outcome = 'stopped'),
    count(*) filter (where o.outcome = 'suspended')
  into v_applied, retried, failed, stuck_ids, untried, suspended_for_stop, suspended_for_conflict
  from app_private.apply_outcomes(schedule_ids, is_plain, within) as o;
  applied := cardinality(v_applied);
  stuck := cardinality(stuck_ids);
  lateness_ms := array(
    select 1000 * extract(epoch from s.applied_at - s.scheduled_at)::double precision
    from app_public.feature_flag_schedules s
    where s.id = any (v_applied));
  return next;
end;
$$;

comment on function app_private.apply_in_turns(uuid[], boolean, interval) is
  'Applies these schedules, which the caller has locked with their flags and plans, in the order given; for what it returns see apply_due().';

-- A call of 0.1.0's apply_due() that waits for the locks of the migration goes on with the body of before, and calls this.
create or replace function app_private.apply_in_turns(schedule_ids uuid[])
returns table (
  applied integer, retried integer, failed integer, stuck integer, lateness_ms double precision[], stuck_ids uuid[], untried integer
)
language sql
volatile
set search_path to pg_catalog, pg_temp
as $$
  select a.applied, a.retried, a.failed, a.stuck, a.lateness_ms, a.stuck_ids, a.untried
  from app_private.apply_in_turns(schedule_ids, false, interval '5 seconds') as a
$$;

comment on function app_private.apply_in_turns(uuid[]) is 'The same for a batch that 0.1.0 has begun.';

-- A flag is locked before its schedules and skipped while another worker has it: so a flag's schedules are applied in
-- order, by any number of workers. The ids are gathered first and looped over second, because a cursor that locks rows
-- silently skips those which the same transaction has changed since it was opened.
--
-- A point of which another session has a part locked is left. Such points may fill a batch, so it is taken again without them.
create or replace function app_private.apply_due(batch integer default 500, skipped uuid[] default '{}', within interval default '5 seconds')
returns table (
  applied integer, retried integer, failed integer, stuck integer, lateness_ms double precision[], stuck_ids uuid[], untried integer,
  suspended_for_stop integer, suspended_for_conflict integer
)
language plpgsql
volatile
security definer
set search_path to pg_catalog, pg_temp
set timezone to 'UTC'
as $$
declare
  -- A variable: the index can't serve a comparison with a volatile function.
  v_now timestamptz := clock_timestamp();
  v_held record;
  v_ids uuid[];
  v_is_plain boolean;
  v_is_full boolean;
  v_left uuid[];
  v_passed uuid[] := '{}';
begin
  lock table app_private.apply_gates in row share mode;
  select h.* into v_held from app_private.held_schedules() as h;
  -- Before the rows: an index that is being built (a SHARE lock) lets a session lock rows and makes their update wait, and a wait
  -- there would be taken for a failure of the schedules.
  lock table app_public.feature_flags, app_public.feature_flag_schedules in row exclusive mode;
  loop
    select
      coalesce(array_agg(d.id), '{}'),
      coalesce(bool_and(d.is_plain), true) and not exists (select from app_public.environments e where e.stopped_at is not null)
    into v_ids, v_is_plain
    from (
      select s.id, s.plan_id is null and s.on_conflict = 'overwrite' as is_plain
      from app_public.feature_flag_schedules s
      join app_public.feature_flags f on f.id = s.flag_id
      where app_private.is_due(s, v_now, v_held.scheduled_until, v_held.created_until) and s.id <> all (skipped)
        and (s.plan_id is null or s.plan_id <> all (v_passed) and app_private.try_lock_plan(s.plan_id))
      order by s.scheduled_at, s.id
      limit apply_due.batch
      for no key update of f skip locked
      for update of s skip locked
    ) as d;
    exit when v_is_plain;
    v_is_full := cardinality(v_ids) >= batch;
    select p.ids, p.left_plans into v_ids, v_left from app_private.complete_points(v_ids, skipped) as p;
    exit when v_left = '{}' or not v_is_full;
    v_passed := v_passed || v_left;
  end loop;
  return query select a.* from app_private.apply_in_turns(v_ids, v_is_plain, within) as a;
end;
$$;

comment on function app_private.apply_due(integer, uuid[], interval) is
  'Applies up to `batch` due schedules but those in `skipped`, each all or nothing, and with a plan''s schedule all of its point. Says how many were applied, are to be retried, failed for good, or could not even be marked (and which), how late each applied one was in milliseconds, how many were left because `within` had passed, and how many were suspended because their environment is stopped or their flag isn''t as they expect.';

-- What apply_due() leaves, because another session has the flag or the schedule locked at each moment that it looks. A row that is
-- changed again and again is got by waiting: PostgreSQL serves those that wait in turn. The lock_timeout counts for the waiting alone.
-- It should be below deadlock_timeout (1 s): of two sessions that wait for each other this one gives up first.
create or replace function app_private.apply_flag(
  flag_id uuid, wait_ms integer, skipped uuid[] default '{}', within interval default '5 seconds'
)
returns table (
  applied integer, retried integer, failed integer, stuck integer, lateness_ms double precision[], stuck_ids uuid[], untried integer,
  suspended_for_stop integer, suspended_for_conflict integer
)
language plpgsql
volatile
security definer
set search_path to pg_catalog, pg_temp
set timezone to 'UTC'
as $$
declare
  v_now timestamptz := clock_timestamp();
  v_held record;
  v_lock_timeout text := current_setting('lock_timeout');
  v_plans uuid[];
  v_ids uuid[];
begin
  perform set_config('lock_timeout', wait_ms || 'ms', true);
  lock table app_private.apply_gates in row share mode;
  select h.* into v_held from app_private.held_schedules() as h;
  lock table app_public.feature_flags, app_public.feature_flag_schedules in row exclusive mode;
  -- The plans of its points, then all flags of these, then the schedules: an admin's functions take theirs in this order too.
  v_plans := array(
    select distinct s.plan_id
    from app_public.feature_flag_schedules s
    where s.flag_id = apply_flag.flag_id and s.plan_id is not null
      and app_private.is_due(s, v_now, v_held.scheduled_until, v_held.created_until));
  perform from app_public.plans p where p.id = any (v_plans) order by p.id for update;
  perform
  from app_public.feature_flags f
  where f.id = apply_flag.flag_id
    or f.id in (select s.flag_id from app_public.feature_flag_schedules s where s.plan_id = any (v_plans) and s.status = 'pending')
  order by f.id
  for no key update;
  v_ids := array(
    select s.id
    from app_public.feature_flag_schedules s
    where s.flag_id = apply_flag.flag_id
      and app_private.is_due(s, v_now, v_held.scheduled_until, v_held.created_until)
      and s.id <> all (skipped)
      and (s.plan_id is null or s.plan_id = any (v_plans))
    order by s.scheduled_at, s.id
    limit 500
    for update of s);
  perform from app_public.feature_flag_schedules s where s.plan_id = any (v_plans) and s.status = 'pending' order by s.id for update;
  perform set_config('lock_timeout', v_lock_timeout, true);
  return query select a.* from app_private.apply_in_turns(
    (select p.ids from app_private.complete_points(v_ids, skipped) as p), false, within) as a;
end;
$$;

comment on function app_private.apply_flag(uuid, integer, uuid[], interval) is
  'Applies a flag''s due schedules but those in `skipped`, with those of plans all of their points, and waits up to `wait_ms` for the lock of each row; raises lock_not_available (55P03) after that. Returns what apply_due() does.';

grant usage on schema app_private to halyard_worker;
grant execute on function app_private.apply_due(integer, uuid[], interval), app_private.apply_flag(uuid, integer, uuid[], interval) to halyard_worker;
--! EndIncluded schedules/batches.sql
--! Included schedules/overdue.sql
-- What the worker's timer asks: when something is due, and what apply_due() has left.

-- Two instants, because what is overdue may stay so for a while (a flag that somebody holds locked), and must not hide what
-- comes due meanwhile. The latest of what is overdue: the timer has fired for it, and so for all before it, or it hasn't.
-- What is held (audit/deliver/divergence.sql) isn't due. First attempts and retries are asked for apart: each has an index in the order of its time.
create or replace function app_private.next_due(out overdue_for double precision, out due_in double precision)
language plpgsql
volatile
security definer
set search_path to pg_catalog, pg_temp
as $$
declare
  v_now timestamptz := clock_timestamp();
  v_held record;
begin
  select h.* into v_held from app_private.held_schedules() as h;
  select
    1000 * extract(epoch from v_now - greatest(
      (
        select max(s.scheduled_at) from app_public.feature_flag_schedules s
        where s.status = 'pending' and s.next_attempt_at is null and s.scheduled_at <= v_now
          and not app_private.is_held(s, v_held.scheduled_until, v_held.created_until)
      ),
      (
        select max(s.next_attempt_at) from app_public.feature_flag_schedules s
        where s.status = 'pending' and s.next_attempt_at <= v_now and s.scheduled_at <= v_now
          and not app_private.is_held(s, v_held.scheduled_until, v_held.created_until)
      ))),
    1000 * extract(epoch from least(
      (
        select min(s.scheduled_at) from app_public.feature_flag_schedules s
        where s.status = 'pending' and s.next_attempt_at is null and s.scheduled_at > v_now
          and not app_private.is_held(s, v_held.scheduled_until, v_held.created_until)
      ),
      (
        select min(s.next_attempt_at) from app_public.feature_flag_schedules s
        where s.status = 'pending' and s.next_attempt_at > v_now and s.scheduled_at <= v_now
          and not app_private.is_held(s, v_held.scheduled_until, v_held.created_until)
      )) - v_now)
  into overdue_for, due_in;
end;
$$;

comment on function app_private.next_due() is
  'By the database''s clock, in milliseconds: for how long the latest overdue schedule has been due, and until the next one is; null when there is none.';

-- Bounded, so that a backlog costs no more than a blocked flag: those that apply_due() has yet to reach are among them. The flags
-- that the worker has waited for already don't count, or as many of them as the limit would hide all others.
--
-- One flag stands for all flags of a plan's point, which apply_flag() waits for together.
create or replace function app_private.overdue_flags(overdue_ms double precision, skipped uuid[] default '{}', waited uuid[] default '{}')
returns table (flag_id uuid, flag_key text, environment text)
language plpgsql
volatile
security definer
set search_path to pg_catalog, pg_temp
as $$
declare
  v_then timestamptz := clock_timestamp() - overdue_ms * interval '1 ms';
  v_held record;
begin
  select h.* into v_held from app_private.held_schedules() as h;
  return query
    select f.id, f.flag_key::text, f.environment::text
    from app_public.feature_flags f
    join (
      select u.flag_id, min(u.since) as since
      from (
        (
          select (array_agg(s.flag_id order by s.flag_id))[1] as flag_id, min(s.scheduled_at) as since
          from (
            select d.flag_id, d.plan_id, d.scheduled_at
            from app_public.feature_flag_schedules d
            where app_private.is_due(d, v_then, v_held.scheduled_until, v_held.created_until)
              and d.id <> all (skipped)
              and d.flag_id <> all (waited)
              and (d.plan_id is null or not exists (
                select from app_public.feature_flag_schedules w where w.plan_id = d.plan_id and w.flag_id = any (waited)))
            order by d.scheduled_at, d.id
            limit 1000
          ) as s
          group by coalesce(s.plan_id, s.flag_id)
          order by since
          limit 100
        )
        union all
        select d.flag_id, min(d.scheduled_at)
        from app_public.feature_flag_schedules d
        where d.flag_id = any (waited)
          and app_private.is_due(d, v_then, v_held.scheduled_until, v_held.created_until)
          and d.id <> all (skipped)
        group by d.flag_id
      ) as u
      group by u.flag_id
    ) as o on f.id = o.flag_id
    order by o.since;
end;
$$;

comment on function app_private.overdue_flags(double precision, uuid[], uuid[]) is
  'Flags with schedules, but those in `skipped`, that have been due for so many milliseconds and aren''t applied, the longest overdue first: all such flags in `waited`, and at most 100 others.';

grant execute on function
  app_private.next_due(),
  app_private.overdue_flags(double precision, uuid[], uuid[])
to halyard_worker;
--! EndIncluded schedules/overdue.sql
--! Included environments/stop.sql
-- The emergency stop of an environment. It is one row, however much is pending: what comes due meanwhile is suspended when it comes due
-- (schedules/batches.sql). It stops schedules, and not people: admins go on changing flags.

create or replace function app_private.stop_text(environment app_public.environments)
returns text
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
  select case
    when environment.stopped_at is not null then format(
      'The environment %s is stopped, since %s UTC%s: %s',
      environment.name, to_char(environment.stopped_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS'),
      coalesce(' by ' || environment.stopped_by, ''), environment.stop_reason)
    when environment.last_resume is not null then format(
      'The environment %s isn''t stopped: it was resumed at %s UTC%s: %s',
      environment.name, to_char((environment.last_resume ->> 'at')::timestamptz at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS'),
      coalesce(' by ' || (environment.last_resume ->> 'by'), ''), environment.last_resume ->> 'reason')
    else format('The environment %s isn''t stopped.', environment.name)
  end
$$;

comment on function app_private.stop_text(app_public.environments) is
  'Whether an environment is stopped, since when, by whom and why, as a sentence.';

-- Waits for the batches that are under way, and keeps others from beginning. A batch takes 5 s at most, unless the server is in trouble.
-- Below the API's statement_timeout, so that the answer says what it waited for.
create or replace function app_private.lock_environment(name text)
returns app_public.environments
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
set lock_timeout to '9s'
as $$
declare
  v_environment app_public.environments;
begin
  lock table app_private.apply_gates in exclusive mode;
  select e.* into v_environment from app_public.environments e where e.name = lock_environment.name for update;
  if not found then
    perform app_private.require_environment(lock_environment.name);
  end if;
  return v_environment;
end;
$$;

comment on function app_private.lock_environment(text) is
  'Locks and returns an environment when no schedule is being applied, and keeps it so until the transaction ends. Raises ZF014 where there is none, lock_not_available after 9 s.';

create or replace function app_private.stop_environment(name text, reason text)
returns app_public.environments
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
declare
  v_reason constant text := app_private.require_reason(stop_environment.reason);
  v_environment app_public.environments := app_private.lock_environment(stop_environment.name);
begin
  if v_environment.stopped_at is not null then
    raise exception '%', app_private.stop_text(v_environment) using errcode = 'ZF023';
  end if;
  update app_public.environments e
  set stopped_at = clock_timestamp(), stop_reason = v_reason
  where e.name = v_environment.name
  returning e.* into v_environment;
  return v_environment;
end;
$$;

comment on function app_private.stop_environment(text, text) is
  'Stops an environment, without asking for a token: from the moment that this is committed no schedule changes its flags, until it is resumed. Raises ZF023 where it is stopped already.';

create or replace function app_public.stop_environment(name text, reason text)
returns app_public.environments
language plpgsql
volatile
security definer
set search_path to pg_catalog, pg_temp
as $$
begin
  perform app_private.require_admin();
  perform app_private.require_environment(stop_environment.name);
  return app_private.stop_environment(stop_environment.name, stop_environment.reason);
end;
$$;

comment on function app_public.stop_environment(text, text) is
  'Stops an environment: from the moment that this returns no schedule changes its flags, until it is resumed. Changes by admins go on. `reason` is free text of 1 to 500 characters.';

grant execute on function app_public.stop_environment(text, text) to halyard_admin;
--! EndIncluded environments/stop.sql
--! Included environments/resume.sql
-- The end of an environment's stop, and what becomes of the schedules that came due meanwhile.

-- Those that the stop suspended, and those that are due and that no worker has suspended yet. A plan's point is in as a whole; while
-- another of its environments is stopped it waits for that.
create or replace function app_private.missed_schedules(environment text)
returns setof app_public.feature_flag_schedules
language plpgsql
stable
set search_path to pg_catalog, pg_temp
as $$
declare
  v_now timestamptz := clock_timestamp();
  v_held record;
begin
  select h.* into v_held from app_private.held_schedules() as h;
  return query
    select (m.schedule).*
    from (
      select s as schedule
      from app_public.feature_flag_schedules s
      where s.status = 'suspended' and s.suspended_for = 'stop'
      union all
      select s
      from app_public.feature_flag_schedules s
      where app_private.is_due(s, v_now, v_held.scheduled_until, v_held.created_until)
    ) as m
    left join app_public.plans p on p.id = (m.schedule).plan_id
    where case
      when p.id is null
        then (select f.environment from app_public.feature_flags f where f.id = (m.schedule).flag_id) = missed_schedules.environment
      else missed_schedules.environment = any (p.environments)
        and not exists (
          select from app_public.environments e
          where e.stopped_at is not null and e.name <> missed_schedules.environment and e.name = any (p.environments))
    end;
end;
$$;

comment on function app_private.missed_schedules(text) is
  'The schedules that the end of an environment''s stop decides about: they came due and the stop kept them from being applied.';

-- In the order of all that deals with plans and schedules.
create or replace function app_private.lock_schedules(schedule_ids uuid[])
returns void
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
set lock_timeout to '2s'
as $$
begin
  perform
  from app_public.plans p
  where p.id in (select s.plan_id from app_public.feature_flag_schedules s where s.id = any (schedule_ids))
  order by p.id
  for update;
  perform
  from app_public.feature_flags f
  where f.id in (select s.flag_id from app_public.feature_flag_schedules s where s.id = any (schedule_ids))
  order by f.id
  for share;
  perform from app_public.feature_flag_schedules s where s.id = any (schedule_ids) order by s.id for update;
end;
$$;

comment on function app_private.lock_schedules(uuid[]) is
  'Locks these schedules, after their plans and flags; raises lock_not_available after a wait of 2 s for one of them.';

-- A plan that reaches beyond the token isn't the admin's to skip: it waits for an admin of all its environments.
create or replace function app_private.settle_missed(environment app_public.environments, missed text, reason text, "except" uuid[])
returns jsonb
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
declare
  v_ids uuid[] := array(select m.id from app_private.missed_schedules(environment.name) as m);
  v_except uuid[];
  v_apply uuid[];
  v_skip uuid[];
  v_wait uuid[];
begin
  -- Compared with an id it is neither true nor false, and would turn skip into apply.
  if array_position("except", null) is not null then
    raise exception 'except must have the ids of schedules, and no null.' using errcode = 'invalid_parameter_value';
  end if;
  perform app_private.lock_schedules(v_ids);
  -- An admin may have cancelled some while the locks were waited for.
  v_ids := array(select m.id from app_private.missed_schedules(environment.name) as m where m.id = any (v_ids));
  v_except := array(select x.id from unnest("except") as x (id) where x.id <> all (v_ids));
  if v_except <> '{}' then
    raise exception 'The schedule % is not among those that came due while % was stopped.', v_except[1], environment.name
      using errcode = 'invalid_parameter_value';
  end if;
  select
    coalesce(array_agg(c.id) filter (where c.choice = 'apply'), '{}'),
    coalesce(array_agg(c.id) filter (where c.choice = 'skip' and c.is_reached), '{}'),
    coalesce(array_agg(c.id) filter (where c.choice = 'skip' and not c.is_reached), '{}')
  into v_apply, v_skip, v_wait
  from (
    select
      s.id,
      case when bool_or(s.id = any ("except")) over (partition by coalesce(s.plan_id, s.id)) = (missed = 'apply') then 'skip' else 'apply' end
        as choice,
      p.id is null or app_private.environments_are_visible(p.environments) as is_reached
    from app_public.feature_flag_schedules s
    left join app_public.plans p on p.id = s.plan_id
    where s.id = any (v_ids)
  ) as c;

  update app_public.feature_flag_schedules s
  set status = 'pending', resolution_reason = settle_missed.reason
  where s.id = any (v_apply) and s.status = 'suspended';
  update app_public.feature_flag_schedules s
  set status = 'skipped', resolution_reason = settle_missed.reason
  where s.id = any (v_skip);
  perform app_private.end_point(p.plan_id, 'skipped', null)
  from (
    select distinct s.plan_id from app_public.feature_flag_schedules s where s.id = any (v_skip) and s.plan_id is not null
  ) as p;
  perform app_private.suspend_for_stop(app_private.stopped_schedules(array(
    select s.id from app_public.feature_flag_schedules s where s.id = any (v_wait) and s.status = 'pending')));
  return jsonb_build_object('missed', missed, 'applied', cardinality(v_apply), 'skipped', cardinality(v_skip));
end;
$$;

comment on function app_private.settle_missed(app_public.environments, text, text, uuid[]) is
  'Makes the schedules that came due during a stop pending again, or skips them, and with those in `except`, of which one stands for its whole point, does the other. Returns missed, applied and skipped. Raises invalid_parameter_value for an id that isn''t one of them, and for null.';

create or replace function app_private.end_stop(environment app_public.environments, missed text, reason text, "except" uuid[])
returns app_public.environments
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
set timezone to 'UTC'
as $$
declare
  v_outcome jsonb;
  v_now timestamptz;
begin
  if coalesce(missed, '') not in ('apply', 'skip') then
    raise exception 'Say what is done with the schedules that came due meanwhile: apply or skip.' using errcode = 'invalid_parameter_value';
  elsif environment.stopped_at is null then
    raise exception '%', app_private.stop_text(environment) using errcode = 'ZF023';
  end if;
  v_outcome := app_private.settle_missed(environment, missed, end_stop.reason, coalesce("except", '{}'));
  v_now := clock_timestamp();
  update app_public.environments e
  set
    stopped_at = null,
    last_resume = v_outcome || jsonb_build_object(
      'at', app_private.iso(v_now), 'by', app_private.claim_user_id(), 'reason', end_stop.reason,
      'stoppedForMs', round(1000 * extract(epoch from v_now - environment.stopped_at)))
  where e.name = environment.name
  returning e.* into environment;
  return environment;
end;
$$;

comment on function app_private.end_stop(app_public.environments, text, text, uuid[]) is
  'Ends the stop of an environment that the caller has locked. Raises ZF023 where it isn''t stopped.';

create or replace function app_private.resume_environment(name text, missed text, reason text, "except" uuid[] default '{}')
returns app_public.environments
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
declare
  v_reason constant text := app_private.require_reason(resume_environment.reason);
begin
  return app_private.end_stop(app_private.lock_environment(resume_environment.name), missed, v_reason, "except");
end;
$$;

comment on function app_private.resume_environment(text, text, text, uuid[]) is
  'Ends the stop of an environment, without asking for a token; what is said of app_public.resume_environment() holds. Raises ZF023 where it isn''t stopped.';

create or replace function app_public.resume_environment(name text, missed text, reason text, "except" uuid[] default '{}')
returns app_public.environments
language plpgsql
volatile
security definer
set search_path to pg_catalog, pg_temp
as $$
begin
  perform app_private.require_admin();
  perform app_private.require_environment(resume_environment.name);
  return app_private.resume_environment(resume_environment.name, missed, resume_environment.reason, "except");
end;
$$;

comment on function app_public.resume_environment(text, text, text, uuid[]) is
  'Ends the stop of an environment. What came due meanwhile is applied or skipped, as `missed` says (apply or skip), but for the schedules in `except`, with which the other is done. `reason` is free text of 1 to 500 characters.';

grant execute on function app_public.resume_environment(text, text, text, uuid[]) to halyard_admin;
--! EndIncluded environments/resume.sql
--! Included plans/fields.sql
-- The fields of a plan that are audited.

-- The list that the guarantee hangs on: the state machine counts a revision, and the audit trigger writes an event, when this differs.
-- How many points were applied changes with the status; those of flags and schedules have events of their own.
create or replace function app_private.plan_state(plan app_public.plans)
returns jsonb
language sql
stable
return jsonb_build_object(
  'title', (plan).title, 'contentHash', encode((plan).content_hash, 'hex'), 'content', (plan).content, 'status', (plan).status,
  'nextAt', app_private.iso((plan).next_at), 'reason', (plan).reason);

comment on function app_private.plan_state(app_public.plans) is
  'What of a plan is audited: it stands in before and after of events, and a change of it is an event.';

-- The environment of a plan's events; without one they have metadata.environments, and readers that are limited don't see them.
create or replace function app_private.plan_environment(plan app_public.plans)
returns text
language sql
stable
return case when cardinality((plan).environments) = 1 then (plan).environments[1]::text end;

comment on function app_private.plan_environment(app_public.plans) is
  'The environment of all changes of a plan; null when they are of several.';

create or replace function app_private.plan_flag_ids(content jsonb)
returns uuid[]
language sql
immutable
parallel safe
set search_path to pg_catalog, pg_temp
as $$
  select array_agg(distinct (c.change ->> 'flagId')::uuid) from jsonb_path_query(content, '$.steps[*].changes[*]') as c (change)
$$;

create or replace function app_private.plan_environments(content jsonb)
returns text[]
language sql
immutable
parallel safe
set search_path to pg_catalog, pg_temp
as $$
  select array_agg(distinct c.change ->> 'environment') from jsonb_path_query(content, '$.steps[*].changes[*]') as c (change)
$$;

comment on function app_private.plan_flag_ids(jsonb) is 'The flags that a plan''s content changes, in order of id.';
comment on function app_private.plan_environments(jsonb) is 'The environments of these flags, in order of name.';
--! EndIncluded plans/fields.sql
--! Included plans/requests.sql
-- A plan as a request describes it, and as an answer does: the same shape, so that what is read can be posted again.

create or replace function app_private.require_start(starts_at timestamptz)
returns void
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
begin
  if not isfinite(starts_at) or starts_at >= timestamptz '10000-01-01 00:00:00+00' then
    raise exception 'starts_at must be before the year 10000.' using errcode = 'ZF006';
  elsif starts_at <= clock_timestamp() then
    raise exception 'starts_at must be in the future.' using errcode = 'ZF005', hint = 'Leave it out for a plan that is due now.';
  end if;
end;
$$;

comment on function app_private.require_start(timestamptz) is
  'Raises ZF005 for a start that has passed, ZF006 for one beyond the year 9999; null is now.';

create or replace function app_private.require_plan_content(content jsonb)
returns void
language plpgsql
stable
set search_path to pg_catalog, pg_temp
as $$
declare
  v_problem text := app_private.plan_problem(content);
begin
  if v_problem is not null then
    raise exception '%.', v_problem using errcode = 'ZF028';
  end if;
end;
$$;

comment on function app_private.require_plan_content(jsonb) is 'Raises ZF028 for a content that no plan can have.';

create or replace function app_private.refuse_unknown_flag(flag_key text, environment text)
returns void
language plpgsql
stable
set search_path to pg_catalog, pg_temp
as $$
begin
  perform app_private.require_environment(refuse_unknown_flag.environment);
  raise exception 'There is no flag % in %.', quote_literal(left(flag_key, 100)), environment
    using errcode = 'ZF001', hint = 'Create the flag first, or name another environment.';
end;
$$;

comment on function app_private.refuse_unknown_flag(text, text) is 'Raises ZF014 where there is no such environment, else ZF001.';

-- The request's shape is REST's, so that what is read can be posted again. A flag that the token doesn't reach is answered as one that
-- doesn't exist, and its environment too.
create or replace function app_private.plan_content(steps jsonb, starts_at timestamptz)
returns jsonb
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
declare
  c_keys constant text[] := '{flag_key,environment,updates,expects,on_conflict}';
  v_steps jsonb := steps;
  v_change jsonb;
  v_changes jsonb[] := '{}';
  v_flag_id uuid;
begin
  perform app_private.require_start(starts_at);
  if jsonb_typeof(steps #> '{0,changes}') = 'array' then
    for v_change in select c.value from jsonb_array_elements(steps #> '{0,changes}') as c loop
      if jsonb_typeof(v_change) = 'object' then
        if v_change - c_keys <> '{}' then
          raise exception 'A change may have only: %.', array_to_string(c_keys, ', ') using errcode = 'ZF028';
        end if;
        v_change := v_change - '{flag_key,on_conflict}'::text[]
          || case when v_change ? 'flag_key' then jsonb_build_object('flagKey', v_change -> 'flag_key') else '{}' end
          || case when v_change ? 'on_conflict' then jsonb_build_object('onConflict', v_change -> 'on_conflict') else '{}' end;
      end if;
      v_changes := v_changes || v_change;
    end loop;
    v_steps := jsonb_set(steps, '{0,changes}', to_jsonb(v_changes));
  end if;
  perform app_private.require_plan_content(jsonb_build_object('steps', v_steps, 'startsAt', app_private.iso(starts_at)));

  for i in 1..cardinality(v_changes) loop
    select f.id into v_flag_id
    from app_public.feature_flags f
    where f.flag_key = v_changes[i] ->> 'flagKey' and f.environment = v_changes[i] ->> 'environment'
      and app_private.environment_is_visible(f.environment);
    if v_flag_id is null then
      perform app_private.refuse_unknown_flag(v_changes[i] ->> 'flagKey', v_changes[i] ->> 'environment');
    end if;
    v_changes[i] := v_changes[i] || jsonb_build_object('flagId', v_flag_id);
  end loop;
  return jsonb_build_object('steps', jsonb_set(v_steps, '{0,changes}', to_jsonb(v_changes)), 'startsAt', app_private.iso(starts_at));
end;
$$;

comment on function app_private.plan_content(jsonb, timestamptz) is
  'The content of a plan that a request describes, its flags found. Raises ZF028 for steps that a plan can''t have, ZF005 and ZF006 for a time that can''t be, ZF001 and ZF014 for flags and environments that don''t exist or that the token doesn''t reach.';

-- What wasn't given is absent, as in the request.
create or replace function app_private.plan_steps(content jsonb)
returns jsonb
language sql
immutable
parallel safe
set search_path to pg_catalog, pg_temp
as $$
  select jsonb_agg(jsonb_build_object('changes', c.changes) order by s.position)
  from jsonb_array_elements(content -> 'steps') with ordinality as s (step, position)
  cross join lateral (
    select jsonb_agg(
      jsonb_build_object('flag_key', c.change -> 'flagKey') || c.change - '{flagId,flagKey,onConflict}'::text[]
        || case when c.change ? 'onConflict' then jsonb_build_object('on_conflict', c.change -> 'onConflict') else '{}' end
      order by c.position) as changes
    from jsonb_array_elements(s.step -> 'changes') with ordinality as c (change, position)
  ) as c
$$;

comment on function app_private.plan_steps(jsonb) is 'A plan''s steps as the request described them.';
--! EndIncluded plans/requests.sql
--! Included plans/plans.sql
-- Plans: the state machine, the stamps, who may see them.

-- The content names each flag by id, key and environment: all three must be one flag's.
create or replace function app_private.missing_flag_of(content jsonb)
returns jsonb
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
  select c.change
  from jsonb_path_query(content, '$.steps[*].changes[*]') as c (change)
  where not exists (
    select
    from app_public.feature_flags f
    where f.id::text = c.change ->> 'flagId' and f.flag_key = c.change ->> 'flagKey' and f.environment = c.change ->> 'environment')
  limit 1
$$;

comment on function app_private.missing_flag_of(jsonb) is 'A change of a content whose flag isn''t there; null when all are.';

create or replace function app_private.require_flags_of(content jsonb)
returns void
language plpgsql
stable
set search_path to pg_catalog, pg_temp
as $$
declare
  v_change jsonb := app_private.missing_flag_of(content);
begin
  if v_change is not null then
    raise exception 'There is no flag % in % any more.',
      quote_literal(left(v_change ->> 'flagKey', 100)), left(v_change ->> 'environment', 40)
      using errcode = 'ZF001';
  end if;
end;
$$;

comment on function app_private.require_flags_of(jsonb) is 'Raises ZF001 for a content that names a flag that isn''t there.';

-- active <-> paused; both -> completed | cancelled. Everything else is refused, to every role.
create or replace function app_private.tg_plans__state()
returns trigger
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
declare
  c_open constant text[] := '{active,paused}';
begin
  if tg_op = 'INSERT' or new.content is distinct from old.content then
    perform app_private.require_plan_content(new.content);
    perform app_private.require_flags_of(new.content);
    new.flag_ids := app_private.plan_flag_ids(new.content);
    new.environments := app_private.plan_environments(new.content);
  else
    new.flag_ids := old.flag_ids;
    new.environments := old.environments;
  end if;
  new.title := app_private.trim_reason(new.title);
  new.reason := app_private.trim_reason(new.reason);
  if new.title is null then
    raise exception 'A plan must have a title.' using errcode = 'ZF028';
  end if;
  new.updated_at := now();

  if tg_op = 'INSERT' then
    if new.status <> 'active' then
      raise exception 'A plan starts as active, not as %.', new.status using errcode = 'ZF019';
    end if;
    new.status_reason := null;
    new.occurrence_no := 1;
    new.step_no := 1;
    new.next_at := coalesce(new.next_at, (new.content ->> 'startsAt')::timestamptz, clock_timestamp());
    new.applied_count := 0;
    new.skipped_count := 0;
    new.created_by := app_private.claim_user_id();
    new.created_at := now();
    new.ended_at := null;
    new.revision := 1;
    return new;
  end if;

  if (new.id, new.reverts, new.created_by, new.created_at) is distinct from (old.id, old.reverts, old.created_by, old.created_at) then
    raise exception 'A plan''s id, reverts, created_by and created_at can''t be changed.'
      using errcode = 'ZF010', hint = 'Cancel it and make another one.';
  end if;
  if new.status <> old.status and old.status <> all (c_open) then
    raise exception 'A plan that is % can''t become %.', old.status, new.status using errcode = 'ZF019';
  end if;
  if (new.title, new.content, new.reason) is distinct from (old.title, old.content, old.reason)
    and (old.status <> all (c_open) or new.status <> all (c_open))
  then
    raise exception 'A plan that is % can''t be changed.', case when old.status = any (c_open) then new.status else old.status end
      using errcode = 'ZF019';
  end if;
  if new.status = old.status then
    new.status_reason := old.status_reason;
    new.ended_at := old.ended_at;
    new.applied_count := old.applied_count;
    new.skipped_count := old.skipped_count;
  else
    new.status_reason := case when new.status in ('paused', 'cancelled') then app_private.trim_reason(new.status_reason) end;
    new.ended_at := case when new.status <> all (c_open) then clock_timestamp() end;
  end if;
  if new.status <> all (c_open) then
    new.occurrence_no := null;
    new.step_no := null;
    new.next_at := null;
  end if;
  -- Counts audited changes and nothing else: a revision without an event is a lost event. Only record_rows() raises it.
  new.revision := case
    -- The hash is generated behind this trigger, from the content.
    when app_private.plan_state(new) - 'contentHash' is distinct from app_private.plan_state(old) - 'contentHash' then old.revision + 1
    when new.revision > old.revision and app_private.is_recording() then new.revision
    else old.revision
  end;
  return new;
end;
$$;

comment on function app_private.tg_plans__state() is
  'The state machine of plans: raises ZF028 for a content or a title that can''t be, ZF001 for a flag that isn''t there, ZF010 for a change of what is fixed, ZF019 for a transition that isn''t allowed; stamps the flags, the environments, who and when, and the revision.';

create or replace trigger _100_state
  before insert or update on app_public.plans
  for each row execute function app_private.tg_plans__state();

-- A token must reach all environments of a plan. They stand on the row, so no other table is asked.
drop policy if exists admin_select on app_public.plans;
create policy admin_select on app_public.plans
  for select to halyard_admin
  using (
    (select true where app_private.claim_role() = 'admin') is not null
    and (
      (select true where not app_private.claims_are_limited()) is not null
      or environments <@ ((select app_private.claim_environments())::varchar[])
    )
  );

-- A DBA without a token too, as in the trail (audit/read/policies.sql).
drop policy if exists auditor_select on app_public.plans;
create policy auditor_select on app_public.plans
  for select to halyard_auditor
  using (
    (select true from (select app_private.claim_role() as role) as c where coalesce(c.role, 'auditor') = 'auditor') is not null
    and (
      (select true where not app_private.claims_are_limited()) is not null
      or environments <@ ((select app_private.claim_environments())::varchar[])
    )
  );

-- No insert, update or delete: a plan is made and changed only through the functions of lifecycle.sql and its sisters.
revoke all on table app_public.plans from public, halyard_admin, halyard_viewer, halyard_auditor, halyard_worker;
grant select on table app_public.plans to halyard_admin, halyard_auditor;
revoke all on table app_private.apply_gates from public, halyard_admin, halyard_viewer, halyard_auditor, halyard_worker;
--! EndIncluded plans/plans.sql
--! Included plans/points.sql
-- The points of a plan: what it does at one instant, as rows of feature_flag_schedules. One point of a plan is open at a time.

-- A function of what the row does and when, so that "the last by (scheduled_at, id) wins" has the same answer before the row is there:
-- with random ids two plans at one instant would be a coin toss that no preview can foretell.
create or replace function app_private.point_id(plan_id uuid, flag_id uuid, step_no integer, at timestamptz)
returns uuid
language sql
immutable
parallel safe
return app_private.uuid_of(sha256(uuid_send(plan_id) || uuid_send(flag_id) || int4send(step_no) || timestamptz_send(at)));

comment on function app_private.point_id(uuid, uuid, integer, timestamptz) is
  'The id of the schedule that changes this flag in this step of a plan at this time, as a version 8 UUID.';

-- The caller holds the plan. In order of flag, so that two that open points of the same flags wait for each other in one order.
create or replace function app_private.open_point(plan app_public.plans)
returns void
language sql
volatile
set search_path to pg_catalog, pg_temp
as $$
  insert into app_public.feature_flag_schedules (
    id, flag_id, scheduled_at, updates, reason, plan_id, occurrence_no, step_no, expects, on_conflict)
  select
    app_private.point_id(plan.id, f.id, plan.step_no, plan.next_at), f.id, plan.next_at, c.change -> 'updates', plan.reason,
    plan.id, plan.occurrence_no, plan.step_no, c.change -> 'expects', coalesce(c.change ->> 'onConflict', 'overwrite')
  from jsonb_array_elements(plan.content -> 'steps' -> (plan.step_no - 1) -> 'changes') as c (change)
  cross join lateral (select (c.change ->> 'flagId')::uuid) as f (id)
  order by f.id
$$;

comment on function app_private.open_point(app_public.plans) is
  'Makes the schedules of a plan''s open point, due at its next_at.';

-- The caller holds the plan, and has brought the point's schedules to their statuses.
create or replace function app_private.end_point(plan_id uuid, outcome text, problem text default null)
returns void
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
begin
  case outcome
    when 'applied' then
      update app_public.plans p set status = 'completed', applied_count = p.applied_count + 1 where p.id = end_point.plan_id;
    when 'skipped' then
      update app_public.plans p set status = 'completed', skipped_count = p.skipped_count + 1 where p.id = end_point.plan_id;
    when 'failed' then
      update app_public.plans p set status = 'paused', status_reason = left(problem, 500)
      where p.id = end_point.plan_id and p.status = 'active';
  end case;
end;
$$;

comment on function app_private.end_point(uuid, text, text) is
  'Goes on from a plan''s open point, whose schedules were applied or skipped: it completes the plan; or whose schedules failed: it pauses the plan, for what `problem` says.';

-- A flag that is gone can't be changed with the others, so none of them is. A person decides what the plan does without it.
create or replace function app_private.pause_plans_of(flag app_public.feature_flags)
returns void
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
declare
  v_problem constant text := format('The flag %s of %s was deleted.', flag.flag_key, flag.environment);
  v_plan_ids uuid[];
begin
  v_plan_ids := array(
    select p.id from app_public.plans p where p.status = 'active' and p.flag_ids @> array[flag.id] order by p.id for update);
  if cardinality(v_plan_ids) = 0 then
    return;
  end if;
  -- Who reads a schedule of another environment needn't reach this one.
  update app_public.feature_flag_schedules s
  set
    status = 'failed',
    error_message = case f.environment when flag.environment then v_problem else 'A flag of the plan in another environment was deleted.' end
  from app_public.feature_flags f
  where f.id = s.flag_id and s.plan_id = any (v_plan_ids) and s.status in ('pending', 'suspended') and s.flag_id <> flag.id;
  perform app_private.end_point(p.id, 'failed', v_problem) from unnest(v_plan_ids) as p (id);
end;
$$;

comment on function app_private.pause_plans_of(app_public.feature_flags) is
  'Pauses the active plans that change this flag, which is being deleted; the schedules of their other flags fail.';
--! EndIncluded plans/points.sql
--! Included plans/events.sql
-- Which change of a plan makes which event, and the triggers that write it, in the shape of environments/events.sql.

create or replace function app_private.plan_change(before app_public.plans, after app_public.plans)
returns text
language sql
stable
return case
  when (before).id is null then 'flag_plan.created'
  when (after).id is null then 'flag_plan.deleted'
  when (after).status = (before).status then 'flag_plan.updated'
  when (after).status = 'completed' then 'flag_plan.completed'
  when (after).status = 'cancelled' then 'flag_plan.cancelled'
  when (after).status = 'paused' then 'flag_plan.paused'
  when ((after).title, (after).content) is distinct from ((before).title, (before).content) then 'flag_plan.updated'
  else 'flag_plan.resumed'
end;

-- Keys that are unknown are absent. The keys of plan_recorded().
create or replace function app_private.plan_change_details(before app_public.plans, after app_public.plans)
returns jsonb
language sql
stable
return jsonb_build_object('planId', coalesce((after).id, (before).id))
  || case app_private.plan_change(before, after)
    when 'flag_plan.created' then jsonb_build_object(
      'title', (after).title, 'contentHash', encode((after).content_hash, 'hex'), 'content', (after).content,
      'environments', (after).environments, 'firstAt', app_private.iso((after).next_at))
      || jsonb_strip_nulls(jsonb_build_object('reason', (after).reason, 'reverts', (after).reverts))
    when 'flag_plan.updated' then
      jsonb_build_object('before', app_private.plan_state(before), 'after', app_private.plan_state(after))
      || jsonb_strip_nulls(jsonb_build_object('reason', coalesce(
        app_private.change_reason(), case when (after).reason is distinct from (before).reason then (after).reason end)))
    when 'flag_plan.paused' then jsonb_strip_nulls(jsonb_build_object(
      'title', (after).title, 'occurrenceNo', (after).occurrence_no, 'stepNo', (after).step_no, 'reason', (after).status_reason))
    when 'flag_plan.resumed' then jsonb_strip_nulls(jsonb_build_object(
      'title', (after).title, 'occurrenceNo', (after).occurrence_no, 'stepNo', (after).step_no,
      'nextAt', app_private.iso((after).next_at), 'reason', (after).reason))
    when 'flag_plan.completed' then jsonb_build_object(
      'title', (after).title, 'applied', (after).applied_count, 'skipped', (after).skipped_count)
    when 'flag_plan.cancelled' then jsonb_strip_nulls(jsonb_build_object('title', (after).title, 'reason', (after).status_reason))
    else jsonb_build_object('before', app_private.plan_state(before))
  end
  || case
    when cardinality(coalesce((after).environments, (before).environments)) = 1 then '{}'
    else jsonb_build_object('environments', coalesce((after).environments, (before).environments))
  end;

-- One of the two is null for a plan that was created or deleted. An edit may add an environment: the event is then of both.
create or replace function app_private.plan_event(at timestamptz, incarnation uuid, before app_public.plans, after app_public.plans)
returns app_private.audit_event
language sql
volatile
return app_private.make_event(
  app_private.changed_event_id(
    incarnation, coalesce((after).id, (before).id), coalesce((after).created_at, (before).created_at), (before).revision,
    coalesce((after).revision, (before).revision + 1)),
  at,
  app_private.plan_change(before, after),
  null,
  null,
  case when (after).id is null then app_private.plan_environment(before) else app_private.plan_environment(after) end,
  null,
  coalesce((after).revision, (before).revision + 1),
  app_private.plan_change_details(before, after));

comment on function app_private.plan_change(app_public.plans, app_public.plans) is 'The event type of a plan''s change.';
comment on function app_private.plan_change_details(app_public.plans, app_public.plans) is
  'The metadata of the event of a plan''s change, without the admin.';
comment on function app_private.plan_event(timestamptz, uuid, app_public.plans, app_public.plans) is
  'The flag_plan event of a change from `before` to `after`.';

create or replace function app_private.tg_plans__audit()
returns trigger
language plpgsql
volatile
security definer
set search_path to pg_catalog, pg_temp
set timezone to 'UTC'
as $$
declare
  v_at timestamptz := clock_timestamp();
  v_incarnation uuid;
  v_events app_private.audit_event[];
  v_rows jsonb;
  v_old_rows jsonb;
begin
  begin
    v_incarnation := app_private.incarnation();
    if tg_op = 'INSERT' then
      select array_agg(app_private.plan_event(v_at, v_incarnation, null, n)) into v_events from new_rows n;
    elsif tg_op = 'UPDATE' then
      select array_agg(app_private.plan_event(v_at, v_incarnation, o, n)) into v_events
      from old_rows o
      full join new_rows n on n.id = o.id
      where o.revision <> n.revision and not app_private.is_recording()
        or app_private.plan_state(o) is distinct from app_private.plan_state(n);
    else
      select array_agg(app_private.plan_event(v_at, v_incarnation, o, null)) into v_events from old_rows o;
    end if;
    if v_events is null then
      return null;
    end if;
    perform app_private.write_events(v_events);
  exception when others then
    if v_events is null then
      if tg_op <> 'DELETE' then
        v_rows := (select jsonb_agg(to_jsonb(n)) from new_rows n);
      end if;
      if tg_op <> 'INSERT' then
        v_old_rows := (select jsonb_agg(to_jsonb(o)) from old_rows o);
      end if;
    end if;
    perform app_private.write_dead_letter(
      jsonb_build_object(
        'table', tg_table_name, 'operation', tg_op, 'at', v_at,
        'events', to_jsonb(v_events), 'rows', v_rows, 'oldRows', v_old_rows),
      sqlstate, sqlerrm);
  end;
  perform app_private.notify_audit(array_agg(e.id), null, array_agg((e.metadata ->> 'planId')::uuid)) from unnest(v_events) as e;
  return null;
end;
$$;

comment on function app_private.tg_plans__audit() is
  'Writes one event for each plan that a statement created, edited, paused, resumed, completed, cancelled or deleted.';

create or replace trigger _900_audit_insert
  after insert on app_public.plans
  referencing new table as new_rows
  for each statement execute function app_private.tg_plans__audit();
create or replace trigger _900_audit_update
  after update on app_public.plans
  referencing old table as old_rows new table as new_rows
  for each statement execute function app_private.tg_plans__audit();
create or replace trigger _900_audit_delete
  after delete on app_public.plans
  referencing old table as old_rows
  for each statement execute function app_private.tg_plans__audit();
alter table app_public.plans enable always trigger _900_audit_insert;
alter table app_public.plans enable always trigger _900_audit_update;
alter table app_public.plans enable always trigger _900_audit_delete;
--! EndIncluded plans/events.sql
--! Included plans/stale.sql
-- A change of a plan that was made against another revision than the row's.

create or replace function app_private.plan_change_text(event audit.events)
returns text
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
  select case (event).event_type
    when 'flag_plan.created' then 'created it'
    when 'flag_plan.updated' then 'edited it'
    when 'flag_plan.resumed' then 'retried it'
    when 'flag_plan.paused' then 'paused it'
    when 'flag_plan.completed' then 'completed it'
    when 'flag_plan.cancelled' then 'cancelled it'
  end
$$;

comment on function app_private.plan_change_text(audit.events) is
  'What an event changed of its plan, as the rest of a sentence; null for an event that doesn''t say.';

create or replace function app_private.refuse_stale_plan(plan app_public.plans)
returns void
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
declare
  v_event audit.events;
begin
  select e.* into v_event
  from audit.events e
  where e.metadata ->> 'planId' = plan.id::text and e.metadata ? 'planId' and e.event_type like 'flag_plan.%'
  order by e.occurred_at desc, e.revision desc
  limit 1;
  raise exception '%', app_private.stale_text(v_event, app_private.plan_change_text(v_event), plan.revision)
    using errcode = 'ZF029', detail = app_private.stale_detail(v_event, plan.revision);
end;
$$;

comment on function app_private.refuse_stale_plan(app_public.plans) is
  'Raises ZF029: the sentence has who changed the plan last, and the detail, as JSON, its revision.';
--! EndIncluded plans/stale.sql
--! Included plans/recorded.sql
-- Plans held against the trail: audit/verify and audit/reconcile.

-- What an event says of its plan after it, and what the row says, under the same keys. Not every event says all of it: what it leaves
-- out, an earlier one says. Who created it is compared where an admin did it, as for schedules.
create or replace function app_private.plan_recorded(event audit.events)
returns jsonb
language sql
stable
return case (event).event_type
    when 'flag_plan.created' then jsonb_build_object(
      'title', (event).metadata -> 'title',
      'content', (event).metadata -> 'content',
      'status', 'active',
      'statusReason', null,
      'nextAt', (event).metadata -> 'firstAt',
      'reason', (event).metadata -> 'reason',
      'reverts', (event).metadata -> 'reverts',
      'applied', 0,
      'skipped', 0)
      || case (event).actor_kind when 'admin' then jsonb_build_object('createdBy', (event).admin_user_id) else '{}' end
    when 'flag_plan.updated' then ((event).metadata -> 'after') - 'contentHash'
      || case (event).metadata #>> '{after,status}' when 'active' then jsonb_build_object('statusReason', null) else '{}' end
    when 'flag_plan.paused' then jsonb_build_object('status', 'paused', 'statusReason', (event).metadata -> 'reason')
    when 'flag_plan.resumed' then jsonb_build_object(
      'status', 'active', 'statusReason', null, 'nextAt', (event).metadata -> 'nextAt', 'reason', (event).metadata -> 'reason')
    when 'flag_plan.completed' then jsonb_build_object(
      'status', 'completed', 'statusReason', null, 'nextAt', null,
      'applied', (event).metadata -> 'applied', 'skipped', (event).metadata -> 'skipped')
    when 'flag_plan.cancelled' then jsonb_build_object(
      'status', 'cancelled', 'statusReason', (event).metadata -> 'reason', 'nextAt', null)
    when 'flag_plan.reconciled' then ((event).metadata -> 'after') - 'contentHash' || jsonb_build_object(
      'statusReason', (event).metadata -> 'statusReason', 'applied', (event).metadata -> 'applied',
      'skipped', (event).metadata -> 'skipped', 'reverts', (event).metadata -> 'reverts', 'createdBy', (event).metadata -> 'createdBy')
  end;

create or replace function app_private.plan_found(plan app_public.plans)
returns jsonb
language sql
stable
return app_private.plan_state(plan) - 'contentHash' || jsonb_build_object(
  'statusReason', (plan).status_reason, 'applied', (plan).applied_count, 'skipped', (plan).skipped_count, 'reverts', (plan).reverts,
  'createdBy', (plan).created_by);

comment on function app_private.plan_recorded(audit.events) is
  'What an event says of its plan after it; null when it says nothing of that.';
comment on function app_private.plan_found(app_public.plans) is 'What a plan''s row says, with the keys of plan_recorded().';

-- By the index of planId. A plan has ended when its deletion is its last event, by revision or by time: a clock may be set back.
create or replace function app_private.vanished_plans()
returns table (plan_id text, event_id uuid, occurred_at timestamptz)
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
  select l.plan_id, l.id, l.occurred_at
  from (
    select
      e.metadata ->> 'planId' as plan_id,
      (array_agg(e.id order by e.revision desc nulls last, e.occurred_at desc))[1] as id,
      (array_agg(e.occurred_at order by e.revision desc nulls last, e.occurred_at desc))[1] as occurred_at,
      (array_agg(e.event_type order by e.revision desc nulls last, e.occurred_at desc))[1] as last_by_revision,
      (array_agg(e.event_type order by e.occurred_at desc, e.revision desc nulls last))[1] as last_by_time
    from audit.events e
    where e.metadata ? 'planId' and (starts_with(e.event_type, 'flag_plan.') or e.event_type = 'audit.gap')
    group by e.metadata ->> 'planId'
  ) as l
  where not '{flag_plan.deleted,audit.gap}'::text[] && array[l.last_by_revision, l.last_by_time]
    and not exists (select from app_public.plans p where p.id::text = l.plan_id)
    and not exists (select from app_private.dead_letter_rows() as d where d.row_id = l.plan_id)
$$;

comment on function app_private.vanished_plans() is
  'Plans whose row is gone though the trail doesn''t say that they were deleted, each with its last event.';
--! EndIncluded plans/recorded.sql
--! Included plans/locks.sql
-- The locks of a change of a plan, in the order in which all that deals with plans takes them.

-- A schedule of its own comes to the table of plans last, when its foreign key is checked. What takes these tables whole
-- (platform/locks.sql, audit/restore/accept.sql) takes them in that order, and so does what begins with a plan.
create or replace function app_private.lock_plan_tables()
returns void
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
begin
  lock table app_public.feature_flags, app_public.feature_flag_schedules, app_public.plans in row exclusive mode;
end;
$$;

comment on function app_private.lock_plan_tables() is
  'Takes the tables that a change of a plan writes to, in the order in which all statements take them.';

-- Finds a plan that the claims let through and holds it against the worker, in the worker's own order: plan, flags by id, schedules by id.
create or replace function app_private.lock_plan(id uuid)
returns app_public.plans
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
declare
  v_plan app_public.plans;
begin
  perform app_private.require_admin();
  perform app_private.lock_plan_tables();
  select p.* into v_plan
  from app_public.plans p
  where p.id = lock_plan.id and app_private.environments_are_visible(p.environments)
  for update;
  if not found then
    raise exception 'There is no plan %.', lock_plan.id using errcode = 'ZF018';
  end if;
  -- Before its status: who completed or cancelled it meanwhile says more.
  if app_private.expected_revision() <> v_plan.revision then
    perform app_private.refuse_stale_plan(v_plan);
  end if;
  perform from app_public.feature_flags f where f.id = any (v_plan.flag_ids) order by f.id for share;
  perform from app_public.feature_flag_schedules s where s.plan_id = v_plan.id order by s.id for update;
  return v_plan;
end;
$$;

comment on function app_private.lock_plan(uuid) is
  'Locks and returns a plan for an admin''s change, with its flags and schedules; raises insufficient_privilege, ZF018, or ZF029 where it isn''t the revision that the client expects.';
--! EndIncluded plans/locks.sql
--! Included plans/lifecycle.sql
-- What an admin does with plans. GraphQL mutations and REST routes both call these, so there is one path.

create or replace function app_private.require_title(title text)
returns void
language plpgsql
immutable
set search_path to pg_catalog, pg_temp
as $$
begin
  if coalesce(char_length(app_private.trim_reason(title)), 0) not between 1 and 200 or title collate "C" ~ '[[:cntrl:]]' then
    raise exception 'title must be text of 1 to 200 characters, without control characters.' using errcode = 'ZF028';
  end if;
end;
$$;

comment on function app_private.require_title(text) is 'Raises ZF028 for a title that a plan can''t have.';

create or replace function app_private.require_room_for_pending(flag_ids uuid[])
returns void
language plpgsql
stable
set search_path to pg_catalog, pg_temp
as $$
begin
  if exists (select from unnest(flag_ids) as f (id) where app_private.has_no_room_for_pending(f.id)) then
    perform app_private.refuse_pending();
  end if;
end;
$$;

comment on function app_private.require_room_for_pending(uuid[]) is
  'Raises ZF013 where one of these flags has as many pending schedules as the setting pending_per_flag allows, and the API calls.';

create or replace function app_private.insert_plan(title text, content jsonb, reason text, reverts jsonb default null)
returns app_public.plans
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
declare
  v_plan app_public.plans;
begin
  perform app_private.require_title(insert_plan.title);
  perform app_private.lock_plan_tables();
  insert into app_public.plans (title, content, reason, reverts)
  values (app_private.trim_reason(insert_plan.title), insert_plan.content, app_private.trim_reason(insert_plan.reason), insert_plan.reverts)
  returning * into v_plan;
  perform app_private.open_point(v_plan);
  return v_plan;
end;
$$;

comment on function app_private.insert_plan(text, jsonb, text, jsonb) is
  'Makes a plan of a content that plan_content() made, and opens its first point. It asks for no rights and for no room.';

create or replace function app_public.create_plan(title text, steps jsonb, starts_at timestamptz default null, reason text default null)
returns app_public.plans
language plpgsql
volatile
security definer
set search_path to pg_catalog, pg_temp
as $$
declare
  v_content jsonb;
begin
  perform app_private.require_admin();
  perform app_private.require_title(create_plan.title);
  v_content := app_private.plan_content(create_plan.steps, create_plan.starts_at);
  perform app_private.require_room_for_pending(app_private.plan_flag_ids(v_content));
  return app_private.insert_plan(create_plan.title, v_content, create_plan.reason);
end;
$$;

comment on function app_public.create_plan(text, jsonb, timestamptz, text) is
  'Makes a plan: changes of several flags that are made at one instant, all or nothing. Without `starts_at` it is due now. `reason` is free text of up to 500 characters.';

-- The schedules of the open point are deleted and made again: what a schedule changes is fixed, and a plan's may have another flag. What
-- is edited after its time is due now, after all that was applied since.
create or replace function app_public.edit_plan(id uuid, title text default null, steps jsonb default null, starts_at timestamptz default null, reason text default null)
returns app_public.plans
language plpgsql
volatile
security definer
set search_path to pg_catalog, pg_temp
as $$
declare
  v_plan app_public.plans := app_private.lock_plan(edit_plan.id);
  v_title text := app_private.trim_reason(coalesce(edit_plan.title, v_plan.title));
  v_reason text := coalesce(app_private.trim_reason(edit_plan.reason), v_plan.reason);
  v_content jsonb := v_plan.content;
begin
  if v_plan.status not in ('active', 'paused') then
    raise exception 'The plan is %, so it can''t be edited.', v_plan.status using errcode = 'ZF019';
  end if;
  perform app_private.require_title(v_title);
  if edit_plan.steps is not null then
    v_content := v_content || jsonb_build_object('steps', app_private.plan_content(edit_plan.steps, null) -> 'steps');
  end if;
  if edit_plan.starts_at is not null then
    perform app_private.require_start(edit_plan.starts_at);
    v_content := v_content || jsonb_build_object('startsAt', app_private.iso(edit_plan.starts_at));
  end if;
  -- A flag of the content of before may be gone.
  perform app_private.require_flags_of(v_content);
  if (v_title, v_reason, v_content, 'active') is not distinct from (v_plan.title::text, v_plan.reason::text, v_plan.content, v_plan.status) then
    return v_plan;
  end if;

  delete from app_public.feature_flag_schedules s where s.plan_id = v_plan.id and s.status <> 'applied';
  perform app_private.require_room_for_pending(app_private.plan_flag_ids(v_content));
  update app_public.plans p
  set
    title = v_title, content = v_content, reason = v_reason, status = 'active',
    next_at = greatest((v_content ->> 'startsAt')::timestamptz, clock_timestamp())
  where p.id = v_plan.id
  returning p.* into v_plan;
  perform app_private.open_point(v_plan);
  return v_plan;
end;
$$;

comment on function app_public.edit_plan(uuid, text, jsonb, timestamptz, text) is
  'Changes a plan that isn''t applied yet, and makes a paused one active again; an argument that is null leaves its part as it is.';

create or replace function app_public.cancel_plan(id uuid, reason text default null)
returns app_public.plans
language plpgsql
volatile
security definer
set search_path to pg_catalog, pg_temp
as $$
declare
  v_plan app_public.plans := app_private.lock_plan(cancel_plan.id);
  v_reason text := app_private.trim_reason(cancel_plan.reason);
begin
  if v_plan.status not in ('active', 'paused') then
    raise exception 'The plan is %, so it can''t be cancelled.', v_plan.status using errcode = 'ZF019';
  end if;
  update app_public.feature_flag_schedules s
  set status = 'cancelled', cancel_reason = v_reason
  where s.plan_id = v_plan.id and s.status in ('pending', 'suspended');
  update app_public.plans p
  set status = 'cancelled', status_reason = v_reason
  where p.id = v_plan.id
  returning p.* into v_plan;
  return v_plan;
end;
$$;

comment on function app_public.cancel_plan(uuid, text) is
  'Cancels a plan that hasn''t ended. `reason` is free text of up to 500 characters.';

-- A retry is a new decision, taken now, as that of a schedule (schedules/lifecycle.sql).
create or replace function app_public.retry_plan(id uuid, reason text default null)
returns app_public.plans
language plpgsql
volatile
security definer
set search_path to pg_catalog, pg_temp
as $$
declare
  v_plan app_public.plans := app_private.lock_plan(retry_plan.id);
  v_gone jsonb;
begin
  if v_plan.status <> 'paused' then
    raise exception 'The plan is %; only one that is paused, because it failed, can be retried.', v_plan.status using errcode = 'ZF019';
  end if;
  v_gone := app_private.missing_flag_of(v_plan.content);
  if v_gone is not null then
    raise exception 'The flag % of % was deleted, so the plan can''t be retried: edit it, or cancel it.',
      v_gone ->> 'flagKey', v_gone ->> 'environment'
      using errcode = 'ZF019';
  elsif not exists (select from app_public.feature_flag_schedules s where s.plan_id = v_plan.id and s.status = 'failed') then
    raise exception 'Nothing of the plan has failed, so it can''t be retried: edit it, or cancel it.' using errcode = 'ZF019';
  end if;
  perform app_private.require_room_for_pending(v_plan.flag_ids);
  update app_public.plans p
  set status = 'active', next_at = clock_timestamp(), reason = coalesce(app_private.trim_reason(retry_plan.reason), p.reason)
  where p.id = v_plan.id
  returning p.* into v_plan;
  update app_public.feature_flag_schedules s
  set
    status = 'pending', scheduled_at = v_plan.next_at, attempts = 0, next_attempt_at = null, error_message = null, reason = v_plan.reason
  where s.plan_id = v_plan.id and s.status = 'failed';
  return v_plan;
end;
$$;

comment on function app_public.retry_plan(uuid, text) is
  'Makes a paused plan''s changes, which failed, due again, now, with all their attempts. `reason` is free text of up to 500 characters; without one the plan keeps its own.';

grant execute on function
  app_public.create_plan(text, jsonb, timestamptz, text),
  app_public.edit_plan(uuid, text, jsonb, timestamptz, text),
  app_public.cancel_plan(uuid, text),
  app_public.retry_plan(uuid, text)
to halyard_admin;
--! EndIncluded plans/lifecycle.sql
--! Included plans/change_flags.sql
-- Changes of several flags, now and all or nothing: a plan whose point is applied in the transaction that makes it.

-- Ahead of the plan's own rows, in order of id, as all that changes several flags takes them.
create or replace function app_private.lock_flags(flag_ids uuid[], waits boolean default true)
returns jsonb
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
declare
  v_lock_timeout constant text := current_setting('lock_timeout');
begin
  if not waits then
    -- Others may try the same flags, for some milliseconds each.
    perform set_config('lock_timeout', '300ms', true);
  end if;
  perform from app_public.feature_flags f where f.id = any (flag_ids) order by f.id for no key update;
  perform set_config('lock_timeout', v_lock_timeout, true);
  -- A statement of its own, which sees what the locks were waited for.
  return (select coalesce(jsonb_object_agg(f.id, app_private.flag_values(f)), '{}') from app_public.feature_flags f where f.id = any (flag_ids));
end;
$$;

comment on function app_private.lock_flags(uuid[], boolean) is
  'Locks these flags for a change and returns their values by id; without `waits` it raises lock_not_available where another session holds one for longer than a moment.';

create or replace function app_private.flags_in_order(content jsonb)
returns uuid[]
language sql
immutable
set search_path to pg_catalog, pg_temp
as $$
  select array_agg((c.change ->> 'flagId')::uuid order by c.position)
  from jsonb_path_query(content, '$.steps[*].changes[*]') with ordinality as c (change, position)
$$;

comment on function app_private.flags_in_order(jsonb) is 'The flags that a plan''s content changes, in its order.';

create or replace function app_private.flag_diffs(flag_ids uuid[], before jsonb)
returns jsonb
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
  select coalesce(
    jsonb_agg(
      jsonb_build_object(
        'flag_key', f.flag_key, 'environment', f.environment, 'before', before -> f.id::text, 'after', app_private.flag_values(f))
      order by i.position),
    '[]')
  from unnest(flag_ids) with ordinality as i (id, position)
  join app_public.feature_flags f on f.id = i.id
$$;

comment on function app_private.flag_diffs(uuid[], jsonb) is
  'These flags, in this order, with their values before, as lock_flags() returned them, and now.';

create or replace function app_private.refuse_conflict(plan_id uuid)
returns void
language plpgsql
stable
set search_path to pg_catalog, pg_temp
as $$
declare
  v_conflicts jsonb;
begin
  select
    jsonb_agg(
      jsonb_build_object(
        'flag_key', f.flag_key, 'environment', f.environment, 'field', e.key, 'expected', e.value,
        'found', s.suspended_details -> 'found' -> e.key)
      order by f.environment, f.flag_key, e.key)
  into v_conflicts
  from app_public.feature_flag_schedules s
  join app_public.feature_flags f on f.id = s.flag_id
  cross join lateral jsonb_each(s.suspended_details -> 'expected') as e
  where s.plan_id = refuse_conflict.plan_id;
  raise exception 'Nothing is changed: % of % has % %, and not % as expected%.',
    v_conflicts #>> '{0,flag_key}', v_conflicts #>> '{0,environment}', v_conflicts #>> '{0,field}', v_conflicts #>> '{0,found}',
    v_conflicts #>> '{0,expected}',
    case when jsonb_array_length(v_conflicts) > 1 then format(', and %s more', jsonb_array_length(v_conflicts) - 1) else '' end
    using errcode = 'ZF030', detail = v_conflicts::text;
end;
$$;

comment on function app_private.refuse_conflict(uuid) is
  'Raises ZF030 for a plan that was suspended for a conflict; its detail is a JSON array of what was expected and what was found.';

create or replace function app_public.change_flags(changes jsonb, reason text default null)
returns app_public.change_result
language plpgsql
volatile
security definer
set search_path to pg_catalog, pg_temp
as $$
declare
  v_content jsonb;
  v_flag_ids uuid[];
  v_before jsonb;
  v_plan app_public.plans;
begin
  perform app_private.require_admin();
  v_content := app_private.plan_content(jsonb_build_array(jsonb_build_object('changes', changes)), null);
  v_flag_ids := app_private.flags_in_order(v_content);
  v_before := app_private.lock_flags(v_flag_ids);
  v_plan := app_private.insert_plan(
    format('Change of %s flag%s', cardinality(v_flag_ids), case when cardinality(v_flag_ids) > 1 then 's' else '' end),
    v_content, change_flags.reason);
  if app_private.apply_point(v_plan.id) = 'suspended' then
    perform app_private.refuse_conflict(v_plan.id);
  end if;
  return (v_plan.id, app_private.flag_diffs(v_flag_ids, v_before))::app_public.change_result;
end;
$$;

comment on function app_public.change_flags(jsonb, text) is
  'Makes changes of several flags in this transaction, all or nothing, also in a stopped environment. `reason` is free text of up to 500 characters.';

grant execute on function app_public.change_flags(jsonb, text) to halyard_admin;
--! EndIncluded plans/change_flags.sql
--! Included plans/revert.sql
-- Taking back what was applied: a new plan from what was before, guarded by what is now.
--
-- What was before comes from the best witness of each: of a plan's schedule from its row, where apply_schedules() wrote what it found;
-- of a schedule of its own, and of a span of time, from the trail, by the first event's `before` and the last one's `after`.

-- A field that a later schedule had set already, or that a guard left alone, wasn't changed.
create or replace function app_private.changes_of_rows(schedule_ids uuid[])
returns jsonb
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
  select coalesce(jsonb_agg(jsonb_build_object('flagId', s.flag_id, 'was', v.was, 'became', v.became)), '[]')
  from app_public.feature_flag_schedules s
  cross join lateral (
    select jsonb_object_agg(k.key, s.before -> k.key) as was, jsonb_object_agg(k.key, k.value) as became
    from jsonb_each(s.updates) as k
    where (s.kept is null or k.key <> all (s.kept))
      and not exists (
        select
        from app_public.feature_flag_schedules l
        where l.flag_id = s.flag_id and l.status = 'applied' and (l.scheduled_at, l.id) > (s.scheduled_at, s.id)
          and l.applied_at < s.applied_at and (l.updates -> k.key) is not null and (l.kept is null or k.key <> all (l.kept)))
  ) as v
  where s.id = any (schedule_ids) and s.status = 'applied' and v.was is not null
$$;

comment on function app_private.changes_of_rows(uuid[]) is
  'What these schedules of plans changed: a JSON array of flagId, was and became.';

create or replace function app_private.changes_of_schedule(schedule app_public.feature_flag_schedules)
returns jsonb
language plpgsql
stable
set search_path to pg_catalog, pg_temp
as $$
begin
  perform app_private.require_history(schedule.applied_at);
  return (
    select coalesce(jsonb_agg(jsonb_build_object('flagId', schedule.flag_id, 'was', e.was, 'became', e.became)), '[]')
    from (
      select
        app_private.flag_state_values((array_agg(e.metadata -> 'before' order by e.occurred_at, e.revision))[1]),
        app_private.flag_state_values((array_agg(e.metadata -> 'after' order by e.occurred_at desc, e.revision desc))[1])
      from audit.events e
      where e.schedule_id = schedule.id and e.event_type = 'feature_flag.updated' and e.occurred_at >= schedule.created_at
      having count(*) > 0
    ) as e (was, became));
end;
$$;

comment on function app_private.changes_of_schedule(app_public.feature_flag_schedules) is
  'What an applied schedule of its own changed, by the trail, as changes_of_rows() says it. Raises ZF026 where its events were purged.';

-- That a flag was created isn't taken back, only what was changed since. The event that the reconciler writes in place of lost ones
-- doesn't say what was before: the event before it does.
create or replace function app_private.changes_of_span(environment text, "from" timestamptz, "to" timestamptz, flag_keys text[])
returns jsonb
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
  select coalesce(jsonb_agg(jsonb_build_object(
    'flagId', f.id,
    'was', app_private.flag_state_values(coalesce(a.metadata -> 'before', p.after, a.metadata -> 'after')),
    'became', app_private.flag_state_values(z.metadata -> 'after'))), '[]')
  from app_public.feature_flags f
  cross join lateral (
    select e.event_type, e.occurred_at, e.metadata
    from audit.events e
    where e.flag_id = f.id and e.occurred_at >= "from" and e.occurred_at < "to"
      and e.event_type in ('feature_flag.created', 'feature_flag.updated', 'feature_flag.deleted', 'feature_flag.reconciled')
    order by e.occurred_at, e.revision
    limit 1
  ) as a
  cross join lateral (
    select e.metadata
    from audit.events e
    where e.flag_id = f.id and e.occurred_at >= "from" and e.occurred_at < "to"
      and e.event_type in ('feature_flag.created', 'feature_flag.updated', 'feature_flag.deleted', 'feature_flag.reconciled')
    order by e.occurred_at desc, e.revision desc
    limit 1
  ) as z
  left join lateral (
    select e.metadata -> 'after' as after
    from audit.events e
    where a.event_type = 'feature_flag.reconciled' and e.flag_id = f.id and e.occurred_at < a.occurred_at
      and e.event_type in ('feature_flag.created', 'feature_flag.updated', 'feature_flag.deleted', 'feature_flag.reconciled')
    order by e.occurred_at desc, e.revision desc
    limit 1
  ) as p on true
  where f.environment = changes_of_span.environment and (flag_keys is null or f.flag_key = any (flag_keys))
$$;

comment on function app_private.changes_of_span(text, timestamptz, timestamptz, text[]) is
  'What was changed in an environment from `from` until before `to`, of these flags or of all, by the trail, as changes_of_rows() says it.';

-- Fields that are as before already are left out: to set them would undo nothing, and would count as a change to come.
create or replace function app_private.revert_steps(changes jsonb, on_conflict text)
returns jsonb
language plpgsql
stable
set search_path to pg_catalog, pg_temp
as $$
declare
  c_most_changes constant integer := 200;
  v_changes jsonb;
begin
  select jsonb_agg(
    jsonb_build_object(
      'flag_key', r.flag_key, 'environment', r.environment, 'updates', r.updates, 'expects', r.expects, 'on_conflict', on_conflict)
    order by r.environment, r.flag_key)
  into v_changes
  from (
    select f.flag_key, f.environment, jsonb_object_agg(k.key, k.value) as updates, jsonb_object_agg(k.key, c.change -> 'became' -> k.key) as expects
    from jsonb_array_elements(changes) as c (change)
    join app_public.feature_flags f on f.id = (c.change ->> 'flagId')::uuid
    cross join lateral jsonb_each(c.change -> 'was') as k
    where c.change -> 'became' -> k.key is distinct from k.value and app_private.flag_values(f) -> k.key is distinct from k.value
    group by f.id
  ) as r;
  if v_changes is null then
    raise exception 'There is nothing to revert: all is as it was before.' using errcode = 'ZF025';
  elsif jsonb_array_length(v_changes) > c_most_changes then
    raise exception '% flags were changed, and a plan may change %: name the flags to revert, or a shorter time.',
      jsonb_array_length(v_changes), c_most_changes
      using errcode = 'ZF028';
  end if;
  return jsonb_build_array(jsonb_build_object('changes', v_changes));
end;
$$;

comment on function app_private.revert_steps(jsonb, text) is
  'The steps of the plan that takes these changes back. Raises ZF025 where nothing is left of them, ZF028 for more than a plan may have.';

create or replace function app_private.insert_revert(
  title text, reverts jsonb, changes jsonb, at timestamptz, on_conflict text, reason text, waits boolean
)
returns app_public.plans
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
declare
  v_content jsonb;
begin
  if at is null or not waits then
    perform app_private.lock_flags(array(select (c.change ->> 'flagId')::uuid from jsonb_array_elements(changes) as c (change)), waits);
  end if;
  v_content := app_private.plan_content(app_private.revert_steps(changes, coalesce(on_conflict, 'keep')), at);
  if at is not null then
    perform app_private.require_room_for_pending(app_private.plan_flag_ids(v_content));
  end if;
  return app_private.insert_plan(left('Revert of ' || title, 200), v_content, reason, reverts);
end;
$$;

comment on function app_private.insert_revert(text, jsonb, jsonb, timestamptz, text, text, boolean) is
  'Makes the plan that takes these changes back, and opens its point; without `at` its flags are locked, as it is applied next.';
--! EndIncluded plans/revert.sql
--! Included plans/revert_sources.sql
-- What an admin reverts: a plan, a schedule, or all of an environment in a span of time.

create or replace function app_private.revert_of_plan(id uuid, at timestamptz, on_conflict text, reason text, waits boolean default true)
returns app_public.plans
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
declare
  v_plan app_public.plans;
  v_ids uuid[];
begin
  select p.* into v_plan from app_public.plans p
  where p.id = revert_of_plan.id and app_private.environments_are_visible(p.environments);
  if not found then
    raise exception 'There is no plan %.', revert_of_plan.id using errcode = 'ZF018';
  end if;
  v_ids := array(select s.id from app_public.feature_flag_schedules s where s.plan_id = v_plan.id and s.status = 'applied');
  if v_ids = '{}' then
    raise exception 'The plan is %, and nothing of it was applied; only what was applied can be reverted.', v_plan.status
      using errcode = 'ZF019';
  end if;
  return app_private.insert_revert(
    v_plan.title, jsonb_build_object('planId', v_plan.id), app_private.changes_of_rows(v_ids), at, on_conflict, reason, waits);
end;
$$;

comment on function app_private.revert_of_plan(uuid, timestamptz, text, text, boolean) is
  'Makes the plan that reverts a plan. Raises ZF018 for a plan that the token doesn''t reach, ZF019 where nothing of it was applied.';

create or replace function app_private.revert_of_schedule(id uuid, at timestamptz, on_conflict text, reason text, waits boolean default true)
returns app_public.plans
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
declare
  v_schedule app_public.feature_flag_schedules;
  v_flag app_public.feature_flags;
begin
  select s.* into v_schedule from app_public.feature_flag_schedules s where s.id = revert_of_schedule.id;
  select f.* into v_flag from app_public.feature_flags f
  where f.id = v_schedule.flag_id and app_private.environment_is_visible(f.environment);
  if not found then
    raise exception 'There is no schedule %.', revert_of_schedule.id using errcode = 'ZF002';
  elsif v_schedule.status <> 'applied' then
    raise exception 'The schedule is %; only one that was applied can be reverted.', v_schedule.status using errcode = 'ZF019';
  end if;
  return app_private.insert_revert(
    format('%s of %s, as changed at %s UTC',
      v_flag.flag_key, v_flag.environment, to_char(v_schedule.applied_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS')),
    jsonb_build_object('scheduleId', v_schedule.id),
    case when v_schedule.before is null then app_private.changes_of_schedule(v_schedule) else app_private.changes_of_rows(array[v_schedule.id]) end,
    at, on_conflict, reason, waits);
end;
$$;

comment on function app_private.revert_of_schedule(uuid, timestamptz, text, text, boolean) is
  'Makes the plan that reverts a schedule, also one of a plan. Raises ZF002 for a schedule that the token doesn''t reach, ZF019 for one that wasn''t applied, ZF026 where its events were purged.';

create or replace function app_private.revert_of_span(
  environment text, "from" timestamptz, "to" timestamptz, flag_keys text[], at timestamptz, on_conflict text, reason text,
  waits boolean default true
)
returns app_public.plans
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
begin
  perform app_private.require_environment(revert_of_span.environment);
  perform app_private.require_span("from", "to"), app_private.require_history("from");
  perform app_private.require_flag_key(revert_of_span.environment, k.key) from unnest(flag_keys) as k (key);
  return app_private.insert_revert(
    format('%s, %s UTC to %s UTC', revert_of_span.environment,
      to_char("from" at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS'), to_char("to" at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS')),
    jsonb_build_object('environment', revert_of_span.environment, 'from', app_private.iso("from"), 'to', app_private.iso("to")),
    app_private.changes_of_span(revert_of_span.environment, "from", "to", flag_keys), at, on_conflict, reason, waits);
end;
$$;

comment on function app_private.revert_of_span(text, timestamptz, timestamptz, text[], timestamptz, text, text, boolean) is
  'Makes the plan that reverts what was changed in an environment from `from` until before `to`. Raises ZF014, ZF001 for environments and flags that aren''t there or that the token doesn''t reach, 22008 for a span that can''t be, ZF026 for one that was purged.';

-- Without a time the admin reverts now, in this transaction and in their session: what is stopped is stopped for schedules, not for people.
-- Where a guard finds something else, the plan is suspended, for the admin to decide.
create or replace function app_private.apply_unless_timed(plan app_public.plans, at timestamptz)
returns app_public.plans
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
begin
  if at is null then
    perform app_private.apply_point(plan.id);
    select p.* into strict plan from app_public.plans p where p.id = plan.id;
  end if;
  return plan;
end;
$$;

comment on function app_private.apply_unless_timed(app_public.plans, timestamptz) is
  'Applies a revert''s plan unless it has a time, and returns the plan as it is then.';

create or replace function app_public.revert_plan(id uuid, at timestamptz default null, on_conflict text default 'keep', reason text default null)
returns app_public.plans
language plpgsql
volatile
security definer
set search_path to pg_catalog, pg_temp
as $$
begin
  perform app_private.require_admin();
  return app_private.apply_unless_timed(app_private.revert_of_plan(revert_plan.id, at, on_conflict, revert_plan.reason), at);
end;
$$;

comment on function app_public.revert_plan(uuid, timestamptz, text, text) is
  'Makes a plan that takes back what a plan changed; without `at` it is applied in this transaction. `on_conflict` says what happens to fields that were changed since: keep leaves them, overwrite sets them, suspend waits for an admin. `reason` is free text of up to 500 characters.';

create or replace function app_public.revert_schedule(id uuid, at timestamptz default null, on_conflict text default 'keep', reason text default null)
returns app_public.plans
language plpgsql
volatile
security definer
set search_path to pg_catalog, pg_temp
as $$
begin
  perform app_private.require_admin();
  return app_private.apply_unless_timed(app_private.revert_of_schedule(revert_schedule.id, at, on_conflict, revert_schedule.reason), at);
end;
$$;

comment on function app_public.revert_schedule(uuid, timestamptz, text, text) is
  'Makes a plan that takes back what an applied schedule changed; the other arguments are those of revert_plan().';

create or replace function app_public.revert_span(environment text, "from" timestamptz, "to" timestamptz, flag_keys text[] default null, at timestamptz default null, on_conflict text default 'keep', reason text default null)
returns app_public.plans
language plpgsql
volatile
security definer
set search_path to pg_catalog, pg_temp
as $$
begin
  perform app_private.require_admin();
  return app_private.apply_unless_timed(
    app_private.revert_of_span(revert_span.environment, "from", "to", flag_keys, at, on_conflict, revert_span.reason), at);
end;
$$;

comment on function app_public.revert_span(text, timestamptz, timestamptz, text[], timestamptz, text, text) is
  'Makes a plan that takes back what was changed in an environment from `from` until before `to`, of all flags or of those in `flag_keys`; the other arguments are those of revert_plan().';

grant execute on function
  app_public.revert_plan(uuid, timestamptz, text, text),
  app_public.revert_schedule(uuid, timestamptz, text, text),
  app_public.revert_span(text, timestamptz, timestamptz, text[], timestamptz, text, text)
to halyard_admin;
--! EndIncluded plans/revert_sources.sql
--! Included plans/guard_outcomes.sql
-- What guards will find: the pending schedules that expect something, in the order in which they come, each against the state that the
-- earlier ones leave. A guard of one environment may suspend a plan's changes in another, so this looks at all environments; where no
-- pending schedule expects anything it is one look into an empty index.
--
-- The order of changes of one instant isn't foreseen, and neither is what waits for a person or for another attempt. Where a guard meets
-- such a change its outcome is uncertain, and so is all that depends on it.

-- When a schedule comes to its turn, and its place among the schedules of its flag: those up to (last_at, last_id) are applied by then.
-- One that waits for its next attempt comes behind all that are due until then. A conflict that is resolved is due then.
create or replace function app_private.turn_of(schedule app_public.feature_flag_schedules, at timestamptz)
returns table (turn_at timestamptz, last_at timestamptz, last_id uuid)
language sql
stable
begin atomic
  select
    greatest((schedule).scheduled_at, (schedule).next_attempt_at, turn_of.at),
    case when w.comes_late then greatest((schedule).next_attempt_at, turn_of.at) else (schedule).scheduled_at end,
    case when w.comes_late then '00000000-0000-0000-0000-000000000000'::uuid else (schedule).id end
  from (
    select (schedule).next_attempt_at > turn_of.at or coalesce((schedule).suspended_for = 'conflict', false)
  ) as w (comes_late);
end;

comment on function app_private.turn_of(app_public.feature_flag_schedules, timestamptz) is
  'When a schedule that waits comes to its turn, seen from `at`, and up to which (scheduled_at, id) its flag''s schedules are applied by then.';

-- The rule of apply: a guard compares only its keys, and of these only those that no later schedule has set already.
create or replace function app_private.guard_findings(schedule_ids uuid[], left_out jsonb default null, uncertain uuid[] default null)
returns table (
  schedule_id uuid, field text, expected jsonb, found jsonb, cause_id uuid, cause_plan_id uuid, turn_at timestamptz, certain boolean
)
language plpgsql
stable
set search_path to pg_catalog, pg_temp
-- Asked once a point: planning takes ten times as long as the look.
set plan_cache_mode to force_generic_plan
as $$
declare
  v_now timestamptz := clock_timestamp();
  v_held record;
begin
  select h.* into v_held from app_private.held_schedules() as h;
  return query
    select
      s.id, k.key, k.value, coalesce(d.value, app_private.flag_values(f) -> k.key), d.schedule_id, d.plan_id, t.turn_at,
      coalesce(d.scheduled_at > v_now, true)
      and not exists (
        select
        from app_public.feature_flag_schedules o
        where o.flag_id = s.flag_id and o.status = 'pending' and o.scheduled_at = s.scheduled_at and o.id <> s.id
          and (o.updates -> k.key) is not null)
      and not (uncertain is not null and app_private.is_uncertain(
        uncertain, s.flag_id, k.key, d.scheduled_at, d.schedule_id, t.last_at, t.last_id))
    from app_public.feature_flag_schedules s
    join app_public.feature_flags f on f.id = s.flag_id
    cross join lateral app_private.turn_of(s, v_now) as t
    cross join lateral jsonb_each(s.expects) as k
    left join lateral app_private.deciding_change(
      s.flag_id, k.key, t.turn_at, t.last_at, t.last_id, v_held.scheduled_until, v_held.created_until, guard_findings.left_out, s.id
    ) as d on true
    where s.id = any (schedule_ids)
      and (d.schedule_id is null or (d.scheduled_at, d.schedule_id) < (s.scheduled_at, s.id) or s.suspended_for = 'conflict')
      and (s.suspended_for = 'conflict' or not exists (
        select
        from app_public.feature_flag_schedules a
        where a.flag_id = s.flag_id and a.status = 'applied' and (a.scheduled_at, a.id) > (s.scheduled_at, s.id)
          and (a.updates -> k.key) is not null and (a.kept is null or k.key <> all (a.kept))));
end;
$$;

comment on function app_private.guard_findings(uuid[], jsonb, uuid[]) is
  'What each of these waiting schedules expects of each field and will find there, the schedule that makes it so, when, and whether that is certain; given what guards leave out before, and the schedules whose outcome is uncertain.';

-- Whether an uncertain change could decide the field after the one that is taken for the deciding one.
create or replace function app_private.is_uncertain(
  uncertain uuid[], flag_id uuid, field text, decided_at timestamptz, decided_id uuid, last_at timestamptz, last_id uuid
)
returns boolean
language sql
stable
begin atomic
  select exists (
    select
    from app_public.feature_flag_schedules u
    where u.id = any (uncertain) and u.flag_id = is_uncertain.flag_id and (u.updates -> field) is not null
      and (decided_id is null or (u.scheduled_at, u.id) >= (decided_at, decided_id))
      and (u.scheduled_at, u.id) <= (last_at, last_id));
end;

comment on function app_private.is_uncertain(uuid[], uuid, text, timestamptz, uuid, timestamptz, uuid) is
  'Whether one of the uncertain schedules of a flag sets the field at or after the deciding one, up to (last_at, last_id).';

-- The flags whose guards an answer about these flags depends on: a plan's guard asks for one flag, and suspends the changes of others.
create or replace function app_private.guarded_with(flag_ids uuid[], until timestamptz)
returns uuid[]
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
  with recursive reached (flag_id) as (
    select unnest(flag_ids)
    union
    select w.flag_id
    from reached r
    join app_public.feature_flag_schedules s
      on s.flag_id = r.flag_id and s.status = 'pending' and s.scheduled_at <= until and s.plan_id is not null
    join app_public.feature_flag_schedules w on w.plan_id = s.plan_id and w.status = 'pending'
  )
  select array_agg(r.flag_id) from reached r
$$;

comment on function app_private.guarded_with(uuid[], timestamptz) is 'These flags, and all that plans until then change together with them.';

-- The points that matter: those that expect something, and, because nothing of them is certain, those that reach into a stopped environment.
create or replace function app_private.guarded_points(until timestamptz, flag_ids uuid[])
returns table (schedule_ids uuid[], is_stopped boolean)
language plpgsql
stable
set search_path to pg_catalog, pg_temp
set plan_cache_mode to force_custom_plan
as $$
declare
  v_now timestamptz := clock_timestamp();
  v_stopped text[] := array(select e.name::text from app_public.environments e where e.stopped_at is not null);
  v_held record;
begin
  select h.* into v_held from app_private.held_schedules() as h;
  return query
    select array_agg(w.id order by w.id), bool_or(f.environment = any (v_stopped))
    from (
      select distinct coalesce(s.plan_id, s.id) as id
      from app_public.feature_flag_schedules s
      where s.status = 'pending' and s.expects is not null and (guarded_points.flag_ids is null or s.flag_id = any (guarded_points.flag_ids))
      union
      select p.id
      from app_public.plans p
      where p.status = 'active' and p.environments && v_stopped::varchar[] and cardinality(v_stopped) > 0
        and (guarded_points.flag_ids is null or p.flag_ids && guarded_points.flag_ids)
    ) as p
    join app_public.feature_flag_schedules w on w.status = 'pending' and (w.id = p.id or w.plan_id = p.id)
    join app_public.feature_flags f on f.id = w.flag_id
    cross join lateral app_private.turn_of(w, v_now) as t
    -- What is overdue comes to its turn now, also where `until` was now a moment ago.
    where t.turn_at <= greatest(until, v_now) and not app_private.is_held(w, v_held.scheduled_until, v_held.created_until)
    group by p.id
    order by max(t.turn_at), max(w.scheduled_at), min(w.id::text);
end;
$$;

comment on function app_private.guarded_points(timestamptz, uuid[]) is
  'The points until `until` that have a guard or reach into a stopped environment, of these flags or of all, in the order in which they come.';

create or replace function app_private.guard_outcomes(until timestamptz, flag_ids uuid[] default null)
returns table (schedule_id uuid, conflicts jsonb, left_out jsonb, certain boolean)
language plpgsql
stable
set search_path to pg_catalog, pg_temp
set plan_cache_mode to force_generic_plan
as $$
declare
  v_left_out jsonb;
  v_uncertain uuid[];
  v_point record;
  v_row record;
begin
  for v_point in select p.* from app_private.guarded_points(until, app_private.guarded_with(guard_outcomes.flag_ids, until)) as p loop
    for v_row in
      select r.*, (bool_and(r.is_certain) over () and not v_point.is_stopped) as point_is_certain
      from (
        select
          s.id, coalesce(g.conflicts, '{}') as conflicts, coalesce(g.is_certain, true) as is_certain,
          case
            when bool_or(s.on_conflict = 'suspend' and g.conflicts <> '{}') over () then s.updates
            when s.on_conflict = 'keep' then g.conflicts
          end as stays
        from app_public.feature_flag_schedules s
        left join (
          select
            n.schedule_id,
            coalesce(jsonb_object_agg(n.field, n.found) filter (where n.found is distinct from n.expected), '{}') as conflicts,
            bool_and(n.certain) as is_certain
          from app_private.guard_findings(v_point.schedule_ids, v_left_out, v_uncertain) as n
          group by n.schedule_id
        ) as g on g.schedule_id = s.id
        where s.id = any (v_point.schedule_ids)
      ) as r
    loop
      schedule_id := v_row.id;
      conflicts := v_row.conflicts;
      certain := v_row.point_is_certain;
      left_out := (select coalesce(jsonb_agg(k.key), '[]') from jsonb_object_keys(v_row.stays) as k (key));
      if left_out <> '[]' then
        v_left_out := coalesce(v_left_out, '{}') || jsonb_build_object(schedule_id, left_out);
      end if;
      if not certain then
        v_uncertain := array_append(v_uncertain, schedule_id);
      end if;
      if conflicts <> '{}' or left_out <> '[]' or not certain then
        return next;
      end if;
    end loop;
  end loop;
end;
$$;

comment on function app_private.guard_outcomes(timestamptz, uuid[]) is
  'Of each pending schedule until `until`, of these flags or of all, that a guard or a stop touches: what it finds instead of what it expects, which fields stay as they are, and whether that is certain.';

create or replace function app_private.guard_summary(until timestamptz, flag_ids uuid[] default null)
returns table (left_out jsonb, uncertain uuid[], in_conflict uuid[])
language plpgsql
stable
set search_path to pg_catalog, pg_temp
as $$
begin
  -- Mostly there is nothing, and planning what is below would take longer than all else.
  if exists (select from app_public.feature_flag_schedules s where s.status = 'pending' and s.expects is not null)
    or exists (select from app_public.environments e where e.stopped_at is not null)
  then
    select
      jsonb_object_agg(o.schedule_id, o.left_out) filter (where o.left_out <> '[]'),
      array_agg(o.schedule_id) filter (where not o.certain),
      array_agg(o.schedule_id) filter (where o.conflicts <> '{}' or o.left_out <> '[]')
    into guard_summary.left_out, guard_summary.uncertain, guard_summary.in_conflict
    from app_private.guard_outcomes(until, flag_ids) as o;
  end if;
  return next;
end;
$$;

comment on function app_private.guard_summary(timestamptz, uuid[]) is
  'guard_outcomes() in one row: the fields that stay by schedule, the schedules whose outcome is uncertain, and those that a conflict touches; null where there are none.';
--! EndIncluded plans/guard_outcomes.sql
--! Included plans/conflicts.sql
-- What stands against a change that is to come, known before it is due.

-- A token that reaches a flag reaches its schedules; a plan has flags elsewhere too, and then it isn't named.
create or replace function app_private.change_conflicts(schedule_ids uuid[])
returns setof app_public.change_conflict
language plpgsql
stable
set search_path to pg_catalog, pg_temp
as $$
declare
  v_until timestamptz;
  v_flag_ids uuid[];
  v_left_out jsonb;
begin
  select max(greatest(s.scheduled_at, s.next_attempt_at, clock_timestamp())), array_agg(s.flag_id)
  into v_until, v_flag_ids
  from app_public.feature_flag_schedules s
  where s.id = any (schedule_ids) and s.expects is not null;
  -- What expects nothing finds nothing else: then there is no need to go through the guards before it.
  if v_until is not null then
    select g.left_out into v_left_out from app_private.guard_summary(v_until, v_flag_ids) as g;
  end if;
  return query
    select
      f.flag_key::text, f.environment::text, c.field, c.kind, c.expected, c.found, s.scheduled_at, c.cause_id,
      (select p.id from app_public.plans p where p.id = c.cause_plan_id and app_private.environments_are_visible(p.environments))
    from (
      select g.schedule_id, g.field, 'expectation' as kind, g.expected, g.found, g.cause_id, g.cause_plan_id
      from app_private.guard_findings(schedule_ids, v_left_out) as g
      where g.found is distinct from g.expected
      union all
      select s.id, k.key, 'same_instant', s.expects -> k.key, o.updates -> k.key, o.id, o.plan_id
      from app_public.feature_flag_schedules s
      join app_public.feature_flag_schedules o
        on o.flag_id = s.flag_id and o.status = 'pending' and o.scheduled_at = s.scheduled_at and o.id <> s.id
      cross join lateral jsonb_object_keys(s.updates) as k (key)
      where s.id = any (schedule_ids) and (o.updates -> k.key) is not null
    ) as c
    join app_public.feature_flag_schedules s on s.id = c.schedule_id
    join app_public.feature_flags f on f.id = s.flag_id
    order by s.scheduled_at, f.environment, f.flag_key, c.field, c.kind, c.cause_id
    limit 1000;
end;
$$;

comment on function app_private.change_conflicts(uuid[]) is
  'What stands against these schedules, which are pending or suspended: at most 1,000 conflicts, with the schedule and the plan that are the cause as far as the token reaches them.';

create or replace function app_public.plan_conflicts(plan_id uuid)
returns setof app_public.change_conflict
language plpgsql
stable
security definer
set search_path to pg_catalog, pg_temp
as $$
begin
  perform app_private.require_reader();
  return query
    select c.*
    from app_private.change_conflicts(array(
      select s.id
      from app_public.plans p
      join app_public.feature_flag_schedules s on s.plan_id = p.id
      where p.id = plan_conflicts.plan_id and s.status in ('pending', 'suspended')
        and app_private.environments_are_visible(p.environments)
    )) as c;
end;
$$;

comment on function app_public.plan_conflicts(uuid) is
  '@behavior -*
What stands against the open point of a plan, as far as it can be known: where a field will have another value than its change expects, and where another change of the field is for the same instant.';

create or replace function app_public.schedule_conflicts(schedule_id uuid)
returns setof app_public.change_conflict
language plpgsql
stable
security definer
set search_path to pg_catalog, pg_temp
as $$
begin
  perform app_private.require_reader();
  return query
    select c.*
    from app_private.change_conflicts(array(
      select s.id
      from app_public.feature_flag_schedules s
      join app_public.feature_flags f on f.id = s.flag_id
      where s.id = schedule_conflicts.schedule_id and s.status in ('pending', 'suspended')
        and app_private.environment_is_visible(f.environment)
    )) as c;
end;
$$;

comment on function app_public.schedule_conflicts(uuid) is
  '@behavior -*
What stands against a schedule that is pending or suspended, as plan_conflicts() says it of a plan.';

grant execute on function app_public.plan_conflicts(uuid), app_public.schedule_conflicts(uuid) to halyard_admin, halyard_auditor;
--! EndIncluded plans/conflicts.sql
--! Included plans/dry_run.sql
-- Dry runs: the real functions in a subtransaction that is always rolled back. What they write, notify and lock is gone with it; only values
-- of the queue's sequence are used up, whose gaps nothing reads.

-- The sequencer may be at the queue's end meanwhile, and other sessions commit events. Those are still there when all is rolled back, so
-- what is gone by then was the dry run's own.
create or replace function app_private.events_since(queue_id bigint)
returns jsonb
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
  select coalesce(jsonb_object_agg(q.id, e.payload::jsonb), '{}')
  from audit.queue q
  join audit.events e on e.id = q.event_id and e.occurred_at = q.occurred_at
  where q.id > queue_id
$$;

comment on function app_private.events_since(bigint) is 'The texts of the events behind this place of the queue, by their place.';

create or replace function app_private.gone_events(events jsonb)
returns jsonb
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
  select coalesce(jsonb_agg(e.event order by e.place::bigint), '[]')
  from jsonb_each(events) as e (place, event)
  where not exists (
    select from audit.events a
    where a.id = (e.event ->> 'eventId')::uuid and a.occurred_at = (e.event ->> 'timestamp')::timestamptz)
$$;

comment on function app_private.gone_events(jsonb) is 'Of these events those that the trail doesn''t have, in order.';

-- A plan that waits for its time is applied by the worker.
create or replace function app_private.as_worker(event jsonb)
returns jsonb
language sql
immutable
set search_path to pg_catalog, pg_temp
as $$
  select event - 'clientRequestId'
    || jsonb_build_object(
      'actorKind', 'system', 'databaseUser', 'halyard_worker', 'applicationName', 'halyard worker', 'requestId', null,
      'metadata', (event -> 'metadata') - '{adminUserId,adminEmail,claimed}'::text[])
$$;

comment on function app_private.as_worker(jsonb) is 'An event''s text as it would be if the worker had done it.';

-- A plan for later finds what others change until then.
create or replace function app_private.bring_forward(plan app_public.plans)
returns void
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
declare
  v_held record;
  v_guards record;
begin
  select h.* into v_held from app_private.held_schedules() as h;
  select g.* into v_guards from app_private.guard_summary(plan.next_at, plan.flag_ids) as g;
  perform app_private.patch_flags(array_agg(c.flag_id), array_agg(c.updates))
  from (
    select s.flag_id, jsonb_object_agg(v.key, d.value) as updates
    from app_public.feature_flag_schedules s
    join app_public.feature_flags f on f.id = s.flag_id
    cross join lateral app_private.turn_of(s, clock_timestamp()) as t
    cross join lateral jsonb_each(app_private.flag_values(f)) as v
    cross join lateral app_private.deciding_change(
      s.flag_id, v.key, t.turn_at, t.last_at, t.last_id, v_held.scheduled_until, v_held.created_until, v_guards.left_out, s.id) as d
    where s.plan_id = plan.id
    group by s.flag_id
  ) as c;
  -- A change that waits for its next attempt leaves alone what later ones will have set by then.
  update app_public.feature_flag_schedules l
  set status = 'applied', kept = array(select jsonb_array_elements_text(v_guards.left_out -> l.id::text))
  from app_public.feature_flag_schedules s
  where s.plan_id = plan.id and s.next_attempt_at > clock_timestamp()
    and l.flag_id = s.flag_id and l.status = 'pending' and (l.scheduled_at, l.id) > (s.scheduled_at, s.id)
    and greatest(l.scheduled_at, l.next_attempt_at) <= s.next_attempt_at
    and not app_private.is_held(l, v_held.scheduled_until, v_held.created_until);
end;
$$;

comment on function app_private.bring_forward(app_public.plans) is
  'Sets the flags of a plan to what they will be when its open point is due, as the preview foresees it, and marks applied what decides over it.';

create or replace function app_private.dry_run_of_plan(plan app_public.plans, by_worker boolean, queue_id bigint)
returns app_public.dry_run
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
declare
  v_flag_ids uuid[] := app_private.flags_in_order(plan.content);
  v_before jsonb;
  v_conflicts jsonb;
  v_events jsonb := app_private.events_since(queue_id);
  v_last_id bigint;
begin
  select coalesce(jsonb_agg(to_jsonb(c)), '[]') into v_conflicts
  from app_private.change_conflicts(array(select s.id from app_public.feature_flag_schedules s where s.plan_id = plan.id)) as c;
  perform app_private.bring_forward(plan);
  v_last_id := (select max(q.id) from audit.queue q);
  v_before := app_private.lock_flags(v_flag_ids, false);
  -- What is suspended waits for an admin, and changes nothing.
  if exists (select from app_public.feature_flag_schedules s where s.plan_id = plan.id and s.status = 'pending') then
    perform app_private.apply_point(plan.id);
  end if;
  select v_events || coalesce(jsonb_object_agg(e.place, case when by_worker then app_private.as_worker(e.event) else e.event end), '{}')
  into v_events
  from jsonb_each(app_private.events_since(v_last_id)) as e (place, event);
  return (app_private.flag_diffs(v_flag_ids, v_before), v_events, v_conflicts)::app_public.dry_run;
end;
$$;

comment on function app_private.dry_run_of_plan(app_public.plans, boolean, bigint) is
  'What applying a plan''s open point does at its time, its events since a place of the queue, and its conflicts.';

-- What came due is applied by the worker, behind the resume, in its order; the events are those of the resume. A plan that also reaches
-- beyond the token is resumed whole, and of it the answer has what the token reaches.
create or replace function app_private.dry_run_of_resume(environment app_public.environments, missed text, "except" uuid[], queue_id bigint)
returns app_public.dry_run
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
declare
  v_missed uuid[] := array(select m.id from app_private.missed_schedules(environment.name) as m);
  v_flag_ids uuid[];
  v_ids uuid[];
  v_before jsonb;
  v_conflicts jsonb;
  v_events jsonb;
  v_untried integer;
begin
  v_before := app_private.lock_flags(array(select s.flag_id from app_public.feature_flag_schedules s where s.id = any (v_missed)), false);
  perform app_private.end_stop(environment, missed, 'Dry run.', "except");
  select coalesce(jsonb_object_agg(e.place, e.event), '{}') into v_events
  from jsonb_each(app_private.events_since(queue_id)) as e (place, event)
  where app_private.environments_are_visible(array[e.event ->> 'environment']);
  v_ids := array(
    select s.id from app_public.feature_flag_schedules s where s.id = any (v_missed) and s.status = 'pending' order by s.scheduled_at, s.id);
  select coalesce(jsonb_agg(to_jsonb(c)), '[]') into v_conflicts
  from app_private.change_conflicts(v_ids) as c
  where app_private.environments_are_visible(array[c.environment]);
  select a.untried + a.stuck into v_untried from app_private.apply_in_turns(v_ids) as a;
  if v_untried > 0 then
    raise exception 'So much came due that it can''t be tried in time.' using errcode = 'query_canceled';
  end if;
  v_flag_ids := array(
    select f.id
    from app_public.feature_flags f
    where f.id in (select s.flag_id from app_public.feature_flag_schedules s where s.id = any (v_ids))
      and app_private.environments_are_visible(array[f.environment])
    order by f.environment, f.flag_key);
  return (app_private.flag_diffs(v_flag_ids, v_before), v_events, v_conflicts)::app_public.dry_run;
end;
$$;

comment on function app_private.dry_run_of_resume(app_public.environments, text, uuid[], bigint) is
  'What resuming an environment does, as far as the token reaches: the flags that its schedules change then, and the events of the resume.';
--! EndIncluded plans/dry_run.sql
--! Included plans/dry_run_requests.sql
-- What can be tried: a plan, an edit of one, a revert, and the resumption of an environment.

create or replace function app_private.dry_run(what text, arguments jsonb)
returns app_public.dry_run
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
declare
  v_queue_id bigint := (select coalesce(max(q.id), 0) from audit.queue q);
  v_result app_public.dry_run;
  v_plan app_public.plans;
  v_at timestamptz := arguments ->> 'at';
  v_environment app_public.environments;
begin
  begin
    case what
      when 'plan' then
        -- Before the plan's rows, whose foreign keys would wait for the flags.
        perform app_private.lock_flags(app_private.plan_flag_ids(app_private.plan_content(arguments -> 'steps', v_at)), false);
        v_plan := app_public.create_plan(arguments ->> 'title', arguments -> 'steps', v_at, arguments ->> 'reason');
        v_result := app_private.dry_run_of_plan(v_plan, true, v_queue_id);
      when 'edit' then
        -- An edit locks the plan, its flags and its schedules one after the other.
        perform set_config('lock_timeout', '100ms', true);
        v_plan := app_public.edit_plan(
          (arguments ->> 'id')::uuid, arguments ->> 'title', nullif(arguments -> 'steps', 'null'), v_at, arguments ->> 'reason');
        -- It was the plan's, and flags that are changed would be held against it.
        perform set_config('halyard.expected_revision', '', true);
        v_result := app_private.dry_run_of_plan(v_plan, true, v_queue_id);
      when 'revert' then
        v_plan := case
          when arguments ? 'plan_id'
            then app_private.revert_of_plan((arguments ->> 'plan_id')::uuid, v_at, arguments ->> 'on_conflict', null, false)
          when arguments ? 'schedule_id'
            then app_private.revert_of_schedule((arguments ->> 'schedule_id')::uuid, v_at, arguments ->> 'on_conflict', null, false)
          else app_private.revert_of_span(
            arguments ->> 'environment', (arguments ->> 'from')::timestamptz, (arguments ->> 'to')::timestamptz,
            (select array_agg(k.key) from jsonb_array_elements_text(nullif(arguments -> 'flags', 'null')) as k (key)),
            v_at, arguments ->> 'on_conflict', null, false)
        end;
        v_result := app_private.dry_run_of_plan(v_plan, v_at is not null, v_queue_id);
      when 'resume' then
        select e.* into v_environment from app_public.environments e where e.name = arguments ->> 'environment';
        v_result := app_private.dry_run_of_resume(
          v_environment, arguments ->> 'missed', array(select x.id::uuid from jsonb_array_elements_text(arguments -> 'except') as x (id)),
          v_queue_id);
    end case;
    raise exception using errcode = 'ZF099', message = 'The dry run is done.';
  exception when sqlstate 'ZF099' then
    v_result.events := app_private.gone_events(v_result.events);
    return v_result;
  end;
end;
$$;

comment on function app_private.dry_run(text, jsonb) is
  'What a plan, an edit, a revert or a resume would do, with the arguments by name; nothing is written. Raises what the real function raises, and lock_not_available where another session has one of the flags locked.';

create or replace function app_public.dry_run_plan(title text, steps jsonb, starts_at timestamptz default null, reason text default null)
returns app_public.dry_run
language plpgsql
volatile
security definer
set search_path to pg_catalog, pg_temp
as $$
begin
  perform app_private.require_admin();
  return app_private.dry_run(
    'plan', jsonb_build_object('title', title, 'steps', steps, 'at', dry_run_plan.starts_at, 'reason', dry_run_plan.reason));
end;
$$;

comment on function app_public.dry_run_plan(text, jsonb, timestamptz, text) is
  'What a plan would do at its time, as far as that can be foreseen: its changes, its events, and what stands against it. Nothing is written.';

create or replace function app_public.dry_run_edit(id uuid, title text default null, steps jsonb default null, starts_at timestamptz default null, reason text default null)
returns app_public.dry_run
language plpgsql
volatile
security definer
set search_path to pg_catalog, pg_temp
as $$
begin
  perform app_private.require_admin();
  return app_private.dry_run('edit', jsonb_build_object(
    'id', dry_run_edit.id, 'title', title, 'steps', steps, 'at', dry_run_edit.starts_at, 'reason', dry_run_edit.reason));
end;
$$;

comment on function app_public.dry_run_edit(uuid, text, jsonb, timestamptz, text) is
  'What a plan would do at its time after edit_plan() with these arguments, and without any as it is. Nothing is written.';

create or replace function app_public.dry_run_revert(source jsonb, at timestamptz default null, on_conflict text default 'keep')
returns app_public.dry_run
language plpgsql
volatile
security definer
set search_path to pg_catalog, pg_temp
as $$
begin
  perform app_private.require_admin();
  if source - 'plan_id' <> '{}' and source - 'schedule_id' <> '{}' and source - '{environment,from,to,flags}'::text[] <> '{}'
    or source is null or source = '{}'
  then
    raise exception 'source must have plan_id, or schedule_id, or environment, from and to.' using errcode = 'invalid_parameter_value';
  end if;
  return app_private.dry_run('revert', source || jsonb_build_object('at', dry_run_revert.at, 'on_conflict', on_conflict));
end;
$$;

comment on function app_public.dry_run_revert(jsonb, timestamptz, text) is
  'What a revert would do, as dry_run_plan() says it of a plan. `source` is {"plan_id"}, {"schedule_id"} or {"environment", "from", "to", "flags"}; nothing is written.';

create or replace function app_public.dry_run_resume(environment text, missed text, "except" uuid[] default '{}')
returns app_public.dry_run
language plpgsql
volatile
security definer
set search_path to pg_catalog, pg_temp
as $$
begin
  perform app_private.require_admin();
  perform app_private.require_environment(dry_run_resume.environment);
  return app_private.dry_run(
    'resume', jsonb_build_object('environment', dry_run_resume.environment, 'missed', missed, 'except', to_jsonb(coalesce("except", '{}'))));
end;
$$;

comment on function app_public.dry_run_resume(text, text, uuid[]) is
  'What resume_environment() would do now: the flags that the schedules change that came due meanwhile, what these will find instead of what they expect, and the events of the resume. Nothing is written.';

grant execute on function
  app_public.dry_run_plan(text, jsonb, timestamptz, text),
  app_public.dry_run_edit(uuid, text, jsonb, timestamptz, text),
  app_public.dry_run_revert(jsonb, timestamptz, text),
  app_public.dry_run_resume(text, text, uuid[])
to halyard_admin;
--! EndIncluded plans/dry_run_requests.sql
--! Included audit/read/policies.sql
-- Who reads the trail. An admin needs a verified token, as everywhere. An auditor may also be a DBA at a psql prompt, who
-- has no token: there the role itself is the permission, and a token, when there is one, only narrows it.
--
-- `is not null`, because the planner takes that for nearly always true. It can't know what a token says, and takes `is null` for
-- rare: it expected a third of the rows that come, and so read all of a flag's months and sorted them instead of walking
-- the index from the latest event on (bench/sql/flag_events.md).
do $$
declare
  c_admin constant text := $policy$(select app_private.claim_role()) = 'admin'$policy$;
  c_auditor constant text := $policy$coalesce((select app_private.claim_role()), 'auditor') = 'auditor'$policy$;
  c_environments constant text := '((select true where not app_private.claims_are_limited()) is not null '
    'or environment = any ((select app_private.claim_environments())::text[]))';
  c_no_limits constant text := '(select app_private.claim_environments()) is null';
  v_policy record;
begin
  for v_policy in
    select *
    from (values
      ('events', 'admin', c_admin, c_environments),
      ('events', 'auditor', c_auditor, c_environments),
      -- A number is for readers of its event's environment. The ledger has a copy of it, and keeps that when the event is purged.
      ('ledger', 'admin', c_admin, c_environments),
      ('ledger', 'auditor', c_auditor, c_environments),
      -- These say something of all environments at once.
      ('seals', 'auditor', c_auditor, c_no_limits),
      ('incarnations', 'auditor', c_auditor, c_no_limits),
      ('divergences', 'auditor', c_auditor, c_no_limits),
      ('dead_letters', 'auditor', c_auditor, c_no_limits)
    ) as p (table_name, reader, who, which)
  loop
    execute format('drop policy if exists %I on audit.%I', v_policy.reader || '_select', v_policy.table_name);
    execute format(
      'create policy %I on audit.%I for select to %I using (%s and %s)',
      v_policy.reader || '_select', v_policy.table_name, 'halyard_' || v_policy.reader, v_policy.who, v_policy.which);
  end loop;
end;
$$;

-- The catalogue says nothing of what happened.
drop policy if exists reader_select on audit.event_types;
create policy reader_select on audit.event_types for select to halyard_admin, halyard_auditor using (true);

-- For functions that read past the policies for their caller.
create or replace function app_private.require_auditor()
returns void
language plpgsql
stable
set search_path to pg_catalog, pg_temp
as $$
begin
  if coalesce(app_private.claim_role(), 'auditor') <> 'auditor' or app_private.claim_environments() is not null then
    raise exception 'Only an auditor whose token isn''t limited to environments may do this: it is about the trail as a whole.'
      using errcode = 'insufficient_privilege';
  end if;
end;
$$;

comment on function app_private.require_auditor() is
  'Raises insufficient_privilege unless the caller is an auditor without limits, or a DBA without a token.';

-- A proof says of the trail as a whole what any auditor may know, and of one event what its reader reads. Without a token the caller
-- is a DBA, for whom the login speaks: of the two roles that may call what asks this, an auditor's has the permission by itself.
create or replace function app_private.require_prover()
returns void
language plpgsql
stable
set search_path to pg_catalog, pg_temp
as $$
begin
  if coalesce(app_private.claim_role(), 'auditor') not in ('admin', 'auditor')
    or app_private.claim_environments() is not null
    or (app_private.claim_role() is null and not pg_has_role(session_user, 'halyard_auditor', 'member')
      and not pg_has_role(session_user, 'halyard_owner', 'member'))
  then
    raise exception 'This takes the token of an admin or an auditor that isn’t limited to environments.' using errcode = 'ZF015';
  end if;
end;
$$;

comment on function app_private.require_prover() is
  'Raises ZF015 unless the caller is an admin or an auditor whose token has no limits, or a DBA without a token.';

revoke all on table
  audit.events, audit.event_types, audit.queue, audit.ledger, audit.seals, audit.incarnations, audit.divergences, audit.cursors, audit.dead_letters
  from public, halyard_admin, halyard_viewer, halyard_auditor, halyard_worker;
grant usage on schema audit to halyard_admin, halyard_auditor;
grant select on table audit.events, audit.event_types to halyard_admin, halyard_auditor;
grant select (seq, event_id, occurred_at, sequenced_at, event_type, flag_key, environment) on table audit.ledger to halyard_admin;
grant select on table audit.ledger, audit.seals, audit.incarnations, audit.divergences, audit.dead_letters to halyard_auditor;
--! EndIncluded audit/read/policies.sql
--! Included audit/verify/triggers.sql
-- Are the guards of the trail in place? Events hang on triggers, and an owner can disable, replace or drop each of them.

-- The list of what must be there; a test holds it against the catalog. `enabled` is pg_trigger's: A fires always, O not under
-- session_replication_role = replica. `type` is pg_trigger's too: 1 for each row, 2 before, 4 insert, 8 delete, 16 update, 32
-- truncate. Not _200_track of schedules, which a rollback of the tracking columns takes away.
create or replace function app_private.expected_triggers()
returns table (table_name text, trigger_name text, enabled "char", type smallint, has_condition boolean, function_name text)
language sql
immutable
set search_path to pg_catalog, pg_temp
as $$
  values
    ('app_private.settings', '_100_no_delete', 'A'::"char", 42::smallint, false, 'app_private.tg__reject_write()'),
    ('app_private.settings', '_100_stamp', 'A', 23, false, 'app_private.tg_settings__stamp()'),
    ('app_private.settings', '_900_audit', 'A', 21, false, 'app_private.tg_settings__audit()'),
    ('app_public.environments', '_100_no_truncate', 'A', 34, false, 'app_private.tg__reject_write()'),
    ('app_public.environments', '_100_stamp', 'O', 23, false, 'app_private.tg_environments__stamp()'),
    ('app_public.environments', '_900_audit_delete', 'A', 8, false, 'app_private.tg_environments__audit()'),
    ('app_public.environments', '_900_audit_insert', 'A', 4, false, 'app_private.tg_environments__audit()'),
    ('app_public.environments', '_900_audit_update', 'A', 16, false, 'app_private.tg_environments__audit()'),
    ('app_public.feature_flags', '_100_no_truncate', 'A', 34, false, 'app_private.tg__reject_write()'),
    ('app_public.feature_flags', '_100_stamp', 'O', 23, false, 'app_private.tg_feature_flags__stamp()'),
    ('app_public.feature_flags', '_200_delete_schedules', 'O', 11, false, 'app_private.tg_feature_flags__delete_schedules()'),
    ('app_public.feature_flags', '_900_audit_delete', 'A', 8, false, 'app_private.tg_feature_flags__audit()'),
    ('app_public.feature_flags', '_900_audit_insert', 'A', 4, false, 'app_private.tg_feature_flags__audit()'),
    ('app_public.feature_flags', '_900_audit_update', 'A', 16, false, 'app_private.tg_feature_flags__audit()'),
    ('app_public.feature_flag_schedules', '_100_no_truncate', 'A', 34, false, 'app_private.tg__reject_write()'),
    ('app_public.feature_flag_schedules', '_100_state', 'O', 23, false, 'app_private.tg_feature_flag_schedules__state()'),
    ('app_public.feature_flag_schedules', '_900_audit_delete', 'A', 8, false, 'app_private.tg_feature_flag_schedules__audit()'),
    ('app_public.feature_flag_schedules', '_900_audit_insert', 'A', 4, false, 'app_private.tg_feature_flag_schedules__audit()'),
    ('app_public.feature_flag_schedules', '_900_audit_update', 'A', 16, false, 'app_private.tg_feature_flag_schedules__audit()'),
    ('app_public.plans', '_100_no_truncate', 'A', 34, false, 'app_private.tg__reject_write()'),
    ('app_public.plans', '_100_state', 'O', 23, false, 'app_private.tg_plans__state()'),
    ('app_public.plans', '_900_audit_delete', 'A', 8, false, 'app_private.tg_plans__audit()'),
    ('app_public.plans', '_900_audit_insert', 'A', 4, false, 'app_private.tg_plans__audit()'),
    ('app_public.plans', '_900_audit_update', 'A', 16, false, 'app_private.tg_plans__audit()'),
    ('audit.cursors', '_100_no_truncate', 'A', 34, false, 'app_private.tg__reject_write()'),
    ('audit.cursors', '_900_audit_delete', 'A', 9, false, 'app_private.tg_cursors__audit()'),
    ('audit.cursors', '_900_audit_insert', 'A', 5, true, 'app_private.tg_cursors__audit()'),
    ('audit.cursors', '_900_audit_update', 'A', 17, true, 'app_private.tg_cursors__audit()'),
    ('audit.divergences', '_100_append_only', 'A', 58, false, 'app_private.tg__reject_write()'),
    ('audit.events', '_100_append_only', 'A', 58, false, 'app_private.tg__reject_write()'),
    ('audit.events', '_200_append_only_rows', 'A', 27, false, 'app_private.tg__reject_write()'),
    ('audit.incarnations', '_100_append_only', 'A', 58, false, 'app_private.tg__reject_write()'),
    ('audit.ledger', '_100_append_only', 'A', 58, false, 'app_private.tg__reject_write()'),
    ('audit.seals', '_100_append_only', 'A', 58, false, 'app_private.tg__reject_write()')
$$;

comment on function app_private.expected_triggers() is
  'The triggers that the trail hangs on, as they must be; each partition of audit.events has those of audit.events.';

-- From the catalog alone, so that it is quick enough for each scrape and no lock is in its way.
create or replace function app_private.trigger_problems()
returns table (status text, table_name text, detail text)
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
  with expected as (
    select to_regclass(x.table_name)::oid as table_id, x.*
    from app_private.expected_triggers() as x
    union all
    select i.inhrelid, c.relnamespace::regnamespace || '.' || c.relname, x.trigger_name, x.enabled, x.type, x.has_condition, x.function_name
    from app_private.expected_triggers() as x
    join pg_inherits i on i.inhparent = to_regclass(x.table_name)
    join pg_class c on c.oid = i.inhrelid
    where x.table_name = 'audit.events'
  )
  select p.status, x.table_name, format(p.sentence, x.trigger_name)
  from expected x
  left join pg_trigger t on t.tgrelid = x.table_id and t.tgname = x.trigger_name and (not t.tgisinternal or t.tgparentid <> 0)
  cross join lateral (
    values
      (t.oid is null, 'trigger_missing', 'The trigger %s is gone.'),
      (t.tgenabled in ('D', 'R'), 'trigger_disabled', 'The trigger %s is disabled: changes leave no event, or go unrefused.'),
      (t.tgenabled = 'O' and x.enabled = 'A', 'trigger_disabled',
        'The trigger %s doesn''t fire always: it sleeps under session_replication_role = replica.'),
      (t.oid is not null
        and (t.tgfoid, t.tgtype, t.tgqual is not null, cardinality(t.tgattr::smallint[])) is distinct from
          (to_regprocedure(x.function_name)::oid, x.type, x.has_condition, 0),
        'trigger_altered', 'The trigger %s isn''t Halyard''s: it has another function, condition or occasion.')
  ) as p (holds, status, sentence)
  where p.holds
  union all
  -- Only where only Halyard has business: a trigger of somebody's on flags or schedules is seen by the triggers behind it.
  select 'trigger_added', format('%I.%I', c.relnamespace::regnamespace, c.relname), format('The trigger %s isn''t Halyard''s.', t.tgname)
  from pg_trigger t
  join pg_class c on c.oid = t.tgrelid
  where (c.relnamespace = to_regnamespace('audit') or c.oid = to_regclass('app_private.settings'))
    and not t.tgisinternal
    and not exists (select from expected x where x.table_id = t.tgrelid and x.trigger_name = t.tgname)
  union all
  select 'trigger_added', format('%I.%I', c.relnamespace::regnamespace, c.relname), format('The rule %s isn''t Halyard''s: it changes what statements do.', r.rulename)
  from pg_rewrite r
  join pg_class c on c.oid = r.ev_class
  where (c.relnamespace in (to_regnamespace('app_public'), to_regnamespace('audit')) or c.oid = to_regclass('app_private.settings'))
    and r.rulename <> '_RETURN'
  union all
  select 'policies_off', format('%I.%I', c.relnamespace::regnamespace, c.relname), 'Row-level security is off: every role with a grant reads all rows.'
  from pg_class c
  where c.relkind in ('r', 'p') and not c.relrowsecurity
    and (c.relnamespace in (to_regnamespace('app_public'), to_regnamespace('audit')) or c.oid = to_regclass('app_private.settings'))
$$;

comment on function app_private.trigger_problems() is
  'Triggers that the trail hangs on and that are missing, disabled or altered, those and rules that aren''t Halyard''s, and tables whose row-level security is off.';

create or replace function audit.verify_triggers()
returns table (status text, table_name text, detail text)
language plpgsql
stable
security definer
set search_path to pg_catalog, pg_temp
as $$
begin
  perform app_private.require_auditor();
  return query select p.* from app_private.trigger_problems() as p;
end;
$$;

comment on function audit.verify_triggers() is
  'Checks that the triggers and the row-level security that guard the trail are as they must be now: a row for each problem, trigger_missing, trigger_disabled, trigger_altered, trigger_added or policies_off.';

grant execute on function audit.verify_triggers() to halyard_auditor;
--! EndIncluded audit/verify/triggers.sql
--! Included audit/seal/proof.sql
-- The proof that one event is in its seal.

-- RFC 6962, section 2.1.1, from the leaf up: at each level the neighbour, where there is one.
create or replace function app_private.merkle_path(leaves bytea[], leaf_index integer)
returns bytea[]
language plpgsql
immutable
parallel safe
set search_path to pg_catalog, pg_temp
as $$
declare
  v_nodes bytea[] := leaves;
  v_index integer := leaf_index;
  v_path bytea[] := '{}';
  v_sibling bytea;
begin
  while cardinality(v_nodes) > 1 loop
    v_sibling := v_nodes[(v_index # 1) + 1];
    if v_sibling is not null then
      v_path := v_path || v_sibling;
    end if;
    v_nodes := array(
      select app_private.merkle_root(v_nodes[i:i + 1])
      from generate_series(1, cardinality(v_nodes), 2) as i
      order by i);
    v_index := v_index / 2;
  end loop;
  return v_path;
end;
$$;

comment on function app_private.merkle_path(bytea[], integer) is
  'The inclusion proof of the leaf at an index from 0: the hashes that lead from it to the root (RFC 6962, section 2.1.1).';

create or replace function audit.prove(event_id uuid)
returns jsonb
language plpgsql
stable
security definer
set search_path to pg_catalog, pg_temp
set timezone to 'UTC'
as $$
declare
  v_entry audit.ledger;
  v_seal audit.seals;
  v_leaves bytea[];
  v_message text;
begin
  perform app_private.require_prover();
  select l.* into v_entry from audit.ledger l where l.event_id = prove.event_id;
  select s.* into v_seal from audit.seals s where v_entry.seq between s.first_seq and s.last_seq;
  if v_seal.seal_no is null then
    raise exception 'There is no sealed event %.', event_id
      using errcode = 'no_data_found', hint = 'A new event is sealed within a second, while a worker runs.';
  end if;
  v_leaves := array(
    select l.leaf from audit.ledger l where l.seq between v_seal.first_seq and v_seal.last_seq order by l.seq);
  select app_private.shipped_message(e.payload, v_entry.seq) into v_message
  from audit.events e
  where e.id = v_entry.event_id and e.occurred_at = v_entry.occurred_at;
  return jsonb_build_object(
    'version', 1,
    'eventId', event_id,
    'seq', v_entry.seq,
    'message', v_message,
    'leaf', encode(v_entry.leaf, 'hex'),
    'leafIndex', v_entry.seq - v_seal.first_seq,
    'path', array(
      select encode(p.node, 'hex')
      from unnest(app_private.merkle_path(v_leaves, (v_entry.seq - v_seal.first_seq)::integer)) with ordinality as p (node, i)
      order by p.i),
    'seal', jsonb_build_object(
      'seal', v_seal.seal_no,
      'trail', v_seal.trail,
      'incarnation', v_seal.incarnation,
      'firstSeq', v_seal.first_seq,
      'lastSeq', v_seal.last_seq,
      'root', encode(v_seal.root, 'hex'),
      'previousHead', encode(v_seal.previous_head, 'hex'),
      'head', encode(v_seal.head, 'hex')));
end;
$$;

comment on function audit.prove(uuid) is
  'The proof that an event is in its seal, which `halyard audit verify-proof` checks without a database; message is null when the event was purged. Raises no_data_found when there is no sealed event with this id, and ZF015 for a token with limits.';

grant execute on function audit.prove(uuid) to halyard_admin, halyard_auditor;

-- For lists of events: called once for each row of a page, behind its limit. Seals are for auditors without limits; of the seal of an
-- event that they may read, all readers of the trail get this much. The caller has the number of the event.
create or replace function app_private.seal_of(seq bigint)
returns jsonb
language sql
stable
security definer
set search_path to pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'number', s.seal_no::text,
    'head', encode(s.head, 'hex'),
    'sealedAt', app_private.iso(s.sealed_at),
    'anchored', s.last_seq <= (select coalesce(max(c.last_seq), 0) from audit.cursors c))
  from audit.seals s
  where s.last_seq >= seal_of.seq and s.first_seq <= seal_of.seq
  order by s.last_seq
  limit 1
$$;

comment on function app_private.seal_of(bigint) is
  'The seal that covers the event with this number: its number, its head, when it was made, and whether a destination has confirmed it; null where there is none.';

grant execute on function app_private.seal_of(bigint) to halyard_admin, halyard_auditor;

-- Beside a seal, so that no event looks sealed that isn't what was sealed. `audit verify` looks at the seals too, and at what is outside.
create or replace function app_private.alteration_of(event audit.events)
returns text
language sql
stable
security definer
set search_path to pg_catalog, pg_temp
as $$
  select case
    when app_private.event_leaf((event).payload, l.seq) <> l.leaf then 'event_altered'
    when l.occurred_at <> (event).occurred_at or cardinality(app_private.differing_columns(event)) > 0 then 'column_differs'
  end
  from audit.ledger l
  where l.event_id = (event).id
$$;

comment on function app_private.alteration_of(audit.events) is
  'What `audit verify` calls an event that isn''t what was sealed; null for one that is, or isn''t sealed yet.';

grant execute on function app_private.alteration_of(audit.events) to halyard_admin, halyard_auditor;
--! EndIncluded audit/seal/proof.sql
--! Included platform/metrics.sql
-- What Prometheus reads of the database, at each scrape by every process that serves /metrics. Nothing here counts a
-- whole table: an index's end, or a count that stops at 10,000. 30 ms with 2 million events, of which 20,000 were reconciled, and a
-- million pending schedules.

-- In the index's order, or a plan may look for 10,000 pending rows among all the others.
create or replace function app_private.schedule_metrics()
returns table (metric text, destination text, value double precision)
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
  with pending as (
    select coalesce(s.next_attempt_at, s.scheduled_at) as due_at, s.plan_id
    from app_public.feature_flag_schedules s
    where s.status = 'pending'
    order by s.scheduled_at, s.id
    limit 10000
  )
  select 'schedules_pending', null::text, count(*)::double precision from pending p
  union all
  select 'schedules_overdue', null, count(*) from pending p where p.due_at <= now()
  union all
  select 'schedules_overdue_oldest_seconds', null, greatest(coalesce(extract(epoch from now() - min(p.due_at)), 0), 0)
  from pending p
  union all
  select 'points_waiting', null, count(distinct p.plan_id) from pending p where p.due_at <= now()
  union all
  select 'environments_stopped', null, count(*) from app_public.environments e where e.stopped_at is not null
  union all
  select 'schedules_suspended', r.reason, count(s.suspended_for)
  from (values ('stop'), ('conflict')) as r (reason)
  left join (
    select s.suspended_for from app_public.feature_flag_schedules s where s.status = 'suspended' order by s.scheduled_at, s.id limit 10000
  ) as s on s.suspended_for = r.reason
  group by r.reason
$$;

comment on function app_private.schedule_metrics() is
  'Schedules that wait, those that are overdue, and those that are suspended, by the reason; plans'' points that are overdue; environments that are stopped. Counts stop at 10,000.';

-- Numbering and sealing are one step, so what is in the queue is neither.
create or replace function app_private.trail_metrics()
returns table (metric text, destination text, value double precision)
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
  select 'events_unsequenced', null::text, count(*)::double precision
  from (select from audit.queue q limit 10000) as counted
  union all
  select
    'events_unsequenced_oldest_seconds', null,
    coalesce((select greatest(extract(epoch from now() - q.occurred_at), 0) from audit.queue q order by q.id limit 1), 0)
  union all
  select 'events_last_seq', null, coalesce(max(l.seq), 0) from audit.ledger l
  union all
  (select 'seals_last_number', null, s.seal_no from audit.seals s order by s.seal_no desc limit 1)
  union all
  (
    select 'seals_last_age_seconds', null, greatest(extract(epoch from now() - s.sealed_at), 0)
    from audit.seals s
    order by s.seal_no desc
    limit 1
  )
$$;

comment on function app_private.trail_metrics() is
  'Events that are neither numbered nor sealed yet, and where the ledger and the seals end; counts stop at 10,000.';

-- A destination that has confirmed nothing yet has no cursor; the worker that is to deliver to it names it.
create or replace function app_private.delivery_metrics(destinations text[])
returns table (metric text, destination text, value double precision)
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
  with behind as (
    select d.destination, coalesce(c.last_seq, 0) as last_seq
    from (select unnest(destinations) union select destination from audit.cursors) as d (destination)
    left join audit.cursors c on c.destination = d.destination
  )
  select 'delivery_behind_events', b.destination, greatest(coalesce((select max(l.seq) from audit.ledger l), 0) - b.last_seq, 0)::double precision
  from behind b
  union all
  select
    'delivery_oldest_seconds', b.destination,
    coalesce((
      select greatest(extract(epoch from now() - l.sequenced_at), 0)
      from audit.ledger l
      where l.seq > b.last_seq
      order by l.seq
      limit 1), 0)
  from behind b
  union all
  select 'destination_ahead', null, app_private.destination_is_ahead()::integer
$$;

comment on function app_private.delivery_metrics(text[]) is
  'How far each destination is behind the ledger: those that have a cursor, and these; and whether one is ahead.';

create or replace function app_private.fault_metrics()
returns table (metric text, destination text, value double precision)
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
  select 'dead_letters', null::text, count(*)::double precision
  from (select from audit.dead_letters d limit 10000) as counted
  union all
  select
    'dead_letters_oldest_seconds', null,
    coalesce((select greatest(extract(epoch from now() - d.occurred_at), 0) from audit.dead_letters d order by d.id limit 1), 0)
  union all
  select 'events_reconciled_last_day', null, count(*)
  from (
    select e.id from audit.events e where e.reconciled order by e.occurred_at desc limit 1000
  ) as reconciled
  -- A replayed event keeps its time; its number is new. Looked up one by one: a join reads the whole ledger, for a second.
  where coalesce((select l.sequenced_at from audit.ledger l where l.event_id = reconciled.id), now()) > now() - interval '1 day'
$$;

comment on function app_private.fault_metrics() is
  'Events that could not be written, and those that were reconciled lately; counts stop at 10,000 and 1,000.';

-- Partitions are looked up by the names that make_audit_partition() gives them.
create or replace function app_private.server_metrics()
returns table (metric text, destination text, value double precision)
language sql
stable
set search_path to pg_catalog, pg_temp
set timezone to 'UTC'
as $$
  select 'notification_queue_usage_ratio', null::text, pg_notification_queue_usage()
  union all
  select 'audit_strict', null, (m.mode = 'strict')::integer from app_private.audit_mode() as m (mode) where m.mode is not null
  union all
  select 'workers_connected', null, count(*)
  from pg_stat_activity a
  where a.datname = current_database() and a.usename = 'halyard_worker' and a.application_name = 'halyard worker listener'
  union all
  -- The first month that has none; -1 when that is the present one.
  select 'audit_partitions_ahead_months', null, min(m.ahead) - 1
  from generate_series(0, 25) as m (ahead)
  where m.ahead = 25 or not exists (
    select
    from pg_inherits i
    join pg_class c on c.oid = i.inhrelid
    where i.inhparent = to_regclass('audit.events')
      and c.relname = to_char(date_trunc('month', now()) + make_interval(months => m.ahead), '"events_"YYYY_MM')
  )
$$;

comment on function app_private.server_metrics() is 'The notification queue, the audit mode, the workers that are connected, and the partitions ahead (24 at most).';

-- What guards the trail, and what was found last night. A run that never comes to its end would keep an old count: hence the age.
create or replace function app_private.guard_metrics()
returns table (metric text, destination text, value double precision)
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
  select 'audit_triggers_wrong', null::text, count(*)::double precision from app_private.trigger_problems()
  union all
  select 'rows_unexplained', null, coalesce(max(r.rows_unexplained), 0) from audit.reconciliations r where r.scope = 'full'
  union all
  -- Before the first run that came to its end, since the trail was begun: a run that always fails must not look like a new one.
  select
    'rows_checked_age_seconds', null,
    greatest(extract(epoch from now() - coalesce(max(r.finished_at), (select min(i.started_at) from audit.incarnations i))), 0)
  from audit.reconciliations r
  where r.scope = 'full'
$$;

comment on function app_private.guard_metrics() is
  'Triggers and policies of the trail that aren''t as they must be, rows that the last full reconciliation found to differ from the trail, and how long ago it ended.';

-- Each part by itself: when the trail is broken, the rest of the watching goes on, and says so.
create or replace function app_private.metrics(destinations text[] default '{}')
returns table (metric text, destination text, value double precision)
language plpgsql
stable
security definer
set search_path to pg_catalog, pg_temp
as $$
declare
  v_unreadable integer := 0;
begin
  for v_part in 1..6 loop
    begin
      case v_part
        when 1 then return query select * from app_private.schedule_metrics();
        when 2 then return query select * from app_private.trail_metrics();
        when 3 then return query select * from app_private.delivery_metrics(destinations);
        when 4 then return query select * from app_private.fault_metrics();
        when 5 then return query select * from app_private.guard_metrics();
        else return query select * from app_private.server_metrics();
      end case;
    exception when others then
      v_unreadable := v_unreadable + 1;
    end;
  end loop;
  return query select 'database_unreadable_parts', null::text, v_unreadable::double precision;
end;
$$;

comment on function app_private.metrics(text[]) is
  'What /metrics says of the database: gauges by name, some of them by destination, and schedules_suspended by the reason, which stands in its place. What can''t be read is left out and counted.';

grant execute on function app_private.metrics(text[]) to halyard_worker, halyard_authenticator;
--! EndIncluded platform/metrics.sql
--! Included schedules/retention.sql
-- Retention of schedules: applied, cancelled and skipped ones may go after a while; failed, suspended and pending ones never do. Off
-- unless the setting schedule_retention says after how many days. A plan's go with their plan alone (plans/retention.sql).

-- An applied schedule decides what an older one of its flag, that failed or still waits, may change when its turn comes
-- (apply_schedules): it stays as long as there is such a one.
create or replace function app_private.remove_old_schedules(status text, batch integer default 1000)
returns integer
language plpgsql
volatile
security definer
set search_path to pg_catalog, pg_temp
as $$
declare
  v_days integer := substring(app_private.setting('schedule_retention') from status || '=([0-9]+)');
  v_before timestamptz := now() - make_interval(days => v_days);
  v_ids uuid[];
  v_count integer;
begin
  -- Anything else would find the days of one status, and delete schedules of the other.
  if status is null or status not in ('applied', 'cancelled') then
    raise exception 'Only applied and cancelled schedules are deleted, not %.', status using errcode = 'invalid_parameter_value';
  end if;
  if v_days is null then
    return 0;
  elsif status = 'applied' then
    v_ids := array(
      select s.id
      from app_public.feature_flag_schedules s
      where s.status = 'applied' and s.applied_at < v_before and s.plan_id is null
        and not exists (
          select
          from app_public.feature_flag_schedules older
          where older.flag_id = s.flag_id and older.status in ('pending', 'suspended', 'failed')
            and (older.scheduled_at, older.id) < (s.scheduled_at, s.id))
      limit batch
      for update of s skip locked);
  else
    v_ids := array(
      select s.id
      from app_public.feature_flag_schedules s
      where s.status in ('cancelled', 'skipped') and s.plan_id is null
        -- Not s.cancelled_at: the tracking columns can be rolled back.
        and coalesce((to_jsonb(s) ->> 'cancelled_at')::timestamptz, s.updated_at) < v_before
      limit batch
      for update of s skip locked);
  end if;
  delete from app_public.feature_flag_schedules s where s.id = any (v_ids);
  get diagnostics v_count = row_count;
  return v_count;
end;
$$;

comment on function app_private.remove_old_schedules(text, integer) is
  'Deletes up to `batch` schedules of their own that were applied, or cancelled or skipped, as `status` says (applied or cancelled), before the days of the setting schedule_retention, a flag_schedule.deleted event for each; returns how many.';

grant execute on function app_private.remove_old_schedules(text, integer) to halyard_worker;
--! EndIncluded schedules/retention.sql
--! Included plans/retention.sql
-- Retention of plans: those that ended may go after a while, as schedules do (schedules/retention.sql), and their schedules go with them.

create or replace function app_private.remove_old_plans(status text, batch integer default 20)
returns integer
language plpgsql
volatile
security definer
set search_path to pg_catalog, pg_temp
as $$
declare
  v_days integer := substring(
    app_private.setting('schedule_retention') from case status when 'completed' then 'applied' else 'cancelled' end || '=([0-9]+)');
  v_ids uuid[];
begin
  if status is null or status not in ('completed', 'cancelled') then
    raise exception 'Only completed and cancelled plans are deleted, not %.', status using errcode = 'invalid_parameter_value';
  end if;
  -- What it applied decides what an older schedule of the same flag, that failed or still waits, may change.
  v_ids := array(
    select p.id
    from app_public.plans p
    where p.status = remove_old_plans.status and p.ended_at < now() - make_interval(days => v_days)
      and not exists (
        select
        from app_public.feature_flag_schedules s
        join app_public.feature_flag_schedules older on older.flag_id = s.flag_id
        where s.plan_id = p.id and s.status = 'applied' and older.status in ('pending', 'suspended', 'failed')
          and older.plan_id is distinct from p.id and (older.scheduled_at, older.id) < (s.scheduled_at, s.id))
    limit batch
    for update of p skip locked);
  if cardinality(v_ids) > 0 then
    delete from app_public.feature_flag_schedules s where s.plan_id = any (v_ids);
    delete from app_public.plans p where p.id = any (v_ids);
  end if;
  return cardinality(v_ids);
end;
$$;

comment on function app_private.remove_old_plans(text, integer) is
  'Deletes up to `batch` plans that were completed, or cancelled, as `status` says, before the days of the setting schedule_retention, with their schedules, an event for each; returns how many plans.';

grant execute on function app_private.remove_old_plans(text, integer) to halyard_worker;
--! EndIncluded plans/retention.sql
--! Included audit/read/views.sql
-- What DBAs ask the trail most, as views. security_invoker: the reader's own row-level security holds in them, so that an
-- auditor who is limited to some environments sees those. Columns that are looked for (flag, environment, user, time) are the
-- trail's own, unchanged, so that its indexes and months serve a condition on them.

-- Events have a flag's fields as its state names them (`rolloutPercentage`) and a schedule's updates as they were sent
-- (`rollout_percentage`): the shipped texts stay as they are, and the views have one name for a field.
create or replace function app_private.camel_case_keys(fields jsonb)
returns jsonb
language sql
immutable
parallel safe
set search_path to pg_catalog, pg_temp
as $$
  select case
    when jsonb_typeof(fields) <> 'object' or fields::text not like '%!_%' escape '!' then fields
    else (
      select jsonb_object_agg(
        case when strpos(f.key, '_') = 0 then f.key else lower(left(n.name, 1)) || substr(n.name, 2) end, f.value)
      from jsonb_each(fields) as f
      cross join lateral (select replace(initcap(replace(f.key, '_', ' ')), ' ', '') as name) as n)
  end
$$;

comment on function app_private.camel_case_keys(jsonb) is 'The object with its keys in camel case.';

grant execute on function app_private.camel_case_keys(jsonb) to halyard_auditor;

create or replace view audit.flag_events with (security_invoker = true) as
select
  e.occurred_at, e.environment, e.flag_key, e.flag_id, e.event_type, e.actor_kind, e.admin_user_id, e.database_user, e.schedule_id,
  coalesce(e.metadata ->> 'scheduledAt', e.metadata #>> '{after,scheduledAt}')::timestamptz as scheduled_at,
  e.metadata -> 'before' as before,
  coalesce(e.metadata -> 'after', app_private.camel_case_keys(e.metadata -> 'updates')) as after,
  coalesce(e.metadata ->> 'reason', e.metadata ->> 'errorMessage') as reason,
  e.id as event_id,
  coalesce(
    e.metadata ->> 'requestedBy', e.admin_user_id, case when e.actor_kind = 'database' then e.database_user end) as requested_by
from audit.events e
where e.flag_key is not null and e.event_type <> 'access.denied';

comment on view audit.flag_events is 'What happened to each flag and its schedules. A flag is a key in an environment.';
comment on column audit.flag_events.scheduled_at is 'What the schedule''s time is from then on, where the event says it.';
comment on column audit.flag_events.before is 'What was before, where the event says it.';
comment on column audit.flag_events.after is 'What is from then on; for a schedule''s creation and application, what it sets.';
comment on column audit.flag_events.reason is 'Why, as the person who made the change said, or the schedule that made it; of a schedule that failed, the error.';
comment on column audit.flag_events.requested_by is 'Who wanted it: the admin who did it, or who scheduled what did it, or moved or retried that last; the login that changed it in SQL. Null when unknown.';

create or replace view audit.actor_events with (security_invoker = true) as
select
  e.occurred_at, e.actor_kind, e.admin_user_id, e.admin_email, e.database_user, e.application_name, e.event_type, e.environment,
  e.flag_key, e.schedule_id, e.request_id, e.metadata, e.id as event_id
from audit.events e
where e.actor_kind <> 'system';

comment on view audit.actor_events is 'What people did: admins by the API, and logins that type SQL. A person is a user id, or a login; an e-mail may change.';

-- The event has the time of application to the microsecond and the lateness rounded to the millisecond. Their difference,
-- rounded likewise, is the time that was scheduled, to the millisecond; half of one goes up, as it did in the lateness.
create or replace view audit.applied_schedules with (security_invoker = true) as
select
  e.occurred_at, e.environment, e.flag_key, e.schedule_id,
  date_trunc('milliseconds',
    (e.metadata ->> 'appliedAt')::timestamptz - (e.metadata ->> 'latenessMs')::bigint * interval '1 ms' + interval '500 us')
    as scheduled_at,
  (e.metadata ->> 'appliedAt')::timestamptz as applied_at,
  (e.metadata ->> 'latenessMs')::bigint as lateness_ms,
  app_private.camel_case_keys(e.metadata -> 'updates') as updates,
  e.id as event_id
from audit.events e
where e.event_type = 'flag_schedule.applied';

comment on view audit.applied_schedules is 'Each schedule that was applied, and how late.';
comment on column audit.applied_schedules.scheduled_at is 'When it was due, to the millisecond.';
comment on column audit.applied_schedules.applied_at is 'When it was applied.';
comment on column audit.applied_schedules.lateness_ms is 'How much later, in milliseconds.';
comment on column audit.applied_schedules.updates is 'What it set.';

create or replace view audit.lateness_days with (security_invoker = true) as
select
  a.day, a.environment, count(*) as applied,
  round(percentile_cont(0.5) within group (order by a.lateness_ms))::bigint as p50_ms,
  round(percentile_cont(0.99) within group (order by a.lateness_ms))::bigint as p99_ms,
  max(a.lateness_ms) as max_ms,
  count(*) filter (where a.lateness_ms > 1000) as over_one_second
from (
  select (s.occurred_at at time zone 'UTC')::date as day, s.environment, s.lateness_ms
  from audit.applied_schedules s
) as a
group by a.day, a.environment;

comment on view audit.lateness_days is 'How late schedules were applied, by day (UTC) and environment. Reads the whole trail: for a part of a long one, group audit.applied_schedules.';
comment on column audit.lateness_days.day is 'The day (UTC) on which they were applied.';
comment on column audit.lateness_days.applied is 'How many were applied.';
comment on column audit.lateness_days.p50_ms is 'Half of them were no later than this, in milliseconds.';
comment on column audit.lateness_days.p99_ms is '99 of 100 were no later than this, in milliseconds.';
comment on column audit.lateness_days.max_ms is 'The latest, in milliseconds.';
comment on column audit.lateness_days.over_one_second is 'How many were more than a second late.';

create or replace view audit.failed_schedules with (security_invoker = true) as
select
  e.occurred_at, e.environment, e.flag_key, e.schedule_id,
  e.metadata ->> 'errorMessage' as error_message,
  (e.metadata ->> 'attempts')::integer as attempts,
  -- In the order of revisions: two events may be of one microsecond.
  (
    select n.event_type
    from audit.events n
    where n.schedule_id = e.schedule_id and n.occurred_at >= e.occurred_at and n.revision > e.revision
      and starts_with(n.event_type, 'flag_schedule.')
    order by n.revision desc
    limit 1
  ) as since,
  e.id as event_id
from audit.events e
where e.event_type = 'flag_schedule.failed';

comment on view audit.failed_schedules is 'Each time that a schedule failed for good, and what became of it since.';
comment on column audit.failed_schedules.error_message is 'What the last attempt said.';
comment on column audit.failed_schedules.attempts is 'How often it was tried.';
comment on column audit.failed_schedules.since is 'The schedule''s latest event after that; null when nothing happened since.';

-- Who did it is the admin, or the login that typed it in SQL. An admin whose token names no user is not known to be the
-- creator, and no one is when the creation was purged: those are shown.
create or replace view audit.cancellations_by_others with (security_invoker = true) as
select
  e.occurred_at, e.environment, e.flag_key, e.schedule_id,
  c.occurred_at as created_at,
  c.actor_kind as creator_kind,
  case c.actor_kind when 'database' then c.database_user else c.admin_user_id end as created_by,
  e.actor_kind as canceller_kind,
  case e.actor_kind when 'database' then e.database_user else e.admin_user_id end as cancelled_by,
  e.admin_email as cancelled_by_email,
  e.metadata ->> 'reason' as reason,
  e.id as event_id
from audit.events e
left join lateral (
  select b.*
  from audit.events b
  where b.schedule_id = e.schedule_id and b.event_type = 'flag_schedule.created' and b.occurred_at <= e.occurred_at
  order by b.occurred_at desc
  limit 1
) as c on true
where e.event_type = 'flag_schedule.cancelled'
  and (
    c.actor_kind is distinct from e.actor_kind
    or (case e.actor_kind when 'database' then c.database_user = e.database_user else c.admin_user_id = e.admin_user_id end) is not true
  );

comment on view audit.cancellations_by_others is 'Each schedule that was cancelled by somebody else than who created it, or by somebody unknown.';
comment on column audit.cancellations_by_others.created_at is 'When it was created; null when that event was purged.';
comment on column audit.cancellations_by_others.creator_kind is 'admin, or database for a schedule that was made in SQL.';
comment on column audit.cancellations_by_others.created_by is 'The admin''s user id, or the login that typed it; null when unknown.';
comment on column audit.cancellations_by_others.canceller_kind is 'admin, or database for a cancellation that was made in SQL.';
comment on column audit.cancellations_by_others.cancelled_by is 'The admin''s user id, or the login that typed it; null when unknown.';
comment on column audit.cancellations_by_others.cancelled_by_email is 'The admin''s e-mail as the token had it then.';
comment on column audit.cancellations_by_others.reason is 'Why, as the admin gave it; manual_cancellation unless given.';

-- By the login and not by the kind of actor: what another login than Halyard's own did is in, also where its session claimed to be another. An owner's
-- command (setting.changed, audit.purged, *.reconciled, …), which acts as the system, is left out where the login is halyard_owner, and in
-- where it is a DBA's. Reading isn't changing: an export is left out.
create or replace view audit.manual_changes with (security_invoker = true) as
select
  e.occurred_at, e.database_user, e.application_name, e.event_type, e.environment, e.flag_key, e.schedule_id,
  e.metadata -> 'before' as before,
  coalesce(e.metadata -> 'after', app_private.camel_case_keys(e.metadata -> 'updates')) as after,
  e.metadata, e.id as event_id,
  e.metadata -> 'claimed' as claimed
from audit.events e
where (e.actor_kind = 'database' or e.database_user not in ('halyard_authenticator', 'halyard_worker'))
  and not (e.actor_kind = 'system' and e.database_user = 'halyard_owner')
  and e.event_type <> 'audit.exported';

comment on view audit.manual_changes is 'What was changed by SQL at a prompt, past the API, also where the session claimed to be another.';
comment on column audit.manual_changes.before is 'What was before.';
comment on column audit.manual_changes.after is 'What is from then on.';
comment on column audit.manual_changes.claimed is 'The user, e-mail, role and request that the session said it had: not verified. Null when it said nothing.';

-- A stop lasts until the environment's next resume; which revision that has isn't known where events were lost, so it is looked for by
-- the revision and not by the one behind.
create or replace view audit.stops with (security_invoker = true) as
select
  e.occurred_at, e.environment,
  case e.actor_kind when 'database' then e.database_user else e.admin_user_id end as stopped_by,
  e.metadata ->> 'reason' as reason,
  r.occurred_at as resumed_at,
  case r.actor_kind when 'database' then r.database_user else r.admin_user_id end as resumed_by,
  r.metadata ->> 'reason' as resume_reason,
  r.metadata ->> 'missed' as missed,
  (r.metadata ->> 'applied')::integer as applied,
  (r.metadata ->> 'skipped')::integer as skipped,
  e.id as event_id
from audit.events e
left join lateral (
  select n.*
  from audit.events n
  where n.event_type = 'environment.resumed' and n.environment = e.environment and n.occurred_at >= e.occurred_at
    and n.revision > e.revision
  order by n.revision
  limit 1
) as r on true
where e.event_type = 'environment.stopped';

comment on view audit.stops is 'Each time that an environment was stopped, and when and how it was resumed.';
comment on column audit.stops.stopped_by is 'The admin''s user id, or the login that stopped it in SQL; null when unknown.';
comment on column audit.stops.reason is 'Why it was stopped.';
comment on column audit.stops.resumed_at is 'When it was resumed; null while it is stopped.';
comment on column audit.stops.resumed_by is 'The admin''s user id, or the login that resumed it in SQL; null when unknown.';
comment on column audit.stops.resume_reason is 'Why it was resumed.';
comment on column audit.stops.missed is 'What was done with the schedules that came due meanwhile, but for exceptions: apply or skip.';
comment on column audit.stops.applied is 'How many of them were made pending again.';
comment on column audit.stops.skipped is 'How many of them were skipped.';

create or replace view audit.plan_events with (security_invoker = true) as
select
  e.occurred_at,
  (e.metadata ->> 'planId')::uuid as plan_id,
  e.event_type, e.environment, e.flag_key, e.schedule_id, e.actor_kind, e.admin_user_id, e.database_user,
  (e.metadata ->> 'occurrenceNo')::integer as occurrence_no,
  (e.metadata ->> 'stepNo')::integer as step_no,
  coalesce(e.metadata ->> 'title', e.metadata #>> '{after,title}', e.metadata #>> '{before,title}') as title,
  e.metadata -> 'before' as before,
  coalesce(e.metadata -> 'after', app_private.camel_case_keys(e.metadata -> 'updates')) as after,
  coalesce(e.metadata ->> 'reason', e.metadata ->> 'errorMessage') as reason,
  e.id as event_id
from audit.events e
where e.metadata ? 'planId';

comment on view audit.plan_events is 'What happened to each plan, to its schedules, and to flags by them.';
comment on column audit.plan_events.plan_id is 'The plan.';
comment on column audit.plan_events.occurrence_no is 'Which occurrence of the plan it belongs to, where the event says it.';
comment on column audit.plan_events.step_no is 'Which step of the plan it belongs to, where the event says it.';
comment on column audit.plan_events.title is 'The plan''s title, where the event says it.';
comment on column audit.plan_events.before is 'What was before, where the event says it.';
comment on column audit.plan_events.after is 'What is from then on; for a schedule''s creation and application, what it sets.';
comment on column audit.plan_events.reason is 'Why, where the event says it; of a schedule that failed, the error.';

-- A column that is the trail's has the trail's comment, but for those below.
do $$
declare
  v_comment text;
begin
  for v_comment in
    select format('comment on column %s.%I is %L', v.oid::regclass, a.attname, col_description(e.attrelid, e.attnum))
    from pg_class v
    join pg_attribute a on a.attrelid = v.oid and a.attnum > 0
    join pg_attribute e on e.attrelid = 'audit.events'::regclass and e.attname = case a.attname when 'event_id' then 'id' else a.attname end
    where v.relnamespace = 'audit'::regnamespace and v.relkind = 'v'
  loop
    execute v_comment;
  end loop;
end;
$$;
comment on column audit.applied_schedules.occurred_at is 'When the event was written; the same as applied_at but for microseconds. Quick to select by.';
comment on column audit.failed_schedules.occurred_at is 'When it was given up.';
comment on column audit.cancellations_by_others.occurred_at is 'When it was cancelled.';
comment on column audit.stops.occurred_at is 'When it was stopped.';
comment on column audit.plan_events.environment is 'The environment of what happened; null for a plan of several.';

revoke all on table
  audit.flag_events, audit.actor_events, audit.applied_schedules, audit.lateness_days, audit.failed_schedules,
  audit.cancellations_by_others, audit.manual_changes, audit.stops, audit.plan_events
from public, halyard_admin, halyard_viewer, halyard_auditor, halyard_worker;
grant select on table
  audit.flag_events, audit.actor_events, audit.applied_schedules, audit.lateness_days, audit.failed_schedules,
  audit.cancellations_by_others, audit.manual_changes, audit.stops, audit.plan_events
to halyard_auditor;
--! EndIncluded audit/read/views.sql
--! Included audit/read/status.sql
-- What the console's badge says of the trail at each request: ends of indexes, the newest row of a few, and catalogs. Nothing here counts or
-- verifies: `audit verify` does. A problem is a sentence with the words of docs/audit.md. It has no numbers of rows, because readers who are
-- limited to some environments may not count anything of others.

-- Of events on their way into the trail. The bound is that of the alert HalyardEventsUnsealed.
create or replace function app_private.recording_problems()
returns setof text
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
  (
    select format('Events that could not be written wait as dead letters, the oldest since %s.', app_private.iso(d.occurred_at))
    from audit.dead_letters d
    order by d.id
    limit 1
  )
  union all
  select format('Events wait for their number and their seal since %s: no worker seals them.', app_private.iso(q.occurred_at))
  from (select n.occurred_at from audit.queue n order by n.id limit 1) as q
  where q.occurred_at < now() - interval '1 minute'
  union all
  select 'The audit mode can''t be read: somebody holds the lock of the settings.'
  where app_private.audit_mode() is null
$$;

comment on function app_private.recording_problems() is
  'What keeps events from the trail, a sentence each: dead letters, a queue that stands still, settings that are locked.';

-- Of the way to the destinations. The bound is that of the alert HalyardDeliveryBehind.
create or replace function app_private.delivering_problems()
returns setof text
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
  select 'A destination has more than the trail (tail_cut): nothing is numbered or delivered until an operator decides.'
  where exists (select from app_private.open_divergences())
  union all
  select format('Nothing is delivered to %s: it belongs to the original of this copy.', r.destination)
  from (select distinct unnest(i.refused_destinations) as destination from audit.incarnations i) as r
  union all
  select format('Delivery to %s stands still: it has not confirmed an event that was numbered at %s.', c.destination, app_private.iso(n.sequenced_at))
  from audit.cursors c
  cross join lateral (
    select l.sequenced_at from audit.ledger l where l.seq > app_private.audit_cursor(c.destination) order by l.seq limit 1
  ) as n
  where n.sequenced_at < now() - interval '5 minutes'
$$;

comment on function app_private.delivering_problems() is
  'What keeps the trail from its destinations, a sentence each: one that is ahead, refused ones, and those that confirm nothing.';

-- What the last full reconciliation found, which is kept, and what guards the trail. The bound is that of the alert HalyardRowsUnchecked.
create or replace function app_private.guarding_problems()
returns setof text
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
  with last_check as (
    select max(r.finished_at) as at, coalesce(max(r.rows_unexplained), 0) as unexplained
    from audit.reconciliations r
    where r.scope = 'full'
  )
  select format('Rows differ from the trail (row_differs, row_unrecorded or row_vanished), as the check of %s found.', app_private.iso(k.at))
  from last_check k
  where k.unexplained > 0
  union all
  select case
    when k.at is null then 'Rows were never compared with the trail.'
    else format('Rows were last compared with the trail at %s, more than two days ago.', app_private.iso(k.at))
  end
  from last_check k
  where coalesce(k.at, (select min(i.started_at) from audit.incarnations i)) < now() - interval '2 days'
  union all
  select format('%s, %s: %s', t.status, t.table_name, t.detail)
  from app_private.trigger_problems() as t
$$;

comment on function app_private.guarding_problems() is
  'Rows that the last check found to differ, a check that is overdue, and triggers and policies that aren''t as they must be, a sentence each.';

-- Each part by itself: where one is broken the others are still said.
create or replace function audit.trail_status()
returns table (
  last_seq bigint, sealed_seq bigint, seal_no bigint, sealed_at timestamptz, anchored_seal_no bigint, anchored_at timestamptz, problems text[]
)
language plpgsql
stable
security definer
set search_path to pg_catalog, pg_temp
as $$
declare
  v_delivered bigint;
begin
  last_seq := audit.last_seq();
  select s.last_seq, s.seal_no, s.sealed_at into sealed_seq, seal_no, sealed_at from audit.seals s order by s.seal_no desc limit 1;
  sealed_seq := coalesce(sealed_seq, 0);
  select c.last_seq, c.updated_at into v_delivered, anchored_at from audit.cursors c order by c.last_seq desc, c.updated_at limit 1;
  select s.seal_no into anchored_seal_no from audit.seals s where s.last_seq <= v_delivered order by s.last_seq desc limit 1;
  if anchored_seal_no is null then
    anchored_at := null;
  end if;
  problems := '{}';
  for v_part in 1..3 loop
    begin
      case v_part
        when 1 then problems := problems || array(select * from app_private.recording_problems());
        when 2 then problems := problems || array(select * from app_private.delivering_problems());
        else problems := problems || array(select * from app_private.guarding_problems());
      end case;
    exception when others then
      problems := problems || 'What is wrong with the trail can''t be read in full: a table or a function of it is broken or locked.'::text;
    end;
  end loop;
  return next;
end;
$$;

comment on function audit.trail_status() is
  '@behavior -*
How far the trail reaches, is sealed, and has been confirmed by the destination that has most of it, and what is known to be wrong with it, a sentence each. It verifies nothing.';

grant execute on function audit.trail_status() to halyard_admin, halyard_auditor;
--! EndIncluded audit/read/status.sql
--! Included audit/verify/audited_rows.sql
-- The rows of every audited table under the same names. What holds rows against the trail, and what records them as they are found,
-- reads them here: another audited table is another branch. Each reader has a plan of its own for its `source`, so that the other
-- branches aren't in it (`plan_cache_mode`).
--
-- Every branch is of one table and casts its columns to the same types: only then does the planner put it in line, and walk the
-- table's index for a page.
--
-- `found` is what the trail is asked about, `details` what a *.reconciled event shows. A setting that another version of Halyard
-- defined isn't comparable: its default isn't known.
create or replace view app_private.audited_rows with (security_invoker = true) as
select
  'feature_flags'::text as source, f.id as row_id, f.id::text as name, f.created_at, f.updated_at, f.revision,
  f.id as flag_id, f.flag_key::text as flag_key, f.environment::text as environment, null::uuid as schedule_id,
  f.flag_key::text as key, true as comparable,
  app_private.flag_found(f) as found,
  jsonb_build_object(
    'rowCreatedAt', app_private.iso(f.created_at),
    'rowUpdatedAt', app_private.iso(f.updated_at),
    'after', app_private.flag_state(f)) as details
from app_public.feature_flags f
union all
select
  'feature_flag_schedules'::text, s.id, s.id::text, s.created_at, s.updated_at, s.revision,
  s.flag_id,
  (select f.flag_key::text from app_public.feature_flags f where f.id = s.flag_id),
  (select f.environment::text from app_public.feature_flags f where f.id = s.flag_id),
  s.id,
  null::text, true,
  app_private.schedule_found(s),
  jsonb_build_object(
    'scheduleId', s.id,
    'rowCreatedAt', app_private.iso(s.created_at),
    'rowUpdatedAt', app_private.iso(s.updated_at),
    'updates', s.updates,
    'after', app_private.schedule_snapshot(s))
  || jsonb_strip_nulls(jsonb_build_object(
    'appliedAt', app_private.iso(s.applied_at),
    'requestedBy', s.requested_by,
    -- By name: the tracking columns can be rolled back, and the trail goes on.
    'createdBy', to_jsonb(s) -> 'created_by',
    'cancelledBy', to_jsonb(s) -> 'cancelled_by',
    'cancelReason', to_jsonb(s) -> 'cancel_reason'))
from app_public.feature_flag_schedules s
union all
select
  'settings'::text, app_private.setting_id(s.name), s.name, timestamptz 'epoch', s.updated_at, s.revision,
  null::uuid, null::text, null::text, null::uuid,
  s.name, exists (select from app_private.setting_definitions() as d where d.name = s.name),
  jsonb_build_object('value', s.value),
  jsonb_build_object('name', s.name, 'rowUpdatedAt', app_private.iso(s.updated_at), 'after', s.value)
from app_private.settings s
union all
select
  'environments'::text, app_private.environment_id(e.name), e.name::text, e.created_at, e.created_at, e.revision,
  null::uuid, null::text, e.name::text, null::uuid,
  e.name::text, true,
  app_private.environment_found(e),
  jsonb_build_object('name', e.name, 'rowCreatedAt', app_private.iso(e.created_at), 'after', app_private.environment_state(e))
from app_public.environments e
union all
select
  'plans'::text, p.id, p.id::text, p.created_at, p.updated_at, p.revision,
  null::uuid, null::text, app_private.plan_environment(p), null::uuid,
  p.id::text, true,
  app_private.plan_found(p),
  jsonb_build_object(
    'planId', p.id,
    'rowCreatedAt', app_private.iso(p.created_at),
    'rowUpdatedAt', app_private.iso(p.updated_at),
    'after', app_private.plan_state(p),
    'applied', p.applied_count,
    'skipped', p.skipped_count)
  || jsonb_strip_nulls(jsonb_build_object(
    'statusReason', p.status_reason,
    'reverts', p.reverts,
    'createdBy', p.created_by,
    'environments', case when cardinality(p.environments) > 1 then to_jsonb(p.environments) end))
from app_public.plans p;

comment on view app_private.audited_rows is
  'The rows of feature_flags, feature_flag_schedules, settings, environments and plans under the same names: what is compared with the trail (found), and what a *.reconciled event shows of them (details).';

comment on column app_private.audited_rows.source is 'The table, without its schema.';
comment on column app_private.audited_rows.row_id is 'What ids of the row''s events are derived from: its id, or setting_id() or environment_id() of its name.';
comment on column app_private.audited_rows.name is 'The row''s key as text.';
comment on column app_private.audited_rows.created_at is 'When the row was created; epoch for settings.';
comment on column app_private.audited_rows.updated_at is 'When the row was changed last.';
comment on column app_private.audited_rows.revision is 'How often the row was changed with an event.';
comment on column app_private.audited_rows.flag_id is 'The flag that the row''s events are about.';
comment on column app_private.audited_rows.flag_key is 'That flag''s key.';
comment on column app_private.audited_rows.environment is 'The environment that the row''s events are about.';
comment on column app_private.audited_rows.schedule_id is 'The schedule that the row''s events are about.';
comment on column app_private.audited_rows.key is 'By which row_history() finds the row''s events; null for schedules, which it finds by row_id.';
comment on column app_private.audited_rows.comparable is 'Whether this version of Halyard knows what the row should be.';
comment on column app_private.audited_rows.found is 'What is compared with the trail.';
comment on column app_private.audited_rows.details is 'What a *.reconciled event shows of the row.';
--! EndIncluded audit/verify/audited_rows.sql
--! Included audit/reconcile/dead_letters.sql
-- Dead letters, replayed as they are: the events that a letter holds, or those that the triggers' own functions make of its rows.

-- The letter says who acted, not the session that replays it: by the login that wrote it, as actor_kind() goes by the session's own,
-- and what another login than Halyard's claimed is shown and not believed. The flag's state of now isn't the one of then, so flagState goes.
create or replace function app_private.attribute_event(event app_private.audit_event, context jsonb)
returns app_private.audit_event
language plpgsql
stable
set search_path to pg_catalog, pg_temp
as $$
declare
  v_is_api constant boolean := coalesce(context ->> 'databaseUser' = 'halyard_authenticator', false);
  v_claimed constant jsonb := jsonb_strip_nulls(jsonb_build_object(
    'userId', nullif(context ->> 'userId', ''), 'email', nullif(context ->> 'email', ''), 'role', nullif(context ->> 'role', ''),
    'requestId', nullif(context ->> 'requestId', ''), 'reason', nullif(context ->> 'reason', '')));
  v_request jsonb := '{}';
begin
  event.actor_kind := case
    when context ->> 'databaseUser' = 'halyard_worker' then 'system'
    when v_is_api and coalesce(context ->> 'role', '') <> '' then 'admin'
    else 'database'
  end;
  event.admin_user_id := case when event.actor_kind = 'admin' then nullif(context ->> 'userId', '') end;
  event.admin_email := case when event.actor_kind = 'admin' then nullif(context ->> 'email', '') end;
  event.request_id := case when v_is_api then nullif(context ->> 'requestId', '') end;
  event.client_request_id := case when v_is_api then nullif(context ->> 'clientRequestId', '') end;
  event.database_user := coalesce(context ->> 'databaseUser', '');
  event.application_name := coalesce(context ->> 'applicationName', '');
  if starts_with(event.event_type, 'feature_flag.') then
    event.schedule_id := case
      when context ->> 'databaseUser' in ('halyard_worker', 'halyard_authenticator') and app_private.is_applying_text(context ->> 'applying')
        then ((context ->> 'applying')::jsonb ->> event.flag_id::text)::uuid
    end;
  end if;
  -- Where the triggers have them from: the request, or the schedule that changed the flag, which stays as it is once it is applied.
  if starts_with(event.event_type, 'feature_flag.') and event.schedule_id is not null then
    select jsonb_strip_nulls(jsonb_build_object('requestedBy', s.requested_by, 'reason', s.reason)) || app_private.schedule_point(s)
    into v_request
    from app_public.feature_flag_schedules s
    where s.id = event.schedule_id;
  elsif v_is_api and (starts_with(event.event_type, 'feature_flag.') or event.event_type in ('flag_schedule.rescheduled', 'flag_schedule.retried', 'environment.created', 'flag_plan.updated')) then
    v_request := jsonb_strip_nulls(jsonb_build_object('reason', nullif(context ->> 'reason', '')));
  end if;
  event.metadata := event.metadata - '{adminUserId,adminEmail,claimed,flagState}'::text[]
    || jsonb_strip_nulls(jsonb_build_object('adminUserId', event.admin_user_id, 'adminEmail', event.admin_email))
    || coalesce(v_request, '{}')
    || case when event.actor_kind = 'database' and v_claimed <> '{}' then jsonb_build_object('claimed', v_claimed) else '{}' end;
  return event;
end;
$$;

comment on function app_private.attribute_event(app_private.audit_event, jsonb) is
  'The event with the actor, the request and the reason of a dead letter''s context, and without flagState.';

create or replace function app_private.dead_letter_events(content jsonb)
returns app_private.audit_event[]
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
declare
  v_at timestamptz := content ->> 'at';
  v_incarnation uuid := app_private.incarnation();
  v_operation text := content ->> 'operation';
  v_rows jsonb := nullif(content -> 'rows', 'null');
  v_old_rows jsonb := nullif(content -> 'oldRows', 'null');
  v_event app_private.audit_event;
begin
  if jsonb_typeof(content -> 'events') = 'array' then
    return array(select e from jsonb_populate_recordset(null::app_private.audit_event, content -> 'events') as e);
  elsif content ->> 'table' = 'feature_flags' then
    return array(
      select app_private.attribute_event(app_private.flag_event(v_at, v_incarnation, o, n, null, null, null), content -> 'context')
      from jsonb_populate_recordset(null::app_public.feature_flags, v_rows) as n
      full join jsonb_populate_recordset(null::app_public.feature_flags, v_old_rows) as o on o.id = n.id
      where v_operation <> 'UPDATE' or app_private.flag_state(o) <> app_private.flag_state(n));
  elsif content ->> 'table' = 'environments' then
    return array(
      select app_private.attribute_event(app_private.environment_event(v_at, v_incarnation, o, n, null), content -> 'context')
      from jsonb_populate_recordset(null::app_public.environments, v_rows) as n
      full join jsonb_populate_recordset(null::app_public.environments, v_old_rows) as o on o.name = n.name
      where v_operation <> 'UPDATE' or app_private.environment_state(o) is distinct from app_private.environment_state(n));
  elsif content ->> 'table' = 'plans' then
    return array(
      select app_private.attribute_event(app_private.plan_event(v_at, v_incarnation, o, n), dead_letter_events.content -> 'context')
      from jsonb_populate_recordset(null::app_public.plans, v_rows) as n
      full join jsonb_populate_recordset(null::app_public.plans, v_old_rows) as o on o.id = n.id
      where v_operation <> 'UPDATE' or app_private.plan_state(o) is distinct from app_private.plan_state(n));
  elsif content ->> 'table' = 'feature_flag_schedules' then
    return array(
      select app_private.attribute_event(
        case v_operation
          when 'INSERT' then app_private.schedule_created_event(v_at, v_incarnation, n, f)
          when 'UPDATE' then app_private.schedule_changed_event(v_at, v_incarnation, o, n, f)
          else app_private.schedule_deleted_event(v_at, v_incarnation, o, f)
        end,
        content -> 'context')
      from jsonb_populate_recordset(null::app_public.feature_flag_schedules, v_rows) as n
      full join jsonb_populate_recordset(null::app_public.feature_flag_schedules, v_old_rows) as o on o.id = n.id
      left join app_public.feature_flags f on f.id = coalesce(n.flag_id, o.flag_id)
      where v_operation <> 'UPDATE' or app_private.schedule_state(o) <> app_private.schedule_state(n));
  elsif content ? 'eventType' then
    v_event := app_private.attribute_event(
      app_private.make_event(
        -- Without an id, the incarnation could not be read when the letter was written.
        coalesce(
          (content ->> 'eventId')::uuid,
          case content ->> 'table'
            when 'settings' then app_private.event_id(
              v_incarnation, (v_rows -> 0 ->> 'id')::uuid, 'epoch', (content ->> 'revision')::bigint)
          end,
          gen_random_uuid()),
        v_at, content ->> 'eventType', null, content #>> '{details,flagKey}', content ->> 'environment', null,
        (content ->> 'revision')::bigint, content -> 'details'),
      content -> 'context');
    return array[case when content ->> 'table' = 'settings' then app_private.as_system(v_event) else v_event end];
  end if;
  raise exception 'The triggers didn''t write this letter: an administrator must read it.' using errcode = 'data_exception';
end;
$$;

comment on function app_private.dead_letter_events(jsonb) is
  'The events that a dead letter holds, or that its rows make; raises when it holds neither.';

-- As text: a letter may hold anything. The sequencer's letters (ZF012) are about no change.
create or replace function app_private.dead_letter_rows()
returns table (row_id text)
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
  select distinct r.id #>> '{}'
  from audit.dead_letters d
  cross join unnest(array[
    '$.rows[*].id',
    '$.oldRows[*].id',
    '$.events[*] ? (@.event_type starts with "feature_flag.").flag_id',
    '$.events[*] ? (@.event_type starts with "flag_schedule.").schedule_id',
    '$.events[*] ? (@.event_type starts with "flag_plan.").metadata.planId']::jsonpath[]) as p (path)
  cross join lateral jsonb_path_query(d.content, p.path) as r (id)
  where d.error_code <> 'ZF012'
$$;

comment on function app_private.dead_letter_rows() is 'The ids of the flags, schedules, plans, settings and environments that dead letters are about.';

create or replace function app_private.is_recorded(event_id uuid)
returns boolean
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
  select exists (select from audit.ledger l where l.event_id = is_recorded.event_id)
    -- A queued event is here, where its id has an index.
    or exists (select from audit.events e where e.id = is_recorded.event_id)
$$;

comment on function app_private.is_recorded(uuid) is
  'Whether the trail has, or had before a purge, the event of this id.';

-- A month without a partition may be why an event became a dead letter, so its partition is made.
create or replace function app_private.write_reconciled_events(events app_private.audit_event[])
returns integer
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
declare
  v_events app_private.audit_event[];
  v_month timestamptz;
begin
  v_events := array(
    select e
    from unnest(events) as e
    where not app_private.is_recorded(e.id)
    order by e.occurred_at, e.schedule_id, e.revision);
  if cardinality(v_events) = 0 then
    return 0;
  end if;
  for i in 1..cardinality(v_events) loop
    v_events[i].reconciled := true;
  end loop;
  perform app_private.take_lock('partitions');
  for v_month in select distinct date_trunc('month', e.occurred_at, 'UTC') from unnest(v_events) as e loop
    perform app_private.make_audit_partition(v_month);
  end loop;
  perform app_private.write_events(v_events);
  perform app_private.notify_audit((select array_agg(e.id) from unnest(v_events) as e), null);
  return cardinality(v_events);
end;
$$;

comment on function app_private.write_reconciled_events(app_private.audit_event[]) is
  'Writes those of the events that the trail hasn''t got, marked as reconciled; returns how many.';

-- A letter that can't be replayed stays, and the others are replayed. The sequencer's letters (ZF012) are left to an
-- administrator: they are about rows that an administrator inserted into the queue. An event that the trail has already was replayed
-- before, or the letter was written twice; but not where that one is of another time.
create or replace function app_private.replay_dead_letters(
  after bigint,
  batch integer,
  out events integer,
  out replayed integer,
  out refused integer,
  out last_id bigint
)
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
declare
  v_letter audit.dead_letters;
  v_problem text;
begin
  events := 0;
  replayed := 0;
  refused := 0;
  for v_letter in
    select d.*
    from audit.dead_letters d
    where d.id > replay_dead_letters.after and d.error_code <> 'ZF012'
    order by d.id
    limit replay_dead_letters.batch
    for update skip locked
  loop
    last_id := v_letter.id;
    begin
      events := events + app_private.write_reconciled_events(array(
        select app_private.unless_taken(e) from unnest(app_private.dead_letter_events(v_letter.content)) as e));
      delete from audit.dead_letters d where d.id = v_letter.id;
      replayed := replayed + 1;
    exception when others then
      refused := refused + 1;
      v_problem := coalesce(v_problem, format('letter %s (%s): %s', v_letter.id, sqlstate, sqlerrm));
    end;
  end loop;
  if refused > 0 then
    raise warning 'halyard: % dead letters can''t be brought into the trail yet; the first is %', refused, v_problem;
  end if;
end;
$$;

comment on function app_private.replay_dead_letters(bigint, integer) is
  'Brings up to `batch` dead letters with ids above `after` into the trail and deletes them; says how many events that gave, how many letters went and stayed, and the last id seen (null when there was none).';
--! EndIncluded audit/reconcile/dead_letters.sql
--! Included audit/reconcile/reconcile_rows.sql
-- Rows with revisions that have no event: one *.reconciled event for each row shows it as it is found, and guesses nothing.
--
-- The event's id is event_id() of minus the highest revision that it stands for, and it stands for every revision up to that
-- one that has no event of its own. So the ledger alone says which revisions are accounted for, also when the event is purged.
-- An event may be of any of the trail's incarnations, so it is looked for under each: normally there is one.

-- Called in the statement that reads the rows: a row and its event are committed together, so that one snapshot can't show the
-- row without the event. A row that a dead letter is about waits until the letter is gone: a letter replayed later has events of
-- revisions below the highest that is missing.
create or replace function app_private.missing_revisions(ids uuid[], created timestamptz[], revisions bigint[])
returns table (row_id uuid, missing bigint[])
language sql
stable
set search_path to pg_catalog, pg_temp
-- Plans that don't depend on estimates: each id is looked up in the ledger by its index, and the queue is hashed.
set enable_nestloop to off
set jit to off
as $$
  with versions as materialized (
    select r.id, r.created_at, v.revision, app_private.event_ids(r.id, r.created_at, v.revision) as event_ids
    from unnest(missing_revisions.ids, created, revisions) as r (id, created_at, revision)
    cross join lateral generate_series(1, r.revision) as v (revision)
  ), unnumbered as materialized (
    select v.*
    from versions v
    where not exists (
      select
      from unnest(v.event_ids) as e (id)
      -- One by one: with = any () the planner reads the whole ledger for each.
      where (select l.event_id from audit.ledger l where l.event_id = e.id limit 1) is not null)
  ), queued as materialized (
    select u.id, u.revision
    from unnumbered u
    cross join unnest(u.event_ids) as e (id)
    join audit.queue q on q.event_id = e.id
  ), lost as (
    select
      u.id, u.revision,
      max(u.revision) filter (where exists (
        select from unnest(app_private.event_ids(u.id, u.created_at, -u.revision)) as e (id) where app_private.is_recorded(e.id)))
        over (partition by u.id) as reconciled_to
    from unnumbered u
    where (u.id, u.revision) not in (select q.id, q.revision from queued q)
      and not exists (select from app_private.dead_letter_rows() as d where d.row_id = u.id::text)
  )
  select l.id, array_agg(l.revision order by l.revision)
  from lost l
  where l.revision > coalesce(l.reconciled_to, 0)
  group by l.id
$$;

comment on function app_private.missing_revisions(uuid[], timestamptz[], bigint[]) is
  'For each row with lost events: its revisions, ascending, that neither an event nor a dead letter nor a *.reconciled event accounts for.';

create or replace function app_private.reconciled_event(found app_private.audited_rows, missing bigint[])
returns app_private.audit_event
language sql
volatile
return app_private.as_system(app_private.make_event(
  app_private.event_id(app_private.incarnation(), (found).row_id, (found).created_at, -missing[cardinality(missing)]),
  clock_timestamp(),
  case (found).source
    when 'feature_flags' then 'feature_flag.reconciled'
    when 'feature_flag_schedules' then 'flag_schedule.reconciled'
    when 'settings' then 'setting.reconciled'
    when 'environments' then 'environment.reconciled'
    when 'plans' then 'flag_plan.reconciled'
  end,
  (found).flag_id, (found).flag_key, (found).environment, (found).schedule_id, missing[cardinality(missing)],
  (found).details || jsonb_build_object('revisions', missing, 'rowRevision', (found).revision)
  || case when (found).flag_key is null then '{}' else jsonb_build_object('flagKey', (found).flag_key) end));

comment on function app_private.reconciled_event(app_private.audited_rows, bigint[]) is
  'The *.reconciled event for a row''s missing revisions (ascending): the row as it is found.';

-- When the trail refuses one of the events, each is tried alone, so that the others get in.
create or replace function app_private.write_lost_events(events app_private.audit_event[])
returns integer
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
declare
  v_event app_private.audit_event;
  v_written integer := 0;
  v_refused integer := 0;
  v_problem text;
begin
  return app_private.write_reconciled_events(events);
exception when others then
  foreach v_event in array events loop
    begin
      v_written := v_written + app_private.write_reconciled_events(array[v_event]);
    exception when others then
      v_refused := v_refused + 1;
      v_problem := coalesce(v_problem, format('%s (%s): %s', v_event.event_type, sqlstate, sqlerrm));
    end;
  end loop;
  if v_refused > 0 then
    raise warning 'halyard: % reconciled events can''t be written to the trail; the first is %', v_refused, v_problem;
  end if;
  return v_written;
end;
$$;

comment on function app_private.write_lost_events(app_private.audit_event[]) is
  'Writes *.reconciled and audit.gap events, and warns of those that the trail refuses; returns how many were written.';

create or replace function app_private.reconcile_rows(
  source text, after uuid, since timestamptz, batch integer, out events integer, out last_id uuid
)
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
set plan_cache_mode to force_custom_plan
set jit to off
as $$
declare
  v_events app_private.audit_event[];
begin
  with page as materialized (
    select r.row_id, r.created_at, r.revision
    from app_private.audited_rows r
    where r.source = reconcile_rows.source and r.row_id > reconcile_rows.after and r.updated_at >= since
    order by r.row_id
    limit batch
  ), pages as materialized (
    select array_agg(p.row_id) as ids, array_agg(p.created_at) as created, array_agg(p.revision) as revisions from page p
  )
  select
    (select p.row_id from page p order by p.row_id desc limit 1),
    array(
      select app_private.reconciled_event(r, m.missing)
      from pages g
      cross join lateral app_private.missing_revisions(g.ids, g.created, g.revisions) as m
      join app_private.audited_rows r on r.source = reconcile_rows.source and r.row_id = m.row_id)
  into last_id, v_events;
  events := app_private.write_lost_events(v_events);
end;
$$;

comment on function app_private.reconcile_rows(text, uuid, timestamptz, integer) is
  'Writes a *.reconciled event for each of the next `batch` rows of a table, updated since then, that lacks events; says how many, and the last row seen (null when there was none).';
--! EndIncluded audit/reconcile/reconcile_rows.sql
--! Included audit/reconcile/reconcile_deleted.sql
-- Rows that the trail knows alive and that are gone without a deleted event: one audit.gap event for each. When the row was
-- deleted, by whom and what happened to it before isn't known, so the event says the last that is.

create or replace function app_private.gap_event(last audit.events)
returns app_private.audit_event
language sql
volatile
set search_path to pg_catalog, pg_temp
as $$
  select app_private.as_system(app_private.make_event(
    app_private.event_id(app_private.incarnation(), coalesce(s.plan_id, s.id, last.flag_id), last.occurred_at, last.revision + 1),
    clock_timestamp(), 'audit.gap', last.flag_id, last.flag_key, last.environment, s.id, null,
    jsonb_strip_nulls(jsonb_build_object(
      'flagKey', last.flag_key,
      'flagId', case when s.id is null then last.flag_id end,
      'scheduleId', s.id,
      'planId', s.plan_id,
      'lastRevision', last.revision,
      'lastEventId', last.id,
      'lastEventAt', app_private.iso(last.occurred_at)))))
  from (
    select
      case when starts_with(last.event_type, 'flag_schedule.') then last.schedule_id end,
      case when starts_with(last.event_type, 'flag_plan.') then (last.metadata ->> 'planId')::uuid end
  ) as s (id, plan_id)
$$;

comment on function app_private.gap_event(audit.events) is
  'The audit.gap event of the flag, schedule or plan whose last event this is.';

-- The events of a key are read key by key, by their index: a join would read the whole trail for each page.
--
-- A row has ended when the event of its end is its last one by revision or by time: by either, because a clock may be set back, and a
-- row may be put back to an older revision. A row may also be made again with the id of a deleted one. Then only the events since it
-- was made last are about it: since the later of two created events, or since the creation that a *.reconciled event names, which is
-- in the ids too.
create or replace function app_private.vanished_rows(after text, batch integer)
returns table (row_id uuid, event_id uuid, occurred_at timestamptz, last_key text)
language sql
stable
set search_path to pg_catalog, pg_temp
set jit to off
as $$
  with page as materialized (
    select e.flag_key
    from audit.events e
    where e.flag_key > vanished_rows.after
    order by e.flag_key
    limit batch
  )
  select l.row_id, l.id, l.at, null::text
  from (select distinct p.flag_key from page p) as p
  cross join lateral (
    select
      e.row_id,
      (array_agg(e.id order by e.revision desc nulls last, e.occurred_at desc) filter (where not e.ends))[1] as id,
      (array_agg(e.occurred_at order by e.revision desc nulls last, e.occurred_at desc) filter (where not e.ends))[1] as at
    from (
      select
        e.id, e.occurred_at, r.id as row_id, k.ends, k.revision,
        min(e.occurred_at) filter (where e.event_type like '%.created') over of_row as first_made,
        max(e.occurred_at) filter (where e.event_type like '%.created') over of_row as last_made,
        max((e.metadata ->> 'rowCreatedAt')::timestamptz) filter (where e.event_type like '%.reconciled') over of_row as row_created_at
      from audit.events e
      cross join lateral (
        select case when starts_with(e.event_type, 'feature_flag.') then e.flag_id else coalesce(e.schedule_id, e.flag_id) end
      ) as r (id)
      cross join lateral (
        select
          e.event_type in ('feature_flag.deleted', 'flag_schedule.deleted', 'audit.gap'),
          coalesce(e.revision, (e.metadata ->> 'lastRevision')::bigint + 1)
      ) as k (ends, revision)
      where e.flag_key = p.flag_key and r.id is not null
      window of_row as (partition by r.id)
    ) as e
    where (e.first_made = e.last_made or e.last_made is null or e.occurred_at >= e.last_made)
      and (
        e.row_created_at is null or e.occurred_at >= e.row_created_at
        or e.ends and e.id = any (app_private.event_ids(e.row_id, e.row_created_at, e.revision)))
    group by e.row_id
    having not coalesce(
      max(e.revision) filter (where e.ends) > max(e.revision) filter (where not e.ends)
      or max(e.occurred_at) filter (where e.ends) >= max(e.occurred_at) filter (where not e.ends), false)
  ) as l
  where l.id is not null
    and not exists (select from app_public.feature_flags f where f.id = l.row_id)
    and not exists (select from app_public.feature_flag_schedules s where s.id = l.row_id)
    and not exists (select from app_private.dead_letter_rows() as d where d.row_id = l.row_id::text)
    -- A schedule that was deleted when its flag was gone already: the event has no key. LIKE, because = would let the planner
    -- take the index of types.
    and not exists (
      select
      from audit.events d
      where d.schedule_id = l.row_id and d.event_type like '%.deleted' and d.flag_key is null)
  union all
  (select null, null, null, p.flag_key from page p order by p.flag_key desc limit 1)
$$;

comment on function app_private.vanished_rows(text, integer) is
  'The flags and schedules that are gone without an event, among the keys of the next `batch` events by flag key, each with its last event; and a row with the last key seen, when there was an event.';

create or replace function app_private.reconcile_deleted_rows(
  after text, batch integer, out events integer, out last_key text
)
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
set jit to off
as $$
declare
  v_events app_private.audit_event[];
begin
  with vanished as materialized (
    select v.* from app_private.vanished_rows(reconcile_deleted_rows.after, batch) as v
  )
  select
    (select v.last_key from vanished v where v.last_key is not null),
    array(
      select app_private.gap_event(e)
      from vanished v
      cross join lateral (select e.* from audit.events e where e.id = v.event_id and e.occurred_at = v.occurred_at limit 1) as e)
  into last_key, v_events;
  -- Plans have no key to page by, and are few.
  if reconcile_deleted_rows.after = '' then
    v_events := v_events || array(
      select app_private.gap_event(e)
      from app_private.vanished_plans() as v
      cross join lateral (select e.* from audit.events e where e.id = v.event_id and e.occurred_at = v.occurred_at limit 1) as e);
  end if;
  events := app_private.write_lost_events(v_events);
end;
$$;

comment on function app_private.reconcile_deleted_rows(text, integer) is
  'Writes an audit.gap event for each flag and schedule that is gone without an event, among the keys of the next `batch` events by key, and first of all for each such plan; says how many, and the last key seen (null when there was none).';
--! EndIncluded audit/reconcile/reconcile_deleted.sql
--! Included audit/verify/rows.sql
-- Do the rows say what the trail says of them? A change that was made while the triggers were off leaves no event and, when the stamp
-- was off too, no revision that would show it. So each row is held against the last event that is about it.
--
-- A row and its event are committed together, and each function here is one statement's: its snapshot has both or neither. What
-- isn't known, because the event was purged or says nothing of a column, is not compared. A row that a dead letter is about waits for
-- the letter.

-- Bound when it is made, so that the planner puts it in line.
create or replace function app_private.row_recorded(source text, event audit.events)
returns jsonb
language sql
stable
return case source
  when 'feature_flags' then app_private.flag_recorded(event)
  when 'feature_flag_schedules' then app_private.schedule_recorded(event)
  when 'settings' then jsonb_build_object('value', (event).metadata -> 'after')
  when 'environments' then app_private.environment_recorded(event)
  when 'plans' then app_private.plan_recorded(event)
end;

comment on function app_private.row_recorded(text, audit.events) is
  'What an event says of the row of feature_flags, feature_flag_schedules, settings, environments or plans that it is about, after it; null when it says nothing of that.';

create or replace function app_private.row_differences(recorded jsonb, found jsonb)
returns jsonb
language sql
immutable
set search_path to pg_catalog, pg_temp
as $$
  select coalesce(jsonb_agg(jsonb_build_object('column', f.key, 'trail', recorded -> f.key, 'row', f.value) order by f.key), '[]')
  from jsonb_each(found) as f
  where recorded ? f.key and recorded -> f.key <> f.value
$$;

comment on function app_private.row_differences(jsonb, jsonb) is
  'Of the columns that both know, those that differ: an array of column, trail and row.';

-- All events that are about a row, with the revision that each shows. `lives` since the row was made: an id may be used again. An
-- event that records the row as it was found, against what the trail said (`differs`), is where the row's history begins again; its
-- revision is above all that was before, so no clock is asked.
create or replace function app_private.row_history(source text, row_id uuid, created_at timestamptz, keys text[])
returns table (event_type text, occurred_at timestamptz, at_revision bigint, recorded jsonb)
language plpgsql
stable
set search_path to pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  with about as materialized (
    select e
    from audit.events e
    where source = 'feature_flags' and e.flag_key = any (keys) and e.flag_id = row_history.row_id
      and (starts_with(e.event_type, 'feature_flag.') or e.event_type = 'audit.gap' and e.schedule_id is null)
    union all
    select e
    from audit.events e
    where source = 'feature_flag_schedules' and e.schedule_id = row_history.row_id
      and (starts_with(e.event_type, 'flag_schedule.') or e.event_type = 'audit.gap')
    union all
    select e
    from audit.events e
    where source = 'settings' and e.event_type in ('setting.changed', 'setting.reconciled') and e.metadata ->> 'name' = any (keys)
    union all
    select e
    from audit.events e
    where source = 'environments' and e.metadata ->> 'name' = any (keys)
      and e.event_type in (
        'environment.created', 'environment.updated', 'environment.stopped', 'environment.resumed', 'environment.deleted',
        'environment.reconciled')
    union all
    select e
    from audit.events e
    where source = 'plans' and e.metadata ? 'planId' and e.metadata ->> 'planId' = any (keys)
      and (starts_with(e.event_type, 'flag_plan.') or e.event_type = 'audit.gap')
  ), placed as materialized (
    select
      a.e,
      case
        when (a.e).metadata ->> 'rowRevision' ~ '^[0-9]{1,18}$' then ((a.e).metadata ->> 'rowRevision')::bigint
        when (a.e).metadata ->> 'lastRevision' ~ '^[0-9]{1,18}$' then ((a.e).metadata ->> 'lastRevision')::bigint + 1
        else (a.e).revision
      end as at_revision,
      -- By the id that it would have had. As text: metadata may hold anything.
      coalesce((a.e).metadata ->> 'repeatedId', (a.e).id::text)
          = any (app_private.event_ids(row_history.row_id, row_history.created_at, (a.e).revision)::text[])
        or (a.e).metadata ->> 'rowCreatedAt' = app_private.iso(row_history.created_at) as is_own
    from about a
  ), births as (
    select
      min((o.e).occurred_at) as first, max((o.e).occurred_at) filter (where (o.e).event_type like '%.created') as last,
      count(distinct (o.e).occurred_at) filter (where (o.e).event_type like '%.created') as count
    from placed o
    where o.is_own and o.at_revision = 1
  ), lives as (
    select p.*, max(p.at_revision) filter (where (p.e).metadata ? 'differs') over () as begins_at
    from placed p
    cross join births b
    -- created_at is when the transaction began. That may have deleted the id's row of before, or have made this one twice. Otherwise
    -- what has the row's own id needs no comparison: a clock may be set back.
    where p.is_own and b.count < 2 or (p.e).occurred_at >= coalesce(case when b.count < 2 then b.first else b.last end, row_history.created_at)
  )
  select (l.e).event_type, (l.e).occurred_at, coalesce(l.at_revision, 0), app_private.row_recorded(source, l.e)
  from lives l
  where l.begins_at is null or l.at_revision >= l.begins_at
  union all
  -- A setting that was never changed has its default.
  select 'default', timestamptz '-infinity', 0, jsonb_build_object('value', d.default_value)
  from app_private.setting_definitions() as d
  where source = 'settings' and d.name = any (keys)
  union all
  select 'original', timestamptz '-infinity', 0, o.state
  from app_private.original_environments(keys) as o
  where source = 'environments';
end;
$$;

comment on function app_private.row_history(text, uuid, timestamptz, text[]) is
  'The events that are about a row since it was made, or since it was last recorded as found: the revision that each shows, and what it says of the row.';

-- For revisions that are to be given again. A purge may have left no event and the numbers of many; behind those of a long history that
-- lacks some, repeated.sql settles what is left.
create or replace function app_private.highest_revision(source text, row_id uuid, created_at timestamptz, revision bigint, keys text[])
returns bigint
language plpgsql
stable
set search_path to pg_catalog, pg_temp
as $$
declare
  v_highest bigint := greatest(revision, (
    select max(h.at_revision)
    from app_private.row_history(source, highest_revision.row_id, highest_revision.created_at, keys) as h));
begin
  while exists (
    select
    from unnest(app_private.event_ids(highest_revision.row_id, highest_revision.created_at, v_highest + 1)) as i (id)
    where app_private.is_recorded(i.id))
  loop
    v_highest := v_highest + 1;
  end loop;
  return v_highest;
end;
$$;

comment on function app_private.highest_revision(text, uuid, timestamptz, bigint, text[]) is
  'The highest revision that a row has, or that the trail has of it.';

-- The slow look at one row; plpgsql, which keeps its plan for the session. By revision first: a *.reconciled event may be written
-- later than the event of a later revision.
create or replace function app_private.row_verdict(
  source text, row_id uuid, created_at timestamptz, revision bigint, is_recorded boolean, keys text[], state jsonb
)
returns table (status text, differs jsonb, detail text)
language plpgsql
stable
set search_path to pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  with history as materialized (
    select h.*
    from app_private.row_history(row_verdict.source, row_verdict.row_id, row_verdict.created_at, row_verdict.keys) as h
  ), last as (
    select h.* from history h order by h.at_revision desc, h.occurred_at desc limit 1
  ), recorded as (
    -- The latest that is said of each column.
    select coalesce(jsonb_object_agg(t.key, t.value order by h.at_revision, h.occurred_at), '{}') as recorded
    from history h
    cross join lateral jsonb_each(h.recorded) as t
  ), compared as (
    select
      l.*,
      case when l.at_revision > row_verdict.revision
        then jsonb_build_array(jsonb_build_object('column', 'revision', 'trail', l.at_revision, 'row', row_verdict.revision))
        else app_private.row_differences(t.recorded, row_verdict.state)
      end as differs
    from recorded t
    left join last l on true
  )
  select v.status, case v.status when 'row_differs' then f.differs else '[]' end, v.detail
  from compared f
  cross join lateral (
    select 'row_unrecorded', format('No event says how the row came to be at revision %s.', row_verdict.revision)
    where coalesce(f.at_revision < row_verdict.revision, true) and not row_verdict.is_recorded
    union all
    select 'row_unrecorded', format('The trail says that the row is gone since %s: %s.', app_private.iso(f.occurred_at), f.event_type)
    where f.at_revision >= row_verdict.revision and f.event_type in ('feature_flag.deleted', 'flag_schedule.deleted', 'environment.deleted', 'flag_plan.deleted', 'audit.gap')
    union all
    select 'row_differs', (
      select string_agg(format('%s: the trail says %s, the row %s', d ->> 'column', d -> 'trail', d -> 'row'), '; ')
      from jsonb_array_elements(f.differs) as d)
    where f.at_revision >= row_verdict.revision and f.differs <> '[]'
      and f.event_type not in ('feature_flag.deleted', 'flag_schedule.deleted', 'environment.deleted', 'flag_plan.deleted', 'audit.gap')
  ) as v (status, detail);
end;
$$;

comment on function app_private.row_verdict(text, uuid, timestamptz, bigint, boolean, text[], jsonb) is
  'What is wrong between a row and its events: row_differs or row_unrecorded; no row when nothing is. is_recorded: whether the trail has, or had, the event of its revision.';

-- Nearly every row is explained by the event of its revision, whose id is known: the ledger has where it is. The others, and those
-- of which the trail has more than the row's revision, are looked at one by one. 0.1 ms a flag and
-- 0.2 ms a schedule on two cores with a load of 3, and twice that with more.
create or replace function app_private.unexplained_rows(
  source text, ids uuid[], created timestamptz[], revisions bigint[], keys text[], found jsonb[]
)
returns table (row_id uuid, status text, differs jsonb, detail text)
language sql
stable
set search_path to pg_catalog, pg_temp
-- As in missing_revisions().
set enable_nestloop to off
set jit to off
as $$
  with numbered as materialized (
    select r.*, l.occurred_at as own_at, f.occurred_at as first_at, n.event_id is not null as has_more
    from (
      select
        r.*, app_private.event_ids(r.id, r.created_at, r.revision) as own_ids,
        case when source in ('feature_flag_schedules', 'plans') and r.revision > 1 then app_private.event_ids(r.id, r.created_at, 1) end as first_ids
      from unnest(ids, created, revisions, keys, found) as r (id, created_at, revision, key, found)
    ) as r
    left join lateral (select l.occurred_at from audit.ledger l where l.event_id = any (r.own_ids) limit 1) as l on true
    left join lateral (select l.occurred_at from audit.ledger l where l.event_id = any (r.first_ids) limit 1) as f on true
    -- The event of its deletion, or the gap's.
    left join lateral (
      select m.event_id from audit.ledger m
      where m.event_id = any (
        app_private.event_ids(r.id, r.created_at, r.revision + 1) || app_private.event_ids(r.id, l.occurred_at, r.revision + 1))
      limit 1
    ) as n on true
  ), queued as materialized (
    select
      n.id, min(q.occurred_at) filter (where q.event_id = any (n.own_ids)) as own_at,
      min(q.occurred_at) filter (where q.event_id = any (n.first_ids)) as first_at
    from numbered n
    cross join unnest(n.own_ids || n.first_ids) as o (id)
    join audit.queue q on q.event_id = o.id
    where n.own_at is null or n.first_ids is not null and n.first_at is null
    group by n.id
  ), placed as materialized (
    select
      n.id, n.created_at, n.revision, n.key, n.found, n.own_ids, n.first_ids, n.has_more,
      coalesce(n.own_at, q.own_at) as recorded_at, coalesce(n.first_at, q.first_at) as first_at
    from numbered n
    left join queued q on q.id = n.id
  ), recorded as materialized (
    select p.*, own.recorded as own_recorded, coalesce(first.recorded || own.recorded, own.recorded, first.recorded, '{}') as recorded
    from placed p
    left join lateral (
      select app_private.row_recorded(source, e) as recorded
      from audit.events e
      where e.id = any (p.own_ids) and e.occurred_at = p.recorded_at
      limit 1
    ) as own on true
    left join lateral (
      select app_private.row_recorded(source, e) as recorded
      from audit.events e
      where e.id = any (p.first_ids) and e.occurred_at = p.first_at
      limit 1
    ) as first on true
  ), suspects as materialized (
    select t.*
    from recorded t
    where (
        t.recorded_at is null or t.has_more
        or t.recorded <> t.found and app_private.row_differences(t.recorded, t.found) <> '[]'
        -- Its created event is lost.
        or t.first_ids is not null and t.first_at is null
        -- It failed after it was moved, and neither of the two events says when it is scheduled for; or it is a plan that was edited.
        or t.first_ids is not null and t.revision > 2 and not t.own_recorded ?| '{scheduledAt,latenessMs}'
      )
      and not exists (select from app_private.dead_letter_rows() as d where d.row_id = t.id::text)
  )
  select s.id, v.status, v.differs, v.detail
  from suspects s
  cross join lateral app_private.row_verdict(
    source, s.id, s.created_at, s.revision,
    s.recorded_at is not null or exists (
      select
      from unnest(app_private.event_ids(s.id, s.created_at, -s.revision)) as r (event_id)
      where app_private.is_recorded(r.event_id)),
    array[s.key, s.recorded ->> 'flagKey'], s.found) as v
$$;

comment on function app_private.unexplained_rows(text, uuid[], timestamptz[], bigint[], text[], jsonb[]) is
  'Of rows of one table, those that the trail doesn''t explain: row_differs, with the columns, or row_unrecorded.';
--! EndIncluded audit/verify/rows.sql
--! Included audit/verify/verify_rows.sql
-- The tables, a page at a time, held against the trail.

create or replace function app_private.unexplained_page(source text, after uuid, batch integer, ids uuid[] default null)
returns table (
  row_id uuid, name text, created_at timestamptz, revision bigint, flag_key text, environment text, key text, status text, differs jsonb,
  detail text
)
language plpgsql
stable
set search_path to pg_catalog, pg_temp
set plan_cache_mode to force_custom_plan
set jit to off
as $$
#variable_conflict use_column
begin
  return query
  with page as materialized (
    select r.row_id, r.name, r.created_at, r.revision, r.flag_key, r.environment, r.key, r.found
    from app_private.audited_rows r
    where r.source = unexplained_page.source and r.row_id > unexplained_page.after and r.comparable
      and (unexplained_page.ids is null or r.row_id = any (unexplained_page.ids))
    order by r.row_id
    limit batch
  ), pages as materialized (
    select
      array_agg(p.row_id) as ids, array_agg(p.created_at) as created, array_agg(p.revision) as revisions, array_agg(p.key) as keys,
      array_agg(p.found) as found
    from page p
  )
  select p.row_id, p.name, p.created_at, p.revision, p.flag_key, p.environment, p.key, u.status, u.differs, u.detail
  from pages g
  cross join lateral app_private.unexplained_rows(unexplained_page.source, g.ids, g.created, g.revisions, g.keys, g.found) as u
  join page p on p.row_id = u.row_id
  union all
  (select p.row_id, null, null, null, null, null, null, 'ok', null, null from page p order by p.row_id desc limit 1);
end;
$$;

comment on function app_private.unexplained_page(text, uuid, integer, uuid[]) is
  'Of the next `batch` rows of a table behind an id, those that the trail doesn''t explain; and a row that is ok with the last id, when there was a row.';

create or replace function app_private.vanished_row_problems(after text, batch integer)
returns table (source_table text, row_id text, flag_key text, environment text, status text, differs jsonb, detail text, last_key text)
language sql
stable
set search_path to pg_catalog, pg_temp
set jit to off
as $$
  with vanished as materialized (
    select v.* from app_private.vanished_rows(vanished_row_problems.after, batch) as v
  )
  select
    case when starts_with(e.event_type, 'flag_schedule.') then 'feature_flag_schedules' else 'feature_flags' end,
    v.row_id::text, e.flag_key, e.environment, 'row_vanished', '[]'::jsonb,
    format('The row is gone, and its last event is %s of %s.', e.event_type, app_private.iso(e.occurred_at)), null::text
  from vanished v
  cross join lateral (select e.* from audit.events e where e.id = v.event_id and e.occurred_at = v.occurred_at limit 1) as e
  union all
  (select 'events', null, null, null, 'ok', null, null, v.last_key from vanished v where v.last_key is not null)
$$;

comment on function app_private.vanished_row_problems(text, integer) is
  'Of the next `batch` events by flag key behind one, the rows that they are about and that are gone without an event; and a row that is ok with the last key, when there was an event.';

create or replace function app_private.row_problems(source text, after text, batch integer)
returns table (source_table text, row_id text, flag_key text, environment text, status text, differs jsonb, detail text, last_key text)
language plpgsql
stable
set search_path to pg_catalog, pg_temp
as $$
declare
  v_first constant text := '00000000-0000-0000-0000-000000000000';
begin
  case
    when source = 'events' then
      return query select p.* from app_private.vanished_row_problems(coalesce(row_problems.after, ''), batch) as p;
    when source in ('settings', 'environments', 'plans', 'feature_flags', 'feature_flag_schedules') then
      return query
        select source, p.name, p.flag_key, p.environment, p.status, p.differs, p.detail, case p.status when 'ok' then p.row_id::text end
        from app_private.unexplained_page(source, coalesce(row_problems.after, v_first)::uuid, batch) as p;
    else
      raise exception 'Rows of settings, environments, plans, feature_flags, feature_flag_schedules or events can be checked; not of %.', source
        using errcode = 'invalid_parameter_value';
  end case;
  if source = 'settings' and row_problems.after is null then
    return query
      select
        source, d.name, null::text, null::text, 'row_vanished', '[]'::jsonb, 'The setting''s row is gone, and no event says so.',
        null::text
      from app_private.setting_definitions() as d
      where not exists (select from app_private.settings s where s.name = d.name);
  elsif source = 'environments' and row_problems.after is null then
    return query
      select
        source, v.name, null::text, v.name, 'row_vanished', '[]'::jsonb, 'The environment''s row is gone, and no event says so.', null::text
      from app_private.vanished_environments() as v;
  elsif source = 'plans' and row_problems.after is null then
    return query
      select
        source, v.plan_id, null::text, e.environment, 'row_vanished', '[]'::jsonb,
        format('The row is gone, and its last event is %s of %s.', e.event_type, app_private.iso(e.occurred_at)), null::text
      from app_private.vanished_plans() as v
      cross join lateral (select e.* from audit.events e where e.id = v.event_id and e.occurred_at = v.occurred_at limit 1) as e;
  end if;
end;
$$;

comment on function app_private.row_problems(text, text, integer) is 'What audit.verify_rows() answers, of one state of the database.';

-- Volatile and with the lock, as audit.verify(): a purge must not take a month from under a statement.
create or replace function audit.verify_rows(source text, after text default null, batch integer default null)
returns table (source_table text, row_id text, flag_key text, environment text, status text, differs jsonb, detail text, last_key text)
language plpgsql
volatile
security definer
set search_path to pg_catalog, pg_temp
set timezone to 'UTC'
as $$
begin
  perform app_private.require_auditor();
  lock table audit.events in access share mode;
  return query select p.* from app_private.row_problems(source, verify_rows.after, batch) as p;
end;
$$;

comment on function audit.verify_rows(text, text, integer) is
  'Checks that the rows of settings, environments, plans, feature_flags or feature_flag_schedules are as the trail says, and, by source = events, that none is gone without an event: a row for each problem, row_differs, row_unrecorded or row_vanished. `batch` rows behind the key `after`, all by default; a row that is ok has the last key, to go on from, when there was anything to check.';

grant execute on function audit.verify_rows(text, text, integer) to halyard_auditor;
--! EndIncluded audit/verify/verify_rows.sql
--! Included audit/reconcile/record_rows.sql
-- Rows that differ from what the trail says, or that it doesn't know: the nightly run counts them, and only an administrator's command
-- records them, as one *.reconciled event that shows the row as found and, in `differs`, what the trail had said. So an alarm is
-- ended by an act that is in the trail itself, and nothing is guessed: the evidence before it stays.

-- The row gets a revision above all that the trail has of it, and the event stands for that one. Otherwise a row that was put back to an
-- older state would count the trail's revisions a second time, and its changes have ids that are taken.
create or replace function app_private.record_row(source text, row_id uuid, revision bigint, differs jsonb)
returns integer
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
declare
  v_found app_private.audited_rows;
  v_event app_private.audit_event;
begin
  select r.* into v_found from app_private.audited_rows r where r.source = record_row.source and r.row_id = record_row.row_id;
  case source
    when 'settings' then
      update app_private.settings s set revision = record_row.revision where s.name = v_found.name;
    when 'environments' then
      update app_public.environments e set revision = record_row.revision where e.name = v_found.name;
    when 'plans' then
      update app_public.plans p set revision = record_row.revision where p.id = row_id;
    when 'feature_flags' then
      update app_public.feature_flags f set revision = record_row.revision where f.id = row_id;
    when 'feature_flag_schedules' then
      update app_public.feature_flag_schedules s set revision = record_row.revision where s.id = row_id;
  end case;
  v_found.revision := record_row.revision;
  v_event := app_private.reconciled_event(v_found, array[record_row.revision]);
  v_event.metadata := v_event.metadata || jsonb_build_object('differs', differs);
  return app_private.write_reconciled_events(array[v_event]);
end;
$$;

comment on function app_private.record_row(text, uuid, bigint, jsonb) is
  'Raises a row''s revision, and writes the *.reconciled event that shows the row as it is found and what the trail had said of it.';

-- The rows are locked by one statement and compared again by the next: what is written is so at that time, and no change of them
-- can come between. A row and its event are written both or neither.
create or replace function app_private.record_rows(source text, names text[])
returns integer
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
declare
  v_first constant uuid := '00000000-0000-0000-0000-000000000000';
  v_ids uuid[];
  v_row record;
  v_recorded integer := 0;
begin
  case source
    when 'settings' then
      v_ids := array(select app_private.setting_id(n.name) from unnest(names) as n (name));
      perform from app_private.settings s where s.name = any (names) order by s.name for no key update;
    when 'environments' then
      v_ids := array(select app_private.environment_id(n.name) from unnest(names) as n (name));
      perform from app_public.environments e where e.name = any (names) order by e.name for no key update;
    when 'plans' then
      v_ids := names::uuid[];
      perform from app_public.plans p where p.id = any (v_ids) order by p.id for no key update;
    when 'feature_flags' then
      v_ids := names::uuid[];
      perform from app_public.feature_flags f where f.id = any (v_ids) order by f.id for no key update;
    when 'feature_flag_schedules' then
      v_ids := names::uuid[];
      perform from app_public.feature_flag_schedules s where s.id = any (v_ids) order by s.id for no key update;
  end case;
  perform set_config('halyard.recording', 'on', true);
  for v_row in
    select p.*, app_private.highest_revision(source, p.row_id, p.created_at, p.revision, array[p.key]) as highest
    from app_private.unexplained_page(source, v_first, null, v_ids) as p
    where p.status <> 'ok'
  loop
    begin
      v_recorded := v_recorded + app_private.record_row(source, v_row.row_id, v_row.highest + 1, v_row.differs);
    exception when others then
      raise warning 'halyard: % % can''t be recorded as it is found (%): %', source, v_row.name, sqlstate, sqlerrm;
    end;
  end loop;
  perform set_config('halyard.recording', '', true);
  return v_recorded;
end;
$$;

comment on function app_private.record_rows(text, text[]) is
  'Writes a *.reconciled event for each of these rows that the trail doesn''t explain: the row as it is found, at a revision of its own; returns how many.';

create or replace function app_private.check_rows(
  source text, after text, batch integer, record boolean, out events integer, out unexplained integer, out last_key text
)
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
declare
  v_ids text[];
begin
  select
    max(p.last_key), count(*) filter (where p.status <> 'ok'),
    coalesce(array_agg(p.row_id) filter (where p.status in ('row_differs', 'row_unrecorded')), '{}')
  into last_key, unexplained, v_ids
  from app_private.row_problems(source, check_rows.after, batch) as p;
  events := 0;
  if record and cardinality(v_ids) > 0 then
    events := app_private.record_rows(source, v_ids);
    unexplained := unexplained - events;
  end if;
end;
$$;

comment on function app_private.check_rows(text, text, integer, boolean) is
  'Holds the next `batch` rows of a table against the trail; says how many it doesn''t explain, how many of those were recorded as found, and the last key seen (null when there was none).';
--! EndIncluded audit/reconcile/record_rows.sql
--! Included audit/reconcile/reconcile.sql
-- The reconciler: brings into the trail what is missing from it. Each call is one step of bounded size: the dead letters, then
-- the settings, environments, plans, flags and schedules that lack events, and in a full run also the rows that are gone without an event and those that
-- aren't what the trail says.

-- All rows once a night, those updated lately once an hour, and the dead letters at any time. `since` reaches back far enough
-- for transactions that were open in the last run.
create or replace function app_private.reconciliation_due(out scope text, out since timestamptz)
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
  select
    case
      when t.full_run is null or t.full_run < now() - interval '26 hours' then 'full'
      when t.full_run < now() - interval '20 hours' and extract(hour from now() at time zone 'UTC') between 1 and 4 then 'full'
      when t.any_run < now() - interval '1 hour' then 'incremental'
      else 'dead_letters'
    end,
    coalesce(t.any_run - interval '2 hours', '-infinity')
  from (
    select
      max(r.started_at) filter (where r.scope = 'full') as full_run,
      max(r.started_at) filter (where r.scope in ('incremental', 'full')) as any_run
    from audit.reconciliations r
  ) as t
$$;

comment on function app_private.reconciliation_due() is
  'Which reconciliation is due: full, incremental (rows updated since then) or dead_letters.';

-- One reconciler at a time, a call at a time: a second one waits for the step, and then sees what the first has written. That
-- needs statements that each see what was committed before them, which READ COMMITTED gives and no other level.
create or replace function app_private.reconcile_audit(
  inout scope text default 'scheduled',
  inout cursor jsonb default null,
  out from_letters integer,
  out from_rows integer,
  out refused integer,
  out unexplained bigint
)
language plpgsql
volatile
security definer
set search_path to pg_catalog, pg_temp
set timezone to 'UTC'
as $$
declare
  -- The rows are compared last: what has no event by then isn't merely lost.
  v_tables constant text[] := '{settings,environments,plans,feature_flags,feature_flag_schedules}';
  v_all constant text[] := '{dead_letters}'::text[] || v_tables
    || '{deleted,check_settings,check_environments,check_plans,check_feature_flags,check_feature_flag_schedules}'::text[];
  v_steps text[];
  v_step text;
  v_after text;
  v_since timestamptz;
  v_letters record;
  v_rows record;
  v_first constant text := '00000000-0000-0000-0000-000000000000';
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'The trail can only be reconciled in a transaction that is READ COMMITTED.'
      using errcode = 'invalid_transaction_state';
  end if;
  perform app_private.take_lock('reconciliation');
  from_letters := 0;
  from_rows := 0;
  refused := 0;
  if cursor is null then
    select coalesce(nullif(reconcile_audit.scope, 'scheduled'), d.scope), d.since into scope, v_since
    from app_private.reconciliation_due() as d;
    cursor := jsonb_build_object(
      'step', 'dead_letters', 'startedAt', now(), 'since', case when scope in ('full', 'recording') then '-infinity' else v_since end,
      'unexplained', 0);
  end if;
  v_steps := case scope
    when 'dead_letters' then array['dead_letters']
    when 'incremental' then '{dead_letters}'::text[] || v_tables
    when 'full' then v_all
    when 'recording' then v_all
  end;
  if v_steps is null then
    raise exception 'A reconciliation is dead_letters, incremental, full, recording or scheduled; not %.', scope
      using errcode = 'invalid_parameter_value';
  end if;
  v_step := cursor ->> 'step';
  v_after := cursor ->> 'after';
  v_since := cursor ->> 'since';

  case v_step
    when 'dead_letters' then
      v_letters := app_private.replay_dead_letters(coalesce(v_after, '0')::bigint, 200);
      from_letters := v_letters.events;
      refused := v_letters.refused;
      -- While the store is broken, one try a minute is enough.
      v_after := case when scope <> 'dead_letters' or v_letters.replayed > 0 then v_letters.last_id end;
    when 'deleted' then
      select r.events, r.last_key into from_rows, v_after
      from app_private.reconcile_deleted_rows(coalesce(v_after, ''), 20000) as r;
    when 'settings', 'environments', 'plans', 'feature_flags', 'feature_flag_schedules' then
      select r.events, r.last_id into from_rows, v_after
      from app_private.reconcile_rows(
        v_step, coalesce(v_after, v_first)::uuid, case when v_step in ('settings', 'environments') then '-infinity' else v_since end, 5000) as r;
    else
      -- Rows that are recorded stay locked for the length of a step.
      select r.* into v_rows
      from app_private.check_rows(substr(v_step, length('check_') + 1), v_after, 500, scope = 'recording') as r;
      from_rows := v_rows.events;
      v_after := v_rows.last_key;
      cursor := cursor || jsonb_build_object('unexplained', (cursor ->> 'unexplained')::bigint + v_rows.unexplained);
  end case;
  unexplained := case when v_step = v_all[cardinality(v_all)] and v_after is null then (cursor ->> 'unexplained')::bigint end;

  if v_after is null then
    v_step := v_steps[array_position(v_steps, v_step) + 1];
  end if;
  if v_step is null then
    insert into audit.reconciliations (scope, started_at, finished_at, rows_unexplained)
    values (
      case reconcile_audit.scope when 'recording' then 'full' else reconcile_audit.scope end,
      (cursor ->> 'startedAt')::timestamptz, clock_timestamp(), unexplained)
    on conflict on constraint reconciliations_pkey do update
    set started_at = excluded.started_at, finished_at = excluded.finished_at, rows_unexplained = excluded.rows_unexplained;
    cursor := null;
  else
    cursor := cursor || jsonb_build_object('step', v_step, 'after', v_after);
  end if;
end;
$$;

comment on function app_private.reconcile_audit(text, jsonb) is
  'One step of a reconciliation: dead_letters, incremental (and rows updated since the last), full (and all rows, and what is gone; it also counts rows that aren''t as the trail says), recording (full, and each such row is recorded as it is found), or scheduled, the one that is due. Call again with `cursor` until it is null. Says how many events came from dead letters and from rows, how many letters were refused, and at the end of a full run how many rows the trail doesn''t explain.';

-- The worker's: where a run stands is kept beside its lease and not by the caller, whose login could say that the rows were compared
-- when they weren't, or record as found what somebody changed.
create or replace function app_private.reconcile_due(
  lease_token bigint,
  out scope text,
  out from_letters integer,
  out from_rows integer,
  out refused integer,
  out unexplained bigint,
  out finished boolean
)
language plpgsql
volatile
security definer
set search_path to pg_catalog, pg_temp
as $$
declare
  v_before jsonb;
  v_step record;
begin
  -- Ahead of the lease, as everywhere. A holder before this one may be in its last step.
  perform app_private.take_lock('reconciliation');
  select l.progress into v_before from app_private.leases l where l.name = 'reconcile' and l.token = lease_token;
  if not found then
    raise exception 'Another process has the lease of reconciling.' using errcode = 'object_not_in_prerequisite_state';
  end if;
  select r.* into v_step
  from app_private.reconcile_audit(coalesce(v_before ->> 'scope', 'scheduled'), v_before -> 'cursor') as r;
  scope := v_step.scope;
  from_letters := v_step.from_letters;
  from_rows := v_step.from_rows;
  refused := v_step.refused;
  unexplained := v_step.unexplained;
  finished := v_step.cursor is null;
  -- Not before the step, which may take longer than the holder's next renewal can wait.
  update app_private.leases l
  set progress = case when not finished then jsonb_build_object('scope', v_step.scope, 'cursor', v_step.cursor) end
  where l.name = 'reconcile' and l.token = lease_token;
  if not found then
    raise exception 'Another process has the lease of reconciling.' using errcode = 'object_not_in_prerequisite_state';
  end if;
end;
$$;

comment on function app_private.reconcile_due(bigint) is
  'The next step of the reconciliation that is due, for the holder of the lease reconcile. Call again until `finished`. Raises object_not_in_prerequisite_state when its token isn''t the present one.';

create or replace function app_private.dead_letter_count()
returns bigint
language sql
stable
security definer
set search_path to pg_catalog, pg_temp
as $$ select count(*) from audit.dead_letters $$;

comment on function app_private.dead_letter_count() is 'How many dead letters there are.';

revoke all on table audit.reconciliations from public, halyard_admin, halyard_viewer, halyard_auditor, halyard_worker;
grant execute on function app_private.reconcile_due(bigint) to halyard_worker;
--! EndIncluded audit/reconcile/reconcile.sql
--! Included audit/restore/renew.sql
-- New ids for events that wait for their number while the loss of a history is accepted.
--
-- The id of such an event was made in the incarnation that is given up. The lost history may have shipped another event under it:
-- the same revision of the same row, as it went on there. So the event gets the id that it has in the new incarnation, and
-- nothing outside has one id with two texts.

-- An id that isn't derived from the row, as of a change past the stamp, is derived from the old id.
create or replace function app_private.renewed_event_id(
  id uuid, row_id uuid, created_at timestamptz, revision bigint, incarnation uuid
)
returns uuid
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
  select coalesce(
    (
      select app_private.event_id(renewed_event_id.incarnation, row_id, created_at, r.revision)
      from audit.incarnations i
      cross join (values (renewed_event_id.revision), (-renewed_event_id.revision)) as r (revision)
      where app_private.event_id(i.id, row_id, created_at, r.revision) = renewed_event_id.id
      limit 1
    ),
    app_private.uuid_of(sha256(uuid_send(renewed_event_id.id) || uuid_send(renewed_event_id.incarnation))))
$$;

comment on function app_private.renewed_event_id(uuid, uuid, timestamptz, bigint, uuid) is
  'The id in an incarnation of the event that had this id in one before it.';

-- The row that an event is about, for as long as it is there.
create or replace function app_private.renewed_event(event app_private.audit_event, incarnation uuid)
returns app_private.audit_event
language plpgsql
stable
set search_path to pg_catalog, pg_temp
as $$
declare
  v_row_id uuid;
  v_created_at timestamptz;
begin
  if starts_with(event.event_type, 'feature_flag.') then
    select f.id, f.created_at into v_row_id, v_created_at from app_public.feature_flags f where f.id = event.flag_id;
  elsif starts_with(event.event_type, 'flag_schedule.') then
    select s.id, s.created_at into v_row_id, v_created_at
    from app_public.feature_flag_schedules s
    where s.id = event.schedule_id;
  elsif starts_with(event.event_type, 'flag_plan.') then
    select p.id, p.created_at into v_row_id, v_created_at
    from app_public.plans p
    where p.id = (event.metadata ->> 'planId')::uuid;
  elsif event.event_type like 'setting.%' then
    v_row_id := app_private.setting_id(event.metadata ->> 'name');
    v_created_at := 'epoch';
  elsif starts_with(event.event_type, 'environment.') then
    v_row_id := app_private.environment_id(event.environment);
    select e.created_at into v_created_at from app_public.environments e where e.name = event.environment;
  end if;
  event.id := app_private.renewed_event_id(event.id, v_row_id, v_created_at, event.revision, incarnation);
  return event;
end;
$$;

comment on function app_private.renewed_event(app_private.audit_event, uuid) is 'The event with the id that it has in an incarnation.';

-- Events that have no number are not sealed, and no destination has them: that is why they may be written again. The triggers
-- that refuse it are off for this transaction, which holds the table's lock. Page by page in the queue's order, so that a long
-- queue takes no more memory than a page.
create or replace function app_private.renew_queued_events(incarnation uuid)
returns integer
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
declare
  v_page constant integer := 50000;
  v_last bigint := (select max(q.id) from audit.queue q);
  v_after bigint := 0;
  v_to bigint;
  v_events app_private.audit_event[];
  v_renewed integer := 0;
begin
  if v_last is null then
    return 0;
  end if;
  alter table audit.events disable trigger _100_append_only;
  alter table audit.events disable trigger _200_append_only_rows;
  loop
    v_to := (
      select max(p.id)
      from (
        select q.id from audit.queue q where q.id > v_after and q.id <= v_last order by q.id limit v_page
      ) as p);
    exit when v_to is null;
    v_events := array(
      select app_private.renewed_event(app_private.unwritten_event(e.event), renew_queued_events.incarnation)
      from audit.queue q
      cross join lateral (
        select x as event from audit.events x where x.id = q.event_id and x.occurred_at = q.occurred_at limit 1
      ) as e
      where q.id > v_after and q.id <= v_to
      order by q.id);
    -- What is queued without its event stays, and is numbered as missing.
    with gone as (
      delete from audit.events e
      using audit.queue q
      where e.id = q.event_id and e.occurred_at = q.occurred_at and q.id > v_after and q.id <= v_to
      returning q.id
    )
    delete from audit.queue q using gone g where q.id = g.id;
    perform app_private.write_events(v_events);
    v_renewed := v_renewed + cardinality(v_events);
    v_after := v_to;
  end loop;
  alter table audit.events enable always trigger _100_append_only;
  alter table audit.events enable always trigger _200_append_only_rows;
  return v_renewed;
end;
$$;

comment on function app_private.renew_queued_events(uuid) is
  'Gives the events that wait for their number the ids that they have in an incarnation; returns how many.';

-- Letters that hold rows get their events' ids when they are replayed. One that can't be read is left as it is, for a person.
create or replace function app_private.renew_dead_letters(incarnation uuid)
returns integer
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
declare
  v_letter audit.dead_letters;
  v_renewed integer := 0;
begin
  for v_letter in
    select d.*
    from audit.dead_letters d
    where d.error_code <> 'ZF012' and (jsonb_typeof(d.content -> 'events') = 'array' or d.content ->> 'eventId' is not null)
  loop
    begin
      if v_letter.content ->> 'eventId' is not null then
        v_letter.content := v_letter.content || jsonb_build_object('eventId', app_private.renewed_event_id(
          (v_letter.content ->> 'eventId')::uuid, (v_letter.content #>> '{rows,0,id}')::uuid, 'epoch',
          (v_letter.content ->> 'revision')::bigint, renew_dead_letters.incarnation));
      end if;
      if jsonb_typeof(v_letter.content -> 'events') = 'array' then
        v_letter.content := v_letter.content || jsonb_build_object('events', (
          select coalesce(jsonb_agg(to_jsonb(app_private.renewed_event(e, renew_dead_letters.incarnation))), '[]')
          from jsonb_populate_recordset(null::app_private.audit_event, v_letter.content -> 'events') as e));
      end if;
      update audit.dead_letters d set content = v_letter.content where d.id = v_letter.id;
      v_renewed := v_renewed + 1;
    exception when data_exception then
      raise warning 'halyard: dead letter % keeps the ids of its events: %', v_letter.id, sqlerrm;
    end;
  end loop;
  return v_renewed;
end;
$$;

comment on function app_private.renew_dead_letters(uuid) is
  'Gives the events that dead letters hold the ids that they have in an incarnation; returns how many letters were changed.';
--! EndIncluded audit/restore/renew.sql
--! Included audit/restore/accept.sql
-- A person accepts that the database is an older state of its trail: what was written after it is lost, and another incarnation
-- begins. For the owner, by `halyard restore` (docs/operations.md, Backup and restore).

-- Without a destination that says how far the lost history goes, it may have applied what is due by now.
create or replace function app_private.overdue_schedules()
returns setof app_public.feature_flag_schedules
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
  select s.*
  from app_public.feature_flag_schedules s
  cross join app_private.held_schedules() as h
  where s.status = 'pending'
    and case
      when h.scheduled_until = '-infinity' then s.scheduled_at <= clock_timestamp()
      else app_private.is_held(s, h.scheduled_until, h.created_until)
    end
$$;

comment on function app_private.overdue_schedules() is
  'Pending schedules that the lost history may have applied: up to the newest seal that a destination has, or all that are due.';

create or replace function app_private.restored_event(present audit.incarnations, details jsonb)
returns app_private.audit_event
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
begin
  return app_private.as_system(app_private.make_event(
    gen_random_uuid(), clock_timestamp(), 'audit.restored', null, null, null, null, null,
    jsonb_build_object('trail', present.trail, 'incarnation', present.id, 'reason', present.reason) || details));
end;
$$;

comment on function app_private.restored_event(audit.incarnations, jsonb) is 'The audit.restored event of the incarnation that it begins.';

-- The locks are in the order in which changes take theirs; a change that has made its event's id has the first of them, so none is
-- committed later with an id of the incarnation before. Rows that a worker has locked are waited for here, and not later, when
-- that would deadlock. A transaction that keeps a lock for long is in the way: then it fails, and is tried again.
create or replace function app_private.lock_trail()
returns void
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
set lock_timeout to '1s'
as $$
begin
  perform app_private.take_lock('reconciliation');
  perform app_private.take_lock('numbering');
  lock table
    app_public.feature_flags, app_public.feature_flag_schedules, app_public.plans, app_public.environments, app_private.settings, audit.events,
    audit.queue, audit.dead_letters, audit.divergences, audit.incarnations
    in exclusive mode;
end;
$$;

comment on function app_private.lock_trail() is
  'Keeps everything from writing to the trail until the transaction ends; raises lock_not_available after a second''s wait for one of its locks.';

-- All of it or nothing: one transaction.
create or replace function app_private.accept_restore(
  reason text, overdue text default null, as_copy boolean default false, dry_run boolean default false
)
returns jsonb
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
set timezone to 'UTC'
as $$
declare
  v_reason constant text := btrim(coalesce(accept_restore.reason, ''));
  v_overdue constant text := case when as_copy then 'skip' else accept_restore.overdue end;
  v_before audit.incarnations;
  v_present audit.incarnations;
  v_last_seq bigint;
  v_skipped uuid[];
  v_report jsonb;
  v_event app_private.audit_event;
begin
  if v_reason = '' or length(v_reason) > 500 then
    raise exception 'Give a reason of 1 to 500 characters.' using errcode = 'invalid_parameter_value';
  end if;
  if coalesce(v_overdue, '') not in ('apply', 'skip') then
    raise exception 'Say what is done with overdue schedules: apply or skip.' using errcode = 'invalid_parameter_value';
  end if;
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'A restore can only be accepted in a transaction that is READ COMMITTED.'
      using errcode = 'invalid_transaction_state';
  end if;
  if not dry_run then
    perform app_private.lock_trail();
  end if;
  select i.* into strict v_before from audit.incarnations i order by i.incarnation_no desc limit 1;
  v_skipped := case
    when as_copy then array(select s.id from app_public.feature_flag_schedules s where s.status = 'pending')
    when v_overdue = 'skip' then array(select s.id from app_private.overdue_schedules() as s)
    else '{}'
  end;
  v_last_seq := (select coalesce(max(l.seq), 0) from audit.ledger l);
  v_report := jsonb_build_object(
    'overdue', v_overdue,
    'asCopy', as_copy,
    'previousIncarnation', v_before.id,
    'lastSeal', (select max(s.seal_no) from audit.seals s),
    'lastSeq', v_last_seq,
    'skipped', cardinality(v_skipped),
    'held', (select count(*) from app_private.overdue_schedules()),
    'queued', (select count(*) from audit.queue),
    'destinations', (
      select coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
        'destination', d.destination, 'incarnation', d.incarnation, 'seal', d.seal_no, 'event', d.event_id,
        'lastSeq', d.last_seq, 'sealedAt', app_private.iso(d.sealed_at),
        -- From here to the last event of this incarnation: app_private.audit_cursor().
        'notSentFrom', case when d.incarnation = v_before.id and c.seq < v_last_seq then c.seq + 1 end)) order by d.id), '[]')
      from app_private.open_divergences() as d
      cross join lateral (select app_private.audit_cursor(d.destination) as seq) as c),
    'refused', (
      select to_jsonb(array(
        select c.destination from audit.cursors c where as_copy and c.destination <> 'stdout' order by c.destination))));
  if dry_run then
    return v_report;
  end if;

  insert into audit.incarnations (incarnation_no, trail, first_seal, first_seq, reason, overdue, refused_destinations)
  values (
    v_before.incarnation_no + 1,
    case when as_copy then gen_random_uuid() else v_before.trail end,
    (v_report ->> 'lastSeal')::bigint + 1,
    v_last_seq + 1,
    v_reason,
    v_overdue,
    array(select jsonb_array_elements_text(v_report -> 'refused')))
  returning * into v_present;
  perform app_private.renew_queued_events(v_present.id);
  perform app_private.renew_dead_letters(v_present.id);

  update app_public.feature_flag_schedules s
  set status = 'cancelled', cancel_reason = v_reason
  where s.id = any (v_skipped);
  -- The schedules of a point have one time, so it is all of them.
  update app_public.plans p
  set status = 'cancelled', status_reason = v_reason
  where p.status in ('active', 'paused')
    and p.id in (select s.plan_id from app_public.feature_flag_schedules s where s.id = any (v_skipped));

  v_event := app_private.restored_event(v_present, v_report - '{held,queued}'::text[]);
  perform app_private.write_events(array[v_event]);
  perform app_private.notify_audit(array[v_event.id], v_skipped);
  return v_report || jsonb_build_object('trail', v_present.trail, 'incarnation', v_present.id);
end;
$$;

comment on function app_private.accept_restore(text, text, boolean, boolean) is
  'Begins another incarnation: what the trail had after this state of it is lost. apply leaves overdue schedules to the workers, skip cancels them, and the plans whose they are; as_copy makes a database of its own of it, with another trail, all pending schedules cancelled. Says what it did; with dry_run what it would do.';
--! EndIncluded audit/restore/accept.sql
--! Included console/arguments.sql
-- What the reads of the console check before they read: who asks, for which span, how many rows. They run with their owner's
-- rights, because viewers may not read the trail, so they ask the claims themselves.

-- The claim alone isn't enough: a login sets it for itself, and where policies decide, the grants to its role stand behind it. Without a
-- token an auditor may also be a DBA, as in the policies (audit/read/policies.sql).
create or replace function app_private.require_reader()
returns text
language plpgsql
stable
set search_path to pg_catalog, pg_temp
as $$
declare
  v_role text := coalesce(app_private.claim_role(), 'auditor');
begin
  if v_role in ('admin', 'viewer', 'auditor')
    and (pg_has_role(session_user, 'halyard_' || v_role, 'member') or pg_has_role(session_user, 'halyard_owner', 'member'))
  then
    return v_role;
  end if;
  raise exception 'Only an admin, a viewer or an auditor may do this.' using errcode = 'insufficient_privilege';
end;
$$;

comment on function app_private.require_reader() is
  'The role in which the caller reads: admin, viewer or auditor. Raises insufficient_privilege where the token names none, or the login may not become it.';

create or replace function app_private.require_instant(name text, value timestamptz)
returns void
language plpgsql
immutable
set search_path to pg_catalog, pg_temp
as $$
begin
  if value is null or not isfinite(value) then
    raise exception '% must be a time.', name using errcode = '22008';
  end if;
end;
$$;

comment on function app_private.require_instant(text, timestamptz) is 'Raises 22008 for a time that is missing or infinite; `name` is the argument''s.';

-- A bound for answers by the day, and for what is folded change by change.
create or replace function app_private.require_span(starts timestamptz, ends timestamptz, most_days integer default null)
returns void
language plpgsql
immutable
set search_path to pg_catalog, pg_temp
as $$
begin
  perform app_private.require_instant('from', starts), app_private.require_instant('to', ends);
  if ends <= starts then
    raise exception 'to must be after from.' using errcode = '22008';
  -- Seconds: a day of an interval has as many hours as the session's time zone gives it.
  elsif extract(epoch from ends - starts) > 86400 * most_days then
    raise exception 'from and to may be % days apart at most.', most_days using errcode = '22008';
  end if;
end;
$$;

comment on function app_private.require_span(timestamptz, timestamptz, integer) is
  'Raises 22008 unless `ends` is after `starts` and, where `most_days` is given, by so many days of 24 hours at most.';

create or replace function app_private.require_first(first integer)
returns void
language plpgsql
immutable
set search_path to pg_catalog, pg_temp
as $$
begin
  if first is null or first not between 0 and 10000 then
    raise exception 'first must be from 0 to 10000.' using errcode = '22003';
  end if;
end;
$$;

comment on function app_private.require_first(integer) is 'Raises 22003 for a number of rows that isn''t from 0 to 10,000.';

-- PostgreSQL takes a misspelt name with a digit, as Zurich1, for a POSIX zone with that offset. No look at pg_timezone_names, which reads
-- 600 files: of the names of zones only these have digits.
create or replace function app_private.require_zone(zone text)
returns void
language plpgsql
stable
set search_path to pg_catalog, pg_temp
as $$
begin
  if zone is null or length(zone) > 64
    or zone ~ '[0-9]' and zone !~ '^(Etc/)?GMT[+-]?[0-9]{1,2}$' and zone not in ('EST5EDT', 'CST6CDT', 'MST7MDT', 'PST8PDT')
  then
    raise invalid_parameter_value;
  end if;
  perform now() at time zone zone;
exception when invalid_parameter_value then
  raise exception 'zone must be the name of a time zone, such as Europe/Zurich, not %.', coalesce(quote_literal(left(zone, 64)), 'null')
    using errcode = '22009';
end;
$$;

comment on function app_private.require_zone(text) is 'Raises 22009 for text that is no name of a time zone.';

-- A state from before the purge would be a guess: the event that made it may be gone.
create or replace function app_private.require_history(at timestamptz)
returns void
language plpgsql
stable
set search_path to pg_catalog, pg_temp
as $$
declare
  v_horizon timestamptz := app_private.purge_horizon();
begin
  if at < v_horizon then
    raise exception 'The audit trail was purged up to %: ask for a time from then on.', app_private.iso(v_horizon)
      using errcode = 'ZF026', hint = 'Copies of the trail elsewhere may have what is older.';
  end if;
end;
$$;

comment on function app_private.require_history(timestamptz) is 'Raises ZF026, which names the horizon, for a time whose events were purged.';

-- A misspelt key would read as a flag that nothing happens to. Of a flag that was deleted the trail has the changes.
create or replace function app_private.require_flag_key(environment text, flag_key text)
returns void
language plpgsql
stable
set search_path to pg_catalog, pg_temp
as $$
begin
  if flag_key is not null
    and not exists (
      select from app_public.feature_flags f
      where f.environment = require_flag_key.environment and f.flag_key = require_flag_key.flag_key)
    and not exists (
      select from audit.events e
      where e.event_type = 'feature_flag.deleted' and e.environment = require_flag_key.environment
        and e.flag_key = require_flag_key.flag_key)
  then
    raise exception 'There is no flag % in %.', quote_literal(flag_key), environment using errcode = 'ZF001';
  end if;
end;
$$;

comment on function app_private.require_flag_key(text, text) is
  'Raises ZF001 unless the environment has, or had, a flag with this key; null is none to look for.';
--! EndIncluded console/arguments.sql
--! Included console/state.sql
-- The state of flags at any time: the past as the trail has it, the future as the pending schedules will make it.

-- The rule of apply_schedules(): of the schedules that name a field, the latest by (scheduled_at, id) decides, and one that was applied
-- already may be it. So one look backwards answers, however far ahead. A schedule that waits for its next attempt counts from
-- then on; a held one waits for a person and doesn't count. `->` is not null: `?` makes the planner expect no row, and sort all of the flag's.
-- The body is bound, so that the planner puts it in line. Where no guard leaves anything out, `left_out` is null, and costs nothing.
create or replace function app_private.deciding_change(
  flag_id uuid, field text, at timestamptz, last_at timestamptz, last_id uuid, held_until timestamptz, held_created_until timestamptz,
  left_out jsonb default null, without uuid default null
)
returns table (schedule_id uuid, scheduled_at timestamptz, value jsonb, plan_id uuid, occurrence_no integer, step_no integer)
language sql
stable
begin atomic
  select d.id, d.scheduled_at, d.value, d.plan_id, d.occurrence_no, d.step_no
  from (
    select s.id, s.scheduled_at, s.updates -> deciding_change.field as value, s.plan_id, s.occurrence_no, s.step_no
    from app_public.feature_flag_schedules s
    where s.flag_id = deciding_change.flag_id and s.status = 'pending'
      and (s.scheduled_at, s.id) <= (last_at, last_id)
      and (s.next_attempt_at is null or s.next_attempt_at <= deciding_change.at)
      and not app_private.is_held(s, held_until, held_created_until)
      and (s.updates -> deciding_change.field) is not null
      and (left_out is null or left_out -> s.id::text @> to_jsonb(deciding_change.field) is not true)
      and (without is null or s.id <> without)
    order by s.scheduled_at desc, s.id desc
    limit 1
  ) as d
  where not exists (
    select
    from app_public.feature_flag_schedules a
    where a.flag_id = deciding_change.flag_id and a.status = 'applied' and (a.scheduled_at, a.id) > (d.scheduled_at, d.id)
      and (a.updates -> deciding_change.field) is not null and (a.kept is null or deciding_change.field <> all (a.kept)));
end;

comment on function app_private.deciding_change(uuid, text, timestamptz, timestamptz, uuid, timestamptz, timestamptz, jsonb, uuid) is
  'The pending schedule, up to (last_at, last_id), that decides a field of a flag at `at`, given held_schedules(), what guard_summary() says is left out, and which schedule not to look at; no row when the field stays as it is.';

-- Who the source of a field is, as answers say it.
create or replace function app_private.source_of(schedule_id uuid, at timestamptz, plan_id uuid, occurrence_no integer, step_no integer)
returns jsonb
language sql
stable
return case
  when plan_id is null then jsonb_build_object('schedule_id', schedule_id, 'at', app_private.iso(at))
  else jsonb_build_object(
    'schedule_id', schedule_id, 'at', app_private.iso(at), 'plan_id', plan_id, 'occurrence_no', occurrence_no, 'step_no', step_no)
end;

comment on function app_private.source_of(uuid, timestamptz, uuid, integer, integer) is
  'What decides a field, in `sources`: the schedule and its time, and the point of its plan.';

-- The future. An overdue schedule is due now, by the rule; but it waits for something, and so what it will do isn't certain. Neither is
-- what a stopped environment's schedules will do: they count as if an admin resumed it and applied all, each at its time.
create or replace function app_private.projected_states(environment text, at timestamptz)
returns table (flag_key text, enabled boolean, rollout_percentage integer, certain boolean, sources jsonb, flag_id uuid)
language plpgsql
stable
set search_path to pg_catalog, pg_temp
set plan_cache_mode to force_custom_plan
as $$
declare
  c_last_id constant uuid := 'ffffffff-ffff-ffff-ffff-ffffffffffff';
  -- Of a flag with a pending schedule up to then nothing is certain.
  v_uncertain_until timestamptz := case
    when exists (select from app_public.environments e where e.name = projected_states.environment and e.stopped_at is not null)
      then projected_states.at
    else clock_timestamp()
  end;
  v_held record;
  v_guards record;
begin
  select h.* into v_held from app_private.held_schedules() as h;
  select g.* into v_guards from app_private.guard_summary(projected_states.at) as g;
  return query
    select
      f.flag_key::text,
      coalesce(e.value::boolean, f.enabled),
      coalesce(r.value::integer, f.rollout_percentage),
      not exists (
        select
        from app_public.feature_flag_schedules s
        where s.flag_id = f.id and s.status = 'pending' and s.scheduled_at <= v_uncertain_until)
      and not (v_guards.uncertain is not null and (
        app_private.is_uncertain(v_guards.uncertain, f.id, 'enabled', e.scheduled_at, e.schedule_id, projected_states.at, c_last_id)
        or app_private.is_uncertain(
          v_guards.uncertain, f.id, 'rollout_percentage', r.scheduled_at, r.schedule_id, projected_states.at, c_last_id))),
      case when e.schedule_id is null then '{}' else jsonb_build_object(
        'enabled', app_private.source_of(e.schedule_id, e.scheduled_at, e.plan_id, e.occurrence_no, e.step_no)) end
      || case when r.schedule_id is null then '{}' else jsonb_build_object(
        'rollout_percentage', app_private.source_of(r.schedule_id, r.scheduled_at, r.plan_id, r.occurrence_no, r.step_no)) end,
      f.id
    from app_public.feature_flags f
    left join lateral app_private.deciding_change(
      f.id, 'enabled', projected_states.at, projected_states.at, c_last_id, v_held.scheduled_until, v_held.created_until,
      v_guards.left_out) as e on true
    left join lateral app_private.deciding_change(
      f.id, 'rollout_percentage', projected_states.at, projected_states.at, c_last_id, v_held.scheduled_until, v_held.created_until,
      v_guards.left_out) as r on true
    where f.environment = projected_states.environment
    order by f.flag_key
    limit 10000;
end;
$$;

comment on function app_private.projected_states(text, timestamptz) is
  'The state of each flag of an environment at a time that comes, if no person changes anything until then.';

-- The past: what the last event up to then says is after it. Where there is none, as of a flag that is older than the trail or whose
-- last event was purged, what the next one says was before it; where there is none either, the row. The event that the reconciler writes in
-- place of lost ones may not know what was before: then what it found is the best guess.
--
-- A revision between two events, or between the last one and the row, is a change whose event is missing: a dead letter, or lost. Then
-- the row says what is so from its last change on, and of a time before that nothing is certain. By the revision, as a clock that was set
-- back gives the later change the earlier time.
create or replace function app_private.past_states(environment text, at timestamptz)
returns table (flag_key text, enabled boolean, rollout_percentage integer, certain boolean, sources jsonb, flag_id uuid)
language plpgsql
stable
set search_path to pg_catalog, pg_temp
set plan_cache_mode to force_custom_plan
as $$
begin
  return query
    select
      i.flag_key, (s.state ->> 'enabled')::boolean, (s.state ->> 'rolloutPercentage')::integer,
      c.by_row or case when l.id is null then n.before is not null else not c.is_lost end,
      case when c.by_row or coalesce(l.id, n.id) is null then '{}'
        else jsonb_build_object('event', jsonb_strip_nulls(jsonb_build_object(
          'id', coalesce(l.id, n.id), 'at', app_private.iso(coalesce(l.occurred_at, n.occurred_at)), 'schedule_id', l.schedule_id,
          'plan_id', l.plan_id, 'occurrence_no', l.occurrence_no, 'step_no', l.step_no,
          'is_after', case when l.id is null then true end)))
      end,
      i.flag_id
    from (
      select f.id as flag_id, f.flag_key::text as flag_key, f.created_at, f.updated_at, f.revision, f
      from app_public.feature_flags f
      where f.environment = past_states.environment
      union all
      select e.flag_id, min(e.flag_key), null, null, null, null
      from audit.events e
      where e.event_type in ('feature_flag.deleted', 'audit.gap') and e.environment = past_states.environment
        and e.occurred_at > past_states.at and e.schedule_id is null
        and not exists (select from app_public.feature_flags f where f.id = e.flag_id)
      group by e.flag_id
    ) as i (flag_id, flag_key, created_at, updated_at, revision, flag)
    left join lateral (
      select
        e.id, e.occurred_at, e.event_type, e.schedule_id, e.metadata -> 'after' as after,
        e.metadata -> 'planId' as plan_id, e.metadata -> 'occurrenceNo' as occurrence_no, e.metadata -> 'stepNo' as step_no,
        greatest(e.revision, (e.metadata ->> 'rowRevision')::bigint) as revision
      from audit.events e
      where e.flag_id = i.flag_id and e.occurred_at <= past_states.at
        and e.event_type in ('feature_flag.created', 'feature_flag.updated', 'feature_flag.deleted', 'feature_flag.reconciled')
      order by e.occurred_at desc, e.revision desc
      limit 1
    ) as l on true
    left join lateral (
      select
        e.id, e.occurred_at, e.event_type, e.metadata -> 'before' as before, e.metadata -> 'after' as after,
        case when e.event_type = 'feature_flag.reconciled' then e.revision else e.revision - 1 end as last_before
      from audit.events e
      where e.flag_id = i.flag_id and e.occurred_at > past_states.at
        and e.event_type in ('feature_flag.created', 'feature_flag.updated', 'feature_flag.deleted', 'feature_flag.reconciled')
      order by e.occurred_at, e.revision
      limit 1
    ) as n on true
    cross join lateral (
      select
        d.is_lost,
        n.id is null and (l.id is null or d.is_lost) and coalesce(i.updated_at <= past_states.at, false) as by_row
      -- Neither: a flag that was deleted without an event, some time before the reconciler found it gone.
      from (select coalesce(coalesce(n.last_before, i.revision) > l.revision, true) as is_lost) as d
    ) as c
    cross join lateral (
      select case
        when c.by_row then app_private.flag_state(i.flag)
        when l.id is not null then l.after
        else coalesce(n.before, n.after, app_private.flag_state(i.flag))
      end as state
    ) as s
    where l.event_type is distinct from 'feature_flag.deleted'
      and n.event_type is distinct from 'feature_flag.created'
      and (l.id is not null or i.created_at is null or i.created_at <= past_states.at)
      and s.state is not null
    order by i.flag_key
    limit 10000;
end;
$$;

comment on function app_private.past_states(text, timestamptz) is
  'The state that each flag of an environment had at a time that has passed, from the trail.';

create or replace function app_public.flag_state_at(environment text, at timestamptz)
returns table (flag_key text, enabled boolean, rollout_percentage integer, certain boolean, sources jsonb, flag_id uuid)
language plpgsql
stable
security definer
set search_path to pg_catalog, pg_temp
as $$
begin
  perform app_private.require_reader(), app_private.require_environment(flag_state_at.environment);
  perform app_private.require_instant('at', flag_state_at.at);
  if flag_state_at.at > clock_timestamp() then
    return query select p.* from app_private.projected_states(flag_state_at.environment, flag_state_at.at) as p;
    return;
  end if;
  perform app_private.require_history(flag_state_at.at);
  return query select p.* from app_private.past_states(flag_state_at.environment, flag_state_at.at) as p;
end;
$$;

comment on function app_public.flag_state_at(text, timestamptz) is
  '@behavior -*
The state of each flag of an environment at `at`, by key, at most 10,000: what the trail says of the past, and what the pending schedules will make of the future. `certain` is false where a schedule of the flag is overdue or its environment is stopped, and where what a guard will find isn''t certain. `sources` names what decides: of the past the event, of the future the schedule for each field that one will have changed, and the point of its plan.';

grant execute on function app_public.flag_state_at(text, timestamptz) to halyard_admin, halyard_viewer, halyard_auditor;
--! EndIncluded console/state.sql
--! Included console/upcoming.sql
-- The changes that the pending schedules will make, each with the state that it leaves.

create or replace function app_public.upcoming_changes(environment text, "from" timestamptz, "to" timestamptz, first integer default 100)
returns table (
  at timestamptz, flag_key text, updates jsonb, schedule_id uuid, plan_id uuid, occurrence_no integer, step_no integer, status text,
  enabled boolean, rollout_percentage integer, certain boolean, in_conflict boolean
)
language plpgsql
stable
security definer
set search_path to pg_catalog, pg_temp
set plan_cache_mode to force_custom_plan
as $$
declare
  c_no_id constant uuid := '00000000-0000-0000-0000-000000000000';
  v_now timestamptz := clock_timestamp();
  v_is_stopped boolean := exists (
    select from app_public.environments e where e.name = upcoming_changes.environment and e.stopped_at is not null);
  v_held record;
  v_guards record;
begin
  perform app_private.require_reader(), app_private.require_environment(upcoming_changes.environment);
  perform app_private.require_span("from", "to", 400), app_private.require_first(upcoming_changes.first);
  select h.* into v_held from app_private.held_schedules() as h;
  select g.* into v_guards from app_private.guard_summary("to") as g;
  return query
    with pending as materialized (
      select p.*
      from (
        (
          select s.scheduled_at as due_at, s.scheduled_at, s.id, s.flag_id, s.next_attempt_at, s.updates, s.status,
            s.plan_id, s.occurrence_no, s.step_no
          from app_public.feature_flag_schedules s
          join app_public.feature_flags f on f.id = s.flag_id
          where s.status = 'pending' and f.environment = upcoming_changes.environment
            and s.scheduled_at >= "from" and s.scheduled_at < "to" and s.scheduled_at > v_now
            and not app_private.is_held(s, v_held.scheduled_until, v_held.created_until)
          order by s.scheduled_at, s.id
          limit upcoming_changes.first
        )
        union all
        -- Overdue ones come now, or with their next attempt.
        (
          select greatest(v_now, s.next_attempt_at), s.scheduled_at, s.id, s.flag_id, s.next_attempt_at, s.updates, s.status,
            s.plan_id, s.occurrence_no, s.step_no
          from app_public.feature_flag_schedules s
          join app_public.feature_flags f on f.id = s.flag_id
          where s.status = 'pending' and f.environment = upcoming_changes.environment
            and s.scheduled_at <= v_now and greatest(v_now, s.next_attempt_at) >= "from" and greatest(v_now, s.next_attempt_at) < "to"
            and not app_private.is_held(s, v_held.scheduled_until, v_held.created_until)
          order by 1, 2, 3
          limit upcoming_changes.first
        )
      ) as p
      order by p.due_at, p.scheduled_at, p.id
      limit upcoming_changes.first
    )
    select
      p.due_at, f.flag_key::text, p.updates, p.id, p.plan_id, p.occurrence_no, p.step_no, p.status,
      coalesce(e.value::boolean, f.enabled), coalesce(r.value::integer, f.rollout_percentage),
      not v_is_stopped
      and not exists (
        select
        from app_public.feature_flag_schedules s
        where s.flag_id = p.flag_id and s.status = 'pending' and s.scheduled_at <= v_now)
      and not (v_guards.uncertain is not null and (
        app_private.is_uncertain(v_guards.uncertain, f.id, 'enabled', e.scheduled_at, e.schedule_id, o.last_at, o.last_id)
        or app_private.is_uncertain(v_guards.uncertain, f.id, 'rollout_percentage', r.scheduled_at, r.schedule_id, o.last_at, o.last_id)
        or p.id = any (v_guards.uncertain))),
      v_guards.in_conflict is not null and p.id = any (v_guards.in_conflict)
    from pending p
    join app_public.feature_flags f on f.id = p.flag_id
    -- Before it come those with an earlier time, and of one time those with the lower id. One that waits for its next attempt
    -- comes behind all that are due until then.
    cross join lateral (
      select
        case when p.next_attempt_at > v_now then p.next_attempt_at else p.scheduled_at end as last_at,
        case when p.next_attempt_at > v_now then c_no_id else p.id end as last_id
    ) as o
    left join lateral app_private.deciding_change(
      p.flag_id, 'enabled', p.due_at, o.last_at, o.last_id, v_held.scheduled_until, v_held.created_until,
      v_guards.left_out) as e on true
    left join lateral app_private.deciding_change(
      p.flag_id, 'rollout_percentage', p.due_at, o.last_at, o.last_id, v_held.scheduled_until, v_held.created_until,
      v_guards.left_out) as r on true
    order by p.due_at, p.scheduled_at, p.id;
end;
$$;

comment on function app_public.upcoming_changes(text, timestamptz, timestamptz, integer) is
  '@behavior -*
The changes of an environment''s flags from `from` until before `to`, at most 400 days, in the order in which they come, the first `first` (10,000 at most), with the state that each leaves. An overdue schedule comes now, or with its next attempt; one that is held until a person decides, or is suspended, isn''t there. `certain` is as in flag_state_at(). `in_conflict` is true where a guard will find something else than it expects: what it suspends or keeps is among the updates, and not in the state.';

grant execute on function app_public.upcoming_changes(text, timestamptz, timestamptz, integer) to halyard_admin, halyard_viewer, halyard_auditor;
--! EndIncluded console/upcoming.sql
--! Included console/changes.sql
-- What changed: of the trail only states and times, which every role may read; of persons, reasons and descriptions nothing.

-- An event that the reconciler wrote doesn't say what was before: the event before it does.
create or replace function app_private.flag_change_of(event audit.events)
returns table (enabled boolean, rollout_percentage integer, was_enabled boolean, was_rollout_percentage integer, deleted boolean)
language sql
stable
begin atomic
  select s.*
  from (
    select case
      when (event).event_type <> 'feature_flag.reconciled' then (event).metadata -> 'before'
      else (
        select p.metadata -> 'after'
        from audit.events p
        where p.flag_key = (event).flag_key and p.flag_id = (event).flag_id and p.occurred_at < (event).occurred_at
          and p.event_type in ('feature_flag.created', 'feature_flag.updated', 'feature_flag.reconciled')
        order by p.occurred_at desc, p.revision desc
        limit 1)
    end
  ) as b (before)
  cross join lateral (
    select
      case when (event).event_type <> 'feature_flag.deleted' then ((event).metadata #>> '{after,enabled}')::boolean else false end,
      coalesce((event).metadata #>> '{after,rolloutPercentage}', b.before ->> 'rolloutPercentage')::integer,
      (b.before ->> 'enabled')::boolean,
      (b.before ->> 'rolloutPercentage')::integer,
      (event).event_type = 'feature_flag.deleted'
  ) as s (enabled, rollout_percentage, was_enabled, was_rollout_percentage, deleted)
  -- A change of the description alone is none of the state.
  where s.deleted or (s.enabled, s.rollout_percentage) is distinct from (s.was_enabled, s.was_rollout_percentage);
end;

comment on function app_private.flag_change_of(audit.events) is
  'The change of state that a feature_flag event is about; no row when it left the state alone. A flag that was deleted is off.';

create or replace function app_public.flag_changes(
  environment text, "from" timestamptz, "to" timestamptz, of_flag text default null, first integer default 1000
)
returns table (
  at timestamptz, flag_key text, enabled boolean, rollout_percentage integer, was_enabled boolean, was_rollout_percentage integer,
  schedule_id uuid, deleted boolean
)
language plpgsql
stable
security definer
set search_path to pg_catalog, pg_temp
set plan_cache_mode to force_custom_plan
as $$
begin
  perform app_private.require_reader(), app_private.require_environment(flag_changes.environment);
  perform app_private.require_span("from", "to"), app_private.require_first(flag_changes.first);
  perform app_private.require_flag_key(flag_changes.environment, of_flag);
  perform app_private.require_history("from");
  return query
    select e.occurred_at, e.flag_key, c.enabled, c.rollout_percentage, c.was_enabled, c.was_rollout_percentage, e.schedule_id, c.deleted
    from audit.events e
    cross join lateral app_private.flag_change_of(e) as c
    where e.event_type in ('feature_flag.created', 'feature_flag.updated', 'feature_flag.deleted', 'feature_flag.reconciled')
      and e.environment = flag_changes.environment
      and e.occurred_at >= "from" and e.occurred_at < "to"
      and (of_flag is null or e.flag_key = of_flag)
    order by e.occurred_at, e.flag_key, e.revision
    limit flag_changes.first;
end;
$$;

comment on function app_public.flag_changes(text, timestamptz, timestamptz, text, integer) is
  '@behavior -*
The changes of state of an environment''s flags from `from` until before `to`, from the trail, oldest first, the first `first` (10,000 at most), of one flag where `of_flag` is given. Who made them and why, admins and auditors find in the trail.';

create or replace function app_public.schedules_between(
  environment text, "from" timestamptz, "to" timestamptz, of_flag text default null, first integer default 1000
)
returns table (
  id uuid, flag_key text, at timestamptz, updates jsonb, status text, applied_at timestamptz, cancelled_at timestamptz, plan_id uuid
)
language plpgsql
stable
security definer
set search_path to pg_catalog, pg_temp
set plan_cache_mode to force_custom_plan
as $$
begin
  perform app_private.require_reader(), app_private.require_environment(schedules_between.environment);
  perform app_private.require_span("from", "to"), app_private.require_first(schedules_between.first);
  perform app_private.require_flag_key(schedules_between.environment, of_flag);
  return query
    select s.id, f.flag_key::text, s.scheduled_at, s.updates, s.status, s.applied_at,
      -- Not s.cancelled_at: the tracking columns can be rolled back.
      case when s.status = 'cancelled' then coalesce((to_jsonb(s) ->> 'cancelled_at')::timestamptz, s.updated_at) end,
      s.plan_id
    from app_public.feature_flag_schedules s
    join app_public.feature_flags f on f.id = s.flag_id
    where f.environment = schedules_between.environment
      and s.scheduled_at >= "from" and s.scheduled_at < "to"
      and (of_flag is null or f.flag_key = of_flag)
    order by s.scheduled_at, s.id
    limit schedules_between.first;
end;
$$;

comment on function app_public.schedules_between(text, timestamptz, timestamptz, text, integer) is
  '@behavior -*
The schedules of an environment''s flags for times from `from` until before `to`, of every status, by time, the first `first` (10,000 at most), of one flag where `of_flag` is given.';

create or replace function app_public.changes_per_day(environment text, "from" timestamptz, "to" timestamptz, zone text default 'UTC')
returns table (day text, changes integer, failed integer, pending integer)
language plpgsql
stable
security definer
set search_path to pg_catalog, pg_temp
set plan_cache_mode to force_custom_plan
as $$
begin
  perform app_private.require_reader(), app_private.require_environment(changes_per_day.environment);
  perform app_private.require_span("from", "to", 400), app_private.require_zone(changes_per_day.zone);
  perform app_private.require_history("from");
  return query
    with changed as (
      select (e.occurred_at at time zone changes_per_day.zone)::date as day, count(*) as changes
      from audit.events e
      cross join lateral app_private.flag_change_of(e) as c
      where e.event_type in ('feature_flag.created', 'feature_flag.updated', 'feature_flag.deleted', 'feature_flag.reconciled')
        and e.environment = changes_per_day.environment
        and e.occurred_at >= "from" and e.occurred_at < "to"
      group by 1
    ), scheduled as (
      select
        (s.scheduled_at at time zone changes_per_day.zone)::date as day,
        count(*) filter (where s.status = 'failed') as failed,
        count(*) filter (where s.status = 'pending') as pending
      from app_public.feature_flag_schedules s
      join app_public.feature_flags f on f.id = s.flag_id
      where s.status in ('failed', 'pending') and f.environment = changes_per_day.environment
        and s.scheduled_at >= "from" and s.scheduled_at < "to"
      group by 1
    )
    select to_char(d.day, 'YYYY-MM-DD'), coalesce(c.changes, 0)::integer, coalesce(s.failed, 0)::integer, coalesce(s.pending, 0)::integer
    from (
      select g.day::date as day
      from generate_series(
        ("from" at time zone changes_per_day.zone)::date::timestamp,
        (("to" - interval '1 microsecond') at time zone changes_per_day.zone)::date::timestamp,
        interval '1 day') as g (day)
      -- A zone that crosses the date line leaves a day out, as Apia did 2011-12-30.
      where ((g.day at time zone changes_per_day.zone) at time zone changes_per_day.zone)::date = g.day::date
    ) as d
    left join changed c on c.day = d.day
    left join scheduled s on s.day = d.day
    order by d.day;
end;
$$;

comment on function app_public.changes_per_day(text, timestamptz, timestamptz, text) is
  '@behavior -*
For each day of the zone from `from` until before `to`, at most 400 days: how many changes of state an environment''s flags had, and how many schedules for it have failed or are pending.';

grant execute on function
  app_public.flag_changes(text, timestamptz, timestamptz, text, integer),
  app_public.schedules_between(text, timestamptz, timestamptz, text, integer),
  app_public.changes_per_day(text, timestamptz, timestamptz, text)
to halyard_admin, halyard_viewer, halyard_auditor;

-- For each flag of a page: one look into the index. `rows 1`, or the planner would sort a thousand rows a flag.
create or replace function app_public.last_flag_change(flag_id uuid)
returns table (at timestamptz, by text, event_type text, schedule_id uuid, reason text)
language plpgsql
stable
rows 1
security definer
set search_path to pg_catalog, pg_temp
as $$
declare
  -- As in the trail's policies: its readers see who and why.
  v_in_full boolean := app_private.require_reader() in ('admin', 'auditor');
begin
  return query
    select
      e.occurred_at,
      case when v_in_full then coalesce(
        e.metadata ->> 'requestedBy', e.admin_user_id, e.admin_email,
        case when e.actor_kind = 'database' then e.database_user end) end,
      e.event_type, e.schedule_id,
      case when v_in_full then e.metadata ->> 'reason' end
    from audit.events e
    where e.flag_id = last_flag_change.flag_id
      and e.event_type in ('feature_flag.created', 'feature_flag.updated', 'feature_flag.deleted', 'feature_flag.reconciled')
      and (not app_private.claims_are_limited() or e.environment = any (app_private.claim_environments()))
    order by e.occurred_at desc, e.revision desc
    limit 1;
end;
$$;

comment on function app_public.last_flag_change(uuid) is
  '@behavior -*
The last change of a flag that the trail has, with the schedule that made it; who wanted it and why for admins and auditors only.';

grant execute on function app_public.last_flag_change(uuid) to halyard_admin, halyard_viewer, halyard_auditor;
--! EndIncluded console/changes.sql
