--! Previous: sha1:e757c8e657037abf8ffe92a021ae7ed0d836550c
--! Hash: sha1:7dfff76080086143021712915402a41e6861b9fb
--! Message: Seals, reconciliation, retention and export

-- A trail that proves itself: every numbered event is hashed into the ledger, every batch sealed and chained.

do $$
begin
  -- Behind the others, where a type's attributes can only be added.
  if not exists (
    select from pg_attribute where attrelid = 'app_private.audit_event'::regclass and attname = 'flag_id'
  ) then
    alter type app_private.audit_event add attribute flag_id uuid, add attribute reconciled boolean;
  end if;
end;
$$;

alter table audit.events add column if not exists flag_id uuid;
comment on column audit.events.flag_id is 'The flag; null in events from before seals.';
comment on column audit.events.payload is 'The event as JSON text, rendered once: what is hashed and shipped, with seq put in.';
create index if not exists events_reconciled_idx on audit.events (occurred_at) where reconciled;

alter table audit.ledger add column if not exists leaf bytea;
comment on table audit.ledger is 'The number and hash of each event: gapless from 1, each event once; kept when the event is purged. Append-only.';
comment on column audit.ledger.leaf is 'SHA-256 of 0x00 and the shipped message: the event''s leaf in its seal''s Merkle tree.';

create table if not exists audit.seals (
  seal_no bigint primary key,
  first_seq bigint not null,
  last_seq bigint not null,
  root bytea not null,
  previous_head bytea not null,
  head bytea not null,
  sealed_at timestamptz not null default clock_timestamp(),
  constraint seals_last_seq_key unique (last_seq),
  constraint seals_hashes_check check (octet_length(root) = 32 and octet_length(previous_head) = 32 and octet_length(head) = 32)
);
comment on table audit.seals is 'One row for each batch of numbered events: its Merkle root, chained to the seal before it. Append-only.';
comment on column audit.seals.seal_no is 'The seal''s number: gapless from 0, which seals nothing and only begins the chain.';
comment on column audit.seals.first_seq is 'The first event that it seals.';
comment on column audit.seals.last_seq is 'The last event that it seals.';
comment on column audit.seals.root is 'The Merkle root of the events'' leaves (RFC 6962).';
comment on column audit.seals.previous_head is 'The head of the seal before it; random for seal 0, so that no two trails have a head in common.';
comment on column audit.seals.head is 'SHA-256 of 0x02, previous_head, seal_no, first_seq, the number of events, and root: what is shipped as an anchor.';
comment on column audit.seals.sealed_at is 'When it was sealed.';
alter table audit.seals enable row level security;

-- Their parameters are other ones now.
drop function if exists app_private.make_event(timestamptz, text, text, text, uuid, bigint, jsonb);

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
--! Included event.sql
-- One audit event: who acts, what it says, its id, and its text, rendered once.
--
-- The small functions here have bodies that are bound when they are made (`return …`): they need no search_path, and so the
-- planner can put them in line (a call costs more than what they do).

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
set search_path to pg_catalog, pg_temp
as $$
  select case
    when nullif(current_setting('halyard.actor', true), '') = 'system' then 'system'
    when app_private.claim_role() is not null then 'admin'
    else 'database'
  end
$$;

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

-- An event with all that doesn't depend on its kind filled in, and its text rendered, once, for good.
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
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
declare
  v_event app_private.audit_event;
begin
  v_event.id := id;
  v_event.occurred_at := at;
  v_event.event_type := event_type;
  v_event.level := case event_type when 'flag_schedule.failed' then 'error' else 'info' end;
  v_event.flag_id := flag_id;
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
  v_event.reconciled := false;
  v_event.metadata := details || jsonb_strip_nulls(jsonb_build_object(
    'adminUserId', v_event.admin_user_id, 'adminEmail', v_event.admin_email));
  v_event.payload := app_private.render_event(v_event);
  return v_event;
end;
$$;

comment on function app_private.make_event(uuid, timestamptz, text, uuid, text, text, uuid, bigint, jsonb) is
  'An audit event with actor, request and rendered text; writes nothing.';

