-- Halyard's schemas as they are after all migrations, for reading and for review.
-- Generated: change migrations/ and run `npm run schema`, which writes this from the catalogs of a migrated database.

create schema app_private;
comment on schema app_private is 'Triggers and internals.';
grant usage on schema app_private to halyard_admin;
grant usage on schema app_private to halyard_auditor;
grant usage on schema app_private to halyard_authenticator;
grant usage on schema app_private to halyard_viewer;
grant usage on schema app_private to halyard_worker;

create schema app_public;
comment on schema app_public is 'What the API exposes; row-level security on every table.';
grant usage on schema app_public to halyard_admin;
grant usage on schema app_public to halyard_viewer;

create schema audit;
comment on schema audit is 'The audit trail: append-only, read with plain SQL.';
grant usage on schema audit to halyard_admin;
grant usage on schema audit to halyard_auditor;

create type app_private.audit_event as (
  id uuid,
  occurred_at timestamp with time zone,
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
comment on type app_private.audit_event is 'An audit event on its way into audit.events.';

create type app_public.flag_updates as (
  enabled boolean,
  rollout_percentage integer
);
comment on type app_public.flag_updates is 'What a schedule changes; a field that is null is left as it is.';
comment on column app_public.flag_updates.enabled is 'Turn the flag on or off.';
comment on column app_public.flag_updates.rollout_percentage is 'Set the share of users that get the feature, 0 to 100.';

create table app_public.feature_flag_schedules (
  applied_at timestamp with time zone,
  attempts integer not null default 0,
  cancel_reason text,
  cancelled_at timestamp with time zone,
  cancelled_by character varying(255),
  created_at timestamp with time zone not null default now(),
  created_by character varying(255),
  error_message text,
  flag_id uuid not null,
  id uuid not null default gen_random_uuid(),
  max_attempts integer not null default 3,
  next_attempt_at timestamp with time zone,
  revision bigint not null default 1,
  scheduled_at timestamp with time zone not null,
  status text not null default 'pending'::text,
  updated_at timestamp with time zone not null default now(),
  updates jsonb not null,
  constraint feature_flag_schedules_applied_at_check CHECK (((status = 'applied'::text) = (applied_at IS NOT NULL))),
  constraint feature_flag_schedules_attempts_check CHECK ((attempts >= 0)),
  constraint feature_flag_schedules_cancel_reason_check CHECK ((char_length(cancel_reason) <= 500)),
  constraint feature_flag_schedules_flag_id_fkey FOREIGN KEY (flag_id) REFERENCES app_public.feature_flags(id) ON DELETE CASCADE,
  constraint feature_flag_schedules_max_attempts_check CHECK (((max_attempts >= 0) AND (max_attempts <= 10))),
  constraint feature_flag_schedules_pkey PRIMARY KEY (id),
  constraint feature_flag_schedules_scheduled_at_check CHECK ((isfinite(scheduled_at) AND (scheduled_at < '10000-01-01 00:00:00+00'::timestamp with time zone))),
  constraint feature_flag_schedules_status_check CHECK ((status = ANY (ARRAY['pending'::text, 'applied'::text, 'failed'::text, 'cancelled'::text]))),
  constraint feature_flag_schedules_updates_check CHECK ((app_private.updates_problem(updates) IS NULL))
);
alter table app_public.feature_flag_schedules enable row level security;
CREATE INDEX feature_flag_schedules_applied_idx ON app_public.feature_flag_schedules USING btree (flag_id, scheduled_at, id) WHERE (status = 'applied'::text);
CREATE INDEX feature_flag_schedules_due_idx ON app_public.feature_flag_schedules USING btree (COALESCE(next_attempt_at, scheduled_at), id) WHERE (status = 'pending'::text);
CREATE INDEX feature_flag_schedules_flag_id_created_at_idx ON app_public.feature_flag_schedules USING btree (flag_id, created_at DESC, id DESC);
create policy admin_insert on app_public.feature_flag_schedules for insert to halyard_admin
  with check (((( SELECT app_private.claim_role() AS claim_role) = 'admin'::text) AND (EXISTS ( SELECT
   FROM app_public.feature_flags f
  WHERE (f.id = feature_flag_schedules.flag_id)))));
create policy admin_select on app_public.feature_flag_schedules for select to halyard_admin
  using (((( SELECT app_private.claim_role() AS claim_role) = 'admin'::text) AND (EXISTS ( SELECT
   FROM app_public.feature_flags f
  WHERE (f.id = feature_flag_schedules.flag_id)))));
create policy viewer_select on app_public.feature_flag_schedules for select to halyard_viewer
  using (((( SELECT app_private.claim_role() AS claim_role) = 'viewer'::text) AND (EXISTS ( SELECT
   FROM app_public.feature_flags f
  WHERE (f.id = feature_flag_schedules.flag_id)))));
CREATE TRIGGER _100_no_truncate BEFORE TRUNCATE ON app_public.feature_flag_schedules FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg__refuse();
alter table app_public.feature_flag_schedules enable always trigger _100_no_truncate;
CREATE TRIGGER _100_state BEFORE INSERT OR UPDATE ON app_public.feature_flag_schedules FOR EACH ROW EXECUTE FUNCTION app_private.tg_feature_flag_schedules__state();
alter table app_public.feature_flag_schedules enable trigger _100_state;
CREATE TRIGGER _200_track BEFORE INSERT OR UPDATE ON app_public.feature_flag_schedules FOR EACH ROW EXECUTE FUNCTION app_private.tg_feature_flag_schedules__track();
alter table app_public.feature_flag_schedules enable trigger _200_track;
CREATE TRIGGER _900_audit_delete AFTER DELETE ON app_public.feature_flag_schedules REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg_feature_flag_schedules__audit();
alter table app_public.feature_flag_schedules enable always trigger _900_audit_delete;
CREATE TRIGGER _900_audit_insert AFTER INSERT ON app_public.feature_flag_schedules REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg_feature_flag_schedules__audit();
alter table app_public.feature_flag_schedules enable always trigger _900_audit_insert;
CREATE TRIGGER _900_audit_update AFTER UPDATE ON app_public.feature_flag_schedules REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg_feature_flag_schedules__audit();
alter table app_public.feature_flag_schedules enable always trigger _900_audit_update;
comment on table app_public.feature_flag_schedules is 'A change of a flag at a set time.';
comment on column app_public.feature_flag_schedules.applied_at is 'When the flag was changed.';
comment on column app_public.feature_flag_schedules.attempts is 'How often it was tried.';
comment on column app_public.feature_flag_schedules.cancel_reason is 'Why it was cancelled, if a reason was given: up to 500 characters.';
comment on column app_public.feature_flag_schedules.cancelled_at is 'When it was cancelled.';
comment on column app_public.feature_flag_schedules.cancelled_by is 'The user id of the admin who cancelled it; null when unknown or not cancelled.';
comment on column app_public.feature_flag_schedules.created_at is 'When the schedule was made.';
comment on column app_public.feature_flag_schedules.created_by is 'The user id of the admin who made the schedule; null when unknown.';
comment on column app_public.feature_flag_schedules.error_message is 'Why the last attempt failed.';
comment on column app_public.feature_flag_schedules.flag_id is 'The flag to change.';
comment on column app_public.feature_flag_schedules.id is 'The schedule''s id.';
comment on column app_public.feature_flag_schedules.max_attempts is 'How often it is tried at most; with 0 as with 1 the first failure is final.';
comment on column app_public.feature_flag_schedules.next_attempt_at is 'When it is tried again after a failure; null before the first attempt and at the end.';
comment on column app_public.feature_flag_schedules.revision is 'Counts the row''s versions from 1: with the id, the identity of a change.';
comment on column app_public.feature_flag_schedules.scheduled_at is 'When to change it.';
comment on column app_public.feature_flag_schedules.status is 'pending, applied, failed or cancelled.';
comment on column app_public.feature_flag_schedules.updated_at is 'When the row was last changed.';
comment on column app_public.feature_flag_schedules.updates is 'What to change: enabled, rollout_percentage or both.';
grant select on table app_public.feature_flag_schedules to halyard_admin;
grant select on table app_public.feature_flag_schedules to halyard_viewer;
grant insert (flag_id, max_attempts, scheduled_at, updates) on app_public.feature_flag_schedules to halyard_admin;

create table app_public.feature_flags (
  created_at timestamp with time zone not null default now(),
  description text,
  enabled boolean not null default false,
  environment character varying(20) not null default 'production'::character varying,
  flag_key character varying(100) not null,
  id uuid not null default gen_random_uuid(),
  revision bigint not null default 1,
  rollout_percentage integer not null default 100,
  updated_at timestamp with time zone not null default now(),
  constraint feature_flags_description_check CHECK ((char_length(description) <= 2000)),
  constraint feature_flags_environment_check CHECK (((environment)::text ~ '^[A-Za-z0-9][A-Za-z0-9._-]*$'::text)),
  constraint feature_flags_environment_flag_key_key UNIQUE (environment, flag_key),
  constraint feature_flags_flag_key_check CHECK (((flag_key)::text ~ '^[A-Za-z0-9][A-Za-z0-9._-]*$'::text)),
  constraint feature_flags_pkey PRIMARY KEY (id),
  constraint feature_flags_rollout_percentage_check CHECK (((rollout_percentage >= 0) AND (rollout_percentage <= 100)))
);
alter table app_public.feature_flags enable row level security;
create policy admin_all on app_public.feature_flags for all to halyard_admin
  using (((( SELECT app_private.claim_role() AS claim_role) = 'admin'::text) AND ((( SELECT app_private.claim_environments() AS claim_environments) IS NULL) OR ((environment)::text = ANY (( SELECT app_private.claim_environments() AS claim_environments)::text[])))));
create policy viewer_select on app_public.feature_flags for select to halyard_viewer
  using (((( SELECT app_private.claim_role() AS claim_role) = 'viewer'::text) AND ((( SELECT app_private.claim_environments() AS claim_environments) IS NULL) OR ((environment)::text = ANY (( SELECT app_private.claim_environments() AS claim_environments)::text[])))));
CREATE TRIGGER _100_no_truncate BEFORE TRUNCATE ON app_public.feature_flags FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg__refuse();
alter table app_public.feature_flags enable always trigger _100_no_truncate;
CREATE TRIGGER _100_stamp BEFORE INSERT OR UPDATE ON app_public.feature_flags FOR EACH ROW EXECUTE FUNCTION app_private.tg_feature_flags__stamp();
alter table app_public.feature_flags enable trigger _100_stamp;
CREATE TRIGGER _200_delete_schedules BEFORE DELETE ON app_public.feature_flags FOR EACH ROW EXECUTE FUNCTION app_private.tg_feature_flags__delete_schedules();
alter table app_public.feature_flags enable trigger _200_delete_schedules;
CREATE TRIGGER _900_audit_delete AFTER DELETE ON app_public.feature_flags REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg_feature_flags__audit();
alter table app_public.feature_flags enable always trigger _900_audit_delete;
CREATE TRIGGER _900_audit_insert AFTER INSERT ON app_public.feature_flags REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg_feature_flags__audit();
alter table app_public.feature_flags enable always trigger _900_audit_insert;
CREATE TRIGGER _900_audit_update AFTER UPDATE ON app_public.feature_flags REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg_feature_flags__audit();
alter table app_public.feature_flags enable always trigger _900_audit_update;
comment on table app_public.feature_flags is 'A feature flag in one environment.';
comment on column app_public.feature_flags.created_at is 'When the flag was created.';
comment on column app_public.feature_flags.description is 'What the flag is for, up to 2,000 characters.';
comment on column app_public.feature_flags.enabled is 'Whether the flag is on.';
comment on column app_public.feature_flags.environment is 'Where the flag holds, as production or staging.';
comment on column app_public.feature_flags.flag_key is 'The name that applications ask for: 1 to 100 letters, digits, dots, hyphens or underscores.';
comment on column app_public.feature_flags.id is 'The flag''s id.';
comment on column app_public.feature_flags.revision is 'Counts the row''s versions from 1: with the id, the identity of a change.';
comment on column app_public.feature_flags.rollout_percentage is 'The share of users that get the feature while the flag is on, 0 to 100.';
comment on column app_public.feature_flags.updated_at is 'When the flag was last changed.';
grant select on table app_public.feature_flags to halyard_admin;
grant select on table app_public.feature_flags to halyard_viewer;
grant insert (description, enabled, environment, flag_key, rollout_percentage) on app_public.feature_flags to halyard_admin;
grant update (description, enabled, rollout_percentage) on app_public.feature_flags to halyard_admin;

create table audit.cursors (
  destination text not null,
  last_seq bigint not null default 0,
  updated_at timestamp with time zone not null default now(),
  constraint cursors_pkey PRIMARY KEY (destination)
);
alter table audit.cursors enable row level security;
comment on table audit.cursors is 'How far each destination has confirmed the trail.';
comment on column audit.cursors.destination is 'The destination, as stdout or cloudwatch:<group>.';
comment on column audit.cursors.last_seq is 'Everything up to here has been delivered.';
comment on column audit.cursors.updated_at is 'When it last moved.';

create table audit.dead_letters (
  content jsonb not null,
  error_code text not null,
  error_message text not null,
  id bigint not null generated always as identity,
  occurred_at timestamp with time zone not null default clock_timestamp(),
  constraint dead_letters_pkey PRIMARY KEY (id)
);
alter table audit.dead_letters enable row level security;
create policy auditor_select on audit.dead_letters for select to halyard_auditor
  using (((COALESCE(( SELECT app_private.claim_role() AS claim_role), 'auditor'::text) = 'auditor'::text) AND (( SELECT app_private.claim_environments() AS claim_environments) IS NULL)));
comment on table audit.dead_letters is 'Events that could not be written to the trail. Anything in here means that somebody must act.';
comment on column audit.dead_letters.content is 'The events, or the rows that they were to be made of, and who acted.';
comment on column audit.dead_letters.error_code is 'The SQLSTATE of the failure.';
comment on column audit.dead_letters.error_message is 'The failure.';
comment on column audit.dead_letters.id is 'Order of arrival.';
comment on column audit.dead_letters.occurred_at is 'When writing failed.';
grant select on table audit.dead_letters to halyard_auditor;

create table audit.events (
  actor_kind text not null,
  admin_email text,
  admin_user_id text,
  application_name text not null,
  database_user text not null,
  environment text,
  event_type text not null,
  flag_key text,
  id uuid not null,
  level text not null,
  metadata jsonb not null,
  occurred_at timestamp with time zone not null,
  payload text not null,
  reconciled boolean not null default false,
  request_id text,
  revision bigint,
  schedule_id uuid,
  constraint events_actor_kind_check CHECK ((actor_kind = ANY (ARRAY['admin'::text, 'system'::text, 'database'::text]))),
  constraint events_level_check CHECK ((level = ANY (ARRAY['info'::text, 'warning'::text, 'error'::text]))),
  constraint events_pkey PRIMARY KEY (id, occurred_at)
) partition by RANGE (occurred_at);
alter table audit.events enable row level security;
CREATE INDEX events_admin_idx ON ONLY audit.events USING btree (admin_user_id, occurred_at DESC) WHERE (admin_user_id IS NOT NULL);
CREATE INDEX events_flag_idx ON ONLY audit.events USING btree (flag_key, environment, occurred_at DESC);
CREATE INDEX events_occurred_at_idx ON ONLY audit.events USING btree (occurred_at DESC);
CREATE INDEX events_schedule_idx ON ONLY audit.events USING btree (schedule_id, occurred_at) WHERE (schedule_id IS NOT NULL);
CREATE INDEX events_type_idx ON ONLY audit.events USING btree (event_type, occurred_at DESC);
create policy admin_select on audit.events for select to halyard_admin
  using (((( SELECT app_private.claim_role() AS claim_role) = 'admin'::text) AND ((( SELECT app_private.claim_environments() AS claim_environments) IS NULL) OR (environment = ANY (( SELECT app_private.claim_environments() AS claim_environments)::text[])))));
create policy auditor_select on audit.events for select to halyard_auditor
  using (((COALESCE(( SELECT app_private.claim_role() AS claim_role), 'auditor'::text) = 'auditor'::text) AND ((( SELECT app_private.claim_environments() AS claim_environments) IS NULL) OR (environment = ANY (( SELECT app_private.claim_environments() AS claim_environments)::text[])))));
CREATE TRIGGER _100_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit.events FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg__refuse();
alter table audit.events enable always trigger _100_append_only;
CREATE TRIGGER _200_append_only_rows BEFORE DELETE OR UPDATE ON audit.events FOR EACH ROW EXECUTE FUNCTION app_private.tg__refuse();
alter table audit.events enable always trigger _200_append_only_rows;
comment on table audit.events is 'The audit trail: one row for each thing that happened. Append-only; partitioned by month (UTC).';
comment on column audit.events.actor_kind is 'admin (by the API), system (the worker) or database (SQL typed by hand).';
comment on column audit.events.admin_email is 'The admin''s e-mail address, from the verified token.';
comment on column audit.events.admin_user_id is 'The admin''s user id, from the verified token.';
comment on column audit.events.application_name is 'The application that the database session named itself.';
comment on column audit.events.database_user is 'The login of the database session: tells who typed SQL by hand.';
comment on column audit.events.environment is 'The flag''s environment.';
comment on column audit.events.event_type is 'What happened, as flag_schedule.created.';
comment on column audit.events.flag_key is 'The flag''s key at the time.';
comment on column audit.events.id is 'The event''s id; copies of the event elsewhere carry it as eventId.';
comment on column audit.events.level is 'info, or error for a schedule that failed for good.';
comment on column audit.events.metadata is 'The details, with keys by event type.';
comment on column audit.events.occurred_at is 'When it happened, by the database''s clock.';
comment on column audit.events.payload is 'The event as JSON text, rendered once: what is shipped, with seq put in.';
comment on column audit.events.reconciled is 'Whether the event was rebuilt afterwards because writing it failed at the time.';
comment on column audit.events.request_id is 'The HTTP request that did it; also in the API''s log and its X-Request-Id header.';
comment on column audit.events.revision is 'The revision of the row that the event tells of.';
comment on column audit.events.schedule_id is 'The schedule, also on the change of a flag that a schedule made.';
grant select on table audit.events to halyard_admin;
grant select on table audit.events to halyard_auditor;

create table audit.ledger (
  event_id uuid not null,
  occurred_at timestamp with time zone not null,
  seq bigint not null,
  sequenced_at timestamp with time zone not null default now(),
  constraint ledger_event_id_key UNIQUE (event_id),
  constraint ledger_pkey PRIMARY KEY (seq)
);
alter table audit.ledger enable row level security;
create policy auditor_select on audit.ledger for select to halyard_auditor
  using (((COALESCE(( SELECT app_private.claim_role() AS claim_role), 'auditor'::text) = 'auditor'::text) AND (( SELECT app_private.claim_environments() AS claim_environments) IS NULL)));
CREATE TRIGGER _100_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit.ledger FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg__refuse();
alter table audit.ledger enable always trigger _100_append_only;
comment on table audit.ledger is 'The number of each event: gapless from 1, each event once. Append-only.';
comment on column audit.ledger.event_id is 'The event.';
comment on column audit.ledger.occurred_at is 'The event''s time, which finds its partition.';
comment on column audit.ledger.seq is 'The event''s number: the order in which copies are shipped.';
comment on column audit.ledger.sequenced_at is 'When it got its number.';
grant select on table audit.ledger to halyard_auditor;

create table audit.queue (
  event_id uuid not null,
  id bigint not null generated always as identity,
  occurred_at timestamp with time zone not null,
  constraint queue_pkey PRIMARY KEY (id)
);
alter table audit.queue enable row level security;
comment on table audit.queue is 'Events that the sequencer has not numbered yet.';
comment on column audit.queue.event_id is 'The event.';
comment on column audit.queue.id is 'Order of arrival; not the order of commits.';
comment on column audit.queue.occurred_at is 'The event''s time, which finds its partition.';

CREATE OR REPLACE FUNCTION app_private.actor_kind()
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select case
    when nullif(current_setting('halyard.actor', true), '') = 'system' then 'system'
    when app_private.claim_role() is not null then 'admin'
    else 'database'
  end
$function$;
comment on function app_private.actor_kind() is 'admin, system or database: who makes the change of this transaction.';

CREATE OR REPLACE FUNCTION app_private.advance_audit_cursor(destination text, from_seq bigint, to_seq bigint)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  insert into audit.cursors (destination)
  values (advance_audit_cursor.destination)
  on conflict on constraint cursors_pkey do nothing;
  update audit.cursors c
  set last_seq = to_seq, updated_at = now()
  where c.destination = advance_audit_cursor.destination and c.last_seq = from_seq and to_seq >= from_seq;
  return found;
end;
$function$;
comment on function app_private.advance_audit_cursor(text,bigint,bigint) is 'Confirms that a destination has everything up to to_seq; false, and nothing changed, unless its cursor stood at from_seq.';
grant execute on function app_private.advance_audit_cursor(text,bigint,bigint) to halyard_worker;

CREATE OR REPLACE FUNCTION app_private.apply_due_schedules(batch integer DEFAULT 100)
 RETURNS TABLE(applied integer, retried integer, failed integer, stuck integer)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
AS $function$
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
$function$;
comment on function app_private.apply_due_schedules(integer) is 'Applies up to `batch` due schedules, each all or nothing; says how many were applied, are to be retried, failed for good, or could not even be marked.';
grant execute on function app_private.apply_due_schedules(integer) to halyard_worker;

CREATE OR REPLACE FUNCTION app_private.apply_schedule(schedule_id uuid)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.apply_schedule(uuid) is 'Changes the flag and marks the schedule applied. Runs inside the caller''s subtransaction: all of it or nothing.';

CREATE OR REPLACE FUNCTION app_private.audit_cursor(destination text)
 RETURNS bigint
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select coalesce((select c.last_seq from audit.cursors c where c.destination = audit_cursor.destination), 0)
$function$;
comment on function app_private.audit_cursor(text) is 'The seq up to which a destination has confirmed everything; 0 at first.';
grant execute on function app_private.audit_cursor(text) to halyard_worker;

CREATE OR REPLACE FUNCTION app_private.audit_is_strict()
 RETURNS boolean
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select coalesce(current_setting('halyard.audit_mode', true) = 'strict', false) or exists (
    select
    from pg_db_role_setting s
    join pg_database d on d.oid = s.setdatabase
    where d.datname = current_database() and s.setrole = 0 and 'halyard.audit_mode=strict' = any (s.setconfig)
  )
$function$;
comment on function app_private.audit_is_strict() is 'Whether a change must fail when its event can''t be written.';

CREATE OR REPLACE FUNCTION app_private.bury_events(what jsonb, error_code text, error_message text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.bury_events(jsonb,text,text) is 'Keeps what could not be written to the trail; raises ZF011 when halyard.audit_mode is strict.';

CREATE OR REPLACE FUNCTION app_private.claim_email()
 RETURNS text
 LANGUAGE sql
 STABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$ select nullif(current_setting('jwt.claims.email', true), '') $function$;
comment on function app_private.claim_email() is 'The e-mail address in the verified token; null when unknown.';
grant execute on function app_private.claim_email() to halyard_admin;
grant execute on function app_private.claim_email() to halyard_auditor;
grant execute on function app_private.claim_email() to halyard_viewer;

CREATE OR REPLACE FUNCTION app_private.claim_environments()
 RETURNS text[]
 LANGUAGE sql
 STABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select case
    when nullif(current_setting('jwt.claims.environments', true), '') is not null
      then array(select jsonb_array_elements_text(current_setting('jwt.claims.environments', true)::jsonb))
  end
$function$;
comment on function app_private.claim_environments() is 'The environments that the token is limited to; null means all.';
grant execute on function app_private.claim_environments() to halyard_admin;
grant execute on function app_private.claim_environments() to halyard_auditor;
grant execute on function app_private.claim_environments() to halyard_viewer;

CREATE OR REPLACE FUNCTION app_private.claim_role()
 RETURNS text
 LANGUAGE sql
 STABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$ select nullif(current_setting('jwt.claims.role', true), '') $function$;
comment on function app_private.claim_role() is 'admin, viewer or auditor; null when there is no verified token.';
grant execute on function app_private.claim_role() to halyard_admin;
grant execute on function app_private.claim_role() to halyard_auditor;
grant execute on function app_private.claim_role() to halyard_viewer;

CREATE OR REPLACE FUNCTION app_private.claim_user_id()
 RETURNS text
 LANGUAGE sql
 STABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$ select nullif(current_setting('jwt.claims.user_id', true), '') $function$;
comment on function app_private.claim_user_id() is 'The user id in the verified token; null when unknown.';
grant execute on function app_private.claim_user_id() to halyard_admin;
grant execute on function app_private.claim_user_id() to halyard_auditor;
grant execute on function app_private.claim_user_id() to halyard_viewer;

CREATE OR REPLACE FUNCTION app_private.ensure_audit_partitions(months_ahead integer DEFAULT 3)
 RETURNS integer
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
AS $function$
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
$function$;
comment on function app_private.ensure_audit_partitions(integer) is 'Makes the trail''s partitions from last month to this many months ahead; returns how many were missing.';
grant execute on function app_private.ensure_audit_partitions(integer) to halyard_worker;

CREATE OR REPLACE FUNCTION app_private.environment_is_visible(environment text)
 RETURNS boolean
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select app_private.claim_environments() is null or environment = any (app_private.claim_environments())
$function$;
comment on function app_private.environment_is_visible(text) is 'Whether the token lets through rows of this environment.';

CREATE OR REPLACE FUNCTION app_private.flag_event(at timestamp with time zone, before app_public.feature_flags, after app_public.feature_flags)
 RETURNS app_private.audit_event
 LANGUAGE sql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.flag_event(timestamp with time zone,app_public.feature_flags,app_public.feature_flags) is 'The feature_flag event that tells a change from `before` to `after`.';

CREATE OR REPLACE FUNCTION app_private.flag_state(flag app_public.feature_flags)
 RETURNS jsonb
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select jsonb_build_object(
    'enabled', flag.enabled, 'rolloutPercentage', flag.rollout_percentage, 'description', flag.description)
$function$;
comment on function app_private.flag_state(app_public.feature_flags) is 'What of a flag is in an event.';

CREATE OR REPLACE FUNCTION app_private.iso(at timestamp with time zone)
 RETURNS text
 LANGUAGE sql
 STABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$ select to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') $function$;
comment on function app_private.iso(timestamp with time zone) is 'The instant as ISO 8601 text in UTC.';

CREATE OR REPLACE FUNCTION app_private.lock_schedule(schedule_id uuid)
 RETURNS app_public.feature_flag_schedules
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.lock_schedule(uuid) is 'Locks and returns a schedule for an admin''s change; raises insufficient_privilege or ZF002.';

CREATE OR REPLACE FUNCTION app_private.make_event(at timestamp with time zone, event_type text, flag_key text, environment text, schedule_id uuid, revision bigint, details jsonb)
 RETURNS app_private.audit_event
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.make_event(timestamp with time zone,text,text,text,uuid,bigint,jsonb) is 'An audit event with actor, request and rendered text; writes nothing.';

CREATE OR REPLACE FUNCTION app_private.next_due(OUT overdue_for double precision, OUT due_in double precision)
 RETURNS record
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.next_due() is 'By the database''s clock, in milliseconds: for how long the latest overdue schedule has been due, and until the next one is; null when there is none.';
grant execute on function app_private.next_due() to halyard_worker;

CREATE OR REPLACE FUNCTION app_private.notify_audit(event_ids uuid[], schedule_ids uuid[])
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.notify_audit(uuid[],uuid[]) is 'Notifies channel halyard_audit of new events, unless the notification queue is half full.';

CREATE OR REPLACE FUNCTION app_private.record_failure(schedule_id uuid, problem text)
 RETURNS text
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.record_failure(uuid,text) is 'Counts a failed attempt: pending again with a time for the next one, or failed for good. Returns the status.';

CREATE OR REPLACE FUNCTION app_private.render_event(event app_private.audit_event)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select concat(
    '{"eventType": ', to_json(event.event_type),
    ', "timestamp": "', app_private.iso(event.occurred_at), '"',
    ', "eventId": "', event.id, '"',
    ', "level": ', to_json(event.level),
    ', "environment": ', coalesce(to_json(event.environment)::text, 'null'),
    ', "requestId": ', coalesce(to_json(event.request_id)::text, 'null'),
    ', "metadata": ', event.metadata, '}')
$function$;
comment on function app_private.render_event(app_private.audit_event) is 'The event as JSON text, without its seq.';

CREATE OR REPLACE FUNCTION app_private.request_id()
 RETURNS text
 LANGUAGE sql
 STABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$ select nullif(current_setting('halyard.request_id', true), '') $function$;
comment on function app_private.request_id() is 'The id of the HTTP request that this transaction serves; null when unknown.';
grant execute on function app_private.request_id() to halyard_admin;
grant execute on function app_private.request_id() to halyard_auditor;
grant execute on function app_private.request_id() to halyard_viewer;

CREATE OR REPLACE FUNCTION app_private.require_admin()
 RETURNS void
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if app_private.claim_role() is distinct from 'admin' then
    raise exception 'Only an admin may do this.' using errcode = 'insufficient_privilege';
  end if;
end;
$function$;
comment on function app_private.require_admin() is 'Raises insufficient_privilege unless the verified token is an admin''s.';

CREATE OR REPLACE FUNCTION app_private.require_schedulable(scheduled_at timestamp with time zone)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if scheduled_at is null then
    raise exception 'scheduled_at is required.' using errcode = 'ZF006';
  elsif not isfinite(scheduled_at) or scheduled_at >= timestamptz '10000-01-01 00:00:00+00' then
    raise exception 'scheduled_at must be before the year 10000.' using errcode = 'ZF006';
  elsif scheduled_at <= clock_timestamp() then
    raise exception 'scheduled_at must be in the future.' using errcode = 'ZF005';
  end if;
end;
$function$;
comment on function app_private.require_schedulable(timestamp with time zone) is 'Raises ZF005 for a time that has passed, ZF006 for one that is missing or beyond the year 9999.';
grant execute on function app_private.require_schedulable(timestamp with time zone) to halyard_admin;

CREATE OR REPLACE FUNCTION app_private.retry_delay(attempts integer)
 RETURNS interval
 LANGUAGE sql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select least(
    coalesce(nullif(current_setting('halyard.retry_base', true), '')::interval, interval '1 second')
      * power(2, least(attempts, 20) - 1),
    interval '1 hour'
  ) * (0.5 + random() / 2)
$function$;
comment on function app_private.retry_delay(integer) is 'Exponential back-off with jitter after this many failed attempts (1 or more).';

CREATE OR REPLACE FUNCTION app_private.schedule_changed_event(at timestamp with time zone, before app_public.feature_flag_schedules, after app_public.feature_flag_schedules, flag app_public.feature_flags)
 RETURNS app_private.audit_event
 LANGUAGE sql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.schedule_changed_event(timestamp with time zone,app_public.feature_flag_schedules,app_public.feature_flag_schedules,app_public.feature_flags) is 'The flag_schedule event that tells a change of status or time.';

CREATE OR REPLACE FUNCTION app_private.schedule_created_event(at timestamp with time zone, schedule app_public.feature_flag_schedules, flag app_public.feature_flags)
 RETURNS app_private.audit_event
 LANGUAGE sql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select app_private.make_event(
    at, 'flag_schedule.created', flag.flag_key, flag.environment, schedule.id, schedule.revision,
    jsonb_build_object(
      'scheduleId', schedule.id,
      'flagKey', flag.flag_key,
      'scheduledAt', app_private.iso(schedule.scheduled_at),
      'updates', schedule.updates))
$function$;
comment on function app_private.schedule_created_event(timestamp with time zone,app_public.feature_flag_schedules,app_public.feature_flags) is 'The flag_schedule.created event.';

CREATE OR REPLACE FUNCTION app_private.schedule_deleted_event(at timestamp with time zone, schedule app_public.feature_flag_schedules, flag app_public.feature_flags)
 RETURNS app_private.audit_event
 LANGUAGE sql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select app_private.make_event(
    at, 'flag_schedule.deleted', flag.flag_key, flag.environment, schedule.id, schedule.revision + 1,
    jsonb_build_object(
      'scheduleId', schedule.id, 'flagKey', flag.flag_key, 'before', app_private.schedule_state(schedule)))
$function$;
comment on function app_private.schedule_deleted_event(timestamp with time zone,app_public.feature_flag_schedules,app_public.feature_flags) is 'The flag_schedule.deleted event.';

CREATE OR REPLACE FUNCTION app_private.schedule_state(schedule app_public.feature_flag_schedules)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select jsonb_build_object(
    'status', schedule.status,
    'scheduledAt', app_private.iso(schedule.scheduled_at),
    'attempts', schedule.attempts,
    'errorMessage', schedule.error_message)
$function$;
comment on function app_private.schedule_state(app_public.feature_flag_schedules) is 'What of a schedule is in an event''s before and after.';

CREATE OR REPLACE FUNCTION app_private.schema_version()
 RETURNS text
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$ select max(m.filename) from graphile_migrate.migrations m $function$;
comment on function app_private.schema_version() is 'The file name of the last migration that ran here.';
grant execute on function app_private.schema_version() to halyard_authenticator;
grant execute on function app_private.schema_version() to halyard_worker;

CREATE OR REPLACE FUNCTION app_private.sequence_audit_events(batch integer DEFAULT 1000)
 RETURNS integer
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.sequence_audit_events(integer) is 'Gives the next numbers to up to `batch` queued events; returns how many, 0 also when another sequencer is at work.';
grant execute on function app_private.sequence_audit_events(integer) to halyard_worker;

CREATE OR REPLACE FUNCTION app_private.shipped_message(payload text, seq bigint)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select overlay(payload placing concat(', "seq": ', seq) from strpos(payload, ', "level": ') for 0)
$function$;
comment on function app_private.shipped_message(text,bigint) is 'The message that CloudWatch and stdout get: an event''s payload with its seq put in.';
grant execute on function app_private.shipped_message(text,bigint) to halyard_auditor;

CREATE OR REPLACE FUNCTION app_private.tg__refuse()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  raise exception '% of %.% is refused: it is append-only.', tg_op, tg_table_schema, tg_table_name using errcode = 'ZF009';
end;
$function$;
comment on function app_private.tg__refuse() is 'Refuses a statement on a table that is append-only, whoever asks: raises ZF009.';

CREATE OR REPLACE FUNCTION app_private.tg_feature_flag_schedules__audit()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
AS $function$
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
$function$;
comment on function app_private.tg_feature_flag_schedules__audit() is 'Writes one event for each schedule that a statement created, cancelled, applied, failed, rescheduled, retried or deleted.';

CREATE OR REPLACE FUNCTION app_private.tg_feature_flag_schedules__state()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.tg_feature_flag_schedules__state() is 'The state machine: raises ZF004 for a transition that isn''t allowed, ZF010 for a change of what is fixed; stamps applied_at and revision.';

CREATE OR REPLACE FUNCTION app_private.tg_feature_flag_schedules__track()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.tg_feature_flag_schedules__track() is 'Stamps created_by, cancelled_by and cancelled_at from the claims; what a client sends for them is ignored.';

CREATE OR REPLACE FUNCTION app_private.tg_feature_flags__audit()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
AS $function$
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
$function$;
comment on function app_private.tg_feature_flags__audit() is 'Writes one event for each flag that a statement created, changed or deleted.';

CREATE OR REPLACE FUNCTION app_private.tg_feature_flags__delete_schedules()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  delete from app_public.feature_flag_schedules s where s.flag_id = old.id;
  return old;
end;
$function$;
comment on function app_private.tg_feature_flags__delete_schedules() is 'Deletes a flag''s schedules while their flag still stands, so that the trail can name it.';

CREATE OR REPLACE FUNCTION app_private.tg_feature_flags__stamp()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.tg_feature_flags__stamp() is 'Stamps created_at, updated_at and revision, and keeps a flag''s identity fixed.';

CREATE OR REPLACE FUNCTION app_private.undelivered_audit_events(destination text, batch integer DEFAULT 1000)
 RETURNS TABLE(seq bigint, event_id uuid, occurred_at timestamp with time zone, message text)
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.undelivered_audit_events(text,integer) is 'Up to `batch` events that this destination has not confirmed yet, in order of seq, with the message to ship.';
grant execute on function app_private.undelivered_audit_events(text,integer) to halyard_worker;

CREATE OR REPLACE FUNCTION app_private.updates_problem(updates jsonb)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select case
    when updates is null or jsonb_typeof(updates) <> 'object'
      then 'updates must be an object'
    when updates = '{}'::jsonb
      then 'updates must have at least one of: enabled, rollout_percentage'
    when updates - array['enabled', 'rollout_percentage'] <> '{}'::jsonb
      then 'updates may have only: enabled, rollout_percentage'
    when updates ? 'enabled' and jsonb_typeof(updates -> 'enabled') <> 'boolean'
      then 'enabled must be true or false'
    when updates ? 'rollout_percentage' and (
      jsonb_typeof(updates -> 'rollout_percentage') <> 'number'
      or (updates ->> 'rollout_percentage') !~ '^[0-9]{1,3}$'
    )
      then 'rollout_percentage must be a whole number from 0 to 100'
    -- A branch of its own: only CASE promises that the cast comes after the check that makes it safe.
    when (updates ->> 'rollout_percentage')::integer > 100
      then 'rollout_percentage must be a whole number from 0 to 100'
  end
$function$;
comment on function app_private.updates_problem(jsonb) is 'Why these updates can''t be scheduled, as a sentence; null when they can. Immutable, because the schedules'' CHECK calls it.';
grant execute on function app_private.updates_problem(jsonb) to halyard_admin;

CREATE OR REPLACE FUNCTION app_private.write_events(events app_private.audit_event[])
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.write_events(app_private.audit_event[]) is 'Appends events to the trail and to the sequencer''s queue.';

CREATE OR REPLACE FUNCTION app_public.cancel_flag_schedule(id uuid, reason text DEFAULT NULL::text)
 RETURNS app_public.feature_flag_schedules
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_public.cancel_flag_schedule(uuid,text) is 'Cancels a pending schedule and records who did it; `reason` is free text of up to 500 characters.';
grant execute on function app_public.cancel_flag_schedule(uuid,text) to halyard_admin;

CREATE OR REPLACE FUNCTION app_public.feature_flag_schedules_updates(schedule app_public.feature_flag_schedules)
 RETURNS app_public.flag_updates
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$ select jsonb_populate_record(null::app_public.flag_updates, schedule.updates) $function$;
comment on function app_public.feature_flag_schedules_updates(app_public.feature_flag_schedules) is 'What the schedule changes; a field that it leaves alone is null.';
grant execute on function app_public.feature_flag_schedules_updates(app_public.feature_flag_schedules) to halyard_admin;
grant execute on function app_public.feature_flag_schedules_updates(app_public.feature_flag_schedules) to halyard_viewer;

CREATE OR REPLACE FUNCTION app_public.reschedule_flag_change(id uuid, scheduled_at timestamp with time zone)
 RETURNS app_public.feature_flag_schedules
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_public.reschedule_flag_change(uuid,timestamp with time zone) is 'Moves a pending schedule to another time in the future.';
grant execute on function app_public.reschedule_flag_change(uuid,timestamp with time zone) to halyard_admin;

CREATE OR REPLACE FUNCTION app_public.retry_flag_schedule(id uuid)
 RETURNS app_public.feature_flag_schedules
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_public.retry_flag_schedule(uuid) is 'Makes a failed schedule due again, now, with all its attempts.';
grant execute on function app_public.retry_flag_schedule(uuid) to halyard_admin;

CREATE OR REPLACE FUNCTION app_public.schedule_flag_change(flag_key text, environment text, scheduled_at timestamp with time zone, updates app_public.flag_updates)
 RETURNS app_public.feature_flag_schedules
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_public.schedule_flag_change(text,text,timestamp with time zone,app_public.flag_updates) is 'Schedules a change of a flag for a time in the future. `environment` is production unless given.';
grant execute on function app_public.schedule_flag_change(text,text,timestamp with time zone,app_public.flag_updates) to halyard_admin;

-- default privileges on f of halyard_owner: {halyard_owner=X/halyard_owner}
