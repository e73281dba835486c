--! Previous: sha1:84194297438453d6774e9a2d86b04d8c7625f588
--! Hash: sha1:e757c8e657037abf8ffe92a021ae7ed0d836550c
--! Message: Audit trail and rules

-- The audit trail, and everything replaceable: triggers, policies, functions, grants.

do $$
begin
  -- What the API takes and gives for a schedule's updates; the table keeps jsonb.
  if to_regtype('app_public.flag_updates') is null then
    create type app_public.flag_updates as (enabled boolean, rollout_percentage integer);
  end if;
  -- An event on its way. A type of its own and not audit.events' row type: the triggers must compile, and so be able to
  -- save what they have to tell, also when that table is broken or gone.
  if to_regtype('app_private.audit_event') is null then
    create type app_private.audit_event as (
      id uuid,
      occurred_at timestamptz,
      event_type text,
      level text,
      flag_key text,
      environment text,
      schedule_id uuid,
      revision bigint,
      actor_kind text,
      admin_user_id text,
      admin_email text,
      request_id text,
      database_user text,
      application_name text,
      metadata jsonb,
      payload text
    );
  end if;
end;
$$;

comment on type app_public.flag_updates is 'What a schedule changes; a field that is null is left as it is.';
comment on column app_public.flag_updates.enabled is 'Turn the flag on or off.';
comment on column app_public.flag_updates.rollout_percentage is 'Set the share of users that get the feature, 0 to 100.';
comment on type app_private.audit_event is 'An audit event on its way into audit.events.';

-- No foreign keys: the trail outlives what it describes. No deferred constraints: they would fail at COMMIT, where no
-- exception block can save the operation.
create table if not exists audit.events (
  id uuid not null,
  occurred_at timestamptz not null,
  event_type text not null,
  level text not null,
  flag_key text,
  environment text,
  schedule_id uuid,
  revision bigint,
  actor_kind text not null,
  admin_user_id text,
  admin_email text,
  request_id text,
  database_user text not null,
  application_name text not null,
  reconciled boolean not null default false,
  metadata jsonb not null,
  payload text not null,
  constraint events_pkey primary key (id, occurred_at),
  constraint events_level_check check (level in ('info', 'warning', 'error')),
  constraint events_actor_kind_check check (actor_kind in ('admin', 'system', 'database'))
) partition by range (occurred_at);

comment on table audit.events is 'The audit trail: one row for each thing that happened. Append-only; partitioned by month (UTC).';
comment on column audit.events.id is 'The event''s id; copies of the event elsewhere carry it as eventId.';
comment on column audit.events.occurred_at is 'When it happened, by the database''s clock.';
comment on column audit.events.event_type is 'What happened, as flag_schedule.created.';
comment on column audit.events.level is 'info, or error for a schedule that failed for good.';
comment on column audit.events.flag_key is 'The flag''s key at the time.';
comment on column audit.events.environment is 'The flag''s environment.';
comment on column audit.events.schedule_id is 'The schedule, also on the change of a flag that a schedule made.';
comment on column audit.events.revision is 'The revision of the row that the event tells of.';
comment on column audit.events.actor_kind is 'admin (by the API), system (the worker) or database (SQL typed by hand).';
comment on column audit.events.admin_user_id is 'The admin''s user id, from the verified token.';
comment on column audit.events.admin_email is 'The admin''s e-mail address, from the verified token.';
comment on column audit.events.request_id is 'The HTTP request that did it; also in the API''s log and its X-Request-Id header.';
comment on column audit.events.database_user is 'The login of the database session: tells who typed SQL by hand.';
comment on column audit.events.application_name is 'The application that the database session named itself.';
comment on column audit.events.reconciled is 'Whether the event was rebuilt afterwards because writing it failed at the time.';
comment on column audit.events.metadata is 'The details, with keys by event type.';
comment on column audit.events.payload is 'The event as JSON text, rendered once: what is shipped, with seq put in.';

-- The newest first: the order in which people read it.
create index if not exists events_occurred_at_idx on audit.events (occurred_at desc);
create index if not exists events_flag_idx on audit.events (flag_key, environment, occurred_at desc);
create index if not exists events_type_idx on audit.events (event_type, occurred_at desc);
create index if not exists events_admin_idx on audit.events (admin_user_id, occurred_at desc) where admin_user_id is not null;
create index if not exists events_schedule_idx on audit.events (schedule_id, occurred_at) where schedule_id is not null;

-- Events that have no number yet. Writers append, one sequencer takes.
create table if not exists audit.queue (
  id bigint generated always as identity primary key,
  event_id uuid not null,
  occurred_at timestamptz not null
);
comment on table audit.queue is 'Events that the sequencer has not numbered yet.';
comment on column audit.queue.id is 'Order of arrival; not the order of commits.';
comment on column audit.queue.event_id is 'The event.';
comment on column audit.queue.occurred_at is 'The event''s time, which finds its partition.';

create table if not exists audit.ledger (
  seq bigint primary key,
  event_id uuid not null,
  occurred_at timestamptz not null,
  sequenced_at timestamptz not null default now(),
  constraint ledger_event_id_key unique (event_id)
);
comment on table audit.ledger is 'The number of each event: gapless from 1, each event once. Append-only.';
comment on column audit.ledger.seq is 'The event''s number: the order in which copies are shipped.';
comment on column audit.ledger.event_id is 'The event.';
comment on column audit.ledger.occurred_at is 'The event''s time, which finds its partition.';
comment on column audit.ledger.sequenced_at is 'When it got its number.';

create table if not exists audit.cursors (
  destination text primary key,
  last_seq bigint not null default 0,
  updated_at timestamptz not null default now()
);
comment on table audit.cursors is 'How far each destination has confirmed the trail.';
comment on column audit.cursors.destination is 'The destination, as stdout or cloudwatch:<group>.';
comment on column audit.cursors.last_seq is 'Everything up to here has been delivered.';
comment on column audit.cursors.updated_at is 'When it last moved.';

create table if not exists audit.dead_letters (
  id bigint generated always as identity primary key,
  occurred_at timestamptz not null default clock_timestamp(),
  content jsonb not null,
  error_code text not null,
  error_message text not null
);
comment on table audit.dead_letters is 'Events that could not be written to the trail. Anything in here means that somebody must act.';
comment on column audit.dead_letters.id is 'Order of arrival.';
comment on column audit.dead_letters.occurred_at is 'When writing failed.';
comment on column audit.dead_letters.content is 'The events, or the rows that they were to be made of, and who acted.';
comment on column audit.dead_letters.error_code is 'The SQLSTATE of the failure.';
comment on column audit.dead_letters.error_message is 'The failure.';

alter table audit.events enable row level security;
alter table audit.queue enable row level security;
alter table audit.ledger enable row level security;
alter table audit.cursors enable row level security;
alter table audit.dead_letters enable row level security;

-- In the order in which data flows.
--! Included claims.sql
-- Who asks. The API sets these settings for each transaction (src/db.ts, pgSettings); nothing else in the database reads them.
--
-- A setting that was once set locally reads '' afterwards in the same session, and NULL in a session that never set it:
-- both mean "unknown", hence nullif. Policies call these as `(select app_private.claim_role())`, so that they run once a
-- statement and not once a row (500,000 rows: 22 ms instead of 135 ms).