-- The text that is stored, hashed and shipped. Every column of audit.events is in it, so that the hash proves them all: what
-- isn't in the metadata stands before it. Nothing in it depends on a session's settings: times are rendered by iso(), and
-- jsonb holds numbers, strings and booleans only. `seq` is not known yet: app_private.shipped_message() puts it before "level".
create or replace function app_private.render_event(event app_private.audit_event)
returns text
language sql
stable
return concat(
  '{"eventType": ', to_json((event).event_type),
  ', "timestamp": "', app_private.iso((event).occurred_at), '"',
  ', "eventId": "', (event).id, '"',
  ', "level": ', to_json((event).level),
  ', "environment": ', coalesce(to_json((event).environment)::text, 'null'),
  ', "requestId": ', coalesce(to_json((event).request_id)::text, 'null'),
  ', "actorKind": ', to_json((event).actor_kind),
  ', "databaseUser": ', to_json((event).database_user),
  ', "applicationName": ', to_json((event).application_name),
  ', "flagId": "' || (event).flag_id || '"',
  ', "scheduleId": "' || (event).schedule_id || '"',
  ', "revision": ' || (event).revision,
  case when (event).reconciled then ', "reconciled": true' end,
  ', "metadata": ', (event).metadata, '}');

comment on function app_private.render_event(app_private.audit_event) is 'The event as JSON text, without its seq.';

create or replace function app_private.shipped_message(payload text, seq bigint)
returns text
language sql
immutable
parallel safe
return overlay(payload placing concat(', "seq": ', seq) from strpos(payload, ', "level": ') for 0);

comment on function app_private.shipped_message(text, bigint) is
  'The message that CloudWatch and stdout get: an event''s payload with its seq put in.';

revoke all on function
  app_private.iso(timestamptz),
  app_private.actor_kind(),
  app_private.uuid_of(bytea),
  app_private.event_id(uuid, timestamptz, bigint),
  app_private.changed_event_id(uuid, timestamptz, bigint, bigint),
  app_private.make_event(uuid, timestamptz, text, uuid, text, text, uuid, bigint, jsonb),
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
    app_private.event_id(schedule.id, schedule.created_at, schedule.revision),
    at, 'flag_schedule.created', schedule.flag_id, flag.flag_key, flag.environment, schedule.id, schedule.revision,
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
    app_private.changed_event_id(after.id, after.created_at, before.revision, after.revision),
    at, kind.event_type, after.flag_id, flag.flag_key, flag.environment, after.id, after.revision,
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
    app_private.event_id(schedule.id, schedule.created_at, schedule.revision + 1),
    at, 'flag_schedule.deleted', schedule.flag_id, flag.flag_key, flag.environment, schedule.id, schedule.revision + 1,
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
    app_private.changed_event_id(
      coalesce(after.id, before.id), coalesce(after.created_at, before.created_at), before.revision,
      coalesce(after.revision, before.revision + 1)),
    at,
    case
      when before.id is null then 'feature_flag.created'
      when after.id is null then 'feature_flag.deleted'
      else 'feature_flag.updated'
    end,
    coalesce(after.id, before.id),
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
    id, occurred_at, event_type, level, flag_id, flag_key, environment, schedule_id, revision, actor_kind, admin_user_id,
    admin_email, request_id, database_user, application_name, reconciled, metadata, payload)
  select
    e.id, e.occurred_at, e.event_type, e.level, e.flag_id, e.flag_key, e.environment, e.schedule_id, e.revision,
    e.actor_kind, e.admin_user_id, e.admin_email, e.request_id, e.database_user, e.application_name, e.reconciled,
    e.metadata, e.payload
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

create or replace trigger _100_append_only
  before update or delete or truncate on audit.seals
  for each statement execute function app_private.tg__refuse();
alter table audit.seals enable always trigger _100_append_only;

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
--! Included partitions.sql
-- The trail's monthly partitions, made ahead of time: an event without a partition goes to the dead letters.

-- Made apart and attached, because "create table … partition of" locks the whole trail: behind one long reader, every
-- writer's event would end as a dead letter.
create or replace function app_private.make_audit_partition(month timestamptz)
returns boolean
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
set timezone to 'UTC'
as $$
declare
  v_month timestamptz := date_trunc('month', month);
  v_name text := to_char(v_month, '"events_"YYYY_MM');
begin
  if to_regclass(format('audit.%I', v_name)) is not null then
    return false;
  end if;
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
  return true;
end;
$$;

comment on function app_private.make_audit_partition(timestamptz) is
  'Makes the trail''s partition for the month (UTC) of an instant, unless there is one; returns whether it did.';

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
    v_made := v_made + app_private.make_audit_partition(v_month)::integer;
  end loop;
  return v_made;
end;
$$;

