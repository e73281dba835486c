--! Previous: sha1:00eb30103bd3e665a552b03f9f8b33d1fe50f2f3
--! Hash: sha1:a5c2c6a9c56e2fd975c4d41e3360e8d650d213f0
--! Message: Schedules applied together, and events written in line

-- Writing and applying in a fraction of the time: functions that are put in line, and schedules that are applied together.

-- First attempts in the order in which they are applied, and retries apart, of which there are few. One index over
-- coalesce(next_attempt_at, scheduled_at) served neither order: every batch sorted all that was due.
create index if not exists feature_flag_schedules_pending_idx
  on app_public.feature_flag_schedules (scheduled_at, id)
  where status = 'pending';
create index if not exists feature_flag_schedules_retry_idx
  on app_public.feature_flag_schedules (next_attempt_at)
  where status = 'pending' and next_attempt_at is not null;
drop index if exists app_public.feature_flag_schedules_due_idx;

-- A flag's events in the order in which they are read, whether its environment is given or not. A key is in a few environments,
-- so what is walked past is little.
create index if not exists events_flag_key_idx on audit.events (flag_key, occurred_at desc, id desc);
drop index if exists audit.events_flag_idx;
-- What went wrong is rare: without this, a search for it in a trail where nothing did walks over all events.
create index if not exists events_level_idx on audit.events (occurred_at desc, id desc) where level <> 'info';

--! Included claims.sql
-- Who asks. The API sets these settings for each transaction (src/db.ts, pgSettings); nothing else in the database reads them.
--
-- A setting that was once set locally reads '' afterwards in the same session, and NULL in a session that never set it:
-- both mean "unknown", hence nullif. Policies call these as `(select app_private.claim_role())`, so that they run once a
-- statement and not once a row (500,000 rows: 22 ms instead of 135 ms).
--
-- Bodies that are bound when they are made (`return …`) need no search_path, so the planner puts them in line; an insert asks
-- a dozen times, and each call that isn't in line takes 6 to 15 us (bench/sql/insert.md).

create or replace function app_private.claim_user_id()
returns text
language sql
stable
parallel safe
return nullif(current_setting('jwt.claims.user_id', true), '');

create or replace function app_private.claim_email()
returns text
language sql
stable
parallel safe
return nullif(current_setting('jwt.claims.email', true), '');

create or replace function app_private.claim_role()
returns text
language sql
stable
parallel safe
return nullif(current_setting('jwt.claims.role', true), '');

-- Asked before the environments themselves: those take a call, and nearly nobody is limited.
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
return nullif(current_setting('halyard.request_id', true), '');

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

comment on function app_private.claim_user_id() is 'The user id in the verified token; null when unknown.';
comment on function app_private.claim_email() is 'The e-mail address in the verified token; null when unknown.';
comment on function app_private.claim_role() is 'admin, viewer or auditor; null when there is no verified token.';
comment on function app_private.claims_are_limited() is 'Whether the token is limited to some environments, or to none.';
comment on function app_private.claim_environments() is 'The environments that the token is limited to; null means all.';
comment on function app_private.request_id() is 'The id of the HTTP request that this transaction serves; null when unknown.';
comment on function app_private.require_admin() is 'Raises insufficient_privilege unless the verified token is an admin''s.';
comment on function app_private.environment_is_visible(text) is 'Whether the token lets through rows of this environment.';

-- The first six run inside policies, as the role that asks.
grant usage on schema app_private to halyard_admin, halyard_viewer, halyard_auditor;
revoke all on function
  app_private.claim_user_id(), app_private.claim_email(), app_private.claim_role(), app_private.claims_are_limited(),
  app_private.claim_environments(), app_private.request_id(), app_private.require_admin(), app_private.environment_is_visible(text)
from public;
grant execute on function
  app_private.claim_user_id(), app_private.claim_email(), app_private.claim_role(), app_private.claims_are_limited(),
  app_private.claim_environments(), app_private.request_id()
to halyard_admin, halyard_viewer, halyard_auditor;
--! EndIncluded claims.sql
--! Included updates.sql
-- What a schedule may change. The rules live here once: the table's CHECK, the API's functions and the apply all use them.

-- plpgsql, which keeps what it has compiled for the session: PostgreSQL prepares a CHECK anew for each statement, and there a
-- body of SQL is read, planned or put in line each time (30 us instead of 6; bench/sql/insert.md).
create or replace function app_private.updates_problem(updates jsonb)
returns text
language plpgsql
immutable
parallel safe
set search_path to pg_catalog, pg_temp
as $$
begin
  if updates is null or jsonb_typeof(updates) <> 'object' then
    return 'updates must be an object';
  elsif updates = '{}'::jsonb then
    return 'updates must have at least one of: enabled, rollout_percentage';
  elsif updates - '{enabled,rollout_percentage}'::text[] <> '{}'::jsonb then
    return 'updates may have only: enabled, rollout_percentage';
  elsif jsonb_typeof(updates -> 'enabled') <> 'boolean' then
    return 'enabled must be true or false';
  elsif jsonb_typeof(updates -> 'rollout_percentage') <> 'number'
    or updates ->> 'rollout_percentage' !~ '^[0-9]{1,3}$'
  then
    return 'rollout_percentage must be a whole number from 0 to 100';
  -- A branch of its own: the cast comes after the check that makes it safe.
  elsif (updates ->> 'rollout_percentage')::integer > 100 then
    return 'rollout_percentage must be a whole number from 0 to 100';
  end if;
  return null;
end;
$$;

comment on function app_private.updates_problem(jsonb) is
  'Why these updates can''t be scheduled, as a sentence; null when they can. Immutable, because the schedules'' CHECK calls it.';

revoke all on function app_private.updates_problem(jsonb) from public;
grant execute on function app_private.updates_problem(jsonb) to halyard_admin;
--! EndIncluded updates.sql
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
    -- Counts what the trail tells of, and nothing else: a revision without an event is an event that got lost.
    new.revision := old.revision + (
      (new.enabled, new.rollout_percentage, new.description)
      is distinct from (old.enabled, old.rollout_percentage, old.description))::integer;
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
  -- Counts what the trail tells of, and nothing else: a revision without an event is an event that got lost.
  new.revision := old.revision + ((new.status, new.scheduled_at) is distinct from (old.status, old.scheduled_at))::integer;
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
--! Included event.sql
-- One audit event: who acts, what it says, its id, and its text, rendered once.
--
-- The small functions here have bodies that are bound when they are made (`return …`): they need no search_path, and so the
-- planner can put them in line (a call costs more than what they do). It does so only where the volatility that they state is
-- that of their body: concat() and || of text with anything else are stable, casts to text and || of texts immutable.

-- ISO 8601 in UTC with microseconds, whatever the session's time zone and date style.
create or replace function app_private.iso(at timestamptz)
returns text
language sql
stable
parallel safe
return to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');

comment on function app_private.iso(timestamptz) is 'The instant as ISO 8601 text in UTC.';