create or replace function app_private.claim_user_id()
returns text
language sql
stable
parallel safe
set search_path to pg_catalog, pg_temp
as $$ select nullif(current_setting('jwt.claims.user_id', true), '') $$;

create or replace function app_private.claim_email()
returns text
language sql
stable
parallel safe
set search_path to pg_catalog, pg_temp
as $$ select nullif(current_setting('jwt.claims.email', true), '') $$;

create or replace function app_private.claim_role()
returns text
language sql
stable
parallel safe
set search_path to pg_catalog, pg_temp
as $$ select nullif(current_setting('jwt.claims.role', true), '') $$;

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
set search_path to pg_catalog, pg_temp
as $$ select nullif(current_setting('halyard.request_id', true), '') $$;

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
  select app_private.claim_environments() is null or environment = any (app_private.claim_environments())
$$;

comment on function app_private.claim_user_id() is 'The user id in the verified token; null when unknown.';
comment on function app_private.claim_email() is 'The e-mail address in the verified token; null when unknown.';
comment on function app_private.claim_role() is 'admin, viewer or auditor; null when there is no verified token.';
comment on function app_private.claim_environments() is 'The environments that the token is limited to; null means all.';
comment on function app_private.request_id() is 'The id of the HTTP request that this transaction serves; null when unknown.';
comment on function app_private.require_admin() is 'Raises insufficient_privilege unless the verified token is an admin''s.';
comment on function app_private.environment_is_visible(text) is 'Whether the token lets through rows of this environment.';

-- The first five run inside policies, as the role that asks.
grant usage on schema app_private to halyard_admin, halyard_viewer, halyard_auditor;
revoke all on function
  app_private.claim_user_id(), app_private.claim_email(), app_private.claim_role(), app_private.claim_environments(),
  app_private.request_id(), app_private.require_admin(), app_private.environment_is_visible(text)
from public;
grant execute on function
  app_private.claim_user_id(), app_private.claim_email(), app_private.claim_role(), app_private.claim_environments(),
  app_private.request_id()
to halyard_admin, halyard_viewer, halyard_auditor;
--! EndIncluded claims.sql
--! Included flags.sql
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
  else
    if (new.id, new.flag_key, new.environment, new.created_at)
       is distinct from (old.id, old.flag_key, old.environment, old.created_at) then
      raise exception 'A flag''s id, flag_key, environment and created_at can''t be changed.'
        using errcode = 'ZF010', hint = 'Create another flag instead: the audit trail knows this one by its key.';
    end if;
    new.updated_at := now();
    new.revision := old.revision + 1;
  end if;
  return new;
end;
$$;

comment on function app_private.tg_feature_flags__stamp() is
  'Stamps created_at, updated_at and revision, and keeps a flag''s identity fixed.';

create or replace trigger _100_stamp
  before insert or update on app_public.feature_flags
  for each row execute function app_private.tg_feature_flags__stamp();

-- Ahead of the foreign key's cascade, which comes when the flag is gone and nobody can tell any more whose the schedules were.
create or replace function app_private.tg_feature_flags__delete_schedules()
returns trigger
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
begin
  delete from app_public.feature_flag_schedules s where s.flag_id = old.id;
  return old;
end;
$$;

comment on function app_private.tg_feature_flags__delete_schedules() is
  'Deletes a flag''s schedules while their flag still stands, so that the trail can name it.';

create or replace trigger _200_delete_schedules
  before delete on app_public.feature_flags
  for each row execute function app_private.tg_feature_flags__delete_schedules();

drop policy if exists admin_all on app_public.feature_flags;
create policy admin_all on app_public.feature_flags
  for all to halyard_admin
  using (
    (select app_private.claim_role()) = 'admin'
    and (
      (select app_private.claim_environments()) is null
      or environment = any ((select app_private.claim_environments())::text[])
    )
  );

drop policy if exists viewer_select on app_public.feature_flags;
create policy viewer_select on app_public.feature_flags
  for select to halyard_viewer
  using (
    (select app_private.claim_role()) = 'viewer'
    and (
      (select app_private.claim_environments()) is null
      or environment = any ((select app_private.claim_environments())::text[])
    )
  );

revoke all on table app_public.feature_flags from public, halyard_admin, halyard_viewer, halyard_auditor, halyard_worker;
grant select on table app_public.feature_flags to halyard_admin, halyard_viewer;
grant insert (flag_key, environment, enabled, rollout_percentage, description) on table app_public.feature_flags to halyard_admin;
grant update (enabled, rollout_percentage, description) on table app_public.feature_flags to halyard_admin;

revoke all on function app_private.tg_feature_flags__stamp(), app_private.tg_feature_flags__delete_schedules() from public;
--! EndIncluded flags.sql
--! Included schedules.sql
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

-- pending -> applied | failed | cancelled; failed -> pending. Everything else is refused, whoever asks.
create or replace function app_private.tg_feature_flag_schedules__state()
returns trigger
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
declare
  v_problem text;
begin
  if tg_op = 'INSERT' then
    v_problem := app_private.updates_problem(new.updates);
    if v_problem is not null then
      raise exception '%.', v_problem using errcode = 'ZF007';
    end if;
    if new.status <> 'pending' then
      raise exception 'A schedule starts as pending, not as %.', new.status using errcode = 'ZF004';
    end if;
    -- A DBA without claims may insert a schedule that is due already: it is applied at once.
    if app_private.claim_role() is not null then
      perform app_private.require_schedulable(new.scheduled_at);
    end if;
    new.applied_at := null;
    new.error_message := null;
    new.attempts := 0;
    new.next_attempt_at := null;
    new.created_at := now();
    new.updated_at := now();
    new.revision := 1;
    return new;
  end if;

  if (new.id, new.flag_id, new.updates, new.created_at) is distinct from (old.id, old.flag_id, old.updates, old.created_at) then
    raise exception 'A schedule''s id, flag_id, updates and created_at can''t be changed.'
      using errcode = 'ZF010', hint = 'Cancel it and schedule anew.';
  end if;
  if new.status <> old.status
     and (old.status, new.status) not in (
       ('pending', 'applied'), ('pending', 'failed'), ('pending', 'cancelled'), ('failed', 'pending')
     )
  then
    raise exception 'A schedule that is % can''t become %.', old.status, new.status using errcode = 'ZF004';
  end if;
  if old.status <> 'pending' and new.status = old.status and new.scheduled_at is distinct from old.scheduled_at then
    raise exception 'A schedule that is % can''t be moved.', old.status using errcode = 'ZF003';
  end if;
  new.applied_at := case
    when new.status = 'applied' and old.status <> 'applied' then clock_timestamp()
    when new.status = 'applied' then old.applied_at
  end;
  if new.status <> 'pending' then
    new.next_attempt_at := null;
  end if;
  new.updated_at := now();
  new.revision := old.revision + 1;
  return new;
end;
$$;

comment on function app_private.tg_feature_flag_schedules__state() is
  'The state machine: raises ZF004 for a transition that isn''t allowed, ZF010 for a change of what is fixed; stamps applied_at and revision.';

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
  'Stamps created_by, cancelled_by and cancelled_at from the claims; what a client sends for them is ignored.';