comment on function app_private.ensure_audit_partitions(integer) is
  'Makes the trail''s partitions from last month to this many months ahead; returns how many were missing.';

revoke all on function app_private.make_audit_partition(timestamptz), app_private.ensure_audit_partitions(integer) from public;
grant execute on function app_private.ensure_audit_partitions(integer) to halyard_worker;

select app_private.ensure_audit_partitions();
--! EndIncluded partitions.sql
--! Included sealing.sql
-- From the queue to the ledger: number the events, and seal each batch, so that whoever holds a seal's head can tell whether
-- anything before it was changed, taken out or put in.
--
-- A seal is the root of an RFC 6962 Merkle tree over the batch's leaves, chained to the seal before it. A leaf is the hash of
-- the very message that is shipped, so that a copy outside can be checked line by line without the database.

-- RFC 6962, section 2.1: MTH({d}) = SHA-256(0x00 || d).
create or replace function app_private.leaf_hash(message text)
returns bytea
language sql
immutable
parallel safe
return sha256('\x00'::bytea || convert_to(message, 'UTF8'));

comment on function app_private.leaf_hash(text) is 'The Merkle leaf of a shipped message: SHA-256 of 0x00 and its UTF-8 bytes.';

-- What is shipped, and sealed, for an event whose row is gone before it was numbered.
create or replace function app_private.missing_message(event_id uuid, seq bigint)
returns text
language sql
immutable
parallel safe
return concat('{"eventType": "audit.missing", "eventId": "', event_id, '", "seq": ', seq, '}');

comment on function app_private.missing_message(uuid, bigint) is 'What is shipped in place of an event whose row is gone.';

-- Level by level, a last node without a partner going up as it is: the tree of RFC 6962, section 2.1, whose left half is always
-- the largest power of two. 1.5 µs a leaf.
create or replace function app_private.merkle_root(leaves bytea[])
returns bytea
language plpgsql
immutable
parallel safe
set search_path to pg_catalog, pg_temp
as $$
declare
  v_nodes bytea[] := leaves;
  v_count integer := cardinality(leaves);
  v_above bytea[];
  i integer;
begin
  if v_count = 0 then
    return sha256('');
  end if;
  while v_count > 1 loop
    v_above := '{}';
    i := 1;
    while i < v_count loop
      v_above[(i + 1) / 2] := sha256('\x01'::bytea || v_nodes[i] || v_nodes[i + 1]);
      i := i + 2;
    end loop;
    if v_count % 2 = 1 then
      v_above[(v_count + 1) / 2] := v_nodes[v_count];
    end if;
    v_nodes := v_above;
    v_count := (v_count + 1) / 2;
  end loop;
  return v_nodes[1];
end;
$$;

comment on function app_private.merkle_root(bytea[]) is 'The Merkle tree hash of leaves that are hashed already (RFC 6962, section 2.1).';

-- 0x02 keeps heads apart from leaves and nodes. Numbers are eight bytes, the most significant first.
create or replace function app_private.seal_head(previous_head bytea, seal_no bigint, first_seq bigint, events bigint, root bytea)
returns bytea
language sql
immutable
parallel safe
return sha256('\x02'::bytea || previous_head || int8send(seal_no) || int8send(first_seq) || int8send(events) || root);

comment on function app_private.seal_head(bytea, bigint, bigint, bigint, bytea) is
  'The head of a seal: SHA-256 of 0x02, the head before it, the seal''s number, its first seq, how many events it seals, and their root.';

-- Ids and times are not in the order of commits, so a cursor over them would skip what commits late (28 % of the events
-- under twelve writers). So the triggers queue each event, and this gives each queued one the next number: gapless, once,
-- in the order of the queue among those that are committed. One sequencer at a time; a second one leaves at once.
--
-- Taken rows stay in the index until vacuum can remove them, which it can't while an old transaction is open: a run that
-- looked from the start each time would walk over all that it has taken before. So a run hands the last id that it took to
-- its next call, and looks from the start again at its end, for what was committed late.
create or replace function app_private.seal_audit_events(
  batch integer default 1000,
  after bigint default 0,
  out sealed integer,
  out last_id bigint
)
language plpgsql
volatile
security definer
set search_path to pg_catalog, pg_temp
set timezone to 'UTC'
as $$
declare
  v_seal audit.seals;
  v_last_seq bigint;
  v_leaves bytea[];