-- Who acts: the apply sets halyard.actor; a verified token makes an admin; anything else was typed by hand.
create or replace function app_private.actor_kind()
returns text
language sql
stable
parallel safe
return case
  when current_setting('halyard.actor', true) = 'system' then 'system'
  when app_private.claim_role() is not null then 'admin'
  else 'database'
end;

comment on function app_private.actor_kind() is 'admin, system or database: who makes the change of this transaction.';

create or replace function app_private.uuid_of(hash bytea)
returns uuid
language sql
immutable
parallel safe
return encode(
  set_byte(set_byte(substr(hash, 1, 16), 6, get_byte(hash, 6) & 15 | 128), 8, get_byte(hash, 8) & 63 | 128), 'hex')::uuid;

comment on function app_private.uuid_of(bytea) is 'The first 16 bytes of a hash as a version 8 UUID.';

-- The id of the event that tells of a row's version. A function of the row, and not random, so that one change can have but
-- one event, however often it is rebuilt, and so that the ledger, which outlives the events, tells whether it had one.
-- A version 8 UUID (RFC 9562, section 5.8) of SHA-256 over the row's id, its birth and its revision.
create or replace function app_private.event_id(row_id uuid, created_at timestamptz, revision bigint)
returns uuid
language sql
immutable
parallel safe
return app_private.uuid_of(sha256(uuid_send(row_id) || timestamptz_send(created_at) || int8send(revision)));

comment on function app_private.event_id(uuid, timestamptz, bigint) is
  'The id of the event that tells how the row came to be at this revision.';

-- The revision stands still when whoever changed the row had switched off the trigger that counts it, as in
-- session_replication_role = replica. The change is told all the same.
create or replace function app_private.changed_event_id(
  row_id uuid, created_at timestamptz, revision_before bigint, revision_after bigint
)
returns uuid
language sql
volatile
return case
  when revision_after > coalesce(revision_before, 0) then app_private.event_id(row_id, created_at, revision_after)
  else gen_random_uuid()
end;

comment on function app_private.changed_event_id(uuid, timestamptz, bigint, bigint) is
  'The id of the event of a change: event_id(), or a random one when the row''s revision didn''t grow.';

-- The admin as the metadata has them; empty for who is none.
create or replace function app_private.admin_details()
returns jsonb
language sql
stable
return case app_private.actor_kind()
  when 'admin' then jsonb_strip_nulls(jsonb_build_object(
    'adminUserId', app_private.claim_user_id(), 'adminEmail', app_private.claim_email()))
  else '{}'
end;

comment on function app_private.admin_details() is 'adminUserId and adminEmail of an admin''s change, as far as they are known.';

-- An event with all that doesn't depend on its kind filled in. Its text is rendered when it is written.
create or replace function app_private.make_event(
  id uuid,
  at timestamptz,
  event_type text,
  flag_id uuid,
  flag_key text,
  environment text,
  schedule_id uuid,
  revision bigint,
  details jsonb
)
returns app_private.audit_event
language sql
volatile
return row(
  id,
  at,
  event_type,
  case event_type when 'flag_schedule.failed' then 'error' else 'info' end,
  flag_key,
  environment,
  schedule_id,
  revision,
  app_private.actor_kind(),
  case app_private.actor_kind() when 'admin' then app_private.claim_user_id() end,
  case app_private.actor_kind() when 'admin' then app_private.claim_email() end,
  app_private.request_id(),
  session_user::text,
  current_setting('application_name'),
  details || app_private.admin_details(),
  null,
  flag_id,
  false
)::app_private.audit_event;

comment on function app_private.make_event(uuid, timestamptz, text, uuid, text, text, uuid, bigint, jsonb) is
  'An audit event with actor and request, without its text; writes nothing.';

-- The text that is stored, hashed and shipped. Every column of audit.events is in it, so that the hash proves them all: what
-- isn't in the metadata stands before it. Nothing in it depends on a session's settings: times are rendered by iso(), and
-- jsonb holds numbers, strings and booleans only. `seq` is not known yet: app_private.shipped_message() puts it before "level".
create or replace function app_private.render_event(event app_private.audit_event)
returns text
language sql
stable
return
  -- What Halyard itself makes needs no escaping. || and not concat(), which takes half as long again.
  '{"eventType": "' || (event).event_type
  || '", "timestamp": "' || app_private.iso((event).occurred_at)
  || '", "eventId": "' || (event).id::text
  || '", "level": "' || (event).level
  || '", "environment": ' || coalesce(to_json((event).environment)::text, 'null')
  || ', "requestId": ' || coalesce(to_json((event).request_id)::text, 'null')
  || ', "actorKind": "' || (event).actor_kind
  || '", "databaseUser": ' || to_json((event).database_user)::text
  || ', "applicationName": ' || to_json((event).application_name)::text
  || coalesce(', "flagId": "' || (event).flag_id::text || '"', '')
  || coalesce(', "scheduleId": "' || (event).schedule_id::text || '"', '')
  || coalesce(', "revision": ' || (event).revision::text, '')
  || case when (event).reconciled then ', "reconciled": true' else '' end
  || ', "metadata": ' || (event).metadata::text || '}';

comment on function app_private.render_event(app_private.audit_event) is 'The event as JSON text, without its seq.';

create or replace function app_private.shipped_bytes(payload text, seq bigint)
returns bytea
language sql
stable
parallel safe
return overlay(
  convert_to(payload, 'UTF8') placing convert_to(', "seq": ' || seq::text, 'UTF8')
  from greatest(position(', "level": '::bytea in convert_to(payload, 'UTF8')), 1) for 0);

comment on function app_private.shipped_bytes(text, bigint) is 'shipped_message() in UTF-8.';

-- By bytes, which are cut four times as fast as characters.
create or replace function app_private.shipped_message(payload text, seq bigint)
returns text
language sql
stable
parallel safe
return convert_from(app_private.shipped_bytes(payload, seq), 'UTF8');

comment on function app_private.shipped_message(text, bigint) is
  'The message that CloudWatch and stdout get: an event''s payload with its seq put in.';

revoke all on function
  app_private.iso(timestamptz),
  app_private.actor_kind(),
  app_private.uuid_of(bytea),
  app_private.event_id(uuid, timestamptz, bigint),
  app_private.changed_event_id(uuid, timestamptz, bigint, bigint),
  app_private.admin_details(),
  app_private.make_event(uuid, timestamptz, text, uuid, text, text, uuid, bigint, jsonb),
  app_private.render_event(app_private.audit_event),
  app_private.shipped_bytes(text, bigint),
  app_private.shipped_message(text, bigint)
from public;
-- A DBA may want to see the very message that was shipped.
grant execute on function app_private.shipped_bytes(text, bigint), app_private.shipped_message(text, bigint)
  to halyard_admin, halyard_auditor;
--! EndIncluded event.sql
--! Included event_types.sql
-- Which change makes which event, with what metadata. Keys that are unknown are absent.
--
-- All bodies are bound when they are made, so that the planner puts them in line: in the triggers' one statement there is no
-- call left, whether it makes one event or ten thousand (bench/sql/insert.md).

-- A flag's state as it stands in before, after and flagState.
create or replace function app_private.flag_state(flag app_public.feature_flags)
returns jsonb
language sql
stable
return jsonb_build_object(
  'enabled', (flag).enabled, 'rolloutPercentage', (flag).rollout_percentage, 'description', (flag).description);