create or replace trigger _100_state
  before insert or update on app_public.feature_flag_schedules
  for each row execute function app_private.tg_feature_flag_schedules__state();

create or replace trigger _200_track
  before insert or update on app_public.feature_flag_schedules
  for each row execute function app_private.tg_feature_flag_schedules__track();

-- A schedule is visible when its flag is: the subquery runs under the flag's own policies.
drop policy if exists admin_select on app_public.feature_flag_schedules;
create policy admin_select on app_public.feature_flag_schedules
  for select to halyard_admin
  using (
    (select app_private.claim_role()) = 'admin'
    and exists (select from app_public.feature_flags f where f.id = flag_id)
  );

drop policy if exists admin_insert on app_public.feature_flag_schedules;
create policy admin_insert on app_public.feature_flag_schedules
  for insert to halyard_admin
  with check (
    (select app_private.claim_role()) = 'admin'
    and exists (select from app_public.feature_flags f where f.id = flag_id)
  );

drop policy if exists viewer_select on app_public.feature_flag_schedules;
create policy viewer_select on app_public.feature_flag_schedules
  for select to halyard_viewer
  using (
    (select app_private.claim_role()) = 'viewer'
    and exists (select from app_public.feature_flags f where f.id = flag_id)
  );

-- No update and no delete: a schedule changes only through the functions of lifecycle.sql.
revoke all on table app_public.feature_flag_schedules
  from public, halyard_admin, halyard_viewer, halyard_auditor, halyard_worker;
grant select on table app_public.feature_flag_schedules to halyard_admin, halyard_viewer;
grant insert (flag_id, scheduled_at, updates, max_attempts) on table app_public.feature_flag_schedules to halyard_admin;

revoke all on function
  app_private.require_schedulable(timestamptz),
  app_private.tg_feature_flag_schedules__state(),
  app_private.tg_feature_flag_schedules__track()
from public;
-- The state machine's trigger runs with the rights of whoever inserts.
grant execute on function app_private.require_schedulable(timestamptz) to halyard_admin;
--! EndIncluded schedules.sql
--! Included lifecycle.sql
-- What an admin does with schedules. GraphQL mutations and REST routes both call these, so there is one path.

-- Runs with the caller's rights: the flag is found, and the schedule inserted, under row-level security.
create or replace function app_public.schedule_flag_change(
  flag_key text,
  environment text,
  scheduled_at timestamptz,
  updates app_public.flag_updates
)
returns app_public.feature_flag_schedules
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
declare
  v_flag_id uuid;
  v_updates jsonb := jsonb_strip_nulls(to_jsonb(schedule_flag_change.updates));
  v_problem text := app_private.updates_problem(coalesce(v_updates, '{}'));
  v_schedule app_public.feature_flag_schedules;
begin
  if v_problem is not null then
    raise exception '%.', v_problem using errcode = 'ZF007';
  end if;
  perform app_private.require_schedulable(schedule_flag_change.scheduled_at);

  select f.id into v_flag_id
  from app_public.feature_flags f
  where f.flag_key = schedule_flag_change.flag_key
    and f.environment = coalesce(schedule_flag_change.environment, 'production');
  if v_flag_id is null then
    raise exception 'There is no flag % in %.',
      quote_literal(coalesce(schedule_flag_change.flag_key, '')), coalesce(schedule_flag_change.environment, 'production')
      using errcode = 'ZF001', hint = 'Create the flag first, or name another environment.';
  end if;

  insert into app_public.feature_flag_schedules (flag_id, scheduled_at, updates)
  values (v_flag_id, schedule_flag_change.scheduled_at, v_updates)
  returning * into v_schedule;
  return v_schedule;
end;
$$;

comment on function app_public.schedule_flag_change(text, text, timestamptz, app_public.flag_updates) is
  'Schedules a change of a flag for a time in the future. `environment` is production unless given.';

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
  -- Deleted by hand since the statement before.
  if not found then
    raise exception 'There is no schedule %.', schedule_id using errcode = 'ZF002';
  end if;
  return v_schedule;
end;
$$;

comment on function app_private.lock_schedule(uuid) is
  'Locks and returns a schedule for an admin''s change; raises insufficient_privilege or ZF002.';

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
  if v_schedule.status <> 'pending' then
    raise exception 'The schedule is %, so it can''t be cancelled.', v_schedule.status using errcode = 'ZF003';
  end if;
  update app_public.feature_flag_schedules s
  set status = 'cancelled', cancel_reason = nullif(btrim(cancel_flag_schedule.reason), '')
  where s.id = v_schedule.id
  returning s.* into v_schedule;
  return v_schedule;
end;
$$;

comment on function app_public.cancel_flag_schedule(uuid, text) is
  'Cancels a pending schedule and records who did it; `reason` is free text of up to 500 characters.';

create or replace function app_public.reschedule_flag_change(id uuid, scheduled_at timestamptz)
returns app_public.feature_flag_schedules
language plpgsql
volatile
security definer
set search_path to pg_catalog, pg_temp
as $$
declare
  v_schedule app_public.feature_flag_schedules := app_private.lock_schedule(reschedule_flag_change.id);
begin
  if v_schedule.status <> 'pending' then
    raise exception 'The schedule is %, so it can''t be moved.', v_schedule.status using errcode = 'ZF003';
  end if;
  perform app_private.require_schedulable(reschedule_flag_change.scheduled_at);
  update app_public.feature_flag_schedules s
  set scheduled_at = reschedule_flag_change.scheduled_at, attempts = 0, next_attempt_at = null, error_message = null
  where s.id = v_schedule.id
  returning s.* into v_schedule;
  return v_schedule;
end;
$$;

comment on function app_public.reschedule_flag_change(uuid, timestamptz) is
  'Moves a pending schedule to another time in the future.';

-- A retry is a new decision, taken now: the schedule becomes due now, after all that was applied since its first time,
-- so it isn't outdone by them. The time it was meant for stays in the trail.
create or replace function app_public.retry_flag_schedule(id uuid)
returns app_public.feature_flag_schedules
language plpgsql
volatile
security definer
set search_path to pg_catalog, pg_temp
as $$
declare
  v_schedule app_public.feature_flag_schedules := app_private.lock_schedule(retry_flag_schedule.id);
begin
  if v_schedule.status <> 'failed' then
    raise exception 'The schedule is %; only one that failed can be retried.', v_schedule.status using errcode = 'ZF008';
  end if;
  update app_public.feature_flag_schedules s
  set status = 'pending', scheduled_at = clock_timestamp(), attempts = 0, next_attempt_at = null, error_message = null
  where s.id = v_schedule.id
  returning s.* into v_schedule;
  return v_schedule;
end;
$$;

comment on function app_public.retry_flag_schedule(uuid) is
  'Makes a failed schedule due again, now, with all its attempts.';

revoke all on function
  app_private.lock_schedule(uuid),
  app_public.schedule_flag_change(text, text, timestamptz, app_public.flag_updates),
  app_public.cancel_flag_schedule(uuid, text),
  app_public.reschedule_flag_change(uuid, timestamptz),
  app_public.retry_flag_schedule(uuid)
from public;
grant execute on function
  app_public.schedule_flag_change(text, text, timestamptz, app_public.flag_updates),
  app_public.cancel_flag_schedule(uuid, text),
  app_public.reschedule_flag_change(uuid, timestamptz),
  app_public.retry_flag_schedule(uuid)