begin
  sealed := 0;
  if not pg_try_advisory_xact_lock(hashtext('halyard.sequence_audit_events')) then
    return;
  end if;
  -- Statements of their own, after the lock: they see what the last sequencer committed.
  select s.* into v_seal from audit.seals s order by s.seal_no desc limit 1;
  select coalesce(max(l.seq), 0) into v_last_seq from audit.ledger l;
  with taken as (
    delete from audit.queue q
    -- An array and not `in (select …)`, which a plan may run more than once, and then take more than the batch.
    where q.id = any (array(
      select id from audit.queue where id > seal_audit_events.after order by id limit least(batch, 1000) for update skip locked))
    returning q.id, q.event_id, q.occurred_at
  ), told as (
    -- An id that is numbered already can only be one that was put in by hand: the ledger has each event once.
    select
      t.*,
      row_number() over (partition by t.event_id order by t.id) > 1
        or exists (select from audit.ledger l where l.event_id = t.event_id) as repeated
    from taken t
  ), refused as (
    insert into audit.dead_letters (content, error_code, error_message)
    select
      jsonb_build_object('event_id', t.event_id, 'occurred_at', t.occurred_at), 'ZF012',
      'The trail has an event with this id already; this one was put in by hand.'
    from told t
    where t.repeated
  ), numbered as (
    select t.event_id, t.occurred_at, v_last_seq + row_number() over (order by t.id) as seq
    from told t
    where not t.repeated
  ), hashed as (
    select
      n.*,
      app_private.leaf_hash(coalesce(
        app_private.shipped_message(e.payload, n.seq), app_private.missing_message(n.event_id, n.seq))) as leaf
    from numbered n
    left join audit.events e on e.id = n.event_id and e.occurred_at = n.occurred_at
  ), stored as (
    insert into audit.ledger (seq, event_id, occurred_at, leaf)
    select h.seq, h.event_id, h.occurred_at, h.leaf
    from hashed h
  )
  select array(select h.leaf from hashed h order by h.seq), (select max(t.id) from taken t) into v_leaves, last_id;
  sealed := cardinality(v_leaves);
  if sealed > 0 then
    perform app_private.write_seal(v_seal, v_last_seq + 1, v_leaves);
  end if;
end;
$$;

comment on function app_private.seal_audit_events(integer, bigint) is
  'Numbers and seals up to `batch` (at most 1,000) queued events whose queue id is above `after`; says how many, and the last id it took (null when there was none, or another sequencer is at work).';

create or replace function app_private.write_seal(previous audit.seals, first_seq bigint, leaves bytea[])
returns void
language sql
volatile
set search_path to pg_catalog, pg_temp
as $$
  insert into audit.seals (seal_no, first_seq, last_seq, root, previous_head, head)
  select
    n.seal_no, write_seal.first_seq, write_seal.first_seq + cardinality(leaves) - 1, n.root, n.previous_head,
    app_private.seal_head(n.previous_head, n.seal_no, write_seal.first_seq, cardinality(leaves), n.root)
  from (
    -- Without any seal before it, the chain begins anew; verification tells.
    select
      coalesce((previous).seal_no, 0) + 1,
      coalesce((previous).head, sha256('')),
      app_private.merkle_root(leaves)
  ) as n (seal_no, previous_head, root)
$$;

comment on function app_private.write_seal(audit.seals, bigint, bytea[]) is 'Appends the seal over these leaves, chained to the one before it.';

-- For processes of the version before, during a deployment.
create or replace function app_private.sequence_audit_events(batch integer default 1000)
returns integer
language sql
volatile
security definer
set search_path to pg_catalog, pg_temp
as $$ select s.sealed from app_private.seal_audit_events(batch) as s $$;

comment on function app_private.sequence_audit_events(integer) is
  'Numbers and seals up to `batch` queued events; returns how many, 0 also when another sequencer is at work.';

-- A seal as it is shipped: the copy outside is what the trail is checked against.
create or replace function app_private.seal_message(seal audit.seals)
returns text
language sql
stable
return concat(
  '{"eventType": "audit.sealed"',
  ', "timestamp": "', app_private.iso((seal).sealed_at), '"',
  ', "eventId": "', app_private.uuid_of((seal).head), '"',
  ', "level": "info", "environment": null, "requestId": null',
  ', "metadata": {"seal": ', (seal).seal_no,
  ', "firstSeq": ', (seal).first_seq,
  ', "lastSeq": ', (seal).last_seq,
  ', "root": "', encode((seal).root, 'hex'), '"',
  ', "previousHead": "', encode((seal).previous_head, 'hex'), '"',
  ', "head": "', encode((seal).head, 'hex'), '"}}');