-- A schedule's state as it stands in before and after.
create or replace function app_private.schedule_state(schedule app_public.feature_flag_schedules)
returns jsonb
language sql
stable
return jsonb_build_object(
  'status', (schedule).status,
  'scheduledAt', app_private.iso((schedule).scheduled_at),
  'attempts', (schedule).attempts,
  'errorMessage', (schedule).error_message);

create or replace function app_private.schedule_created_event(
  at timestamptz, schedule app_public.feature_flag_schedules, flag app_public.feature_flags
)
returns app_private.audit_event
language sql
volatile
return app_private.make_event(
  app_private.event_id((schedule).id, (schedule).created_at, (schedule).revision),
  at, 'flag_schedule.created', (schedule).flag_id, (flag).flag_key, (flag).environment, (schedule).id, (schedule).revision,
  jsonb_build_object(
    'scheduleId', (schedule).id,
    'flagKey', (flag).flag_key,
    'scheduledAt', app_private.iso((schedule).scheduled_at),
    'updates', (schedule).updates));

create or replace function app_private.schedule_change(
  before app_public.feature_flag_schedules, after app_public.feature_flag_schedules
)
returns text
language sql
stable
return case
  when (after).status = (before).status then 'flag_schedule.rescheduled'
  when (after).status = 'pending' then 'flag_schedule.retried'
  else 'flag_schedule.' || (after).status
end;