to halyard_admin;
--! EndIncluded lifecycle.sql
--! Included apply.sql
-- Applying what is due. Called by the worker only; any number of workers may call it at once.

-- How long to wait before attempt n + 1: 1 s, 2 s, 4 s … up to an hour, each between half and all of it, so that many
-- schedules that failed together don't come back together. `alter database … set halyard.retry_base = '…'` changes the 1 s.
create or replace function app_private.retry_delay(attempts integer)
returns interval
language sql
volatile
set search_path to pg_catalog, pg_temp
as $$
  select least(
    coalesce(nullif(current_setting('halyard.retry_base', true), '')::interval, interval '1 second')
      * power(2, least(attempts, 20) - 1),
    interval '1 hour'
  ) * (0.5 + random() / 2)
$$;

comment on function app_private.retry_delay(integer) is
  'Exponential back-off with jitter after this many failed attempts (1 or more).';

-- Applies one schedule to its flag. The flag's state is decided by the schedule with the latest (scheduled_at, id): one
-- that comes to its turn late, after a retry, leaves alone what a later one has set meanwhile.
create or replace function app_private.apply_schedule(schedule_id uuid)
returns void
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
declare
  v_schedule app_public.feature_flag_schedules;
  v_updates jsonb;
begin
  select s.* into strict v_schedule from app_public.feature_flag_schedules s where s.id = schedule_id;
  select v_schedule.updates - coalesce(array_agg(k.key), '{}') into v_updates
  from app_public.feature_flag_schedules later
  cross join lateral jsonb_object_keys(later.updates) as k (key)
  where later.flag_id = v_schedule.flag_id
    and later.status = 'applied'
    and (later.scheduled_at, later.id) > (v_schedule.scheduled_at, v_schedule.id);

  perform set_config('halyard.schedule_id', schedule_id::text, true);
  if v_updates <> '{}' then
    update app_public.feature_flags f
    set
      enabled = coalesce((v_updates ->> 'enabled')::boolean, f.enabled),
      rollout_percentage = coalesce((v_updates ->> 'rollout_percentage')::integer, f.rollout_percentage)
    where f.id = v_schedule.flag_id;
  end if;
  update app_public.feature_flag_schedules s
  set status = 'applied', attempts = s.attempts + 1, error_message = null
  where s.id = schedule_id;
  perform set_config('halyard.schedule_id', '', true);
end;
$$;

comment on function app_private.apply_schedule(uuid) is
  'Changes the flag and marks the schedule applied. Runs inside the caller''s subtransaction: all of it or nothing.';

create or replace function app_private.record_failure(schedule_id uuid, problem text)
returns text
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
declare
  v_status text;
begin
  update app_public.feature_flag_schedules s
  set
    attempts = s.attempts + 1,
    error_message = left(problem, 2000),
    status = case when s.attempts + 1 >= s.max_attempts then 'failed' else 'pending' end,
    next_attempt_at = case
      when s.attempts + 1 < s.max_attempts then clock_timestamp() + app_private.retry_delay(s.attempts + 1)
    end
  where s.id = schedule_id
  returning s.status into strict v_status;
  return v_status;
end;
$$;

comment on function app_private.record_failure(uuid, text) is
  'Counts a failed attempt: pending again with a time for the next one, or failed for good. Returns the status.';

-- A flag is locked before its schedules and skipped while another worker has it: so a flag's schedules are applied in
-- order, whoever applies them. The ids are gathered first and looped over second, because a cursor that locks rows
-- silently skips those which the same transaction has changed since it was opened.
create or replace function app_private.apply_due_schedules(batch integer default 100)
returns table (applied integer, retried integer, failed integer, stuck integer)
language plpgsql
volatile
security definer
set search_path to pg_catalog, pg_temp
set timezone to 'UTC'
as $$
declare
  -- A variable: the index can't serve a comparison with a volatile function.
  v_now timestamptz := clock_timestamp();
  v_ids uuid[];
  v_id uuid;
begin
  perform set_config('halyard.actor', 'system', true);
  applied := 0;
  retried := 0;
  failed := 0;
  stuck := 0;
  select array(
    select s.id
    from app_public.feature_flag_schedules s
    join app_public.feature_flags f on f.id = s.flag_id
    where s.status = 'pending'
      and coalesce(s.next_attempt_at, s.scheduled_at) <= v_now
    order by s.scheduled_at, s.id
    limit apply_due_schedules.batch
    for no key update of f skip locked
    for update of s skip locked
  ) into v_ids;

  foreach v_id in array v_ids loop
    begin
      perform app_private.apply_schedule(v_id);
      applied := applied + 1;
    exception when others then
      begin
        if app_private.record_failure(v_id, sqlerrm) = 'failed' then
          failed := failed + 1;
        else
          retried := retried + 1;
        end if;
      exception when others then
        -- Neither applied nor marked: it stays due, and the next run tries again.
        stuck := stuck + 1;
        raise warning 'halyard: schedule % can''t be applied and its failure can''t be recorded (%): %', v_id, sqlstate, sqlerrm;
      end;
    end;
  end loop;
  perform set_config('halyard.actor', '', true);
  return next;
end;
$$;

comment on function app_private.apply_due_schedules(integer) is
  'Applies up to `batch` due schedules, each all or nothing; says how many were applied, are to be retried, failed for good, or could not even be marked.';

-- Two instants, because what is overdue may stay so for a while (a flag that somebody holds locked), and must not hide what
-- comes due meanwhile. The latest of what is overdue: the alarm has rung for it, and so for all before it, or it hasn't.
create or replace function app_private.next_due(out overdue_for double precision, out due_in double precision)
language plpgsql
volatile
security definer
set search_path to pg_catalog, pg_temp
as $$
declare
  v_now timestamptz := clock_timestamp();
begin
  select 1000 * extract(epoch from v_now - max(coalesce(s.next_attempt_at, s.scheduled_at))) into overdue_for
  from app_public.feature_flag_schedules s
  where s.status = 'pending' and coalesce(s.next_attempt_at, s.scheduled_at) <= v_now;
  select 1000 * extract(epoch from min(coalesce(s.next_attempt_at, s.scheduled_at)) - v_now) into due_in
  from app_public.feature_flag_schedules s
  where s.status = 'pending' and coalesce(s.next_attempt_at, s.scheduled_at) > v_now;
end;
$$;

comment on function app_private.next_due() is
  'By the database''s clock, in milliseconds: for how long the latest overdue schedule has been due, and until the next one is; null when there is none.';

revoke all on function
  app_private.retry_delay(integer), app_private.apply_schedule(uuid), app_private.record_failure(uuid, text),
  app_private.apply_due_schedules(integer), app_private.next_due()
from public;
grant usage on schema app_private to halyard_worker;
grant execute on function app_private.apply_due_schedules(integer), app_private.next_due() to halyard_worker;
--! EndIncluded apply.sql
--! Included event.sql
-- One audit event: who acts, what it says, and its text, rendered once.

-- ISO 8601 in UTC with microseconds, whatever the session's time zone and date style.
create or replace function app_private.iso(at timestamptz)
returns text
language sql
stable
parallel safe
set search_path to pg_catalog, pg_temp
as $$ select to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') $$;