comment on function app_private.seal_message(audit.seals) is 'The audit.sealed record that is shipped for a seal.';

revoke all on function
  app_private.leaf_hash(text),
  app_private.missing_message(uuid, bigint),
  app_private.merkle_root(bytea[]),
  app_private.seal_head(bytea, bigint, bigint, bigint, bytea),
  app_private.seal_audit_events(integer, bigint),
  app_private.write_seal(audit.seals, bigint, bytea[]),
  app_private.sequence_audit_events(integer),
  app_private.seal_message(audit.seals)
from public;
grant execute on function
  app_private.seal_audit_events(integer, bigint), app_private.sequence_audit_events(integer)
to halyard_worker;
--! EndIncluded sealing.sql
--! Included delivery.sql
-- From the ledger to the outside: hand the numbered events and the seals out to each destination behind its own cursor.

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

-- The records after a destination's cursor, in order: events by seq, and each seal behind its last event. `batch` counts
-- events. An event whose row is gone is handed out as a stub, so that the cursor can pass it and the reader of the copy sees
-- that it is missing. A cursor at seq n means: everything up to n has arrived, seals that end there too.
create or replace function app_private.undelivered_audit_events(destination text, batch integer default 1000)
returns table (seq bigint, event_id uuid, occurred_at timestamptz, message text)
language sql
stable
security definer
set search_path to pg_catalog, pg_temp
set timezone to 'UTC'
as $$
  with page as (
    select l.seq, l.event_id, l.occurred_at
    from audit.ledger l
    where l.seq > app_private.audit_cursor(undelivered_audit_events.destination)
    order by l.seq
    limit batch
  )
  select r.seq, r.event_id, r.occurred_at, r.message
  from (
    select
      0 as kind, p.seq, p.event_id, p.occurred_at,
      coalesce(app_private.shipped_message(e.payload, p.seq), app_private.missing_message(p.event_id, p.seq)) as message
    from page p
    left join audit.events e on e.id = p.event_id and e.occurred_at = p.occurred_at
    union all
    select 1, s.last_seq, app_private.uuid_of(s.head), s.sealed_at, app_private.seal_message(s)
    from audit.seals s
    where s.last_seq >= (select min(p.seq) from page p) and s.last_seq <= (select max(p.seq) from page p)
  ) as r
  order by r.seq, r.kind
$$;

comment on function app_private.undelivered_audit_events(text, integer) is
  'Up to `batch` events that this destination has not confirmed yet, in order of seq, each seal behind its last event, with the message to ship.';

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

revoke all on function
  app_private.undelivered_audit_events(text, integer),
  app_private.advance_audit_cursor(text, bigint, bigint),
  app_private.audit_cursor(text)
from public;
grant execute on function
  app_private.undelivered_audit_events(text, integer),
  app_private.advance_audit_cursor(text, bigint, bigint),
  app_private.audit_cursor(text)
to halyard_worker;
--! EndIncluded delivery.sql
--! Included verify.sql
-- Is the trail what it was when it was sealed? For an auditor, at a psql prompt or by `halyard audit verify`.
--
-- It proves that nothing sealed has changed since its head left the database. It can't prove what happened between an event's
-- writing and its seal (a fraction of a second while a worker runs), nor that the triggers were on; and who may rewrite every
-- table can rewrite the seals as well, which only the heads outside tell.

-- The instant before which events were purged. Purges are told by the trail itself: an audit.purged event counts only if it
-- is what was sealed, or waits for its seal.
create or replace function app_private.purge_horizon()
returns timestamptz
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
  select max((e.metadata ->> 'before')::timestamptz)
  from audit.events e
  left join audit.ledger l on l.event_id = e.id
  where e.event_type = 'audit.purged'
    and e.payload::jsonb -> 'metadata' = e.metadata
    and (
      l.leaf = app_private.leaf_hash(app_private.shipped_message(e.payload, l.seq))
      or exists (select from audit.queue q where q.event_id = e.id)
    )
$$;

comment on function app_private.purge_horizon() is 'Events before this instant were purged; null when none were.';

-- The slow look at an event whose columns don't render to its text: because they were changed, or because its text is from a
-- version of Halyard that rendered other keys.
create or replace function app_private.differing_columns(event audit.events)
returns text[]
language plpgsql
stable
set search_path to pg_catalog, pg_temp
set timezone to 'UTC'
as $$
declare
  v_text jsonb := event.payload;