-- One object a branch: putting parts together takes as long as making them.
create or replace function app_private.schedule_change_details(
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
    'flagState', jsonb_build_object('enabled', (flag).enabled, 'rolloutPercentage', (flag).rollout_percentage),
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
  else jsonb_build_object(
    'scheduleId', (after).id,
    'flagKey', (flag).flag_key,
    'before', app_private.schedule_state(before),
    'after', app_private.schedule_state(after))
end;

create or replace function app_private.schedule_changed_event(
  at timestamptz,
  before app_public.feature_flag_schedules,
  after app_public.feature_flag_schedules,
  flag app_public.feature_flags
)
returns app_private.audit_event
language sql
volatile
return app_private.make_event(
  app_private.changed_event_id((after).id, (after).created_at, (before).revision, (after).revision),
  at, app_private.schedule_change(before, after), (after).flag_id, (flag).flag_key, (flag).environment, (after).id,
  (after).revision, app_private.schedule_change_details(at, before, after, flag));

-- The API deletes no schedule; a DBA may, and deleting a flag takes its schedules along.
create or replace function app_private.schedule_deleted_event(
  at timestamptz, schedule app_public.feature_flag_schedules, flag app_public.feature_flags
)
returns app_private.audit_event
language sql
volatile
return app_private.make_event(
  app_private.event_id((schedule).id, (schedule).created_at, (schedule).revision + 1),
  at, 'flag_schedule.deleted', (schedule).flag_id, (flag).flag_key, (flag).environment, (schedule).id,
  (schedule).revision + 1,
  jsonb_build_object(
    'scheduleId', (schedule).id, 'flagKey', (flag).flag_key, 'before', app_private.schedule_state(schedule)));

-- One of the two is null for a flag that was created or deleted.
create or replace function app_private.flag_event(
  at timestamptz, before app_public.feature_flags, after app_public.feature_flags, schedule_id uuid
)
returns app_private.audit_event
language sql
volatile
return app_private.make_event(
  app_private.changed_event_id(
    coalesce((after).id, (before).id), coalesce((after).created_at, (before).created_at), (before).revision,
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
  end);

comment on function app_private.flag_state(app_public.feature_flags) is 'What of a flag is in an event.';
comment on function app_private.schedule_state(app_public.feature_flag_schedules) is 'What of a schedule is in an event''s before and after.';
comment on function app_private.schedule_created_event(timestamptz, app_public.feature_flag_schedules, app_public.feature_flags) is
  'The flag_schedule.created event.';
comment on function app_private.schedule_change(app_public.feature_flag_schedules, app_public.feature_flag_schedules) is
  'The event type that tells a schedule''s change.';
comment on function app_private.schedule_change_details(timestamptz, app_public.feature_flag_schedules, app_public.feature_flag_schedules, app_public.feature_flags) is
  'The metadata of the event of a schedule''s change, without the admin.';
comment on function app_private.schedule_changed_event(timestamptz, app_public.feature_flag_schedules, app_public.feature_flag_schedules, app_public.feature_flags) is
  'The flag_schedule event that tells a change of status or time.';
comment on function app_private.schedule_deleted_event(timestamptz, app_public.feature_flag_schedules, app_public.feature_flags) is
  'The flag_schedule.deleted event.';
comment on function app_private.flag_event(timestamptz, app_public.feature_flags, app_public.feature_flags, uuid) is
  'The feature_flag event that tells a change from `before` to `after`, with the schedule that made it, if one did.';

revoke all on function
  app_private.flag_state(app_public.feature_flags),
  app_private.schedule_state(app_public.feature_flag_schedules),
  app_private.schedule_created_event(timestamptz, app_public.feature_flag_schedules, app_public.feature_flags),
  app_private.schedule_change(app_public.feature_flag_schedules, app_public.feature_flag_schedules),
  app_private.schedule_change_details(timestamptz, app_public.feature_flag_schedules, app_public.feature_flag_schedules, app_public.feature_flags),
  app_private.schedule_changed_event(timestamptz, app_public.feature_flag_schedules, app_public.feature_flag_schedules, app_public.feature_flags),
  app_private.schedule_deleted_event(timestamptz, app_public.feature_flag_schedules, app_public.feature_flags),
  app_private.flag_event(timestamptz, app_public.feature_flags, app_public.feature_flags, uuid)
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

-- Writes events, and queues them for the sequencer. Here each event's text is rendered, once, for good.
create or replace function app_private.write_events(events app_private.audit_event[])
returns void
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
begin
  with written as (
    insert into audit.events (
      id, occurred_at, event_type, level, flag_id, flag_key, environment, schedule_id, revision, actor_kind, admin_user_id,
      admin_email, request_id, database_user, application_name, reconciled, metadata, payload)
    select
      e.id, e.occurred_at, e.event_type, e.level, e.flag_id, e.flag_key, e.environment, e.schedule_id, e.revision,
      e.actor_kind, e.admin_user_id, e.admin_email, e.request_id, e.database_user, e.application_name, e.reconciled,
      e.metadata, app_private.render_event(e)
    from unnest(events) as e
    returning id, occurred_at
  )
  insert into audit.queue (event_id, occurred_at)
  select w.id, w.occurred_at
  from written w;
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
    -- As text: somebody may have set it to what is no JSON.
    'applying', current_setting('halyard.applying', true),
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

-- The schedules that are being applied just now, by flag: halyard.applying is set by apply_schedules() for the length of its
-- statements. A setting and no table: it ends with the transaction whatever happens, and costs nobody else anything.
create or replace function app_private.schedules_at_work()
returns table (flag_id uuid, schedule_id uuid)
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
  select s.key::uuid, s.value::uuid
  from jsonb_each_text(nullif(current_setting('halyard.applying', true), '')::jsonb) as s
$$;

comment on function app_private.schedules_at_work() is 'The schedules whose changes of flags the running statement makes.';

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
  v_events app_private.audit_event[];
  v_rows jsonb;
  v_old_rows jsonb;
begin
  begin
    if tg_op = 'INSERT' then
      select array_agg(app_private.schedule_created_event(v_at, n, f.flag)) into v_events
      from new_rows n
      cross join lateral (select f as flag from app_public.feature_flags f where f.id = n.flag_id limit 1) as f;
    elsif tg_op = 'UPDATE' then
      select array_agg(app_private.schedule_changed_event(v_at, o, n, f.flag)) into v_events
      from old_rows o
      full join new_rows n on n.id = o.id
      cross join lateral (select f as flag from app_public.feature_flags f where f.id = n.flag_id limit 1) as f
      where (o.status, o.scheduled_at) is distinct from (n.status, n.scheduled_at);
    else
      select array_agg(app_private.schedule_deleted_event(v_at, o, f.flag)) into v_events
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
    perform app_private.bury_events(
      jsonb_build_object(
        'table', tg_table_name, 'operation', tg_op, 'at', v_at,
        'events', to_jsonb(v_events), 'rows', v_rows, 'oldRows', v_old_rows),
      sqlstate, sqlerrm);
  end;
  perform app_private.notify_audit(array_agg(e.id), array_agg(e.schedule_id)) from unnest(v_events) as e;
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
      select array_agg(app_private.flag_event(v_at, null, n, null)) into v_events from new_rows n;
    elsif tg_op = 'UPDATE' then
      select array_agg(app_private.flag_event(v_at, o, n, s.schedule_id)) into v_events
      from old_rows o
      full join new_rows n on n.id = o.id
      left join app_private.schedules_at_work() as s on s.flag_id = n.id
      where (o.enabled, o.rollout_percentage, o.description) is distinct from (n.enabled, n.rollout_percentage, n.description);
    else
      select array_agg(app_private.flag_event(v_at, o, null, null)) into v_events from old_rows o;
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
  perform app_private.notify_audit(array_agg(e.id), null) from unnest(v_events) as e;
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
  app_private.schedules_at_work(),
  app_private.tg_feature_flag_schedules__audit(),
  app_private.tg_feature_flags__audit()
from public;
--! EndIncluded trail.sql
--! Included dead_letters.sql
-- Dead letters, read again: the events that a letter holds whole, or that its rows tell of.

-- Who acted is in the letter, and not in the session that reads it.
create or replace function app_private.attribute_event(event app_private.audit_event, context jsonb)
returns app_private.audit_event
language plpgsql
stable
set search_path to pg_catalog, pg_temp
as $$
begin
  event.actor_kind := case
    when context ->> 'actor' = 'system' then 'system'
    when coalesce(context ->> 'role', '') <> '' then 'admin'
    else 'database'
  end;
  event.admin_user_id := case when event.actor_kind = 'admin' then nullif(context ->> 'userId', '') end;
  event.admin_email := case when event.actor_kind = 'admin' then nullif(context ->> 'email', '') end;
  event.request_id := nullif(context ->> 'requestId', '');
  event.database_user := coalesce(context ->> 'databaseUser', '');
  event.application_name := coalesce(context ->> 'applicationName', '');
  if event.event_type like 'feature\_flag.%' then
    -- scheduleId is in letters of the version before.
    event.schedule_id := coalesce(
      nullif(context ->> 'applying', '')::jsonb ->> event.flag_id::text, nullif(context ->> 'scheduleId', ''))::uuid;
  end if;
  event.metadata := event.metadata - '{adminUserId,adminEmail}'::text[] || jsonb_strip_nulls(jsonb_build_object(
    'adminUserId', event.admin_user_id, 'adminEmail', event.admin_email));
  return event;
end;
$$;

comment on function app_private.attribute_event(app_private.audit_event, jsonb) is
  'The event with the actor and the request of a dead letter''s context.';

-- What a flag was at an instant, by its events: the last one before it, if the next one is known to have come behind it.
create or replace function app_private.flag_state_at(flag app_public.feature_flags, at timestamptz)
returns jsonb
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
  select l.metadata -> 'after'
  from (
    select e.revision, e.metadata
    from audit.events e
    where e.flag_key = flag.flag_key and e.environment = flag.environment and e.occurred_at <= at
      and e.event_type in ('feature_flag.created', 'feature_flag.updated') and e.flag_id = flag.id
    order by e.occurred_at desc
    limit 1
  ) as l
  left join lateral (
    select e.revision, e.metadata
    from audit.events e
    where e.flag_key = flag.flag_key and e.environment = flag.environment and e.occurred_at > at
      and e.event_type in ('feature_flag.updated', 'feature_flag.deleted') and e.flag_id = flag.id
    order by e.occurred_at
    limit 1
  ) as n on true
  where not l.metadata ? 'timeApproximate'
    and not coalesce(n.metadata ? 'timeApproximate', false)
    and l.revision = coalesce(n.revision - 1, flag.revision)
$$;

comment on function app_private.flag_state_at(app_public.feature_flags, timestamptz) is
  'A flag''s state at an instant, as flag_state() has it; null when the trail doesn''t tell.';

-- An applied event tells its flag's state at the time, and not the one of today.
create or replace function app_private.with_flag_state(event app_private.audit_event, flag app_public.feature_flags)
returns app_private.audit_event
language plpgsql
stable
set search_path to pg_catalog, pg_temp
as $$
declare
  v_state jsonb;
begin
  if event.event_type = 'flag_schedule.applied' then
    v_state := app_private.flag_state_at(flag, event.occurred_at) - 'description';
    event.metadata := event.metadata - 'flagState'
      || case when v_state is null then '{}' else jsonb_build_object('flagState', v_state) end;
  end if;
  return event;
end;
$$;

comment on function app_private.with_flag_state(app_private.audit_event, app_public.feature_flags) is
  'An applied event with the flag''s state at its time, or without one when that isn''t known; others as they are.';

create or replace function app_private.remade_schedule_events(content jsonb)
returns setof app_private.audit_event
language sql
volatile
set search_path to pg_catalog, pg_temp
as $$
  select app_private.with_flag_state(
    case content ->> 'operation'
      when 'INSERT' then app_private.schedule_created_event(c.at, n, f)
      when 'UPDATE' then app_private.schedule_changed_event(c.at, o, n, f)
      else app_private.schedule_deleted_event(c.at, o, f)
    end,
    f)
  from (select (content ->> 'at')::timestamptz) as c (at)
  cross join (
    jsonb_populate_recordset(null::app_public.feature_flag_schedules, coalesce(nullif(content -> 'rows', 'null'), '[]')) as n
    full join jsonb_populate_recordset(
      null::app_public.feature_flag_schedules, coalesce(nullif(content -> 'oldRows', 'null'), '[]')) as o on o.id = n.id
    left join app_public.feature_flags f on f.id = coalesce(n.flag_id, o.flag_id))
  where content ->> 'operation' <> 'UPDATE' or o.status <> n.status or o.scheduled_at <> n.scheduled_at
$$;

comment on function app_private.remade_schedule_events(jsonb) is
  'The events of the schedules whose rows, before and after, a dead letter holds.';

create or replace function app_private.remade_flag_events(content jsonb)
returns setof app_private.audit_event
language sql
volatile
set search_path to pg_catalog, pg_temp
as $$
  select app_private.flag_event((content ->> 'at')::timestamptz, o, n, null)
  from jsonb_populate_recordset(null::app_public.feature_flags, coalesce(nullif(content -> 'rows', 'null'), '[]')) as n
  full join jsonb_populate_recordset(
    null::app_public.feature_flags, coalesce(nullif(content -> 'oldRows', 'null'), '[]')) as o on o.id = n.id
  where content ->> 'operation' <> 'UPDATE' or app_private.flag_state(o) <> app_private.flag_state(n)
$$;

comment on function app_private.remade_flag_events(jsonb) is
  'The events of the flags whose rows, before and after, a dead letter holds.';

-- The events of a letter of the triggers, marked.
create or replace function app_private.events_of_letter(content jsonb)
returns app_private.audit_event[]
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
set timezone to 'UTC'
as $$
declare
  v_sealed_since timestamptz := (select s.sealed_at from audit.seals s where s.seal_no = 0);
  v_events app_private.audit_event[];
  i integer;
begin
  if jsonb_typeof(content -> 'events') = 'array' then
    v_events := array(select e from jsonb_populate_recordset(null::app_private.audit_event, content -> 'events') as e);
  elsif content ->> 'table' = 'feature_flag_schedules' then
    v_events := array(
      select app_private.attribute_event(e, content -> 'context') from app_private.remade_schedule_events(content) as e);
  elsif content ->> 'table' = 'feature_flags' then
    v_events := array(
      select app_private.attribute_event(e, content -> 'context') from app_private.remade_flag_events(content) as e);
  else
    raise exception 'The letter isn''t one of the triggers: a person must look at it.' using errcode = 'data_exception';
  end if;
  for i in 1..cardinality(v_events) loop
    -- Revisions counted other things before there were seals, and ids were random.
    if content ->> 'at' is not null and (content ->> 'at')::timestamptz < v_sealed_since then
      v_events[i].id := gen_random_uuid();
    end if;
    v_events[i].reconciled := true;
  end loop;
  return v_events;
end;
$$;

comment on function app_private.events_of_letter(jsonb) is
  'The events that a dead letter holds or that its rows tell of, marked as reconciled; raises when it holds neither.';

-- For the search for what is lost: a letter that couldn't be replayed isn't.
create or replace function app_private.letter_rows()
returns table (row_id uuid, event_id uuid)
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
  select r.row_id, r.event_id
  from audit.dead_letters d
  cross join lateral (
    select coalesce(e ->> 'schedule_id', e ->> 'flag_id')::uuid, (e ->> 'id')::uuid
    from jsonb_array_elements(coalesce(nullif(d.content -> 'events', 'null'), '[]')) as e
    union all
    select
      (n ->> 'id')::uuid,
      app_private.event_id((n ->> 'id')::uuid, (n ->> 'created_at')::timestamptz, (n ->> 'revision')::bigint)
    from jsonb_array_elements(coalesce(nullif(d.content -> 'rows', 'null'), '[]')) as n
    union all
    select (o ->> 'id')::uuid, null
    from jsonb_array_elements(coalesce(nullif(d.content -> 'oldRows', 'null'), '[]')) as o
  ) as r (row_id, event_id)
  where d.error_code <> 'ZF012'
$$;

comment on function app_private.letter_rows() is 'The rows that dead letters tell of, with the ids of the events where they give one.';

-- Writes what the trail hasn't got yet, and makes room for it: an event may be missing because its month's partition was.
create or replace function app_private.write_rebuilt_events(events app_private.audit_event[])
returns integer
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
set jit to off
as $$
declare
  v_events app_private.audit_event[];
  v_month timestamptz;
begin
  v_events := array(
    select e
    from unnest(events) as e
    left join lateral (select l.event_id from audit.ledger l where l.event_id = e.id limit 1) as l on true
    -- What is queued is here, where it has an index.
    left join lateral (select t.id from audit.events t where t.id = e.id limit 1) as t on true
    where l.event_id is null and t.id is null
    order by e.occurred_at, e.schedule_id, e.revision);
  if cardinality(v_events) = 0 then
    return 0;
  end if;
  perform pg_advisory_xact_lock(hashtext('halyard.ensure_audit_partitions'));
  for v_month in select distinct date_trunc('month', e.occurred_at, 'UTC') from unnest(v_events) as e loop
    perform app_private.make_audit_partition(v_month);
  end loop;
  perform app_private.write_events(v_events);
  perform app_private.notify_audit((select array_agg(e.id) from unnest(v_events) as e), null);
  return cardinality(v_events);
end;
$$;

comment on function app_private.write_rebuilt_events(app_private.audit_event[]) is
  'Writes those of the events that the trail hasn''t got; returns how many.';

-- A letter that can't be replayed stays, and keeps no other from it. The sequencer's letters (ZF012) are left to a person:
-- they tell of rows that somebody put in by hand.
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
      events := events + app_private.write_rebuilt_events(app_private.events_of_letter(v_letter.content));
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
  'Brings up to `batch` dead letters with ids above `after` into the trail and deletes them; says how many events that gave, how many letters went and stayed, and the last id looked at (null when there was none).';

revoke all on function
  app_private.attribute_event(app_private.audit_event, jsonb),
  app_private.flag_state_at(app_public.feature_flags, timestamptz),
  app_private.with_flag_state(app_private.audit_event, app_public.feature_flags),
  app_private.remade_schedule_events(jsonb),
  app_private.remade_flag_events(jsonb),
  app_private.events_of_letter(jsonb),
  app_private.letter_rows(),
  app_private.write_rebuilt_events(app_private.audit_event[]),
  app_private.replay_dead_letters(bigint, integer)
from public;
--! EndIncluded dead_letters.sql
--! Included rebuild.sql
-- Events that got lost, with their dead letter too: rebuilt from the rows, which count in `revision` what the trail must tell.
--
-- What is known of such an event: the stamps of its row, and what the events before and after it say. What isn't known is
-- left out. Where the instant isn't known, the event has that of the row's last update or of the event that follows it, and
-- says so: "timeApproximate": true.

-- The revisions of rows that have no event: neither numbered (the ledger is for ever, so a purge takes nothing away), nor
-- queued, nor in a dead letter. Called within the statement that reads the rows: a row and its event are committed
-- together, so that one snapshot can't show the one without the other.
--
-- Before seals came, revisions counted every update, and ids were random: of a row from that time only what follows the first event
-- with an id of today's is certain, or what its stamp says, `certain_from`.
create or replace function app_private.missing_revisions(
  ids uuid[],
  created timestamptz[],
  revisions bigint[],
  certain_from bigint[]
)
returns table (row_id uuid, missing bigint[])
language sql
stable
set search_path to pg_catalog, pg_temp
-- Plans that don't depend on estimates: each id is looked up in the ledger by its index, and the queue is hashed.
set enable_nestloop to off
set jit to off
as $$
  with era as materialized (
    select greatest(
      coalesce((select s.sealed_at from audit.seals s where s.seal_no = 0), 'infinity'), app_private.purge_horizon()) as start
  ), versions as materialized (
    select r.id, r.created_at, r.certain_from, v.revision, app_private.event_id(r.id, r.created_at, v.revision) as event_id
    from unnest(ids, created, revisions, certain_from) as r (id, created_at, revision, certain_from)
    cross join lateral generate_series(1, r.revision) as v (revision)
  ), numbered as materialized (
    select v.*, l.event_id is not null as found
    from versions v
    left join lateral (select l.event_id from audit.ledger l where l.event_id = v.event_id limit 1) as l on true
  ), waiting as (
    select q.event_id from audit.queue q
    union
    select d.event_id from app_private.letter_rows() as d where d.event_id is not null
  ), told as (
    select n.id, n.created_at, n.certain_from, n.revision, n.found or w.event_id is not null as found
    from numbered n
    left join waiting w on w.event_id = n.event_id and not n.found
  ), counted as (
    select t.*, min(t.revision) filter (where t.found) over (partition by t.id) as first_found
    from told t
  )
  select c.id, array_agg(c.revision order by c.revision desc)
  from counted c
  cross join era
  where not c.found
    and c.revision >= case when c.created_at >= era.start then 1 else least(c.first_found, c.certain_from) end
  group by c.id
$$;

comment on function app_private.missing_revisions(uuid[], timestamptz[], bigint[], bigint[]) is
  'For each row with lost events: the revisions that have none, the last first.';

-- An event without an actor, to be given what is known of it.
create or replace function app_private.rebuilt_event(
  row_id uuid,
  created_at timestamptz,
  revision bigint,
  flag app_public.feature_flags,
  event_type text
)
returns app_private.audit_event
language plpgsql
immutable
set search_path to pg_catalog, pg_temp
as $$
declare
  v_event app_private.audit_event;
begin
  v_event.id := app_private.event_id(row_id, created_at, revision);
  v_event.event_type := event_type;
  v_event.level := case event_type when 'flag_schedule.failed' then 'error' when 'flag_schedule.changed' then 'warning' else 'info' end;
  v_event.flag_id := flag.id;
  v_event.flag_key := flag.flag_key;
  v_event.environment := flag.environment;
  v_event.revision := revision;
  v_event.actor_kind := 'unknown';
  v_event.database_user := '';
  v_event.application_name := '';
  v_event.reconciled := true;
  v_event.metadata := jsonb_build_object('flagKey', flag.flag_key);
  return v_event;
end;
$$;

comment on function app_private.rebuilt_event(uuid, timestamptz, bigint, app_public.feature_flags, text) is
  'The frame of an event that is rebuilt from its row: id, kind and flag; the actor unknown.';

-- The instant, the actor and the text, which come last.
create or replace function app_private.finished_event(
  event app_private.audit_event,
  at timestamptz,
  approximate boolean,
  admin_user_id text
)
returns app_private.audit_event
language plpgsql
stable
set search_path to pg_catalog, pg_temp
as $$
begin
  event.occurred_at := at;
  if approximate then
    event.metadata := event.metadata || '{"timeApproximate": true}';
  end if;
  if event.event_type in ('flag_schedule.applied', 'flag_schedule.failed') then
    event.actor_kind := 'system';
  elsif admin_user_id is not null then
    event.actor_kind := 'admin';
    event.admin_user_id := admin_user_id;
    event.metadata := event.metadata || jsonb_build_object('adminUserId', admin_user_id);
  end if;
  return event;
end;
$$;

comment on function app_private.finished_event(app_private.audit_event, timestamptz, boolean, text) is
  'A rebuilt event with its instant, and its admin if known.';

-- The trail's events of one row, by revision, as {type, at, metadata, flagId}. Not those of a row of this id that was deleted before
-- it was made: its revisions were others.
create or replace function app_private.known_events(flag app_public.feature_flags, schedule_id uuid, created_at timestamptz)
returns jsonb
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
  select coalesce(jsonb_object_agg(e.revision, jsonb_build_object(
    'type', e.event_type, 'at', e.occurred_at, 'metadata', e.metadata, 'flagId', e.flag_id)), '{}')
  from (
    select e.revision, e.event_type, e.occurred_at, e.metadata, e.flag_id
    from audit.events e
    where known_events.schedule_id is not null
      and e.schedule_id = known_events.schedule_id
      and e.event_type like 'flag\_schedule.%'
      and e.event_type <> 'flag_schedule.deleted'
      and e.occurred_at >= known_events.created_at
    union all
    select e.revision, e.event_type, e.occurred_at, e.metadata, e.flag_id
    from audit.events e
    where known_events.schedule_id is null
      and e.flag_key = flag.flag_key
      and e.environment = flag.environment
      and e.event_type like 'feature\_flag.%'
      and e.event_type <> 'feature_flag.deleted'
      and (e.flag_id = flag.id or e.flag_id is null)
      and e.occurred_at >= known_events.created_at
    order by 3 desc
  ) as e
  where e.revision is not null
$$;

comment on function app_private.known_events(app_public.feature_flags, uuid, timestamptz) is
  'What the trail tells of a schedule, or of the flag when schedule_id is null, since it was made: its events by revision.';

-- A flag's row has no stamp of who changed it; its kinds are known by their numbers.
create or replace function app_private.rebuilt_flag_events(flag app_public.feature_flags, missing bigint[])
returns app_private.audit_event[]
language plpgsql
stable
set search_path to pg_catalog, pg_temp
set timezone to 'UTC'
as $$
declare
  v_known jsonb := app_private.known_events(flag, null, flag.created_at);
  v_events app_private.audit_event[];
  v_event app_private.audit_event;
  v_before jsonb;
  v_after jsonb := app_private.flag_state(flag);
  v_end timestamptz := flag.updated_at;
  k bigint;
begin
  for k in reverse flag.revision..missing[cardinality(missing)] loop
    v_before := v_known #> array[(k - 1)::text, 'metadata', 'after'];
    if k = any (missing) and (v_known -> k::text is null or v_known #>> array[k::text, 'flagId'] is not null) then
      v_event := app_private.rebuilt_event(
        flag.id, flag.created_at, k, flag, case when k = 1 then 'feature_flag.created' else 'feature_flag.updated' end);
      v_event.metadata := v_event.metadata
        || case when v_before is null then '{}' else jsonb_build_object('before', v_before) end
        || case when v_after is null then '{}' else jsonb_build_object('after', v_after) end;
      v_events := v_events
        || app_private.finished_event(v_event, case when k = 1 then flag.created_at else v_end end, k > 1, null);
      v_after := null;
    else
      v_after := v_known #> array[k::text, 'metadata', 'before'];
      v_end := coalesce((v_known #>> array[k::text, 'at'])::timestamptz, v_end);
    end if;
  end loop;
  return v_events;
end;
$$;

comment on function app_private.rebuilt_flag_events(app_public.feature_flags, bigint[]) is
  'The events of a flag''s revisions that have none, from the row and from its other events.';

revoke all on function
  app_private.missing_revisions(uuid[], timestamptz[], bigint[], bigint[]),
  app_private.rebuilt_event(uuid, timestamptz, bigint, app_public.feature_flags, text),
  app_private.finished_event(app_private.audit_event, timestamptz, boolean, text),
  app_private.known_events(app_public.feature_flags, uuid, timestamptz),
  app_private.rebuilt_flag_events(app_public.feature_flags, bigint[])
from public;
--! EndIncluded rebuild.sql
--! Included metrics.sql
-- What Prometheus is told of the database, read at each scrape by every process that serves /metrics. Nothing here counts a
-- whole table: an index's end, or a count that stops at 10,000. 30 ms with 2 million events, of which 20,000 were rebuilt, and a
-- million pending schedules.

-- In the index's order, or a plan may look for 10,000 pending rows among all the others.
create or replace function app_private.schedule_metrics()
returns table (metric text, destination text, value double precision)
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
  with pending as (
    select coalesce(s.next_attempt_at, s.scheduled_at) as due_at
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
$$;

comment on function app_private.schedule_metrics() is 'Schedules that wait, and those that are overdue; counts stop at 10,000.';

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
$$;

comment on function app_private.delivery_metrics(text[]) is
  'How far each destination is behind the ledger: those that have a cursor, and these.';

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
  ) as rebuilt
  -- A rebuilt event keeps its time; its number is new. Looked up one by one: a join reads the whole ledger, for a second.
  where coalesce((select l.sequenced_at from audit.ledger l where l.event_id = rebuilt.id), now()) > now() - interval '1 day'
$$;

comment on function app_private.fault_metrics() is
  'Events that could not be written, and those that were rebuilt lately; counts stop at 10,000 and 1,000.';

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
  select 'workers_connected', null, count(*)
  from pg_stat_activity a
  where a.datname = current_database() and a.application_name = 'halyard worker presence'
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

comment on function app_private.server_metrics() is 'The notification queue, the workers that are connected, and the partitions ahead (24 at most).';

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
  for v_part in 1..5 loop
    begin
      case v_part
        when 1 then return query select * from app_private.schedule_metrics();
        when 2 then return query select * from app_private.trail_metrics();
        when 3 then return query select * from app_private.delivery_metrics(destinations);
        when 4 then return query select * from app_private.fault_metrics();
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
  'What /metrics says of the database: gauges by name, some of them by destination. What can''t be read is left out and counted.';

revoke all on function
  app_private.schedule_metrics(), app_private.trail_metrics(), app_private.delivery_metrics(text[]),
  app_private.fault_metrics(), app_private.server_metrics(), app_private.metrics(text[])
from public;
grant execute on function app_private.metrics(text[]) to halyard_worker, halyard_authenticator;
--! EndIncluded metrics.sql
--! Included readers.sql
-- Who reads the trail. An admin needs a verified token, as everywhere. An auditor may also be a DBA at a psql prompt, who
-- has no token: there the role itself is the permission, and a token, when there is one, only narrows it.
--
-- `is not null`, because the planner takes that for nearly always true. It can't know what a token says, and takes `is null` for
-- rare: it expected a third of the rows that come, and so read all of a flag's months and sorted them instead of walking
-- the index from the latest event on (bench/sql/flag_events.md).
drop policy if exists admin_select on audit.events;
create policy admin_select on audit.events
  for select to halyard_admin
  using (
    (select app_private.claim_role()) = 'admin'
    and (
      (select true where not app_private.claims_are_limited()) is not null
      or environment = any ((select app_private.claim_environments())::text[])
    )
  );

drop policy if exists auditor_select on audit.events;
create policy auditor_select on audit.events
  for select to halyard_auditor
  using (
    coalesce((select app_private.claim_role()), 'auditor') = 'auditor'
    and (
      (select true where not app_private.claims_are_limited()) is not null
      or environment = any ((select app_private.claim_environments())::text[])
    )
  );

-- An event's number is for whoever may see the event. The subquery runs under the policies above, and not at all for a reader
-- without limits.
drop policy if exists admin_select on audit.ledger;
create policy admin_select on audit.ledger
  for select to halyard_admin
  using (
    (select app_private.claim_role()) = 'admin'
    and (
      (select app_private.claim_environments()) is null
      or exists (select from audit.events e where e.id = event_id and e.occurred_at = ledger.occurred_at)
    )
  );

drop policy if exists auditor_select on audit.ledger;
create policy auditor_select on audit.ledger
  for select to halyard_auditor
  using (
    coalesce((select app_private.claim_role()), 'auditor') = 'auditor'
    and (
      (select app_private.claim_environments()) is null
      or exists (select from audit.events e where e.id = event_id and e.occurred_at = ledger.occurred_at)
    )
  );

-- Only for an auditor without limits: these tell of all environments at once.
drop policy if exists auditor_select on audit.seals;
create policy auditor_select on audit.seals
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

-- For functions that read past the policies on behalf of whoever calls them.
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

revoke all on function app_private.require_auditor() from public;

revoke all on table audit.events, audit.queue, audit.ledger, audit.seals, audit.cursors, audit.dead_letters
  from public, halyard_admin, halyard_viewer, halyard_auditor, halyard_worker;
grant usage on schema audit to halyard_admin, halyard_auditor;
grant select on table audit.events to halyard_admin, halyard_auditor;
grant select (seq, event_id, occurred_at, sequenced_at) on table audit.ledger to halyard_admin;
grant select on table audit.ledger, audit.seals, audit.dead_letters to halyard_auditor;
--! EndIncluded readers.sql
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

-- Applies schedules of as many different flags, each flag by one of them. A flag's state is decided by the schedule with the
-- latest (scheduled_at, id): one that comes to its turn late, after a retry, leaves alone what a later one has set meanwhile.
-- Two statements, however many schedules: each costs a tenth of what it costs alone (bench/sql/apply.md).
create or replace function app_private.apply_schedules(schedule_ids uuid[])
returns void
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
begin
  perform set_config('halyard.applying', jsonb_object_agg(s.flag_id, s.id)::text, true)
  from app_public.feature_flag_schedules s
  where s.id = any (schedule_ids);

  update app_public.feature_flags f
  set
    enabled = coalesce((due.updates ->> 'enabled')::boolean, f.enabled),
    rollout_percentage = coalesce((due.updates ->> 'rollout_percentage')::integer, f.rollout_percentage)
  from (
    select s.flag_id, s.updates - later.keys as updates
    from app_public.feature_flag_schedules s
    cross join lateral (
      select coalesce(array_agg(k.key), '{}') as keys
      from app_public.feature_flag_schedules l
      cross join lateral jsonb_object_keys(l.updates) as k (key)
      where l.flag_id = s.flag_id and l.status = 'applied' and (l.scheduled_at, l.id) > (s.scheduled_at, s.id)
    ) as later
    where s.id = any (schedule_ids)
  ) as due
  where f.id = due.flag_id and due.updates <> '{}';

  update app_public.feature_flag_schedules s
  set status = 'applied', attempts = s.attempts + 1, error_message = null
  where s.id = any (schedule_ids);
  perform set_config('halyard.applying', '', true);
end;
$$;

comment on function app_private.apply_schedules(uuid[]) is
  'Changes the flags of these schedules, no two of one flag, and marks them applied. Runs inside the caller''s subtransaction: all of it or nothing.';

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

-- Applies them together if that works, else each half by itself, and so on: whichever can't be applied stops no other.
create or replace function app_private.try_schedules(schedule_ids uuid[])
returns table (schedule_id uuid, outcome text)
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
declare
  v_half integer := cardinality(schedule_ids) / 2;
  v_problem text;
begin
  begin
    perform app_private.apply_schedules(schedule_ids);
    return query select i.id, 'applied' from unnest(schedule_ids) as i (id);
    return;
  exception when others then
    v_problem := sqlerrm;
  end;
  if v_half > 0 then
    return query select t.* from app_private.try_schedules(schedule_ids[:v_half]) as t;
    return query select t.* from app_private.try_schedules(schedule_ids[v_half + 1:]) as t;
    return;
  end if;
  schedule_id := schedule_ids[1];
  begin
    outcome := app_private.record_failure(schedule_id, v_problem);
  exception when others then
    -- Neither applied nor marked: it stays due, and the next run tries again.
    outcome := 'stuck';
    raise warning 'halyard: schedule % can''t be applied and its failure can''t be recorded (%): %', schedule_id, sqlstate, sqlerrm;
  end;
  return next;
end;
$$;

comment on function app_private.try_schedules(uuid[]) is
  'Applies these schedules, no two of one flag, each all or nothing; tells of each what became of it: applied, pending (it is tried again later), failed for good, or stuck (it could not even be marked).';

-- A flag is locked before its schedules and skipped while another worker has it: so a flag's schedules are applied in
-- order, whoever applies them. The ids are gathered first and looped over second, because a cursor that locks rows
-- silently skips those which the same transaction has changed since it was opened.
create or replace function app_private.apply_due(batch integer default 500)
returns table (applied integer, retried integer, failed integer, stuck integer, lateness_ms double precision[])
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
  v_turn uuid[];
  v_applied uuid[] := '{}';
  v_counts record;
begin
  perform set_config('halyard.actor', 'system', true);
  retried := 0;
  failed := 0;
  stuck := 0;
  v_ids := array(
    select s.id
    from app_public.feature_flag_schedules s
    join app_public.feature_flags f on f.id = s.flag_id
    where s.status = 'pending'
      and s.scheduled_at <= v_now
      -- After the time it was scheduled for, whenever there is one.
      and (s.next_attempt_at is null or s.next_attempt_at <= v_now)
    order by s.scheduled_at, s.id
    limit apply_due.batch
    for no key update of f skip locked
    for update of s skip locked
  );

  -- Several of one flag take turns: the first of each, then the second of each …
  for v_turn in
    select array_agg(t.id order by t.position)
    from (
      select s.id, i.position, row_number() over (partition by s.flag_id order by i.position) as turn
      from unnest(v_ids) with ordinality as i (id, position)
      join app_public.feature_flag_schedules s on s.id = i.id
    ) as t
    group by t.turn
    order by t.turn
  loop
    select
      array_agg(t.schedule_id) filter (where t.outcome = 'applied') as applied,
      count(*) filter (where t.outcome = 'pending') as retried,
      count(*) filter (where t.outcome = 'failed') as failed,
      count(*) filter (where t.outcome = 'stuck') as stuck
    into v_counts
    from app_private.try_schedules(v_turn) as t;
    v_applied := v_applied || v_counts.applied;
    retried := retried + v_counts.retried;
    failed := failed + v_counts.failed;
    stuck := stuck + v_counts.stuck;
  end loop;
  perform set_config('halyard.actor', '', true);
  applied := cardinality(v_applied);
  lateness_ms := array(
    select 1000 * extract(epoch from s.applied_at - s.scheduled_at)::double precision
    from app_public.feature_flag_schedules s
    where s.id = any (v_applied));
  return next;
end;
$$;

comment on function app_private.apply_due(integer) is
  'Applies up to `batch` due schedules, each all or nothing; says how many were applied, are to be retried, failed for good, or could not even be marked, and how late each applied one was in milliseconds.';

-- For processes of the version before, during a deployment: the type of what a function returns can't be changed in place.
create or replace function app_private.apply_due_schedules(batch integer default 500)
returns table (applied integer, retried integer, failed integer, stuck integer)
language sql
volatile
security definer
set search_path to pg_catalog, pg_temp
as $$ select d.applied, d.retried, d.failed, d.stuck from app_private.apply_due(batch) as d $$;

comment on function app_private.apply_due_schedules(integer) is
  'apply_due() without what it says of lateness.';

-- Two instants, because what is overdue may stay so for a while (a flag that somebody holds locked), and must not hide what
-- comes due meanwhile. The latest of what is overdue: the alarm has rung for it, and so for all before it, or it hasn't.
-- First attempts and retries are asked for apart: each has an index in the order of its time.
create or replace function app_private.next_due(out overdue_for double precision, out due_in double precision)
language plpgsql
volatile
security definer
set search_path to pg_catalog, pg_temp
as $$
declare
  v_now timestamptz := clock_timestamp();
begin
  select
    1000 * extract(epoch from v_now - greatest(
      (
        select max(s.scheduled_at) from app_public.feature_flag_schedules s
        where s.status = 'pending' and s.next_attempt_at is null and s.scheduled_at <= v_now
      ),
      (
        select max(s.next_attempt_at) from app_public.feature_flag_schedules s
        where s.status = 'pending' and s.next_attempt_at <= v_now and s.scheduled_at <= v_now
      ))),
    1000 * extract(epoch from least(
      (
        select min(s.scheduled_at) from app_public.feature_flag_schedules s
        where s.status = 'pending' and s.next_attempt_at is null and s.scheduled_at > v_now
      ),
      (
        select min(s.next_attempt_at) from app_public.feature_flag_schedules s
        where s.status = 'pending' and s.next_attempt_at > v_now and s.scheduled_at <= v_now
      )) - v_now)
  into overdue_for, due_in;
end;
$$;

comment on function app_private.next_due() is
  'By the database''s clock, in milliseconds: for how long the latest overdue schedule has been due, and until the next one is; null when there is none.';

revoke all on function
  app_private.retry_delay(integer), app_private.apply_schedules(uuid[]), app_private.record_failure(uuid, text),
  app_private.try_schedules(uuid[]),
  app_private.apply_due(integer), app_private.apply_due_schedules(integer), app_private.next_due()
from public;
grant usage on schema app_private to halyard_worker;
grant execute on function
  app_private.apply_due(integer), app_private.apply_due_schedules(integer), app_private.next_due()
to halyard_worker;
--! EndIncluded apply.sql

-- What nobody calls any more.
drop function if exists app_private.flag_event(timestamptz, app_public.feature_flags, app_public.feature_flags);
drop function if exists app_private.apply_schedule(uuid);