comment on function app_private.iso(timestamptz) is 'The instant as ISO 8601 text in UTC.';

-- Who acts: the apply sets halyard.actor; a verified token makes an admin; anything else was typed by hand.
create or replace function app_private.actor_kind()
returns text
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
  select case
    when nullif(current_setting('halyard.actor', true), '') = 'system' then 'system'
    when app_private.claim_role() is not null then 'admin'
    else 'database'
  end
$$;

comment on function app_private.actor_kind() is 'admin, system or database: who makes the change of this transaction.';

-- An event with all that doesn't depend on its kind filled in, and its text rendered, once, for good.
create or replace function app_private.make_event(
  at timestamptz,
  event_type text,
  flag_key text,
  environment text,
  schedule_id uuid,
  revision bigint,
  details jsonb
)
returns app_private.audit_event
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
declare
  v_event app_private.audit_event;
begin
  v_event.id := gen_random_uuid();
  v_event.occurred_at := at;
  v_event.event_type := event_type;
  v_event.level := case event_type when 'flag_schedule.failed' then 'error' else 'info' end;
  v_event.flag_key := flag_key;
  v_event.environment := environment;
  v_event.schedule_id := schedule_id;
  v_event.revision := revision;
  v_event.actor_kind := app_private.actor_kind();
  if v_event.actor_kind = 'admin' then
    v_event.admin_user_id := app_private.claim_user_id();
    v_event.admin_email := app_private.claim_email();
  end if;
  v_event.request_id := app_private.request_id();
  v_event.database_user := session_user;
  v_event.application_name := current_setting('application_name');
  v_event.metadata := details || jsonb_strip_nulls(jsonb_build_object(
    'adminUserId', v_event.admin_user_id, 'adminEmail', v_event.admin_email));
  v_event.payload := app_private.render_event(v_event);
  return v_event;
end;
$$;

comment on function app_private.make_event(timestamptz, text, text, text, uuid, bigint, jsonb) is
  'An audit event with actor, request and rendered text; writes nothing.';

-- The text that is stored, hashed and shipped. Nothing in it depends on a session's settings: times are rendered by iso(),
-- and jsonb holds numbers, strings and booleans only. `seq` is not known yet: app_private.shipped_message() puts it before "level".
create or replace function app_private.render_event(event app_private.audit_event)
returns text
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
  select concat(
    '{"eventType": ', to_json(event.event_type),
    ', "timestamp": "', app_private.iso(event.occurred_at), '"',
    ', "eventId": "', event.id, '"',
    ', "level": ', to_json(event.level),
    ', "environment": ', coalesce(to_json(event.environment)::text, 'null'),
    ', "requestId": ', coalesce(to_json(event.request_id)::text, 'null'),
    ', "metadata": ', event.metadata, '}')
$$;

comment on function app_private.render_event(app_private.audit_event) is 'The event as JSON text, without its seq.';

create or replace function app_private.shipped_message(payload text, seq bigint)
returns text
language sql
immutable
parallel safe
set search_path to pg_catalog, pg_temp
as $$
  select overlay(payload placing concat(', "seq": ', seq) from strpos(payload, ', "level": ') for 0)
$$;

comment on function app_private.shipped_message(text, bigint) is
  'The message that CloudWatch and stdout get: an event''s payload with its seq put in.';

revoke all on function
  app_private.iso(timestamptz),
  app_private.actor_kind(),
  app_private.make_event(timestamptz, text, text, text, uuid, bigint, jsonb),
  app_private.render_event(app_private.audit_event),
  app_private.shipped_message(text, bigint)
from public;
-- A DBA may want to see the very message that was shipped.
grant execute on function app_private.shipped_message(text, bigint) to halyard_auditor;
--! EndIncluded event.sql
--! Included event_types.sql
-- Which change makes which event, with what metadata. Keys that are unknown are absent.

-- A flag's state as it stands in before, after and flagState.
create or replace function app_private.flag_state(flag app_public.feature_flags)
returns jsonb
language sql
immutable
set search_path to pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'enabled', flag.enabled, 'rolloutPercentage', flag.rollout_percentage, 'description', flag.description)
$$;

-- A schedule's state as it stands in before and after.
create or replace function app_private.schedule_state(schedule app_public.feature_flag_schedules)
returns jsonb
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'status', schedule.status,
    'scheduledAt', app_private.iso(schedule.scheduled_at),
    'attempts', schedule.attempts,
    'errorMessage', schedule.error_message)
$$;

create or replace function app_private.schedule_created_event(
  at timestamptz, schedule app_public.feature_flag_schedules, flag app_public.feature_flags
)
returns app_private.audit_event
language sql
volatile
set search_path to pg_catalog, pg_temp
as $$
  select app_private.make_event(
    at, 'flag_schedule.created', flag.flag_key, flag.environment, schedule.id, schedule.revision,
    jsonb_build_object(
      'scheduleId', schedule.id,
      'flagKey', flag.flag_key,
      'scheduledAt', app_private.iso(schedule.scheduled_at),
      'updates', schedule.updates))
$$;

create or replace function app_private.schedule_changed_event(
  at timestamptz,
  before app_public.feature_flag_schedules,
  after app_public.feature_flag_schedules,
  flag app_public.feature_flags
)
returns app_private.audit_event
language sql
volatile
set search_path to pg_catalog, pg_temp
as $$
  select app_private.make_event(
    at, kind.event_type, flag.flag_key, flag.environment, after.id, after.revision,
    jsonb_build_object('scheduleId', after.id, 'flagKey', flag.flag_key)
      || case kind.event_type
        when 'flag_schedule.cancelled' then jsonb_build_object(
          'scheduledAt', app_private.iso(after.scheduled_at),
          -- Not after.cancel_reason: the tracking columns can be rolled back, and the trail goes on.
          'reason', coalesce(to_jsonb(after) ->> 'cancel_reason', 'manual_cancellation'))
        when 'flag_schedule.applied' then jsonb_build_object(
          'updates', after.updates,
          'appliedAt', app_private.iso(after.applied_at),
          'flagState', app_private.flag_state(flag) - 'description',
          'latenessMs', round(1000 * extract(epoch from after.applied_at - after.scheduled_at)))
        when 'flag_schedule.failed' then jsonb_build_object(
          'errorMessage', coalesce(after.error_message, 'unknown'),
          'failedAt', app_private.iso(at),
          'attempts', after.attempts)
        else jsonb_build_object(
          'before', app_private.schedule_state(before),
          'after', app_private.schedule_state(after))
      end)
  from (
    select case
      when after.status = before.status then 'flag_schedule.rescheduled'
      when after.status = 'pending' then 'flag_schedule.retried'
      else 'flag_schedule.' || after.status
    end
  ) as kind (event_type)
$$;

-- The API deletes no schedule; a DBA may, and deleting a flag takes its schedules along.
create or replace function app_private.schedule_deleted_event(
  at timestamptz, schedule app_public.feature_flag_schedules, flag app_public.feature_flags
)
returns app_private.audit_event
language sql
volatile
set search_path to pg_catalog, pg_temp
as $$
  select app_private.make_event(
    at, 'flag_schedule.deleted', flag.flag_key, flag.environment, schedule.id, schedule.revision + 1,
    jsonb_build_object(
      'scheduleId', schedule.id, 'flagKey', flag.flag_key, 'before', app_private.schedule_state(schedule)))