begin
  return array(
    select c.name
    from (
      values
        ('event_type', v_text -> 'eventType', to_jsonb(event.event_type)),
        ('occurred_at', v_text -> 'timestamp', to_jsonb(app_private.iso(event.occurred_at))),
        ('id', v_text -> 'eventId', to_jsonb(event.id)),
        ('level', v_text -> 'level', to_jsonb(event.level)),
        ('environment', v_text -> 'environment', to_jsonb(event.environment)),
        ('request_id', v_text -> 'requestId', to_jsonb(event.request_id)),
        ('metadata', v_text -> 'metadata', event.metadata),
        ('flag_key', v_text #> '{metadata,flagKey}', to_jsonb(event.flag_key)),
        ('admin_user_id', v_text #> '{metadata,adminUserId}', to_jsonb(event.admin_user_id)),
        ('admin_email', v_text #> '{metadata,adminEmail}', to_jsonb(event.admin_email)),
        ('reconciled', coalesce(v_text -> 'reconciled', 'false'), to_jsonb(event.reconciled))
      union all
      -- In the text since seals came; what has none of them is older.
      select c.name, v_text -> c.key, c.value
      from (
        values
          ('actor_kind', 'actorKind', to_jsonb(event.actor_kind)),
          ('database_user', 'databaseUser', to_jsonb(event.database_user)),
          ('application_name', 'applicationName', to_jsonb(event.application_name)),
          ('flag_id', 'flagId', to_jsonb(event.flag_id)),
          ('schedule_id', 'scheduleId', to_jsonb(event.schedule_id)),
          ('revision', 'revision', to_jsonb(event.revision))
      ) as c (name, key, value)
      where v_text ? 'actorKind'
    ) as c (name, in_text, in_column)
    where coalesce(c.in_text, 'null') is distinct from coalesce(c.in_column, 'null')
  );
exception when invalid_text_representation then
  return array['payload'];
end;
$$;

comment on function app_private.differing_columns(audit.events) is
  'The columns of an event that don''t say what its text says.';

-- What is wrong with one seal's events, a row for each kind of problem; no row when nothing is.
create or replace function app_private.seal_problems(seal audit.seals, purged_before timestamptz)
returns table (status text, seqs bigint[], detail text)
language plpgsql
stable
set search_path to pg_catalog, pg_temp
set timezone to 'UTC'
as $$
declare
  v_leaves bytea[];
  v_found bytea[];
  v_missing bigint[];
  v_purged bigint[];
  v_altered bigint[];
  v_suspect bigint[];
  v_seq bigint;
  v_names text[];
begin
  select
    array_agg(l.leaf order by l.seq),
    array_agg(coalesce(h.leaf, l.leaf) order by l.seq),
    coalesce(array_agg(l.seq) filter (where e.id is null and l.occurred_at >= coalesce(purged_before, '-infinity')), '{}'),
    coalesce(array_agg(l.seq) filter (where e.id is null and l.occurred_at < purged_before), '{}'),
    coalesce(array_agg(l.seq order by l.seq) filter (where h.leaf <> l.leaf), '{}'),
    coalesce(array_agg(l.seq order by l.seq) filter (where h.leaf = l.leaf and e.payload <> app_private.render_event(row(
      e.id, e.occurred_at, e.event_type, e.level, e.flag_key, e.environment, e.schedule_id, e.revision, e.actor_kind,
      e.admin_user_id, e.admin_email, e.request_id, e.database_user, e.application_name, e.metadata, e.payload,
      e.flag_id, e.reconciled)::app_private.audit_event)), '{}')
  into v_leaves, v_found, v_missing, v_purged, v_altered, v_suspect
  from audit.ledger l
  left join audit.events e on e.id = l.event_id and e.occurred_at = l.occurred_at
  left join lateral (select app_private.leaf_hash(app_private.shipped_message(e.payload, l.seq)) as leaf) as h on true
  where l.seq between seal.first_seq and seal.last_seq;

  if coalesce(cardinality(v_leaves), 0) <> seal.last_seq - seal.first_seq + 1 then
    return query
      select
        'leaf_missing',
        array(
          select s.seq from generate_series(seal.first_seq, seal.last_seq) as s (seq)
          where not exists (select from audit.ledger l where l.seq = s.seq)),
        'The ledger''s rows of these numbers are gone, and with them which events they were.';
  elsif app_private.merkle_root(v_leaves) <> seal.root then
    if app_private.merkle_root(v_found) = seal.root then
      return query select 'leaf_altered', v_altered, 'The events are as they were sealed; their leaves in the ledger are not.';
    else
      return query
        select 'root_differs', v_altered,
          'The leaves don''t give the sealed root: an event was changed together with its leaf, or the seal was.';
    end if;
  elsif cardinality(v_altered) > 0 then
    return query select 'event_altered', v_altered, 'The text of these events isn''t what was sealed.';
  end if;

  if cardinality(v_missing) > 0 then
    return query select 'event_missing', v_missing, 'These events are gone and no purge accounts for them.';
  end if;
  foreach v_seq in array v_suspect loop
    select app_private.differing_columns(e) into v_names
    from audit.ledger l
    join audit.events e on e.id = l.event_id and e.occurred_at = l.occurred_at
    where l.seq = v_seq;
    if cardinality(v_names) > 0 then
      return query
        select 'column_differs', array[v_seq], format('Not what the event''s text says: %s.', array_to_string(v_names, ', '));
    end if;
  end loop;
  if cardinality(v_purged) > 0 then
    return query select 'purged', v_purged, format('Purged with all events before %s; the leaves are kept.', app_private.iso(purged_before));
  end if;
end;
$$;

comment on function app_private.seal_problems(audit.seals, timestamptz) is
  'Checks one seal''s events, columns, leaves and root; a row for each kind of problem, and one for what was purged.';

-- Why a seal doesn't follow from the one before it; null when it does.
create or replace function app_private.chain_problem(previous audit.seals, seal audit.seals)
returns text
language sql
immutable
set search_path to pg_catalog, pg_temp
as $$
  select case
    when seal.head <> app_private.seal_head(
      seal.previous_head, seal.seal_no, seal.first_seq, seal.last_seq - seal.first_seq + 1, seal.root)
      then 'The head isn''t that of what the seal says: the seal was changed.'
    when seal.seal_no = 0 then null
    when (previous).seal_no is null then 'There is no seal before it.'
    when seal.seal_no <> (previous).seal_no + 1
      then format('The seals %s to %s are gone.', (previous).seal_no + 1, seal.seal_no - 1)
    when seal.previous_head <> (previous).head then 'It isn''t chained to the head of the seal before it.'
    when seal.first_seq <> (previous).last_seq + 1
      then format('It begins at %s, but the seal before it ends at %s.', seal.first_seq, (previous).last_seq)
  end
$$;

comment on function app_private.chain_problem(audit.seals, audit.seals) is 'Why a seal doesn''t follow from the one before it; null when it does.';

-- What no seal covers, though it should be in one.
create or replace function app_private.unsealed_problems()
returns table (status text, seqs bigint[], detail text)
language plpgsql
stable
set search_path to pg_catalog, pg_temp
as $$
declare
  v_last bigint := (select coalesce(max(s.last_seq), 0) from audit.seals s);
begin
  return query
    select 'tail_cut', array[c.last_seq],
      format('%s has confirmed everything up to %s, but the last seal ends at %s: later ones are gone.', c.destination, c.last_seq, v_last)
    from audit.cursors c
    where c.last_seq > v_last
    order by c.destination;
  return query
    select 'not_sealed', array_agg(l.seq order by l.seq), 'These numbers are in the ledger, but behind the last seal.'
    from audit.ledger l
    where l.seq > v_last
    having count(*) > 0;
  return query
    select 'event_unsealed', null::bigint[],
      format('%s events were neither sealed nor queued for it, so they were put in by hand: %s', count(*),
        array_to_string((array_agg(e.id order by e.occurred_at))[1:5], ', ') || case when count(*) > 5 then ', …' else '' end)
    from audit.events e
    where not exists (select from audit.ledger l where l.event_id = e.id and l.occurred_at = e.occurred_at)
      and not exists (select from audit.queue q where q.event_id = e.id)
    having count(*) > 0;
end;
$$;

comment on function app_private.unsealed_problems() is 'Events that no seal covers, numbers behind the last seal, and destinations that know more than it.';

create or replace function audit.verify(from_seq bigint default 1, to_seq bigint default null)
returns table (seal_no bigint, first_seq bigint, last_seq bigint, status text, seqs bigint[], detail text)
language plpgsql
stable
security definer
set search_path to pg_catalog, pg_temp
as $$
declare
  v_seal audit.seals;
  v_previous audit.seals;
  v_horizon timestamptz;
  v_problem text;
begin
  perform app_private.require_auditor();
  v_horizon := app_private.purge_horizon();
  select s.* into v_previous
  from audit.seals s
  where s.last_seq < from_seq
  order by s.seal_no desc
  limit 1;
  if (v_previous).seal_no = 0 then
    v_problem := app_private.chain_problem(null, v_previous);
    if v_problem is not null then
      return query select v_previous.seal_no, v_previous.first_seq, v_previous.last_seq, 'chain_broken', null::bigint[], v_problem;
    end if;
  end if;
  for v_seal in
    select s.*
    from audit.seals s
    where s.last_seq >= from_seq and (to_seq is null or s.first_seq <= to_seq)
    order by s.seal_no
  loop
    v_problem := app_private.chain_problem(v_previous, v_seal);
    if v_problem is not null then
      return query select v_seal.seal_no, v_seal.first_seq, v_seal.last_seq, 'chain_broken', null::bigint[], v_problem;
    end if;
    return query
      select v_seal.seal_no, v_seal.first_seq, v_seal.last_seq, p.status, p.seqs, p.detail
      from app_private.seal_problems(v_seal, v_horizon) as p;
    if not found and v_problem is null then
      return query select v_seal.seal_no, v_seal.first_seq, v_seal.last_seq, 'ok', null::bigint[], null::text;
    end if;
    v_previous := v_seal;
  end loop;
  if to_seq is null then
    return query
      select null::bigint, null::bigint, null::bigint, p.status, p.seqs, p.detail
      from app_private.unsealed_problems() as p;
  end if;
end;
$$;

comment on function audit.verify(bigint, bigint) is
  'Checks the seals that cover the events from_seq to to_seq (all by default): a row for each seal that is ok, and one for each problem: event_altered, event_missing, column_differs, leaf_altered, leaf_missing, root_differs, chain_broken, purged. Without to_seq also what no seal covers: event_unsealed, not_sealed, tail_cut.';

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
  perform app_private.require_auditor();
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
      'firstSeq', v_seal.first_seq,
      'lastSeq', v_seal.last_seq,
      'root', encode(v_seal.root, 'hex'),
      'previousHead', encode(v_seal.previous_head, 'hex'),
      'head', encode(v_seal.head, 'hex')));
end;
$$;

comment on function audit.prove(uuid) is
  'The proof that an event is in its seal, which `halyard audit verify-proof` checks without a database; message is null when the event was purged.';

revoke all on function
  app_private.purge_horizon(),
  app_private.differing_columns(audit.events),
  app_private.seal_problems(audit.seals, timestamptz),
  app_private.chain_problem(audit.seals, audit.seals),
  app_private.unsealed_problems(),
  app_private.merkle_path(bytea[], integer),
  audit.verify(bigint, bigint),
  audit.prove(uuid)
from public;
grant execute on function audit.verify(bigint, bigint), audit.prove(uuid) to halyard_auditor;
--! EndIncluded verify.sql

-- Events that were numbered before there were seals are sealed as they are now.
alter table audit.ledger disable trigger _100_append_only;
update audit.ledger l
set leaf = app_private.leaf_hash(coalesce(
  (select app_private.shipped_message(e.payload, l.seq) from audit.events e where e.id = l.event_id and e.occurred_at = l.occurred_at),
  app_private.missing_message(l.event_id, l.seq)))
where l.leaf is null;
alter table audit.ledger enable always trigger _100_append_only;
alter table audit.ledger alter column leaf set not null;

do $$
declare
  v_seal audit.seals;
  v_leaves bytea[];
begin
  insert into audit.seals (seal_no, first_seq, last_seq, root, previous_head, head)
  select 0, 1, 0, sha256(''), g.start, app_private.seal_head(g.start, 0, 1, 0, sha256(''))
  from (select sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))) as g (start)
  where not exists (select from audit.seals);
  loop
    select s.* into v_seal from audit.seals s order by s.seal_no desc limit 1;
    v_leaves := array(select l.leaf from audit.ledger l where l.seq > v_seal.last_seq order by l.seq limit 1000);
    exit when cardinality(v_leaves) = 0;
    perform app_private.write_seal(v_seal, v_seal.last_seq + 1, v_leaves);
  end loop;
end;
$$;