$$;

-- One of the two is null for a flag that was created or deleted.
create or replace function app_private.flag_event(
  at timestamptz, before app_public.feature_flags, after app_public.feature_flags
)
returns app_private.audit_event
language sql
volatile
set search_path to pg_catalog, pg_temp
as $$
  select app_private.make_event(
    at,
    case
      when before.id is null then 'feature_flag.created'
      when after.id is null then 'feature_flag.deleted'
      else 'feature_flag.updated'
    end,
    coalesce(after.flag_key, before.flag_key),
    coalesce(after.environment, before.environment),
    -- The schedule that is being applied, if this is its doing.
    nullif(current_setting('halyard.schedule_id', true), '')::uuid,
    coalesce(after.revision, before.revision + 1),
    jsonb_build_object('flagKey', coalesce(after.flag_key, before.flag_key))
      || case when before.id is null then '{}' else jsonb_build_object('before', app_private.flag_state(before)) end
      || case when after.id is null then '{}' else jsonb_build_object('after', app_private.flag_state(after)) end)
$$;

comment on function app_private.flag_state(app_public.feature_flags) is 'What of a flag is in an event.';
comment on function app_private.schedule_state(app_public.feature_flag_schedules) is 'What of a schedule is in an event''s before and after.';
comment on function app_private.schedule_created_event(timestamptz, app_public.feature_flag_schedules, app_public.feature_flags) is
  'The flag_schedule.created event.';
comment on function app_private.schedule_changed_event(timestamptz, app_public.feature_flag_schedules, app_public.feature_flag_schedules, app_public.feature_flags) is
  'The flag_schedule event that tells a change of status or time.';
comment on function app_private.schedule_deleted_event(timestamptz, app_public.feature_flag_schedules, app_public.feature_flags) is
  'The flag_schedule.deleted event.';
comment on function app_private.flag_event(timestamptz, app_public.feature_flags, app_public.feature_flags) is
  'The feature_flag event that tells a change from `before` to `after`.';

revoke all on function
  app_private.flag_state(app_public.feature_flags),
  app_private.schedule_state(app_public.feature_flag_schedules),
  app_private.schedule_created_event(timestamptz, app_public.feature_flag_schedules, app_public.feature_flags),
  app_private.schedule_changed_event(timestamptz, app_public.feature_flag_schedules, app_public.feature_flag_schedules, app_public.feature_flags),
  app_private.schedule_deleted_event(timestamptz, app_public.feature_flag_schedules, app_public.feature_flags),
  app_private.flag_event(timestamptz, app_public.feature_flags, app_public.feature_flags)
from public;
--! EndIncluded event_types.sql
--! Included notify.sql
-- The hint that something happened: ids only, one notification a statement. Rows are the truth, and every listener has a
-- catch-up read behind it.

create or replace function app_private.notify_audit(event_ids uuid[], schedule_ids uuid[])
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
  -- A payload must stay under 8,000 bytes; 90 ids of each kind take 7,200.
  perform pg_notify('halyard_audit', json_build_object(
    'events', event_ids[1:90],
    'schedules', schedule_ids[1:90],
    'truncated', coalesce(cardinality(event_ids), 0) > 90
  )::text);
end;
$$;

comment on function app_private.notify_audit(uuid[], uuid[]) is
  'Notifies channel halyard_audit of new events, unless the notification queue is half full.';

revoke all on function app_private.notify_audit(uuid[], uuid[]) from public;
--! EndIncluded notify.sql
--! Included trail.sql
-- The audit trail: events are made by AFTER triggers in the transaction of the change, one call a statement.
--
-- The trigger functions share one shape. Inside one subtransaction the events are made (app_private.*_events) and
-- written; whatever fails there, the change itself succeeds and the events go to the dead letters; if those are broken
-- too, to the server's log. `halyard.audit_mode = strict` turns this round: no audit, no change.

-- Writes events, and queues them for the sequencer; a hint goes out when the transaction commits.
create or replace function app_private.write_events(events app_private.audit_event[])
returns void
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
begin
  insert into audit.events (
    id, occurred_at, event_type, level, flag_key, environment, schedule_id, revision, actor_kind, admin_user_id,
    admin_email, request_id, database_user, application_name, metadata, payload)
  select
    e.id, e.occurred_at, e.event_type, e.level, e.flag_key, e.environment, e.schedule_id, e.revision, e.actor_kind,
    e.admin_user_id, e.admin_email, e.request_id, e.database_user, e.application_name, e.metadata, e.payload
  from unnest(events) as e;
  insert into audit.queue (event_id, occurred_at)
  select e.id, e.occurred_at
  from unnest(events) as e;
end;
$$;

comment on function app_private.write_events(app_private.audit_event[]) is 'Appends events to the trail and to the sequencer''s queue.';

-- A session may make itself strict, but not lax where the database is strict: anybody can set a setting of this kind.
create or replace function app_private.audit_is_strict()
returns boolean
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
  select coalesce(current_setting('halyard.audit_mode', true) = 'strict', false) or exists (
    select
    from pg_db_role_setting s
    join pg_database d on d.oid = s.setdatabase
    where d.datname = current_database() and s.setrole = 0 and 'halyard.audit_mode=strict' = any (s.setconfig)
  )
$$;

comment on function app_private.audit_is_strict() is 'Whether a change must fail when its event can''t be written.';

-- What is left when writing failed: the dead letters, and behind them the server's log. Never raises, but in strict mode.
-- The context is read without Halyard's functions: one of those may be what is broken.
create or replace function app_private.bury_events(what jsonb, error_code text, error_message text)
returns void
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
declare
  v_content jsonb := what || jsonb_build_object('context', jsonb_build_object(
    'userId', current_setting('jwt.claims.user_id', true),
    'email', current_setting('jwt.claims.email', true),
    'role', current_setting('jwt.claims.role', true),
    'requestId', current_setting('halyard.request_id', true),
    'actor', current_setting('halyard.actor', true),
    'scheduleId', current_setting('halyard.schedule_id', true),
    'databaseUser', session_user,
    'applicationName', current_setting('application_name')));
begin
  if app_private.audit_is_strict() then
    raise exception 'The audit trail can''t be written, and this database allows no change without it: %', error_message
      using errcode = 'ZF011', detail = error_code;
  end if;
  begin
    insert into audit.dead_letters (content, error_code, error_message)
    values (v_content, bury_events.error_code, bury_events.error_message);
    raise warning 'halyard: audit event not written, kept as a dead letter (%): %', error_code, error_message;
  exception when others then
    raise log 'halyard: audit event lost to the trail, and no dead letter (%; %): %', error_message, sqlerrm, v_content;
    raise warning 'halyard: audit event not written and no dead letter; it is in the server log only (%): %', error_code, error_message;
  end;
end;
$$;

comment on function app_private.bury_events(jsonb, text, text) is
  'Keeps what could not be written to the trail; raises ZF011 when halyard.audit_mode is strict.';

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
  v_events app_private.audit_event[];
  v_rows jsonb;
  v_old_rows jsonb;
begin
  begin
    if tg_op = 'INSERT' then
      select array_agg(app_private.schedule_created_event(v_at, n, f)) into v_events
      from new_rows n
      join app_public.feature_flags f on f.id = n.flag_id;
    elsif tg_op = 'UPDATE' then
      select array_agg(app_private.schedule_changed_event(v_at, o, n, f)) into v_events
      from new_rows n
      join old_rows o on o.id = n.id
      join app_public.feature_flags f on f.id = n.flag_id
      where o.status <> n.status or o.scheduled_at <> n.scheduled_at;
    else
      select array_agg(app_private.schedule_deleted_event(v_at, o, f)) into v_events
      from old_rows o
      left join app_public.feature_flags f on f.id = o.flag_id;
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
    perform app_private.bury_events(
      jsonb_build_object(
        'table', tg_table_name, 'operation', tg_op, 'at', v_at,
        'events', to_jsonb(v_events), 'rows', v_rows, 'oldRows', v_old_rows),
      sqlstate, sqlerrm);
  end;
  perform app_private.notify_audit(
    (select array_agg(e.id) from unnest(v_events) as e),
    (select array_agg(distinct e.schedule_id) from unnest(v_events) as e));
  return null;
end;
$$;

comment on function app_private.tg_feature_flag_schedules__audit() is
  'Writes one event for each schedule that a statement created, cancelled, applied, failed, rescheduled, retried or deleted.';

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
  v_events app_private.audit_event[];
  v_rows jsonb;
  v_old_rows jsonb;
begin
  begin
    if tg_op = 'INSERT' then
      select array_agg(app_private.flag_event(v_at, null, n)) into v_events from new_rows n;
    elsif tg_op = 'UPDATE' then
      select array_agg(app_private.flag_event(v_at, o, n)) into v_events
      from new_rows n
      join old_rows o on o.id = n.id
      where app_private.flag_state(o) <> app_private.flag_state(n);
    else
      select array_agg(app_private.flag_event(v_at, o, null)) into v_events from old_rows o;
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
    perform app_private.bury_events(
      jsonb_build_object(
        'table', tg_table_name, 'operation', tg_op, 'at', v_at,
        'events', to_jsonb(v_events), 'rows', v_rows, 'oldRows', v_old_rows),
      sqlstate, sqlerrm);
  end;
  perform app_private.notify_audit((select array_agg(e.id) from unnest(v_events) as e), null);
  return null;
end;
$$;

comment on function app_private.tg_feature_flags__audit() is
  'Writes one event for each flag that a statement created, changed or deleted.';

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

revoke all on function
  app_private.write_events(app_private.audit_event[]),
  app_private.audit_is_strict(),
  app_private.bury_events(jsonb, text, text),
  app_private.tg_feature_flag_schedules__audit(),
  app_private.tg_feature_flags__audit()
from public;
--! EndIncluded trail.sql
--! Included append_only.sql
-- Append-only. A statement trigger refuses what touches no row too, and TRUNCATE; the row trigger is copied to every
-- partition, and each partition gets a TRUNCATE trigger of its own when it is made (partitions.sql).
create or replace function app_private.tg__refuse()
returns trigger
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
begin
  raise exception '% of %.% is refused: it is append-only.', tg_op, tg_table_schema, tg_table_name using errcode = 'ZF009';
end;
$$;

comment on function app_private.tg__refuse() is 'Refuses a statement on a table that is append-only, whoever asks: raises ZF009.';

create or replace trigger _100_append_only
  before update or delete or truncate on audit.events
  for each statement execute function app_private.tg__refuse();
create or replace trigger _200_append_only_rows
  before update or delete on audit.events
  for each row execute function app_private.tg__refuse();
alter table audit.events enable always trigger _100_append_only;
alter table audit.events enable always trigger _200_append_only_rows;

create or replace trigger _100_append_only
  before update or delete or truncate on audit.ledger
  for each statement execute function app_private.tg__refuse();
alter table audit.ledger enable always trigger _100_append_only;

-- Truncating these would take every row past the triggers above that tell of it.
create or replace trigger _100_no_truncate
  before truncate on app_public.feature_flags
  for each statement execute function app_private.tg__refuse();
create or replace trigger _100_no_truncate
  before truncate on app_public.feature_flag_schedules
  for each statement execute function app_private.tg__refuse();
alter table app_public.feature_flags enable always trigger _100_no_truncate;
alter table app_public.feature_flag_schedules enable always trigger _100_no_truncate;

revoke all on function app_private.tg__refuse() from public;
--! EndIncluded append_only.sql
--! Included readers.sql
-- Who reads the trail. An admin needs a verified token, as everywhere. An auditor may also be a DBA at a psql prompt, who
-- has no token: there the role itself is the permission, and a token, when there is one, only narrows it.
drop policy if exists admin_select on audit.events;
create policy admin_select on audit.events
  for select to halyard_admin
  using (
    (select app_private.claim_role()) = 'admin'
    and (
      (select app_private.claim_environments()) is null
      or environment = any ((select app_private.claim_environments())::text[])
    )
  );

drop policy if exists auditor_select on audit.events;
create policy auditor_select on audit.events
  for select to halyard_auditor
  using (
    coalesce((select app_private.claim_role()), 'auditor') = 'auditor'
    and (
      (select app_private.claim_environments()) is null
      or environment = any ((select app_private.claim_environments())::text[])
    )
  );

-- Only for an auditor without limits: the numbers of other environments' events are none of their business.
drop policy if exists auditor_select on audit.ledger;
create policy auditor_select on audit.ledger
  for select to halyard_auditor
  using (
    coalesce((select app_private.claim_role()), 'auditor') = 'auditor'
    and (select app_private.claim_environments()) is null
  );

drop policy if exists auditor_select on audit.dead_letters;
create policy auditor_select on audit.dead_letters
  for select to halyard_auditor
  using (
    coalesce((select app_private.claim_role()), 'auditor') = 'auditor'
    and (select app_private.claim_environments()) is null
  );

revoke all on all tables in schema audit
  from public, halyard_admin, halyard_viewer, halyard_auditor, halyard_worker;
grant usage on schema audit to halyard_admin, halyard_auditor;
grant select on table audit.events to halyard_admin, halyard_auditor;
grant select on table audit.ledger, audit.dead_letters to halyard_auditor;
--! EndIncluded readers.sql
--! Included partitions.sql
-- The trail's monthly partitions, made ahead of time: an event without a partition goes to the dead letters.

create or replace function app_private.ensure_audit_partitions(months_ahead integer default 3)
returns integer
language plpgsql
volatile
security definer
set search_path to pg_catalog, pg_temp
set timezone to 'UTC'
as $$
declare
  v_month timestamptz;
  v_name text;
  v_made integer := 0;
begin
  -- Two workers may come at once; the second finds the partitions made.
  perform pg_advisory_xact_lock(hashtext('halyard.ensure_audit_partitions'));
  -- From last month on: an event of the first instant of a month may be dated a moment before it.
  for v_month in
    select generate_series(
      date_trunc('month', now()) - interval '1 month',
      date_trunc('month', now()) + make_interval(months => months_ahead),
      interval '1 month')
  loop
    v_name := to_char(v_month, '"events_"YYYY_MM');
    if to_regclass(format('audit.%I', v_name)) is null then
      -- Made apart and attached, because "create table … partition of" locks the whole trail: behind one long reader,
      -- every writer's event would end as a dead letter.
      execute format('create table audit.%I (like audit.events including defaults including constraints)', v_name);
      execute format('alter table audit.%I enable row level security', v_name);
      execute format(
        'alter table audit.events attach partition audit.%I for values from (%L) to (%L)',
        v_name, v_month, v_month + interval '1 month');
      execute format(
        'create trigger _100_append_only before update or delete or truncate on audit.%I '
        'for each statement execute function app_private.tg__refuse()', v_name);
      execute format('alter table audit.%I enable always trigger _100_append_only', v_name);
      execute format('alter table audit.%I enable always trigger _200_append_only_rows', v_name);
      execute format('comment on table audit.%I is %L', v_name, 'The trail of ' || to_char(v_month, 'YYYY-MM') || ' (UTC).');
      v_made := v_made + 1;
    end if;
  end loop;
  return v_made;
end;
$$;

comment on function app_private.ensure_audit_partitions(integer) is
  'Makes the trail''s partitions from last month to this many months ahead; returns how many were missing.';

revoke all on function app_private.ensure_audit_partitions(integer) from public;
grant execute on function app_private.ensure_audit_partitions(integer) to halyard_worker;

select app_private.ensure_audit_partitions();
--! EndIncluded partitions.sql
--! Included delivery.sql
-- From the trail to the outside: number the events, then hand them out to each destination behind its own cursor.

-- Ids and times are not in the order of commits, so a cursor over them would skip what commits late (28 % of the events
-- under twelve writers). So the triggers queue each event, and this gives each queued one the next number: gapless, once,
-- in the order of the queue among those that are committed. One sequencer at a time; a second one leaves at once.
create or replace function app_private.sequence_audit_events(batch integer default 1000)
returns integer
language plpgsql
volatile
security definer
set search_path to pg_catalog, pg_temp
as $$
declare
  v_last bigint;
  v_count integer;
begin
  if not pg_try_advisory_xact_lock(hashtext('halyard.sequence_audit_events')) then
    return 0;
  end if;
  -- A statement of its own, after the lock: it sees what the last sequencer committed.
  select coalesce(max(l.seq), 0) into v_last from audit.ledger l;
  with taken as (
    delete from audit.queue q
    -- An array and not `in (select …)`, which a plan may run more than once, and then take more than the batch.
    where q.id = any (array(select id from audit.queue order by id limit batch for update skip locked))
    returning q.id, q.event_id, q.occurred_at
  )
  insert into audit.ledger (seq, event_id, occurred_at)
  select v_last + row_number() over (order by t.id), t.event_id, t.occurred_at
  from taken t;
  get diagnostics v_count = row_count;
  return v_count;
end;
$$;

comment on function app_private.sequence_audit_events(integer) is
  'Gives the next numbers to up to `batch` queued events; returns how many, 0 also when another sequencer is at work.';

-- The events after a destination's cursor, in order. An event whose row is gone is handed out as a stub, so that the
-- cursor can pass it and the reader of the copy sees that it is missing.
create or replace function app_private.undelivered_audit_events(destination text, batch integer default 1000)
returns table (seq bigint, event_id uuid, occurred_at timestamptz, message text)
language sql
stable
security definer
set search_path to pg_catalog, pg_temp
as $$
  select
    l.seq,
    l.event_id,
    l.occurred_at,
    coalesce(
      app_private.shipped_message(e.payload, l.seq),
      jsonb_build_object('eventType', 'audit.missing', 'eventId', l.event_id, 'seq', l.seq)::text)
  from audit.ledger l
  left join audit.events e on e.id = l.event_id and e.occurred_at = l.occurred_at
  where l.seq > coalesce(
    (select c.last_seq from audit.cursors c where c.destination = undelivered_audit_events.destination), 0)
  order by l.seq
  limit batch
$$;

comment on function app_private.undelivered_audit_events(text, integer) is
  'Up to `batch` events that this destination has not confirmed yet, in order of seq, with the message to ship.';

-- Moves a cursor from where the caller took its batch to the batch's end. False when somebody else has moved it: a
-- forwarder that was frozen and wakes up late can't move it back.
create or replace function app_private.advance_audit_cursor(destination text, from_seq bigint, to_seq bigint)
returns boolean
language plpgsql
volatile
security definer
set search_path to pg_catalog, pg_temp
as $$
begin
  insert into audit.cursors (destination)
  values (advance_audit_cursor.destination)
  on conflict on constraint cursors_pkey do nothing;
  update audit.cursors c
  set last_seq = to_seq, updated_at = now()
  where c.destination = advance_audit_cursor.destination and c.last_seq = from_seq and to_seq >= from_seq;
  return found;
end;
$$;

comment on function app_private.advance_audit_cursor(text, bigint, bigint) is
  'Confirms that a destination has everything up to to_seq; false, and nothing changed, unless its cursor stood at from_seq.';

create or replace function app_private.audit_cursor(destination text)
returns bigint
language sql
stable
security definer
set search_path to pg_catalog, pg_temp
as $$
  select coalesce((select c.last_seq from audit.cursors c where c.destination = audit_cursor.destination), 0)
$$;

comment on function app_private.audit_cursor(text) is 'The seq up to which a destination has confirmed everything; 0 at first.';

revoke all on function
  app_private.sequence_audit_events(integer),
  app_private.undelivered_audit_events(text, integer),
  app_private.advance_audit_cursor(text, bigint, bigint),
  app_private.audit_cursor(text)
from public;
grant execute on function
  app_private.sequence_audit_events(integer),
  app_private.undelivered_audit_events(text, integer),
  app_private.advance_audit_cursor(text, bigint, bigint),
  app_private.audit_cursor(text)
to halyard_worker;
--! EndIncluded delivery.sql
--! Included readiness.sql
-- What the processes ask before they say that they are ready.

create or replace function app_private.schema_version()
returns text
language sql
stable
security definer
set search_path to pg_catalog, pg_temp
as $$ select max(m.filename) from graphile_migrate.migrations m $$;

comment on function app_private.schema_version() is 'The file name of the last migration that ran here.';

revoke all on function app_private.schema_version() from public;
grant usage on schema app_private to halyard_authenticator;
grant execute on function app_private.schema_version() to halyard_authenticator, halyard_worker;
--! EndIncluded readiness.sql
--! Included graphql.sql
-- What only GraphQL sees: typed updates in place of the table's jsonb, and smart tags.

create or replace function app_public.feature_flag_schedules_updates(schedule app_public.feature_flag_schedules)
returns app_public.flag_updates
language sql
stable
set search_path to pg_catalog, pg_temp
as $$ select jsonb_populate_record(null::app_public.flag_updates, schedule.updates) $$;

comment on function app_public.feature_flag_schedules_updates(app_public.feature_flag_schedules) is
  'What the schedule changes; a field that it leaves alone is null.';

revoke all on function app_public.feature_flag_schedules_updates(app_public.feature_flag_schedules) from public;
grant execute on function app_public.feature_flag_schedules_updates(app_public.feature_flag_schedules)
  to halyard_admin, halyard_viewer;
--! EndIncluded graphql.sql
