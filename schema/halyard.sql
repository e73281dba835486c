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
grant usage on schema app_public to halyard_auditor;
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
  flag_id uuid,
  flag_key text,
  environment text,
  schedule_id uuid,
  revision bigint,
  actor_kind text,
  admin_user_id text,
  admin_email text,
  request_id text,
  client_request_id text,
  database_user text,
  application_name text,
  reconciled boolean,
  metadata jsonb,
  payload text
);
comment on type app_private.audit_event is 'An audit event on its way into audit.events.';

create type app_public.change_conflict as (
  flag_key text,
  environment text,
  field text,
  kind text,
  expected jsonb,
  found jsonb,
  at timestamp with time zone,
  schedule_id uuid,
  plan_id uuid
);
comment on type app_public.change_conflict is 'What stands against a change: expectation, when the field will have another value than is expected then, or same_instant, when another change of the field is for the same time; and the schedule or plan that is the cause.';
comment on column app_public.change_conflict.at is 'When the change is due.';
comment on column app_public.change_conflict.environment is 'The flag''s environment.';
comment on column app_public.change_conflict.expected is 'The value that the change expects; of same_instant the value that it sets.';
comment on column app_public.change_conflict.field is 'The field.';
comment on column app_public.change_conflict.flag_key is 'The flag''s key.';
comment on column app_public.change_conflict.found is 'The value that the field will have; of same_instant the value that the other change sets.';
comment on column app_public.change_conflict.kind is 'expectation or same_instant.';
comment on column app_public.change_conflict.plan_id is 'The plan that is the cause; null where none is known.';
comment on column app_public.change_conflict.schedule_id is 'The schedule that is the cause; null where none is known.';

create type app_public.change_result as (
  plan_id uuid,
  changes jsonb
);
comment on type app_public.change_result is 'What change_flags() did: the plan that has it, and each flag before and after.';
comment on column app_public.change_result.changes is 'Each flag that it names: flag_key, environment, before and after.';
comment on column app_public.change_result.plan_id is 'The plan that has the changes.';

create type app_public.dry_run as (
  changes jsonb,
  events jsonb,
  conflicts jsonb
);
comment on type app_public.dry_run is 'What would happen: flags with flag_key, environment, before and after; the events that would be written; what stands against it.';
comment on column app_public.dry_run.changes is 'Each flag that it names: flag_key, environment, before and after.';
comment on column app_public.dry_run.conflicts is 'What stands against it, as plan_conflicts() has it.';
comment on column app_public.dry_run.events is 'The events that would be written, without their numbers.';

create table app_private.apply_gates (
  the_one boolean not null default true,
  constraint apply_gates_pkey PRIMARY KEY (the_one),
  constraint apply_gates_the_one_check CHECK (the_one)
);
alter table app_private.apply_gates enable row level security;
comment on table app_private.apply_gates is 'Has no rows: its lock keeps applying and the stop of an environment apart. Only the owner and the worker may take it.';
comment on column app_private.apply_gates.the_one is 'A primary key for a table without rows.';

create view app_private.audited_rows with (security_invoker=true) as
 SELECT 'feature_flags'::text AS source,
    f.id AS row_id,
    (f.id)::text AS name,
    f.created_at,
    f.updated_at,
    f.revision,
    f.id AS flag_id,
    (f.flag_key)::text AS flag_key,
    (f.environment)::text AS environment,
    NULL::uuid AS schedule_id,
    (f.flag_key)::text AS key,
    true AS comparable,
    app_private.flag_found(f.*) AS found,
    jsonb_build_object('rowCreatedAt', app_private.iso(f.created_at), 'rowUpdatedAt', app_private.iso(f.updated_at), 'after', app_private.flag_state(f.*)) AS details
   FROM app_public.feature_flags f
UNION ALL
 SELECT 'feature_flag_schedules'::text AS source,
    s.id AS row_id,
    (s.id)::text AS name,
    s.created_at,
    s.updated_at,
    s.revision,
    s.flag_id,
    ( SELECT (f.flag_key)::text AS flag_key
           FROM app_public.feature_flags f
          WHERE (f.id = s.flag_id)) AS flag_key,
    ( SELECT (f.environment)::text AS environment
           FROM app_public.feature_flags f
          WHERE (f.id = s.flag_id)) AS environment,
    s.id AS schedule_id,
    NULL::text AS key,
    true AS comparable,
    app_private.schedule_found(s.*) AS found,
    (jsonb_build_object('scheduleId', s.id, 'rowCreatedAt', app_private.iso(s.created_at), 'rowUpdatedAt', app_private.iso(s.updated_at), 'updates', s.updates, 'after', app_private.schedule_snapshot(s.*)) || jsonb_strip_nulls(jsonb_build_object('appliedAt', app_private.iso(s.applied_at), 'requestedBy', s.requested_by, 'createdBy', (to_jsonb(s.*) -> 'created_by'::text), 'cancelledBy', (to_jsonb(s.*) -> 'cancelled_by'::text), 'cancelReason', (to_jsonb(s.*) -> 'cancel_reason'::text)))) AS details
   FROM app_public.feature_flag_schedules s
UNION ALL
 SELECT 'settings'::text AS source,
    app_private.setting_id(s.name) AS row_id,
    s.name,
    '1970-01-01 00:00:00+00'::timestamp with time zone AS created_at,
    s.updated_at,
    s.revision,
    NULL::uuid AS flag_id,
    NULL::text AS flag_key,
    NULL::text AS environment,
    NULL::uuid AS schedule_id,
    s.name AS key,
    (EXISTS ( SELECT
           FROM app_private.setting_definitions() d(name, default_value, description)
          WHERE (d.name = s.name))) AS comparable,
    jsonb_build_object('value', s.value) AS found,
    jsonb_build_object('name', s.name, 'rowUpdatedAt', app_private.iso(s.updated_at), 'after', s.value) AS details
   FROM app_private.settings s
UNION ALL
 SELECT 'environments'::text AS source,
    app_private.environment_id((e.name)::text) AS row_id,
    (e.name)::text AS name,
    e.created_at,
    e.created_at AS updated_at,
    e.revision,
    NULL::uuid AS flag_id,
    NULL::text AS flag_key,
    (e.name)::text AS environment,
    NULL::uuid AS schedule_id,
    (e.name)::text AS key,
    true AS comparable,
    app_private.environment_found(e.*) AS found,
    jsonb_build_object('name', e.name, 'rowCreatedAt', app_private.iso(e.created_at), 'after', app_private.environment_state(e.*)) AS details
   FROM app_public.environments e
UNION ALL
 SELECT 'plans'::text AS source,
    p.id AS row_id,
    (p.id)::text AS name,
    p.created_at,
    p.updated_at,
    p.revision,
    NULL::uuid AS flag_id,
    NULL::text AS flag_key,
    app_private.plan_environment(p.*) AS environment,
    NULL::uuid AS schedule_id,
    (p.id)::text AS key,
    true AS comparable,
    app_private.plan_found(p.*) AS found,
    (jsonb_build_object('planId', p.id, 'rowCreatedAt', app_private.iso(p.created_at), 'rowUpdatedAt', app_private.iso(p.updated_at), 'after', app_private.plan_state(p.*), 'applied', p.applied_count, 'skipped', p.skipped_count) || jsonb_strip_nulls(jsonb_build_object('statusReason', p.status_reason, 'reverts', p.reverts, 'createdBy', p.created_by, 'environments',
        CASE
            WHEN (cardinality(p.environments) > 1) THEN to_jsonb(p.environments)
            ELSE NULL::jsonb
        END))) AS details
   FROM app_public.plans p;
comment on table app_private.audited_rows is 'The rows of feature_flags, feature_flag_schedules, settings, environments and plans under the same names: what is compared with the trail (found), and what a *.reconciled event shows of them (details).';
comment on column app_private.audited_rows.comparable is 'Whether this version of Halyard knows what the row should be.';
comment on column app_private.audited_rows.created_at is 'When the row was created; epoch for settings.';
comment on column app_private.audited_rows.details is 'What a *.reconciled event shows of the row.';
comment on column app_private.audited_rows.environment is 'The environment that the row''s events are about.';
comment on column app_private.audited_rows.flag_id is 'The flag that the row''s events are about.';
comment on column app_private.audited_rows.flag_key is 'That flag''s key.';
comment on column app_private.audited_rows.found is 'What is compared with the trail.';
comment on column app_private.audited_rows.key is 'By which row_history() finds the row''s events; null for schedules, which it finds by row_id.';
comment on column app_private.audited_rows.name is 'The row''s key as text.';
comment on column app_private.audited_rows.revision is 'How often the row was changed with an event.';
comment on column app_private.audited_rows.row_id is 'What ids of the row''s events are derived from: its id, or setting_id() or environment_id() of its name.';
comment on column app_private.audited_rows.schedule_id is 'The schedule that the row''s events are about.';
comment on column app_private.audited_rows.source is 'The table, without its schema.';
comment on column app_private.audited_rows.updated_at is 'When the row was changed last.';

create table app_private.console_sessions (
  created_at timestamp with time zone not null default now(),
  expires_at timestamp with time zone not null,
  id_hash bytea not null,
  token bytea not null,
  constraint console_sessions_expires_at_check CHECK (isfinite(expires_at)),
  constraint console_sessions_id_hash_check CHECK ((octet_length(id_hash) = 32)),
  constraint console_sessions_pkey PRIMARY KEY (id_hash),
  constraint console_sessions_token_check CHECK (((octet_length(token) >= 1) AND (octet_length(token) <= 16384)))
);
alter table app_private.console_sessions enable row level security;
CREATE INDEX console_sessions_expires_at_idx ON app_private.console_sessions USING btree (expires_at);
comment on table app_private.console_sessions is 'Sessions of the console: console/sessions.sql.';
comment on column app_private.console_sessions.created_at is 'When the user signed in.';
comment on column app_private.console_sessions.expires_at is 'When the session ends; the row is deleted some time later.';
comment on column app_private.console_sessions.id_hash is 'SHA-256 of the id in the browser''s cookie.';
comment on column app_private.console_sessions.token is 'The user''s token, encrypted by the API.';

create table app_private.denials (
  denied integer not null,
  email text,
  minute timestamp with time zone not null,
  role text,
  user_id text not null,
  written integer not null,
  constraint denials_pkey PRIMARY KEY (user_id, minute)
);
alter table app_private.denials enable row level security;
comment on table app_private.denials is 'Denied requests by user and minute, until their number is in the trail.';
comment on column app_private.denials.denied is 'How many requests were denied.';
comment on column app_private.denials.email is 'The e-mail address in the token of the first.';
comment on column app_private.denials.minute is 'The minute (UTC), by its start.';
comment on column app_private.denials.role is 'The role in the token of the first.';
comment on column app_private.denials.user_id is 'The user in the verified token; empty when it names none.';
comment on column app_private.denials.written is 'How many of them have an event of their own.';

create table app_private.leases (
  expires_at timestamp with time zone not null,
  holder text not null,
  name text not null,
  progress jsonb,
  token bigint not null,
  constraint leases_pkey PRIMARY KEY (name)
);
alter table app_private.leases enable row level security;
comment on table app_private.leases is 'Rights to some work that end by themselves: platform/leases.sql.';
comment on column app_private.leases.expires_at is 'When another process may take it; -infinity once it was given back.';
comment on column app_private.leases.holder is 'The process that took it last: its host, its id, and a random part.';
comment on column app_private.leases.name is 'The work: reconcile, or forward. and a destination.';
comment on column app_private.leases.progress is 'How far the holder has come, where that isn''t the holder''s to say.';
comment on column app_private.leases.token is 'Of the last take: each has a higher one.';

create table app_private.locks (
  name text not null,
  constraint locks_pkey PRIMARY KEY (name)
);
alter table app_private.locks enable row level security;
comment on table app_private.locks is 'Locks for the length of a transaction, a row each: platform/named_locks.sql.';
comment on column app_private.locks.name is 'The lock.';

create table app_private.settings (
  name text not null,
  revision bigint not null default 0,
  updated_at timestamp with time zone not null default now(),
  value text not null,
  constraint settings_pkey PRIMARY KEY (name)
);
alter table app_private.settings enable row level security;
CREATE TRIGGER _100_no_delete BEFORE DELETE OR TRUNCATE ON app_private.settings FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg__reject_write();
alter table app_private.settings enable always trigger _100_no_delete;
CREATE TRIGGER _100_stamp BEFORE INSERT OR UPDATE ON app_private.settings FOR EACH ROW EXECUTE FUNCTION app_private.tg_settings__stamp();
alter table app_private.settings enable always trigger _100_stamp;
CREATE TRIGGER _900_audit AFTER INSERT OR UPDATE ON app_private.settings FOR EACH ROW EXECUTE FUNCTION app_private.tg_settings__audit();
alter table app_private.settings enable always trigger _900_audit;
comment on table app_private.settings is 'Settings that hold for the database, whichever process works on it: platform/settings.sql.';
comment on column app_private.settings.name is 'The setting.';
comment on column app_private.settings.revision is 'How often it was changed.';
comment on column app_private.settings.updated_at is 'When it last changed.';
comment on column app_private.settings.value is 'Its value as text; what is allowed depends on the setting.';

create table app_public.environments (
  created_at timestamp with time zone not null default now(),
  created_by character varying(255),
  last_resume jsonb,
  name character varying(20) not null,
  revision bigint not null default 0,
  stop_reason character varying(500),
  stopped_at timestamp with time zone,
  stopped_by character varying(255),
  constraint environments_name_check CHECK (((name)::text ~ '^[A-Za-z0-9][A-Za-z0-9._-]*$'::text)),
  constraint environments_pkey PRIMARY KEY (name),
  constraint environments_stop_check CHECK (((stopped_at IS NULL) = (stop_reason IS NULL)))
);
alter table app_public.environments enable row level security;
create policy admin_select on app_public.environments for select to halyard_admin
  using (((( SELECT true
  WHERE (app_private.claim_role() = 'admin'::text)) IS NOT NULL) AND ((( SELECT true
  WHERE (NOT app_private.claims_are_limited())) IS NOT NULL) OR ((name)::text = ANY (( SELECT app_private.claim_environments() AS claim_environments)::text[])))));
create policy auditor_select on app_public.environments for select to halyard_auditor
  using (((( SELECT true
   FROM ( SELECT app_private.claim_role() AS role) c
  WHERE (COALESCE(c.role, 'auditor'::text) = 'auditor'::text)) IS NOT NULL) AND ((( SELECT true
  WHERE (NOT app_private.claims_are_limited())) IS NOT NULL) OR ((name)::text = ANY (( SELECT app_private.claim_environments() AS claim_environments)::text[])))));
create policy viewer_select on app_public.environments for select to halyard_viewer
  using (((( SELECT true
  WHERE (app_private.claim_role() = 'viewer'::text)) IS NOT NULL) AND ((( SELECT true
  WHERE (NOT app_private.claims_are_limited())) IS NOT NULL) OR ((name)::text = ANY (( SELECT app_private.claim_environments() AS claim_environments)::text[])))));
CREATE TRIGGER _100_no_truncate BEFORE TRUNCATE ON app_public.environments FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg__reject_write();
alter table app_public.environments enable always trigger _100_no_truncate;
CREATE TRIGGER _100_stamp BEFORE INSERT OR UPDATE ON app_public.environments FOR EACH ROW EXECUTE FUNCTION app_private.tg_environments__stamp();
alter table app_public.environments enable trigger _100_stamp;
CREATE TRIGGER _900_audit_delete AFTER DELETE ON app_public.environments REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg_environments__audit();
alter table app_public.environments enable always trigger _900_audit_delete;
CREATE TRIGGER _900_audit_insert AFTER INSERT ON app_public.environments REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg_environments__audit();
alter table app_public.environments enable always trigger _900_audit_insert;
CREATE TRIGGER _900_audit_update AFTER UPDATE ON app_public.environments REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg_environments__audit();
alter table app_public.environments enable always trigger _900_audit_update;
comment on table app_public.environments is 'Where flags hold, as production or staging.';
comment on column app_public.environments.created_at is 'When it was created.';
comment on column app_public.environments.created_by is 'The user id of the admin who created it; null when unknown.';
comment on column app_public.environments.last_resume is 'Of the last time that it was resumed: at, by, reason, missed, applied, skipped and stoppedForMs.';
comment on column app_public.environments.name is 'The name: 1 to 20 letters, digits, dots, hyphens or underscores.';
comment on column app_public.environments.revision is 'Counts the row''s versions from 1; 0 for what was there before the audit trail.';
comment on column app_public.environments.stop_reason is 'Why it was stopped.';
comment on column app_public.environments.stopped_at is 'Since when schedules of this environment''s flags are not applied; null while they are.';
comment on column app_public.environments.stopped_by is 'Who stopped it; null where that is not known.';
grant select on table app_public.environments to halyard_admin;
grant select on table app_public.environments to halyard_auditor;
grant select (created_at, created_by, name, revision, stopped_at) on app_public.environments to halyard_viewer;

create table app_public.feature_flag_schedules (
  applied_at timestamp with time zone,
  attempts integer not null default 0,
  before jsonb,
  cancel_reason text,
  cancelled_at timestamp with time zone,
  cancelled_by character varying(255),
  created_at timestamp with time zone not null default now(),
  created_by character varying(255),
  error_message text,
  expects jsonb,
  flag_id uuid not null,
  id uuid not null default gen_random_uuid(),
  kept text[],
  max_attempts integer not null default 3,
  next_attempt_at timestamp with time zone,
  occurrence_no integer,
  on_conflict text not null default 'overwrite'::text,
  plan_id uuid,
  reason text,
  requested_by character varying(255),
  resolution_reason character varying(500),
  revision bigint not null default 1,
  scheduled_at timestamp with time zone not null,
  status text not null default 'pending'::text,
  step_no integer,
  suspended_details jsonb,
  suspended_for text,
  updated_at timestamp with time zone not null default now(),
  updates jsonb not null,
  constraint feature_flag_schedules_applied_at_check CHECK (((status = 'applied'::text) = (applied_at IS NOT NULL))),
  constraint feature_flag_schedules_attempts_check CHECK ((attempts >= 0)),
  constraint feature_flag_schedules_cancel_reason_check CHECK ((char_length(cancel_reason) <= 500)),
  constraint feature_flag_schedules_expects_check CHECK (((expects IS NULL) OR (app_private.updates_problem(expects) IS NULL))),
  constraint feature_flag_schedules_flag_id_fkey FOREIGN KEY (flag_id) REFERENCES app_public.feature_flags(id) ON DELETE CASCADE,
  constraint feature_flag_schedules_max_attempts_check CHECK (((max_attempts >= 0) AND (max_attempts <= 10))),
  constraint feature_flag_schedules_on_conflict_check CHECK (((on_conflict = ANY (ARRAY['overwrite'::text, 'keep'::text, 'suspend'::text])) AND ((on_conflict = 'overwrite'::text) OR (expects IS NOT NULL)))),
  constraint feature_flag_schedules_pkey PRIMARY KEY (id),
  constraint feature_flag_schedules_plan_id_fkey FOREIGN KEY (plan_id) REFERENCES app_public.plans(id) ON DELETE RESTRICT,
  constraint feature_flag_schedules_point_check CHECK ((num_nulls(plan_id, occurrence_no, step_no) = ANY (ARRAY[0, 3]))),
  constraint feature_flag_schedules_reason_check CHECK (((char_length(reason) >= 1) AND (char_length(reason) <= 500) AND ((reason COLLATE "C") !~ '[[:cntrl:]]'::text))),
  constraint feature_flag_schedules_scheduled_at_check CHECK ((isfinite(scheduled_at) AND (scheduled_at < '10000-01-01 00:00:00+00'::timestamp with time zone))),
  constraint feature_flag_schedules_status_check CHECK ((status = ANY (ARRAY['pending'::text, 'suspended'::text, 'applied'::text, 'failed'::text, 'cancelled'::text, 'skipped'::text]))),
  constraint feature_flag_schedules_suspended_check CHECK ((((status = 'suspended'::text) = (suspended_for IS NOT NULL)) AND ((suspended_for IS NULL) OR (suspended_for = ANY (ARRAY['stop'::text, 'conflict'::text]))) AND ((suspended_details IS NULL) OR (suspended_for IS NOT NULL)))),
  constraint feature_flag_schedules_updates_check CHECK ((app_private.updates_problem(updates) IS NULL))
);
alter table app_public.feature_flag_schedules enable row level security;
CREATE INDEX feature_flag_schedules_applied_idx ON app_public.feature_flag_schedules USING btree (flag_id, scheduled_at, id) WHERE (status = 'applied'::text);
CREATE INDEX feature_flag_schedules_cancelled_idx ON app_public.feature_flag_schedules USING btree (scheduled_at, id) WHERE (status = 'cancelled'::text);
CREATE INDEX feature_flag_schedules_failed_idx ON app_public.feature_flag_schedules USING btree (scheduled_at, id) WHERE (status = 'failed'::text);
CREATE INDEX feature_flag_schedules_flag_id_created_at_idx ON app_public.feature_flag_schedules USING btree (flag_id, created_at DESC, id DESC);
CREATE INDEX feature_flag_schedules_guarded_idx ON app_public.feature_flag_schedules USING btree (flag_id) WHERE ((status = 'pending'::text) AND (expects IS NOT NULL));
CREATE INDEX feature_flag_schedules_pending_flag_idx ON app_public.feature_flag_schedules USING btree (flag_id, scheduled_at, id) WHERE (status = 'pending'::text);
CREATE INDEX feature_flag_schedules_pending_idx ON app_public.feature_flag_schedules USING btree (scheduled_at, id) WHERE (status = 'pending'::text);
CREATE UNIQUE INDEX feature_flag_schedules_point_idx ON app_public.feature_flag_schedules USING btree (plan_id, occurrence_no, step_no, flag_id) WHERE (plan_id IS NOT NULL);
CREATE INDEX feature_flag_schedules_retry_idx ON app_public.feature_flag_schedules USING btree (next_attempt_at) WHERE ((status = 'pending'::text) AND (next_attempt_at IS NOT NULL));
CREATE INDEX feature_flag_schedules_scheduled_at_idx ON app_public.feature_flag_schedules USING btree (scheduled_at, id);
CREATE INDEX feature_flag_schedules_suspended_idx ON app_public.feature_flag_schedules USING btree (scheduled_at, id) WHERE (status = 'suspended'::text);
create policy admin_insert on app_public.feature_flag_schedules for insert to halyard_admin
  with check (((( SELECT app_private.claim_role() AS claim_role) = 'admin'::text) AND (flag_id = ( SELECT f.id
   FROM app_public.feature_flags f
  WHERE (f.id = feature_flag_schedules.flag_id)))));
create policy admin_select on app_public.feature_flag_schedules for select to halyard_admin
  using (((( SELECT true
  WHERE (app_private.claim_role() = 'admin'::text)) IS NOT NULL) AND ((( SELECT true
  WHERE (NOT app_private.claims_are_limited())) IS NOT NULL) OR ((( SELECT f.environment
   FROM app_public.feature_flags f
  WHERE (f.id = feature_flag_schedules.flag_id)))::text = ANY (( SELECT app_private.claim_environments() AS claim_environments)::text[])))));
create policy auditor_select on app_public.feature_flag_schedules for select to halyard_auditor
  using (((( SELECT true
   FROM ( SELECT app_private.claim_role() AS role) c
  WHERE (COALESCE(c.role, 'auditor'::text) = 'auditor'::text)) IS NOT NULL) AND ((( SELECT true
  WHERE (NOT app_private.claims_are_limited())) IS NOT NULL) OR ((( SELECT f.environment
   FROM app_public.feature_flags f
  WHERE (f.id = feature_flag_schedules.flag_id)))::text = ANY (( SELECT app_private.claim_environments() AS claim_environments)::text[])))));
create policy viewer_select on app_public.feature_flag_schedules for select to halyard_viewer
  using (((( SELECT true
  WHERE (app_private.claim_role() = 'viewer'::text)) IS NOT NULL) AND ((( SELECT true
  WHERE (NOT app_private.claims_are_limited())) IS NOT NULL) OR ((( SELECT f.environment
   FROM app_public.feature_flags f
  WHERE (f.id = feature_flag_schedules.flag_id)))::text = ANY (( SELECT app_private.claim_environments() AS claim_environments)::text[])))));
CREATE TRIGGER _100_no_truncate BEFORE TRUNCATE ON app_public.feature_flag_schedules FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg__reject_write();
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
comment on column app_public.feature_flag_schedules.attempts is 'How often it was tried. An error that passes by itself, such as a lock, doesn''t count.';
comment on column app_public.feature_flag_schedules.before is 'Of a plan''s: the fields of the flag as they were found when it was applied.';
comment on column app_public.feature_flag_schedules.cancel_reason is 'Why it was cancelled, if a reason was given: up to 500 characters.';
comment on column app_public.feature_flag_schedules.cancelled_at is 'When it was cancelled.';
comment on column app_public.feature_flag_schedules.cancelled_by is 'The user id of the admin who cancelled it; null when unknown or not cancelled.';
comment on column app_public.feature_flag_schedules.created_at is 'When the schedule was made.';
comment on column app_public.feature_flag_schedules.created_by is 'The user id of the admin who made the schedule; null when unknown.';
comment on column app_public.feature_flag_schedules.error_message is 'Why the last attempt failed.';
comment on column app_public.feature_flag_schedules.expects is 'What its author expects to find in the flag; null for anything.';
comment on column app_public.feature_flag_schedules.flag_id is 'The flag to change.';
comment on column app_public.feature_flag_schedules.id is 'The schedule''s id.';
comment on column app_public.feature_flag_schedules.kept is 'The fields that it left alone because they weren''t as it expects.';
comment on column app_public.feature_flag_schedules.max_attempts is 'How often it is tried at most; with 0 as with 1 the first failure is final.';
comment on column app_public.feature_flag_schedules.next_attempt_at is 'When it is tried again after a failure; null before the first attempt and at the end.';
comment on column app_public.feature_flag_schedules.occurrence_no is 'Which occurrence of its plan it belongs to.';
comment on column app_public.feature_flag_schedules.on_conflict is 'What happens where something else is found: overwrite sets all fields, keep leaves the fields that differ, suspend waits for an admin.';
comment on column app_public.feature_flag_schedules.plan_id is 'The plan that it belongs to; null for a schedule of its own.';
comment on column app_public.feature_flag_schedules.reason is 'Why it was scheduled, or moved or retried last, if a reason was given: up to 500 characters.';
comment on column app_public.feature_flag_schedules.requested_by is 'The user id of the admin who scheduled it, or moved or retried it last; null when unknown.';
comment on column app_public.feature_flag_schedules.resolution_reason is 'Why it was resumed or skipped.';
comment on column app_public.feature_flag_schedules.revision is 'Counts the row''s versions from 1: with the id, the identity of a change.';
comment on column app_public.feature_flag_schedules.scheduled_at is 'When to change it.';
comment on column app_public.feature_flag_schedules.status is 'pending, applied, failed or cancelled.';
comment on column app_public.feature_flag_schedules.step_no is 'Which step of its plan it belongs to, from 1.';
comment on column app_public.feature_flag_schedules.suspended_details is 'Of a conflict what was expected and what was found, of a stop its reason; null for a part of a point that waits with another part.';
comment on column app_public.feature_flag_schedules.suspended_for is 'Why it is suspended: stop (its environment is stopped) or conflict (its flag isn''t as it expects); null when it isn''t.';
comment on column app_public.feature_flag_schedules.updated_at is 'When the row was last changed.';
comment on column app_public.feature_flag_schedules.updates is 'What to change: enabled, rollout_percentage or both.';
grant select on table app_public.feature_flag_schedules to halyard_admin;
grant select on table app_public.feature_flag_schedules to halyard_auditor;
grant select on table app_public.feature_flag_schedules to halyard_viewer;
grant insert (flag_id, max_attempts, reason, scheduled_at, updates) on app_public.feature_flag_schedules to halyard_admin;

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
  constraint feature_flags_environment_fkey FOREIGN KEY (environment) REFERENCES app_public.environments(name) ON DELETE RESTRICT,
  constraint feature_flags_environment_flag_key_key UNIQUE (environment, flag_key),
  constraint feature_flags_flag_key_check CHECK (((flag_key)::text ~ '^[A-Za-z0-9][A-Za-z0-9._-]*$'::text)),
  constraint feature_flags_pkey PRIMARY KEY (id),
  constraint feature_flags_rollout_percentage_check CHECK (((rollout_percentage >= 0) AND (rollout_percentage <= 100)))
);
alter table app_public.feature_flags enable row level security;
create policy admin_all on app_public.feature_flags for all to halyard_admin
  using (((( SELECT true
  WHERE (app_private.claim_role() = 'admin'::text)) IS NOT NULL) AND ((( SELECT true
  WHERE (NOT app_private.claims_are_limited())) IS NOT NULL) OR ((environment)::text = ANY (( SELECT app_private.claim_environments() AS claim_environments)::text[])))));
create policy auditor_select on app_public.feature_flags for select to halyard_auditor
  using (((( SELECT true
   FROM ( SELECT app_private.claim_role() AS role) c
  WHERE (COALESCE(c.role, 'auditor'::text) = 'auditor'::text)) IS NOT NULL) AND ((( SELECT true
  WHERE (NOT app_private.claims_are_limited())) IS NOT NULL) OR ((environment)::text = ANY (( SELECT app_private.claim_environments() AS claim_environments)::text[])))));
create policy viewer_select on app_public.feature_flags for select to halyard_viewer
  using (((( SELECT true
  WHERE (app_private.claim_role() = 'viewer'::text)) IS NOT NULL) AND ((( SELECT true
  WHERE (NOT app_private.claims_are_limited())) IS NOT NULL) OR ((environment)::text = ANY (( SELECT app_private.claim_environments() AS claim_environments)::text[])))));
CREATE TRIGGER _100_no_truncate BEFORE TRUNCATE ON app_public.feature_flags FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg__reject_write();
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
comment on column app_public.feature_flags.environment is 'The environment in which the flag holds.';
comment on column app_public.feature_flags.flag_key is 'The name that applications ask for: 1 to 100 letters, digits, dots, hyphens or underscores.';
comment on column app_public.feature_flags.id is 'The flag''s id.';
comment on column app_public.feature_flags.revision is 'Counts the row''s versions from 1: with the id, the identity of a change.';
comment on column app_public.feature_flags.rollout_percentage is 'The share of users that get the feature while the flag is on, 0 to 100.';
comment on column app_public.feature_flags.updated_at is 'When the flag was last changed.';
grant select on table app_public.feature_flags to halyard_admin;
grant select on table app_public.feature_flags to halyard_auditor;
grant select on table app_public.feature_flags to halyard_viewer;
grant insert (description, enabled, environment, flag_key, rollout_percentage) on app_public.feature_flags to halyard_admin;
grant update (description, enabled, rollout_percentage) on app_public.feature_flags to halyard_admin;

create table app_public.plans (
  applied_count integer not null default 0,
  content jsonb not null,
  content_hash bytea not null default app_private.content_hash(content),
  created_at timestamp with time zone not null default now(),
  created_by character varying(255),
  ended_at timestamp with time zone,
  environments character varying(20)[] not null,
  flag_ids uuid[] not null,
  id uuid not null default gen_random_uuid(),
  next_at timestamp with time zone,
  occurrence_no integer,
  reason character varying(500),
  reverts jsonb,
  revision bigint not null default 1,
  skipped_count integer not null default 0,
  status text not null default 'active'::text,
  status_reason character varying(500),
  step_no integer,
  title character varying(200) not null,
  updated_at timestamp with time zone not null default now(),
  constraint plans_content_check CHECK ((app_private.plan_problem(content) IS NULL)),
  constraint plans_ended_check CHECK (((status = ANY (ARRAY['completed'::text, 'cancelled'::text])) = (ended_at IS NOT NULL))),
  constraint plans_pkey PRIMARY KEY (id),
  constraint plans_point_check CHECK ((((occurrence_no IS NULL) = (step_no IS NULL)) AND ((step_no IS NULL) = (next_at IS NULL)))),
  constraint plans_reason_check CHECK (((char_length((reason)::text) >= 1) AND (((reason)::text COLLATE "C") !~ '[[:cntrl:]]'::text))),
  constraint plans_status_check CHECK ((status = ANY (ARRAY['active'::text, 'paused'::text, 'completed'::text, 'cancelled'::text]))),
  constraint plans_title_check CHECK (((btrim((title)::text) <> ''::text) AND (((title)::text COLLATE "C") !~ '[[:cntrl:]]'::text)))
);
alter table app_public.plans enable row level security;
CREATE INDEX plans_created_at_idx ON app_public.plans USING btree (created_at, id);
CREATE INDEX plans_environments_idx ON app_public.plans USING gin (environments) WHERE (status = ANY (ARRAY['active'::text, 'paused'::text]));
CREATE INDEX plans_flag_ids_idx ON app_public.plans USING gin (flag_ids) WHERE (status = ANY (ARRAY['active'::text, 'paused'::text]));
create policy admin_select on app_public.plans for select to halyard_admin
  using (((( SELECT true
  WHERE (app_private.claim_role() = 'admin'::text)) IS NOT NULL) AND ((( SELECT true
  WHERE (NOT app_private.claims_are_limited())) IS NOT NULL) OR (environments <@ (( SELECT app_private.claim_environments() AS claim_environments))::character varying[]))));
create policy auditor_select on app_public.plans for select to halyard_auditor
  using (((( SELECT true
   FROM ( SELECT app_private.claim_role() AS role) c
  WHERE (COALESCE(c.role, 'auditor'::text) = 'auditor'::text)) IS NOT NULL) AND ((( SELECT true
  WHERE (NOT app_private.claims_are_limited())) IS NOT NULL) OR (environments <@ (( SELECT app_private.claim_environments() AS claim_environments))::character varying[]))));
CREATE TRIGGER _100_no_truncate BEFORE TRUNCATE ON app_public.plans FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg__reject_write();
alter table app_public.plans enable always trigger _100_no_truncate;
CREATE TRIGGER _100_state BEFORE INSERT OR UPDATE ON app_public.plans FOR EACH ROW EXECUTE FUNCTION app_private.tg_plans__state();
alter table app_public.plans enable trigger _100_state;
CREATE TRIGGER _900_audit_delete AFTER DELETE ON app_public.plans REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg_plans__audit();
alter table app_public.plans enable always trigger _900_audit_delete;
CREATE TRIGGER _900_audit_insert AFTER INSERT ON app_public.plans REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg_plans__audit();
alter table app_public.plans enable always trigger _900_audit_insert;
CREATE TRIGGER _900_audit_update AFTER UPDATE ON app_public.plans REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg_plans__audit();
alter table app_public.plans enable always trigger _900_audit_update;
comment on table app_public.plans is 'Plans: changes of several flags that are made at one instant, all or nothing. A plan''s open point stands in feature_flag_schedules.';
comment on column app_public.plans.applied_count is 'How many of its points were applied.';
comment on column app_public.plans.content is 'What the plan does: its steps with their changes, and when it starts.';
comment on column app_public.plans.content_hash is 'SHA-256 of the content.';
comment on column app_public.plans.created_at is 'When it was made.';
comment on column app_public.plans.created_by is 'Who made it; null where that is not known.';
comment on column app_public.plans.ended_at is 'When it was completed or cancelled.';
comment on column app_public.plans.environments is 'The environments of these flags: a token must reach all of them.';
comment on column app_public.plans.flag_ids is 'The flags that the content changes.';
comment on column app_public.plans.id is 'The plan''s id.';
comment on column app_public.plans.next_at is 'When the open point is due.';
comment on column app_public.plans.occurrence_no is 'Which occurrence the open point belongs to; null when no point is open.';
comment on column app_public.plans.reason is 'Why its author made it; null when they gave no reason.';
comment on column app_public.plans.reverts is 'What the plan takes back: planId, or scheduleId, or environment with from and to; null when it takes nothing back.';
comment on column app_public.plans.revision is 'How often it was changed with an event.';
comment on column app_public.plans.skipped_count is 'How many of its points were skipped.';
comment on column app_public.plans.status is 'active; paused, until an admin retries, edits or cancels it; completed, when nothing of it is left to do; or cancelled.';
comment on column app_public.plans.status_reason is 'Why it is paused or cancelled.';
comment on column app_public.plans.step_no is 'Which step the open point is, from 1.';
comment on column app_public.plans.title is 'What the plan is called.';
comment on column app_public.plans.updated_at is 'When it was changed last.';
grant select on table app_public.plans to halyard_admin;
grant select on table app_public.plans to halyard_auditor;

create view audit.actor_events with (security_invoker=true) as
 SELECT occurred_at,
    actor_kind,
    admin_user_id,
    admin_email,
    database_user,
    application_name,
    event_type,
    environment,
    flag_key,
    schedule_id,
    request_id,
    metadata,
    id AS event_id
   FROM audit.events e
  WHERE (actor_kind <> 'system'::text);
comment on table audit.actor_events is 'What people did: admins by the API, and logins that type SQL. A person is a user id, or a login; an e-mail may change.';
comment on column audit.actor_events.actor_kind is 'admin (by the API), system (the worker, and events about the trail itself) or database (SQL at a prompt).';
comment on column audit.actor_events.admin_email is 'The admin''s e-mail address, from the verified token.';
comment on column audit.actor_events.admin_user_id is 'The admin''s user id, from the verified token.';
comment on column audit.actor_events.application_name is 'What the database session called itself; anybody can set that.';
comment on column audit.actor_events.database_user is 'The login of the database session: halyard_authenticator and halyard_worker are Halyard''s own.';
comment on column audit.actor_events.environment is 'The environment that it is about; null for what concerns the whole trail.';
comment on column audit.actor_events.event_id is 'The event''s id; copies of the event elsewhere carry it as eventId.';
comment on column audit.actor_events.event_type is 'What happened, as flag_schedule.created: audit.event_types has the types.';
comment on column audit.actor_events.flag_key is 'The flag''s key at the time.';
comment on column audit.actor_events.metadata is 'The details, with keys by event type: audit.event_types has them.';
comment on column audit.actor_events.occurred_at is 'When it happened, by the database''s clock.';
comment on column audit.actor_events.request_id is 'The HTTP request that did it, by the API''s own id; also in the API''s log and its X-Request-Id header.';
comment on column audit.actor_events.schedule_id is 'The schedule, also on the change of a flag that a schedule made.';
grant select on table audit.actor_events to halyard_auditor;

create view audit.applied_schedules with (security_invoker=true) as
 SELECT occurred_at,
    environment,
    flag_key,
    schedule_id,
    date_trunc('milliseconds'::text, ((((metadata ->> 'appliedAt'::text))::timestamp with time zone - ((((metadata ->> 'latenessMs'::text))::bigint)::double precision * '00:00:00.001'::interval)) + '00:00:00.0005'::interval)) AS scheduled_at,
    ((metadata ->> 'appliedAt'::text))::timestamp with time zone AS applied_at,
    ((metadata ->> 'latenessMs'::text))::bigint AS lateness_ms,
    app_private.camel_case_keys((metadata -> 'updates'::text)) AS updates,
    id AS event_id
   FROM audit.events e
  WHERE (event_type = 'flag_schedule.applied'::text);
comment on table audit.applied_schedules is 'Each schedule that was applied, and how late.';
comment on column audit.applied_schedules.applied_at is 'When it was applied.';
comment on column audit.applied_schedules.environment is 'The environment that it is about; null for what concerns the whole trail.';
comment on column audit.applied_schedules.event_id is 'The event''s id; copies of the event elsewhere carry it as eventId.';
comment on column audit.applied_schedules.flag_key is 'The flag''s key at the time.';
comment on column audit.applied_schedules.lateness_ms is 'How much later, in milliseconds.';
comment on column audit.applied_schedules.occurred_at is 'When the event was written; the same as applied_at but for microseconds. Quick to select by.';
comment on column audit.applied_schedules.schedule_id is 'The schedule, also on the change of a flag that a schedule made.';
comment on column audit.applied_schedules.scheduled_at is 'When it was due, to the millisecond.';
comment on column audit.applied_schedules.updates is 'What it set.';
grant select on table audit.applied_schedules to halyard_auditor;

create view audit.cancellations_by_others with (security_invoker=true) as
 SELECT e.occurred_at,
    e.environment,
    e.flag_key,
    e.schedule_id,
    c.occurred_at AS created_at,
    c.actor_kind AS creator_kind,
        CASE c.actor_kind
            WHEN 'database'::text THEN c.database_user
            ELSE c.admin_user_id
        END AS created_by,
    e.actor_kind AS canceller_kind,
        CASE e.actor_kind
            WHEN 'database'::text THEN e.database_user
            ELSE e.admin_user_id
        END AS cancelled_by,
    e.admin_email AS cancelled_by_email,
    (e.metadata ->> 'reason'::text) AS reason,
    e.id AS event_id
   FROM (audit.events e
     LEFT JOIN LATERAL ( SELECT b.id,
            b.occurred_at,
            b.event_type,
            b.level,
            b.flag_id,
            b.flag_key,
            b.environment,
            b.schedule_id,
            b.revision,
            b.actor_kind,
            b.admin_user_id,
            b.admin_email,
            b.request_id,
            b.client_request_id,
            b.database_user,
            b.application_name,
            b.reconciled,
            b.metadata,
            b.payload
           FROM audit.events b
          WHERE ((b.schedule_id = e.schedule_id) AND (b.event_type = 'flag_schedule.created'::text) AND (b.occurred_at <= e.occurred_at))
          ORDER BY b.occurred_at DESC
         LIMIT 1) c ON (true))
  WHERE ((e.event_type = 'flag_schedule.cancelled'::text) AND ((c.actor_kind IS DISTINCT FROM e.actor_kind) OR (
        CASE e.actor_kind
            WHEN 'database'::text THEN (c.database_user = e.database_user)
            ELSE (c.admin_user_id = e.admin_user_id)
        END IS NOT TRUE)));
comment on table audit.cancellations_by_others is 'Each schedule that was cancelled by somebody else than who created it, or by somebody unknown.';
comment on column audit.cancellations_by_others.cancelled_by is 'The admin''s user id, or the login that typed it; null when unknown.';
comment on column audit.cancellations_by_others.cancelled_by_email is 'The admin''s e-mail as the token had it then.';
comment on column audit.cancellations_by_others.canceller_kind is 'admin, or database for a cancellation that was made in SQL.';
comment on column audit.cancellations_by_others.created_at is 'When it was created; null when that event was purged.';
comment on column audit.cancellations_by_others.created_by is 'The admin''s user id, or the login that typed it; null when unknown.';
comment on column audit.cancellations_by_others.creator_kind is 'admin, or database for a schedule that was made in SQL.';
comment on column audit.cancellations_by_others.environment is 'The environment that it is about; null for what concerns the whole trail.';
comment on column audit.cancellations_by_others.event_id is 'The event''s id; copies of the event elsewhere carry it as eventId.';
comment on column audit.cancellations_by_others.flag_key is 'The flag''s key at the time.';
comment on column audit.cancellations_by_others.occurred_at is 'When it was cancelled.';
comment on column audit.cancellations_by_others.reason is 'Why, as the admin gave it; manual_cancellation unless given.';
comment on column audit.cancellations_by_others.schedule_id is 'The schedule, also on the change of a flag that a schedule made.';
grant select on table audit.cancellations_by_others to halyard_auditor;

create table audit.cursors (
  destination text not null,
  last_seq bigint not null default 0,
  updated_at timestamp with time zone not null default now(),
  constraint cursors_pkey PRIMARY KEY (destination)
);
alter table audit.cursors enable row level security;
CREATE TRIGGER _100_no_truncate BEFORE TRUNCATE ON audit.cursors FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg__reject_write();
alter table audit.cursors enable always trigger _100_no_truncate;
CREATE TRIGGER _900_audit_delete AFTER DELETE ON audit.cursors FOR EACH ROW EXECUTE FUNCTION app_private.tg_cursors__audit();
alter table audit.cursors enable always trigger _900_audit_delete;
CREATE TRIGGER _900_audit_insert AFTER INSERT ON audit.cursors FOR EACH ROW WHEN (((SESSION_USER <> 'halyard_worker'::name) OR (new.last_seq <> 0))) EXECUTE FUNCTION app_private.tg_cursors__audit();
alter table audit.cursors enable always trigger _900_audit_insert;
CREATE TRIGGER _900_audit_update AFTER UPDATE ON audit.cursors FOR EACH ROW WHEN ((((new.last_seq IS DISTINCT FROM old.last_seq) OR (new.destination IS DISTINCT FROM old.destination)) AND ((SESSION_USER <> 'halyard_worker'::name) OR (new.last_seq < old.last_seq)))) EXECUTE FUNCTION app_private.tg_cursors__audit();
alter table audit.cursors enable always trigger _900_audit_update;
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

create table audit.divergences (
  created_until timestamp with time zone not null default clock_timestamp(),
  destination text not null,
  event_id uuid,
  found_at timestamp with time zone not null default clock_timestamp(),
  found_in integer not null,
  head bytea,
  id bigint not null generated always as identity,
  incarnation uuid not null,
  last_seq bigint not null,
  seal_no bigint,
  sealed_at timestamp with time zone not null,
  constraint divergences_pkey PRIMARY KEY (id),
  constraint divergences_record_check CHECK (((num_nonnulls(head, event_id) = 1) AND ((head IS NULL) = (seal_no IS NULL)))),
  constraint divergences_record_key UNIQUE NULLS NOT DISTINCT (found_in, destination, head, event_id)
);
alter table audit.divergences enable row level security;
create policy auditor_select on audit.divergences for select to halyard_auditor
  using (((COALESCE(( SELECT app_private.claim_role() AS claim_role), 'auditor'::text) = 'auditor'::text) AND (( SELECT app_private.claim_environments() AS claim_environments) IS NULL)));
CREATE TRIGGER _100_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit.divergences FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg__reject_write();
alter table audit.divergences enable always trigger _100_append_only;
comment on table audit.divergences is 'Seals of this trail, and events that arrived without their seal, that a destination has and this database lacks. Until another incarnation begins, nothing is numbered or forwarded. Append-only.';
comment on column audit.divergences.created_until is 'When the last pending schedule was made, by the clock that made it, or found_at where that is later: later ones are no part of the lost history.';
comment on column audit.divergences.destination is 'The destination that is ahead.';
comment on column audit.divergences.event_id is 'The event that arrived without its seal; null for a seal.';
comment on column audit.divergences.found_at is 'When a worker found it.';
comment on column audit.divergences.found_in is 'The number of the incarnation in which it was found; it is resolved when there is a later one.';
comment on column audit.divergences.head is 'Its head; null for an event.';
comment on column audit.divergences.id is 'Order of arrival.';
comment on column audit.divergences.incarnation is 'The incarnation that the seal says it is of; of an event that of the seal before it.';
comment on column audit.divergences.last_seq is 'The last event that it seals, or the event''s number.';
comment on column audit.divergences.seal_no is 'The seal''s number; null for an event.';
comment on column audit.divergences.sealed_at is 'When it was sealed, or the event happened, by the clock of the database that is lost: schedules up to then may have been applied.';
grant select on table audit.divergences to halyard_auditor;

create table audit.event_types (
  description text not null,
  level text not null,
  metadata_keys text[] not null,
  "position" integer not null,
  type text not null,
  constraint event_types_level_check CHECK ((level = ANY (ARRAY['info'::text, 'warning'::text, 'error'::text]))),
  constraint event_types_pkey PRIMARY KEY (type)
);
alter table audit.event_types enable row level security;
create policy reader_select on audit.event_types for select to halyard_admin, halyard_auditor
  using (true);
comment on table audit.event_types is 'The types of events that the trail can have. docs/events.md is printed from it, and `audit verify` compares it with the release.';
comment on column audit.event_types.description is 'When such an event is written, and what its metadata say. Markdown.';
comment on column audit.event_types.level is 'The level of such events: error when a person must act, warning when a person should look, else info.';
comment on column audit.event_types.metadata_keys is 'The keys that the metadata of such an event can have, besides those of every event: adminUserId and adminEmail, or claimed, and repeatedId. A key whose value isn''t known is absent.';
comment on column audit.event_types."position" is 'Its place in lists: by what the events are about, in the order of a life.';
comment on column audit.event_types.type is 'The type, as in audit.events.event_type: what it is about, and what happened.';
grant select on table audit.event_types to halyard_admin;
grant select on table audit.event_types to halyard_auditor;

create table audit.events (
  actor_kind text not null,
  admin_email text,
  admin_user_id text,
  application_name text not null,
  client_request_id text,
  database_user text not null,
  environment text,
  event_type text not null,
  flag_id uuid,
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
CREATE INDEX events_flag_key_idx ON ONLY audit.events USING btree (flag_key, occurred_at DESC, id DESC);
CREATE INDEX events_flag_states_idx ON ONLY audit.events USING btree (flag_id, occurred_at DESC, revision DESC) WHERE (event_type = ANY (ARRAY['feature_flag.created'::text, 'feature_flag.updated'::text, 'feature_flag.deleted'::text, 'feature_flag.reconciled'::text]));
CREATE INDEX events_level_idx ON ONLY audit.events USING btree (occurred_at DESC, id DESC) WHERE (level <> 'info'::text);
CREATE INDEX events_manual_idx ON ONLY audit.events USING btree (occurred_at DESC) WHERE ((actor_kind = 'database'::text) OR (database_user <> ALL (ARRAY['halyard_authenticator'::text, 'halyard_worker'::text])));
CREATE INDEX events_occurred_at_id_idx ON ONLY audit.events USING btree (occurred_at DESC, id);
CREATE INDEX events_plan_idx ON ONLY audit.events USING btree (((metadata ->> 'planId'::text)), occurred_at) WHERE (metadata ? 'planId'::text);
CREATE INDEX events_reconciled_idx ON ONLY audit.events USING btree (occurred_at) WHERE reconciled;
CREATE INDEX events_schedule_idx ON ONLY audit.events USING btree (schedule_id, occurred_at) WHERE (schedule_id IS NOT NULL);
CREATE INDEX events_type_idx ON ONLY audit.events USING btree (event_type, occurred_at DESC);
create policy admin_select on audit.events for select to halyard_admin
  using (((( SELECT app_private.claim_role() AS claim_role) = 'admin'::text) AND ((( SELECT true
  WHERE (NOT app_private.claims_are_limited())) IS NOT NULL) OR (environment = ANY (( SELECT app_private.claim_environments() AS claim_environments)::text[])))));
create policy auditor_select on audit.events for select to halyard_auditor
  using (((COALESCE(( SELECT app_private.claim_role() AS claim_role), 'auditor'::text) = 'auditor'::text) AND ((( SELECT true
  WHERE (NOT app_private.claims_are_limited())) IS NOT NULL) OR (environment = ANY (( SELECT app_private.claim_environments() AS claim_environments)::text[])))));
CREATE TRIGGER _100_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit.events FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg__reject_write();
alter table audit.events enable always trigger _100_append_only;
CREATE TRIGGER _200_append_only_rows BEFORE DELETE OR UPDATE ON audit.events FOR EACH ROW EXECUTE FUNCTION app_private.tg__reject_write();
alter table audit.events enable always trigger _200_append_only_rows;
comment on table audit.events is 'The audit trail: one row for each thing that happened. Append-only; partitioned by month (UTC).';
comment on column audit.events.actor_kind is 'admin (by the API), system (the worker, and events about the trail itself) or database (SQL at a prompt).';
comment on column audit.events.admin_email is 'The admin''s e-mail address, from the verified token.';
comment on column audit.events.admin_user_id is 'The admin''s user id, from the verified token.';
comment on column audit.events.application_name is 'What the database session called itself; anybody can set that.';
comment on column audit.events.client_request_id is 'The id that the client gave the request, in X-Request-Id.';
comment on column audit.events.database_user is 'The login of the database session: halyard_authenticator and halyard_worker are Halyard''s own.';
comment on column audit.events.environment is 'The environment that it is about; null for what concerns the whole trail.';
comment on column audit.events.event_type is 'What happened, as flag_schedule.created: audit.event_types has the types.';
comment on column audit.events.flag_id is 'The flag: another one when it was deleted and made again.';
comment on column audit.events.flag_key is 'The flag''s key at the time.';
comment on column audit.events.id is 'The event''s id; copies of the event elsewhere carry it as eventId.';
comment on column audit.events.level is 'info, warning or error, by the event''s type: audit.event_types has it. A type that isn''t there is a warning.';
comment on column audit.events.metadata is 'The details, with keys by event type: audit.event_types has them.';
comment on column audit.events.occurred_at is 'When it happened, by the database''s clock.';
comment on column audit.events.payload is 'The event as JSON text, rendered once: what is hashed and shipped, with seq put in.';
comment on column audit.events.reconciled is 'Whether the event was written afterwards, because writing it failed at the time: from a dead letter, or in place of lost ones.';
comment on column audit.events.request_id is 'The HTTP request that did it, by the API''s own id; also in the API''s log and its X-Request-Id header.';
comment on column audit.events.revision is 'The revision of the row that the event is about; the highest missing one in *.reconciled.';
comment on column audit.events.schedule_id is 'The schedule, also on the change of a flag that a schedule made.';
grant select on table audit.events to halyard_admin;
grant select on table audit.events to halyard_auditor;

create view audit.failed_schedules with (security_invoker=true) as
 SELECT occurred_at,
    environment,
    flag_key,
    schedule_id,
    (metadata ->> 'errorMessage'::text) AS error_message,
    ((metadata ->> 'attempts'::text))::integer AS attempts,
    ( SELECT n.event_type
           FROM audit.events n
          WHERE ((n.schedule_id = e.schedule_id) AND (n.occurred_at >= e.occurred_at) AND (n.revision > e.revision) AND starts_with(n.event_type, 'flag_schedule.'::text))
          ORDER BY n.revision DESC
         LIMIT 1) AS since,
    id AS event_id
   FROM audit.events e
  WHERE (event_type = 'flag_schedule.failed'::text);
comment on table audit.failed_schedules is 'Each time that a schedule failed for good, and what became of it since.';
comment on column audit.failed_schedules.attempts is 'How often it was tried.';
comment on column audit.failed_schedules.environment is 'The environment that it is about; null for what concerns the whole trail.';
comment on column audit.failed_schedules.error_message is 'What the last attempt said.';
comment on column audit.failed_schedules.event_id is 'The event''s id; copies of the event elsewhere carry it as eventId.';
comment on column audit.failed_schedules.flag_key is 'The flag''s key at the time.';
comment on column audit.failed_schedules.occurred_at is 'When it was given up.';
comment on column audit.failed_schedules.schedule_id is 'The schedule, also on the change of a flag that a schedule made.';
comment on column audit.failed_schedules.since is 'The schedule''s latest event after that; null when nothing happened since.';
grant select on table audit.failed_schedules to halyard_auditor;

create view audit.flag_events with (security_invoker=true) as
 SELECT occurred_at,
    environment,
    flag_key,
    flag_id,
    event_type,
    actor_kind,
    admin_user_id,
    database_user,
    schedule_id,
    (COALESCE((metadata ->> 'scheduledAt'::text), (metadata #>> '{after,scheduledAt}'::text[])))::timestamp with time zone AS scheduled_at,
    (metadata -> 'before'::text) AS before,
    COALESCE((metadata -> 'after'::text), app_private.camel_case_keys((metadata -> 'updates'::text))) AS after,
    COALESCE((metadata ->> 'reason'::text), (metadata ->> 'errorMessage'::text)) AS reason,
    id AS event_id,
    COALESCE((metadata ->> 'requestedBy'::text), admin_user_id,
        CASE
            WHEN (actor_kind = 'database'::text) THEN database_user
            ELSE NULL::text
        END) AS requested_by
   FROM audit.events e
  WHERE ((flag_key IS NOT NULL) AND (event_type <> 'access.denied'::text));
comment on table audit.flag_events is 'What happened to each flag and its schedules. A flag is a key in an environment.';
comment on column audit.flag_events.actor_kind is 'admin (by the API), system (the worker, and events about the trail itself) or database (SQL at a prompt).';
comment on column audit.flag_events.admin_user_id is 'The admin''s user id, from the verified token.';
comment on column audit.flag_events.after is 'What is from then on; for a schedule''s creation and application, what it sets.';
comment on column audit.flag_events.before is 'What was before, where the event says it.';
comment on column audit.flag_events.database_user is 'The login of the database session: halyard_authenticator and halyard_worker are Halyard''s own.';
comment on column audit.flag_events.environment is 'The environment that it is about; null for what concerns the whole trail.';
comment on column audit.flag_events.event_id is 'The event''s id; copies of the event elsewhere carry it as eventId.';
comment on column audit.flag_events.event_type is 'What happened, as flag_schedule.created: audit.event_types has the types.';
comment on column audit.flag_events.flag_id is 'The flag: another one when it was deleted and made again.';
comment on column audit.flag_events.flag_key is 'The flag''s key at the time.';
comment on column audit.flag_events.occurred_at is 'When it happened, by the database''s clock.';
comment on column audit.flag_events.reason is 'Why, as the person who made the change said, or the schedule that made it; of a schedule that failed, the error.';
comment on column audit.flag_events.requested_by is 'Who wanted it: the admin who did it, or who scheduled what did it, or moved or retried that last; the login that changed it in SQL. Null when unknown.';
comment on column audit.flag_events.schedule_id is 'The schedule, also on the change of a flag that a schedule made.';
comment on column audit.flag_events.scheduled_at is 'What the schedule''s time is from then on, where the event says it.';
grant select on table audit.flag_events to halyard_auditor;

create table audit.incarnations (
  database_user text not null default SESSION_USER,
  first_seal bigint not null,
  first_seq bigint not null,
  id uuid not null default gen_random_uuid(),
  incarnation_no integer not null,
  overdue text,
  reason text,
  refused_destinations text[] not null default '{}'::text[],
  started_at timestamp with time zone not null default clock_timestamp(),
  trail uuid not null,
  constraint incarnations_id_key UNIQUE (id),
  constraint incarnations_overdue_check CHECK ((overdue = ANY (ARRAY['apply'::text, 'skip'::text]))),
  constraint incarnations_pkey PRIMARY KEY (incarnation_no)
);
alter table audit.incarnations enable row level security;
create policy auditor_select on audit.incarnations for select to halyard_auditor
  using (((COALESCE(( SELECT app_private.claim_role() AS claim_role), 'auditor'::text) = 'auditor'::text) AND (( SELECT app_private.claim_environments() AS claim_environments) IS NULL)));
CREATE TRIGGER _100_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit.incarnations FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg__reject_write();
alter table audit.incarnations enable always trigger _100_append_only;
comment on table audit.incarnations is 'The lives of this trail: one from the first migration on, and one more each time that the restore of an older state was accepted. Append-only.';
comment on column audit.incarnations.database_user is 'The login that began it.';
comment on column audit.incarnations.first_seal is 'The number of its first seal.';
comment on column audit.incarnations.first_seq is 'The number of its first event.';
comment on column audit.incarnations.id is 'What seals and the ids of events carry of it.';
comment on column audit.incarnations.incarnation_no is 'Its number: gapless from 1. The highest is the one that is written to.';
comment on column audit.incarnations.overdue is 'What was done with the schedules that the lost history may have applied: apply or skip; null for the first.';
comment on column audit.incarnations.reason is 'Why it was begun; null for the first.';
comment on column audit.incarnations.refused_destinations is 'The destinations of the database that this one is a copy of: nothing is forwarded there.';
comment on column audit.incarnations.started_at is 'When it began.';
comment on column audit.incarnations.trail is 'The trail: the same through all restores; another one from a copy on that was made to be a database of its own.';
grant select on table audit.incarnations to halyard_auditor;

create view audit.lateness_days with (security_invoker=true) as
 SELECT day,
    environment,
    count(*) AS applied,
    (round(percentile_cont((0.5)::double precision) WITHIN GROUP (ORDER BY ((lateness_ms)::double precision))))::bigint AS p50_ms,
    (round(percentile_cont((0.99)::double precision) WITHIN GROUP (ORDER BY ((lateness_ms)::double precision))))::bigint AS p99_ms,
    max(lateness_ms) AS max_ms,
    count(*) FILTER (WHERE (lateness_ms > 1000)) AS over_one_second
   FROM ( SELECT ((s.occurred_at AT TIME ZONE 'UTC'::text))::date AS day,
            s.environment,
            s.lateness_ms
           FROM audit.applied_schedules s) a
  GROUP BY day, environment;
comment on table audit.lateness_days is 'How late schedules were applied, by day (UTC) and environment. Reads the whole trail: for a part of a long one, group audit.applied_schedules.';
comment on column audit.lateness_days.applied is 'How many were applied.';
comment on column audit.lateness_days.day is 'The day (UTC) on which they were applied.';
comment on column audit.lateness_days.environment is 'The environment that it is about; null for what concerns the whole trail.';
comment on column audit.lateness_days.max_ms is 'The latest, in milliseconds.';
comment on column audit.lateness_days.over_one_second is 'How many were more than a second late.';
comment on column audit.lateness_days.p50_ms is 'Half of them were no later than this, in milliseconds.';
comment on column audit.lateness_days.p99_ms is '99 of 100 were no later than this, in milliseconds.';
grant select on table audit.lateness_days to halyard_auditor;

create table audit.ledger (
  environment text,
  event_id uuid not null,
  event_type text,
  flag_key text,
  leaf bytea not null,
  occurred_at timestamp with time zone not null,
  seq bigint not null,
  sequenced_at timestamp with time zone not null default now(),
  constraint ledger_event_id_key UNIQUE (event_id),
  constraint ledger_pkey PRIMARY KEY (seq)
);
alter table audit.ledger enable row level security;
CREATE INDEX ledger_flag_key_idx ON audit.ledger USING btree (flag_key, seq);
CREATE INDEX ledger_occurred_at_idx ON audit.ledger USING brin (occurred_at);
create policy admin_select on audit.ledger for select to halyard_admin
  using (((( SELECT app_private.claim_role() AS claim_role) = 'admin'::text) AND ((( SELECT true
  WHERE (NOT app_private.claims_are_limited())) IS NOT NULL) OR (environment = ANY (( SELECT app_private.claim_environments() AS claim_environments)::text[])))));
create policy auditor_select on audit.ledger for select to halyard_auditor
  using (((COALESCE(( SELECT app_private.claim_role() AS claim_role), 'auditor'::text) = 'auditor'::text) AND ((( SELECT true
  WHERE (NOT app_private.claims_are_limited())) IS NOT NULL) OR (environment = ANY (( SELECT app_private.claim_environments() AS claim_environments)::text[])))));
CREATE TRIGGER _100_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit.ledger FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg__reject_write();
alter table audit.ledger enable always trigger _100_append_only;
comment on table audit.ledger is 'The number and hash of each event: gapless from 1, each event once; kept when the event is purged. Append-only.';
comment on column audit.ledger.environment is 'A copy of the event''s, for exports and for row-level security.';
comment on column audit.ledger.event_id is 'The event.';
comment on column audit.ledger.event_type is 'A copy of the event''s, for exports; these three are null when the event was gone before it got its number.';
comment on column audit.ledger.flag_key is 'A copy of the event''s, for exports.';
comment on column audit.ledger.leaf is 'SHA-256 of 0x00 and the shipped message: the event''s leaf in its seal''s Merkle tree.';
comment on column audit.ledger.occurred_at is 'The event''s time, which finds its partition.';
comment on column audit.ledger.seq is 'The event''s number: the order in which copies are shipped.';
comment on column audit.ledger.sequenced_at is 'When it got its number.';
grant select on table audit.ledger to halyard_auditor;
grant select (environment, event_id, event_type, flag_key, occurred_at, seq, sequenced_at) on audit.ledger to halyard_admin;

create view audit.manual_changes with (security_invoker=true) as
 SELECT occurred_at,
    database_user,
    application_name,
    event_type,
    environment,
    flag_key,
    schedule_id,
    (metadata -> 'before'::text) AS before,
    COALESCE((metadata -> 'after'::text), app_private.camel_case_keys((metadata -> 'updates'::text))) AS after,
    metadata,
    id AS event_id,
    (metadata -> 'claimed'::text) AS claimed
   FROM audit.events e
  WHERE (((actor_kind = 'database'::text) OR (database_user <> ALL (ARRAY['halyard_authenticator'::text, 'halyard_worker'::text]))) AND (NOT ((actor_kind = 'system'::text) AND (database_user = 'halyard_owner'::text))) AND (event_type <> 'audit.exported'::text));
comment on table audit.manual_changes is 'What was changed by SQL at a prompt, past the API, also where the session claimed to be another.';
comment on column audit.manual_changes.after is 'What is from then on.';
comment on column audit.manual_changes.application_name is 'What the database session called itself; anybody can set that.';
comment on column audit.manual_changes.before is 'What was before.';
comment on column audit.manual_changes.claimed is 'The user, e-mail, role and request that the session said it had: not verified. Null when it said nothing.';
comment on column audit.manual_changes.database_user is 'The login of the database session: halyard_authenticator and halyard_worker are Halyard''s own.';
comment on column audit.manual_changes.environment is 'The environment that it is about; null for what concerns the whole trail.';
comment on column audit.manual_changes.event_id is 'The event''s id; copies of the event elsewhere carry it as eventId.';
comment on column audit.manual_changes.event_type is 'What happened, as flag_schedule.created: audit.event_types has the types.';
comment on column audit.manual_changes.flag_key is 'The flag''s key at the time.';
comment on column audit.manual_changes.metadata is 'The details, with keys by event type: audit.event_types has them.';
comment on column audit.manual_changes.occurred_at is 'When it happened, by the database''s clock.';
comment on column audit.manual_changes.schedule_id is 'The schedule, also on the change of a flag that a schedule made.';
grant select on table audit.manual_changes to halyard_auditor;

create view audit.plan_events with (security_invoker=true) as
 SELECT occurred_at,
    ((metadata ->> 'planId'::text))::uuid AS plan_id,
    event_type,
    environment,
    flag_key,
    schedule_id,
    actor_kind,
    admin_user_id,
    database_user,
    ((metadata ->> 'occurrenceNo'::text))::integer AS occurrence_no,
    ((metadata ->> 'stepNo'::text))::integer AS step_no,
    COALESCE((metadata ->> 'title'::text), (metadata #>> '{after,title}'::text[]), (metadata #>> '{before,title}'::text[])) AS title,
    (metadata -> 'before'::text) AS before,
    COALESCE((metadata -> 'after'::text), app_private.camel_case_keys((metadata -> 'updates'::text))) AS after,
    COALESCE((metadata ->> 'reason'::text), (metadata ->> 'errorMessage'::text)) AS reason,
    id AS event_id
   FROM audit.events e
  WHERE (metadata ? 'planId'::text);
comment on table audit.plan_events is 'What happened to each plan, to its schedules, and to flags by them.';
comment on column audit.plan_events.actor_kind is 'admin (by the API), system (the worker, and events about the trail itself) or database (SQL at a prompt).';
comment on column audit.plan_events.admin_user_id is 'The admin''s user id, from the verified token.';
comment on column audit.plan_events.after is 'What is from then on; for a schedule''s creation and application, what it sets.';
comment on column audit.plan_events.before is 'What was before, where the event says it.';
comment on column audit.plan_events.database_user is 'The login of the database session: halyard_authenticator and halyard_worker are Halyard''s own.';
comment on column audit.plan_events.environment is 'The environment of what happened; null for a plan of several.';
comment on column audit.plan_events.event_id is 'The event''s id; copies of the event elsewhere carry it as eventId.';
comment on column audit.plan_events.event_type is 'What happened, as flag_schedule.created: audit.event_types has the types.';
comment on column audit.plan_events.flag_key is 'The flag''s key at the time.';
comment on column audit.plan_events.occurred_at is 'When it happened, by the database''s clock.';
comment on column audit.plan_events.occurrence_no is 'Which occurrence of the plan it belongs to, where the event says it.';
comment on column audit.plan_events.plan_id is 'The plan.';
comment on column audit.plan_events.reason is 'Why, where the event says it; of a schedule that failed, the error.';
comment on column audit.plan_events.schedule_id is 'The schedule, also on the change of a flag that a schedule made.';
comment on column audit.plan_events.step_no is 'Which step of the plan it belongs to, where the event says it.';
comment on column audit.plan_events.title is 'The plan''s title, where the event says it.';
grant select on table audit.plan_events to halyard_auditor;

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

create table audit.reconciliations (
  finished_at timestamp with time zone not null,
  rows_unexplained bigint,
  scope text not null,
  started_at timestamp with time zone not null,
  constraint reconciliations_pkey PRIMARY KEY (scope)
);
alter table audit.reconciliations enable row level security;
comment on table audit.reconciliations is 'When the trail was last compared with the rows, by scope.';
comment on column audit.reconciliations.finished_at is 'When it came to its end.';
comment on column audit.reconciliations.rows_unexplained is 'How many rows were not what the trail says of them, by a full run; null for the others.';
comment on column audit.reconciliations.scope is 'dead_letters, incremental or full.';
comment on column audit.reconciliations.started_at is 'When the last run of this scope began.';

create table audit.seals (
  first_seq bigint not null,
  head bytea not null,
  incarnation uuid not null,
  last_seq bigint not null,
  previous_head bytea not null,
  root bytea not null,
  seal_no bigint not null,
  sealed_at timestamp with time zone not null default clock_timestamp(),
  trail uuid not null,
  constraint seals_hashes_check CHECK (((octet_length(root) = 32) AND (octet_length(previous_head) = 32) AND (octet_length(head) = 32))),
  constraint seals_last_seq_key UNIQUE (last_seq),
  constraint seals_pkey PRIMARY KEY (seal_no)
);
alter table audit.seals enable row level security;
create policy auditor_select on audit.seals for select to halyard_auditor
  using (((COALESCE(( SELECT app_private.claim_role() AS claim_role), 'auditor'::text) = 'auditor'::text) AND (( SELECT app_private.claim_environments() AS claim_environments) IS NULL)));
CREATE TRIGGER _100_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit.seals FOR EACH STATEMENT EXECUTE FUNCTION app_private.tg__reject_write();
alter table audit.seals enable always trigger _100_append_only;
comment on table audit.seals is 'One row for each batch of numbered events: its Merkle root, chained to the seal before it. Append-only.';
comment on column audit.seals.first_seq is 'The first event that it seals.';
comment on column audit.seals.head is 'SHA-256 of 0x02, previous_head, trail, incarnation, seal_no, first_seq, the number of events, and root: what is shipped as an anchor.';
comment on column audit.seals.incarnation is 'The incarnation in which it was sealed.';
comment on column audit.seals.last_seq is 'The last event that it seals.';
comment on column audit.seals.previous_head is 'The head of the seal before it; random for seal 0, so that no two trails have a head in common.';
comment on column audit.seals.root is 'The Merkle root of the events'' leaves (RFC 6962).';
comment on column audit.seals.seal_no is 'The seal''s number: gapless from 0, which seals nothing and only begins the chain.';
comment on column audit.seals.sealed_at is 'When it was sealed.';
comment on column audit.seals.trail is 'The trail: audit.incarnations has it.';
grant select on table audit.seals to halyard_auditor;

create view audit.stops with (security_invoker=true) as
 SELECT e.occurred_at,
    e.environment,
        CASE e.actor_kind
            WHEN 'database'::text THEN e.database_user
            ELSE e.admin_user_id
        END AS stopped_by,
    (e.metadata ->> 'reason'::text) AS reason,
    r.occurred_at AS resumed_at,
        CASE r.actor_kind
            WHEN 'database'::text THEN r.database_user
            ELSE r.admin_user_id
        END AS resumed_by,
    (r.metadata ->> 'reason'::text) AS resume_reason,
    (r.metadata ->> 'missed'::text) AS missed,
    ((r.metadata ->> 'applied'::text))::integer AS applied,
    ((r.metadata ->> 'skipped'::text))::integer AS skipped,
    e.id AS event_id
   FROM (audit.events e
     LEFT JOIN LATERAL ( SELECT n.id,
            n.occurred_at,
            n.event_type,
            n.level,
            n.flag_id,
            n.flag_key,
            n.environment,
            n.schedule_id,
            n.revision,
            n.actor_kind,
            n.admin_user_id,
            n.admin_email,
            n.request_id,
            n.client_request_id,
            n.database_user,
            n.application_name,
            n.reconciled,
            n.metadata,
            n.payload
           FROM audit.events n
          WHERE ((n.event_type = 'environment.resumed'::text) AND (n.environment = e.environment) AND (n.occurred_at >= e.occurred_at) AND (n.revision > e.revision))
          ORDER BY n.revision
         LIMIT 1) r ON (true))
  WHERE (e.event_type = 'environment.stopped'::text);
comment on table audit.stops is 'Each time that an environment was stopped, and when and how it was resumed.';
comment on column audit.stops.applied is 'How many of them were made pending again.';
comment on column audit.stops.environment is 'The environment that it is about; null for what concerns the whole trail.';
comment on column audit.stops.event_id is 'The event''s id; copies of the event elsewhere carry it as eventId.';
comment on column audit.stops.missed is 'What was done with the schedules that came due meanwhile, but for exceptions: apply or skip.';
comment on column audit.stops.occurred_at is 'When it was stopped.';
comment on column audit.stops.reason is 'Why it was stopped.';
comment on column audit.stops.resume_reason is 'Why it was resumed.';
comment on column audit.stops.resumed_at is 'When it was resumed; null while it is stopped.';
comment on column audit.stops.resumed_by is 'The admin''s user id, or the login that resumed it in SQL; null when unknown.';
comment on column audit.stops.skipped is 'How many of them were skipped.';
comment on column audit.stops.stopped_by is 'The admin''s user id, or the login that stopped it in SQL; null when unknown.';
grant select on table audit.stops to halyard_auditor;

CREATE OR REPLACE FUNCTION app_private.accept_restore(reason text, overdue text DEFAULT NULL::text, as_copy boolean DEFAULT false, dry_run boolean DEFAULT false)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
AS $function$
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
$function$;
comment on function app_private.accept_restore(text,text,boolean,boolean) is 'Begins another incarnation: what the trail had after this state of it is lost. apply leaves overdue schedules to the workers, skip cancels them, and the plans whose they are; as_copy makes a database of its own of it, with another trail, all pending schedules cancelled. Says what it did; with dry_run what it would do.';

CREATE OR REPLACE FUNCTION app_private.actor_details()
 RETURNS jsonb
 LANGUAGE sql
 STABLE
RETURN CASE app_private.actor_kind() WHEN 'admin'::text THEN jsonb_strip_nulls(jsonb_build_object('adminUserId', app_private.claim_user_id(), 'adminEmail', app_private.claim_email())) WHEN 'database'::text THEN app_private.claimed() ELSE '{}'::jsonb END;
comment on function app_private.actor_details() is 'adminUserId and adminEmail of an admin''s change, as far as they are known; `claimed` of a change at a prompt whose session set claims.';

CREATE OR REPLACE FUNCTION app_private.actor_kind()
 RETURNS text
 LANGUAGE sql
 STABLE PARALLEL SAFE
RETURN CASE WHEN (SESSION_USER = 'halyard_worker'::name) THEN 'system'::text WHEN ((SESSION_USER = 'halyard_authenticator'::name) AND (app_private.claim_role() IS NOT NULL)) THEN 'admin'::text ELSE 'database'::text END;
comment on function app_private.actor_kind() is 'admin, system or database: who makes the change of this transaction, by its login.';

CREATE OR REPLACE FUNCTION app_private.actor_text(event audit.events)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select case
    when (event).actor_kind = 'admin' then coalesce((event).admin_email, (event).admin_user_id, 'An admin')
    when (event).actor_kind = 'database' then 'The database login ' || (event).database_user
    when (event).event_type like 'feature_flag.%' and (event).schedule_id is not null
      then coalesce('A schedule of ' || ((event).metadata ->> 'requestedBy'), 'A schedule')
    else 'The worker'
  end
$function$;
comment on function app_private.actor_text(audit.events) is 'Who made the change of an event, as the beginning of a sentence.';
grant execute on function app_private.actor_text(audit.events) to halyard_admin;

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
  where c.destination = advance_audit_cursor.destination
    and app_private.audit_cursor(c.destination) = from_seq
    and to_seq >= from_seq;
  return found;
end;
$function$;
comment on function app_private.advance_audit_cursor(text,bigint,bigint) is 'Confirms that a destination has everything up to to_seq; false, and nothing changed, unless its cursor stood at from_seq.';

CREATE OR REPLACE FUNCTION app_private.alteration_of(event audit.events)
 RETURNS text
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select case
    when app_private.event_leaf((event).payload, l.seq) <> l.leaf then 'event_altered'
    when l.occurred_at <> (event).occurred_at or cardinality(app_private.differing_columns(event)) > 0 then 'column_differs'
  end
  from audit.ledger l
  where l.event_id = (event).id
$function$;
comment on function app_private.alteration_of(audit.events) is 'What `audit verify` calls an event that isn''t what was sealed; null for one that is, or isn''t sealed yet.';
grant execute on function app_private.alteration_of(audit.events) to halyard_admin;
grant execute on function app_private.alteration_of(audit.events) to halyard_auditor;

CREATE OR REPLACE FUNCTION app_private.apply_due(batch integer DEFAULT 500, skipped uuid[] DEFAULT '{}'::uuid[], within interval DEFAULT '00:00:05'::interval)
 RETURNS TABLE(applied integer, retried integer, failed integer, stuck integer, lateness_ms double precision[], stuck_ids uuid[], untried integer, suspended_for_stop integer, suspended_for_conflict integer)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
AS $function$
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
$function$;
comment on function app_private.apply_due(integer,uuid[],interval) is 'Applies up to `batch` due schedules but those in `skipped`, each all or nothing, and with a plan''s schedule all of its point. Says how many were applied, are to be retried, failed for good, or could not even be marked (and which), how late each applied one was in milliseconds, how many were left because `within` had passed, and how many were suspended because their environment is stopped or their flag isn''t as they expect.';
grant execute on function app_private.apply_due(integer,uuid[],interval) to halyard_worker;

CREATE OR REPLACE FUNCTION app_private.apply_flag(flag_id uuid, wait_ms integer, skipped uuid[] DEFAULT '{}'::uuid[], within interval DEFAULT '00:00:05'::interval)
 RETURNS TABLE(applied integer, retried integer, failed integer, stuck integer, lateness_ms double precision[], stuck_ids uuid[], untried integer, suspended_for_stop integer, suspended_for_conflict integer)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
AS $function$
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
$function$;
comment on function app_private.apply_flag(uuid,integer,uuid[],interval) is 'Applies a flag''s due schedules but those in `skipped`, with those of plans all of their points, and waits up to `wait_ms` for the lock of each row; raises lock_not_available (55P03) after that. Returns what apply_due() does.';
grant execute on function app_private.apply_flag(uuid,integer,uuid[],interval) to halyard_worker;

CREATE OR REPLACE FUNCTION app_private.apply_in_turns(schedule_ids uuid[])
 RETURNS TABLE(applied integer, retried integer, failed integer, stuck integer, lateness_ms double precision[], stuck_ids uuid[], untried integer)
 LANGUAGE sql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select a.applied, a.retried, a.failed, a.stuck, a.lateness_ms, a.stuck_ids, a.untried
  from app_private.apply_in_turns(schedule_ids, false, interval '5 seconds') as a
$function$;
comment on function app_private.apply_in_turns(uuid[]) is 'The same for a batch that 0.1.0 has begun.';

CREATE OR REPLACE FUNCTION app_private.apply_in_turns(schedule_ids uuid[], is_plain boolean, within interval)
 RETURNS TABLE(applied integer, retried integer, failed integer, stuck integer, lateness_ms double precision[], stuck_ids uuid[], untried integer, suspended_for_stop integer, suspended_for_conflict integer)
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.apply_in_turns(uuid[],boolean,interval) is 'Applies these schedules, which the caller has locked with their flags and plans, in the order given; for what it returns see apply_due().';

CREATE OR REPLACE FUNCTION app_private.apply_or_bisect(schedule_ids uuid[], deadline timestamp with time zone)
 RETURNS TABLE(schedule_id uuid, outcome text)
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.apply_or_bisect(uuid[],timestamp with time zone) is 'Applies these schedules, no two of one flag, each all or nothing. Says of each: applied, pending (it is tried again later), failed for good, stuck (it could not even be marked), or untried, because the deadline had passed.';

CREATE OR REPLACE FUNCTION app_private.apply_or_suspend(schedule_ids uuid[])
 RETURNS text
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.apply_or_suspend(uuid[]) is 'Applies all changes of a plan''s point, or one guarded schedule, which the caller has locked; or suspends them for a conflict. Returns applied or suspended, and raises what applying raises.';

CREATE OR REPLACE FUNCTION app_private.apply_outcomes(schedule_ids uuid[], is_plain boolean, within interval)
 RETURNS TABLE(schedule_id uuid, outcome text)
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.apply_outcomes(uuid[],boolean,interval) is 'Applies these schedules in the order given, all of each plan''s point among them. Says of each: applied, stopped or suspended (it waits for an admin), pending (it is tried again later), failed for good, stuck, or untried. is_plain: none of them is of a plan or guarded, and no environment is stopped.';

CREATE OR REPLACE FUNCTION app_private.apply_point(plan_id uuid)
 RETURNS text
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  return app_private.apply_or_suspend(array(
    select p.id from app_private.lock_point(apply_point.plan_id) as p where p.status = 'pending' order by p.scheduled_at, p.id));
end;
$function$;
comment on function app_private.apply_point(uuid) is 'Applies a plan''s open point at once, in the caller''s session, also in a stopped environment. Returns applied, or suspended where a guard found something else; raises what applying raises.';

CREATE OR REPLACE FUNCTION app_private.apply_schedules(schedule_ids uuid[])
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.apply_schedules(uuid[]) is 'Changes the flags of these schedules, no two of one flag, and marks them applied. Runs inside the caller''s subtransaction: all of it or nothing.';

CREATE OR REPLACE FUNCTION app_private.apply_turns(schedule_ids uuid[], deadline timestamp with time zone)
 RETURNS TABLE(schedule_id uuid, outcome text)
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.apply_turns(uuid[],timestamp with time zone) is 'Applies these schedules in the order given, each all or nothing; says of each what apply_or_bisect() does.';

CREATE OR REPLACE FUNCTION app_private.apply_unless_timed(plan app_public.plans, at timestamp with time zone)
 RETURNS app_public.plans
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if at is null then
    perform app_private.apply_point(plan.id);
    select p.* into strict plan from app_public.plans p where p.id = plan.id;
  end if;
  return plan;
end;
$function$;
comment on function app_private.apply_unless_timed(app_public.plans,timestamp with time zone) is 'Applies a revert''s plan unless it has a time, and returns the plan as it is then.';

CREATE OR REPLACE FUNCTION app_private.applying()
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select case
    when session_user in ('halyard_worker', 'halyard_authenticator') and app_private.is_applying_text(current_setting('halyard.applying', true))
      then current_setting('halyard.applying', true)::jsonb
  end
$function$;
comment on function app_private.applying() is 'The schedule that is being applied, by flag; null where none is, where the login is neither the worker''s nor the API''s, and where the setting has another form.';

CREATE OR REPLACE FUNCTION app_private.applying_schedules()
 RETURNS TABLE(flag_id uuid, schedule_id uuid)
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select s.key::uuid, s.value::uuid
  from jsonb_each_text(app_private.applying()) as s
$function$;
comment on function app_private.applying_schedules() is 'The schedules whose changes of flags the running statement makes.';

CREATE OR REPLACE FUNCTION app_private.as_system(event app_private.audit_event)
 RETURNS app_private.audit_event
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  event.actor_kind := 'system';
  event.admin_user_id := null;
  event.admin_email := null;
  event.metadata := event.metadata - '{adminUserId,adminEmail,claimed}'::text[];
  return event;
end;
$function$;
comment on function app_private.as_system(app_private.audit_event) is 'The event with the system as its actor.';

CREATE OR REPLACE FUNCTION app_private.as_worker(event jsonb)
 RETURNS jsonb
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select event - 'clientRequestId'
    || jsonb_build_object(
      'actorKind', 'system', 'databaseUser', 'halyard_worker', 'applicationName', 'halyard worker', 'requestId', null,
      'metadata', (event -> 'metadata') - '{adminUserId,adminEmail,claimed}'::text[])
$function$;
comment on function app_private.as_worker(jsonb) is 'An event''s text as it would be if the worker had done it.';

CREATE OR REPLACE FUNCTION app_private.assign_seq(batch integer, after bigint, last_seq bigint)
 RETURNS TABLE(queue_id bigint, seq bigint, event_id uuid, occurred_us double precision, message text)
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  return query
  with taken as (
    delete from audit.queue q
    where q.id > assign_seq.after
      and q.id <= (
        select max(b.id)
        from (select n.id from audit.queue n where n.id > assign_seq.after order by n.id limit batch) as b)
    returning q.id, q.event_id, q.occurred_at
  ), numbered as (
    select t.*, assign_seq.last_seq + row_number() over (order by t.id) as seq
    from taken t
  ), described as materialized (
    select
      n.*, e.event_type, e.flag_key, e.environment,
      coalesce(
        app_private.shipped_bytes(e.payload, n.seq),
        convert_to(app_private.missing_message(n.event_id, n.seq), 'UTF8')) as message
    from numbered n
    -- In its own month only, as in seal_problems().
    left join lateral (
      select x.payload, x.event_type, x.flag_key, x.environment
      from audit.events x
      where x.id = n.event_id and x.occurred_at = n.occurred_at limit 1
    ) as e on true
  ), stored as (
    insert into audit.ledger (seq, event_id, occurred_at, leaf, event_type, flag_key, environment)
    -- As leaf_hash(), without the way through text.
    select
      t.seq, t.event_id, t.occurred_at, sha256(decode('00', 'hex') || t.message), t.event_type, t.flag_key, t.environment
    from described t
  )
  select t.id, t.seq, t.event_id, date_part('epoch', t.occurred_at) * 1000000, convert_from(t.message, 'UTF8')
  from described t
  order by t.seq;
end;
$function$;
comment on function app_private.assign_seq(integer,bigint,bigint) is 'Numbers up to `batch` queued events above the queue id `after`; gives them in order, each with its queue id, its time in microseconds since 1970 and the message to ship.';

CREATE OR REPLACE FUNCTION app_private.attribute_event(event app_private.audit_event, context jsonb)
 RETURNS app_private.audit_event
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.attribute_event(app_private.audit_event,jsonb) is 'The event with the actor, the request and the reason of a dead letter''s context, and without flagState.';

CREATE OR REPLACE FUNCTION app_private.attributed_setting(name text, max_length integer)
 RETURNS text
 LANGUAGE sql
 STABLE PARALLEL SAFE
RETURN CASE WHEN ((SESSION_USER = 'halyard_authenticator'::name) AND (length(current_setting(name, true)) <= max_length)) THEN NULLIF(current_setting(name, true), ''::text) ELSE NULL::text END;
comment on function app_private.attributed_setting(text,integer) is 'A setting that says who did something: null unless the API''s login set it, to 1 to `max_length` characters.';
grant execute on function app_private.attributed_setting(text,integer) to halyard_admin;
grant execute on function app_private.attributed_setting(text,integer) to halyard_auditor;
grant execute on function app_private.attributed_setting(text,integer) to halyard_viewer;

CREATE OR REPLACE FUNCTION app_private.audit_cursor(destination text)
 RETURNS bigint
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select greatest(
    (select c.last_seq from audit.cursors c where c.destination = audit_cursor.destination),
    app_private.given_up_numbers(audit_cursor.destination))
$function$;
comment on function app_private.audit_cursor(text) is 'The seq up to which a destination has confirmed everything, or gets nothing; 0 at first.';
grant execute on function app_private.audit_cursor(text) to halyard_worker;

CREATE OR REPLACE FUNCTION app_private.audit_is_strict()
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if current_setting('halyard.audit_mode', true) = 'strict' then
    return true;
  end if;
  return coalesce(app_private.setting('audit_mode') = 'strict', false);
exception when undefined_table or undefined_column or undefined_function then
  return false;
end;
$function$;
comment on function app_private.audit_is_strict() is 'Whether a change must fail when its event can''t be written.';

CREATE OR REPLACE FUNCTION app_private.audit_mode()
 RETURNS text
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET lock_timeout TO '200ms'
AS $function$
begin
  return coalesce(app_private.setting('audit_mode'), 'lax');
exception
  when undefined_table then
    return 'lax';
  when lock_not_available then
    return null;
end;
$function$;
comment on function app_private.audit_mode() is 'The setting audit_mode, lax or strict; null while somebody holds the lock of the settings. A session may be stricter.';
grant execute on function app_private.audit_mode() to halyard_auditor;

CREATE OR REPLACE FUNCTION app_private.audit_months()
 RETURNS TABLE(partition regclass, month timestamp with time zone, ends timestamp with time zone)
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
 SET "DateStyle" TO 'ISO'
AS $function$
  select
    b.partition,
    case when b.starts = date_trunc('month', b.starts) and b.ends = b.starts + interval '1 month' then b.starts end,
    coalesce(b.ends, '-infinity')
  from (
    select i.inhrelid::regclass, t.bounds[1]::timestamptz, t.bounds[2]::timestamptz
    from pg_inherits i
    join pg_class c on c.oid = i.inhrelid
    left join lateral regexp_match(
      pg_get_expr(c.relpartbound, c.oid), 'FROM [(]''([^'']+)''[)] TO [(]''([^'']+)''[)]') as t (bounds) on true
    where i.inhparent = 'audit.events'::regclass
  ) as b (partition, starts, ends)
  order by 2 nulls first
$function$;
comment on function app_private.audit_months() is 'The trail''s partitions, oldest first, with the month (UTC) of each.';

CREATE OR REPLACE FUNCTION app_private.bring_forward(plan app_public.plans)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.bring_forward(app_public.plans) is 'Sets the flags of a plan to what they will be when its open point is due, as the preview foresees it, and marks applied what decides over it.';

CREATE OR REPLACE FUNCTION app_private.camel_case_keys(fields jsonb)
 RETURNS jsonb
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select case
    when jsonb_typeof(fields) <> 'object' or fields::text not like '%!_%' escape '!' then fields
    else (
      select jsonb_object_agg(
        case when strpos(f.key, '_') = 0 then f.key else lower(left(n.name, 1)) || substr(n.name, 2) end, f.value)
      from jsonb_each(fields) as f
      cross join lateral (select replace(initcap(replace(f.key, '_', ' ')), ' ', '') as name) as n)
  end
$function$;
comment on function app_private.camel_case_keys(jsonb) is 'The object with its keys in camel case.';
grant execute on function app_private.camel_case_keys(jsonb) to halyard_auditor;

CREATE OR REPLACE FUNCTION app_private.chain_problem(previous audit.seals, seal audit.seals)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select case
    when seal.head <> app_private.seal_head(
      seal.previous_head, seal.trail, seal.incarnation, seal.seal_no, seal.first_seq, seal.last_seq - seal.first_seq + 1, seal.root)
      then 'The head isn''t that of what the seal says: the seal was changed.'
    when not exists (
      select
      from (
        select x.* from audit.incarnations x where x.first_seal <= seal.seal_no order by x.incarnation_no desc limit 1
      ) as i
      where i.trail = seal.trail and i.id = seal.incarnation)
      then 'It isn''t of the incarnation that was current for its number.'
    when seal.seal_no = 0 then null
    when (previous).seal_no is null then 'There is no seal before it.'
    when seal.seal_no <> (previous).seal_no + 1
      then format('The seals %s to %s are gone.', (previous).seal_no + 1, seal.seal_no - 1)
    -- A changed head is reported where it was: the next seal still has the former one.
    when seal.previous_head <> (previous).head and seal.previous_head <> app_private.seal_head(
      (previous).previous_head, (previous).trail, (previous).incarnation, (previous).seal_no, (previous).first_seq,
      (previous).last_seq - (previous).first_seq + 1, (previous).root)
      then 'It isn''t chained to the head of the seal before it.'
    when seal.first_seq <> (previous).last_seq + 1
      then format('It begins at %s, but the seal before it ends at %s.', seal.first_seq, (previous).last_seq)
  end
$function$;
comment on function app_private.chain_problem(audit.seals,audit.seals) is 'Why a seal doesn''t follow from the one before it; null when it does.';

CREATE OR REPLACE FUNCTION app_private.change_conflicts(schedule_ids uuid[])
 RETURNS SETOF app_public.change_conflict
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.change_conflicts(uuid[]) is 'What stands against these schedules, which are pending or suspended: at most 1,000 conflicts, with the schedule and the plan that are the cause as far as the token reaches them.';

CREATE OR REPLACE FUNCTION app_private.change_problem(change jsonb)
 RETURNS text
 LANGUAGE plpgsql
 IMMUTABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.change_problem(jsonb) is 'Why a plan can''t have this change, as a sentence that begins with its flag; null when it can.';

CREATE OR REPLACE FUNCTION app_private.change_reason()
 RETURNS text
 LANGUAGE sql
 STABLE PARALLEL SAFE
RETURN app_private.attributed_setting('halyard.reason'::text, 500);
comment on function app_private.change_reason() is 'Why the client of the API makes this change, as the request says; null when it gave no reason, and in sessions of other logins.';

CREATE OR REPLACE FUNCTION app_private.changed_event_id(incarnation uuid, row_id uuid, created_at timestamp with time zone, revision_before bigint, revision_after bigint)
 RETURNS uuid
 LANGUAGE sql
RETURN CASE WHEN (revision_after > COALESCE(revision_before, (0)::bigint)) THEN app_private.event_id(incarnation, row_id, created_at, revision_after) ELSE gen_random_uuid() END;
comment on function app_private.changed_event_id(uuid,uuid,timestamp with time zone,bigint,bigint) is 'The id of the event of a change: event_id(), or a random one when the row''s revision didn''t grow.';

CREATE OR REPLACE FUNCTION app_private.changes_of_rows(schedule_ids uuid[])
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.changes_of_rows(uuid[]) is 'What these schedules of plans changed: a JSON array of flagId, was and became.';

CREATE OR REPLACE FUNCTION app_private.changes_of_schedule(schedule app_public.feature_flag_schedules)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.changes_of_schedule(app_public.feature_flag_schedules) is 'What an applied schedule of its own changed, by the trail, as changes_of_rows() says it. Raises ZF026 where its events were purged.';

CREATE OR REPLACE FUNCTION app_private.changes_of_span(environment text, "from" timestamp with time zone, "to" timestamp with time zone, flag_keys text[])
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.changes_of_span(text,timestamp with time zone,timestamp with time zone,text[]) is 'What was changed in an environment from `from` until before `to`, of these flags or of all, by the trail, as changes_of_rows() says it.';

CREATE OR REPLACE FUNCTION app_private.check_rows(source text, after text, batch integer, record boolean, OUT events integer, OUT unexplained integer, OUT last_key text)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.check_rows(text,text,integer,boolean) is 'Holds the next `batch` rows of a table against the trail; says how many it doesn''t explain, how many of those were recorded as found, and the last key seen (null when there was none).';

CREATE OR REPLACE FUNCTION app_private.claim_email()
 RETURNS text
 LANGUAGE sql
 STABLE PARALLEL SAFE
RETURN app_private.attributed_setting('jwt.claims.email'::text, 320);
comment on function app_private.claim_email() is 'The e-mail address in the verified token of a request of the API; null otherwise.';
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
RETURN NULLIF(current_setting('jwt.claims.role'::text, true), ''::text);
comment on function app_private.claim_role() is 'admin, viewer or auditor; null when there is no verified token.';
grant execute on function app_private.claim_role() to halyard_admin;
grant execute on function app_private.claim_role() to halyard_auditor;
grant execute on function app_private.claim_role() to halyard_viewer;

CREATE OR REPLACE FUNCTION app_private.claim_user_id()
 RETURNS text
 LANGUAGE sql
 STABLE PARALLEL SAFE
RETURN app_private.attributed_setting('jwt.claims.user_id'::text, 255);
comment on function app_private.claim_user_id() is 'The user id in the verified token of a request of the API; null otherwise.';
grant execute on function app_private.claim_user_id() to halyard_admin;
grant execute on function app_private.claim_user_id() to halyard_auditor;
grant execute on function app_private.claim_user_id() to halyard_viewer;

CREATE OR REPLACE FUNCTION app_private.claimed()
 RETURNS jsonb
 LANGUAGE sql
 STABLE PARALLEL SAFE
RETURN CASE WHEN (concat(current_setting('jwt.claims.user_id'::text, true), current_setting('jwt.claims.email'::text, true), current_setting('jwt.claims.role'::text, true), current_setting('halyard.request_id'::text, true), current_setting('halyard.reason'::text, true)) = ''::text) THEN '{}'::jsonb ELSE jsonb_build_object('claimed', jsonb_strip_nulls(jsonb_build_object('userId', NULLIF("left"(current_setting('jwt.claims.user_id'::text, true), 255), ''::text), 'email', NULLIF("left"(current_setting('jwt.claims.email'::text, true), 320), ''::text), 'role', NULLIF("left"(current_setting('jwt.claims.role'::text, true), 32), ''::text), 'requestId', NULLIF("left"(current_setting('halyard.request_id'::text, true), 128), ''::text), 'reason', NULLIF("left"(current_setting('halyard.reason'::text, true), 500), ''::text)))) END;
comment on function app_private.claimed() is '`claimed` with the claims, the request id and the reason that a session set, cut to length; an empty object when it set none.';

CREATE OR REPLACE FUNCTION app_private.claims_are_limited()
 RETURNS boolean
 LANGUAGE sql
 STABLE PARALLEL SAFE
RETURN (NULLIF(current_setting('jwt.claims.environments'::text, true), ''::text) IS NOT NULL);
comment on function app_private.claims_are_limited() is 'Whether the token is limited to some environments, or to none.';
grant execute on function app_private.claims_are_limited() to halyard_admin;
grant execute on function app_private.claims_are_limited() to halyard_auditor;
grant execute on function app_private.claims_are_limited() to halyard_viewer;

CREATE OR REPLACE FUNCTION app_private.client_request_id()
 RETURNS text
 LANGUAGE sql
 STABLE PARALLEL SAFE
RETURN app_private.attributed_setting('halyard.client_request_id'::text, 128);
comment on function app_private.client_request_id() is 'The id that the client gave that request; null when it gave none.';

CREATE OR REPLACE FUNCTION app_private.complete_points(schedule_ids uuid[], skipped uuid[], OUT ids uuid[], OUT left_plans uuid[])
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.complete_points(uuid[],uuid[]) is 'Adds the rest of each plan''s point to these schedules, in order, and takes out the points that aren''t free: another session has a part of one locked, or a part is in `skipped`. left_plans are the plans of those.';

CREATE OR REPLACE FUNCTION app_private.confirm_audit_events(destination text, lease_token bigint, from_seq bigint, to_seq bigint)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if not app_private.holds_lease('forward.' || destination, lease_token) then
    return false;
  end if;
  if to_seq - from_seq > 1000 then
    raise exception 'A destination confirms at most 1,000 events at a time, not %.', to_seq - from_seq
      using errcode = 'invalid_parameter_value';
  end if;
  if to_seq > (select coalesce(max(s.last_seq), 0) from audit.seals s) then
    raise exception 'No event up to % is sealed, so no destination can have it.', to_seq using errcode = 'invalid_parameter_value';
  end if;
  return app_private.advance_audit_cursor(destination, from_seq, to_seq);
end;
$function$;
comment on function app_private.confirm_audit_events(text,bigint,bigint,bigint) is 'advance_audit_cursor() for the holder of the lease forward.<destination>: false when its token isn''t the present one; raises invalid_parameter_value beyond the last seal, or for more than 1,000 events.';
grant execute on function app_private.confirm_audit_events(text,bigint,bigint,bigint) to halyard_worker;

CREATE OR REPLACE FUNCTION app_private.console_session(id_hash bytea)
 RETURNS TABLE(token bytea, expires_at timestamp with time zone)
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select s.token, s.expires_at
  from app_private.console_sessions s
  where s.id_hash = console_session.id_hash and s.expires_at > clock_timestamp()
$function$;
comment on function app_private.console_session(bytea) is 'The encrypted token of a session of the console, and when the session expires; no row when it has expired, or there is none.';
grant execute on function app_private.console_session(bytea) to halyard_authenticator;

CREATE OR REPLACE FUNCTION app_private.content_hash(content jsonb)
 RETURNS bytea
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$ select sha256(convert_to(content::text, 'UTF8')) $function$;
comment on function app_private.content_hash(jsonb) is 'SHA-256 of a plan''s content.';

CREATE OR REPLACE FUNCTION app_private.continues_export(export uuid, filters jsonb)
 RETURNS boolean
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select exists (
    select
    from audit.events e
    where e.id = export
      and e.event_type = 'audit.exported'
      -- Skips the months before.
      and e.occurred_at > now() - interval '1 day'
      and e.database_user = session_user
      and (e.admin_user_id, e.admin_email) is not distinct from (app_private.claim_user_id(), app_private.claim_email())
      and e.metadata ->> 'format' = 'json'
      and (e.metadata -> 'filters') - '{after,until,limit}'::text[] = filters - '{after,until,limit}'::text[]
      and (filters ->> 'after')::bigint >= coalesce((e.metadata #>> '{filters,after}')::bigint, 0)
      and (filters ->> 'until')::bigint <= least(
        (e.metadata #>> '{filters,until}')::bigint,
        coalesce((select l.seq from audit.ledger l where l.event_id = e.id limit 1), audit.last_seq())))
$function$;
comment on function app_private.continues_export(uuid,jsonb) is 'Whether a page of JSON with these filters, `after` and `until` among them, is a part of what this audit.exported event of the same user says, no older than a day.';
grant execute on function app_private.continues_export(uuid,jsonb) to halyard_admin;
grant execute on function app_private.continues_export(uuid,jsonb) to halyard_auditor;

CREATE OR REPLACE FUNCTION app_private.dead_letter_count()
 RETURNS bigint
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$ select count(*) from audit.dead_letters $function$;
comment on function app_private.dead_letter_count() is 'How many dead letters there are.';

CREATE OR REPLACE FUNCTION app_private.dead_letter_events(content jsonb)
 RETURNS app_private.audit_event[]
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.dead_letter_events(jsonb) is 'The events that a dead letter holds, or that its rows make; raises when it holds neither.';

CREATE OR REPLACE FUNCTION app_private.dead_letter_rows()
 RETURNS TABLE(row_id text)
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.dead_letter_rows() is 'The ids of the flags, schedules, plans, settings and environments that dead letters are about.';

CREATE OR REPLACE FUNCTION app_private.deciding_change(flag_id uuid, field text, at timestamp with time zone, last_at timestamp with time zone, last_id uuid, held_until timestamp with time zone, held_created_until timestamp with time zone, left_out jsonb DEFAULT NULL::jsonb, without uuid DEFAULT NULL::uuid)
 RETURNS TABLE(schedule_id uuid, scheduled_at timestamp with time zone, value jsonb, plan_id uuid, occurrence_no integer, step_no integer)
 LANGUAGE sql
 STABLE
BEGIN ATOMIC
 SELECT d.id,
     d.scheduled_at,
     d.value,
     d.plan_id,
     d.occurrence_no,
     d.step_no
    FROM ( SELECT s.id,
             s.scheduled_at,
             (s.updates -> deciding_change.field) AS value,
             s.plan_id,
             s.occurrence_no,
             s.step_no
            FROM app_public.feature_flag_schedules s
           WHERE ((s.flag_id = deciding_change.flag_id) AND (s.status = 'pending'::text) AND (ROW(s.scheduled_at, s.id) <= ROW(deciding_change.last_at, deciding_change.last_id)) AND ((s.next_attempt_at IS NULL) OR (s.next_attempt_at <= deciding_change.at)) AND (NOT app_private.is_held(s.*, deciding_change.held_until, deciding_change.held_created_until)) AND ((s.updates -> deciding_change.field) IS NOT NULL) AND ((deciding_change.left_out IS NULL) OR (((deciding_change.left_out -> (s.id)::text) @> to_jsonb(deciding_change.field)) IS NOT TRUE)) AND ((deciding_change.without IS NULL) OR (s.id <> deciding_change.without)))
           ORDER BY s.scheduled_at DESC, s.id DESC
          LIMIT 1) d
   WHERE (NOT (EXISTS ( SELECT
            FROM app_public.feature_flag_schedules a
           WHERE ((a.flag_id = deciding_change.flag_id) AND (a.status = 'applied'::text) AND (ROW(a.scheduled_at, a.id) > ROW(d.scheduled_at, d.id)) AND ((a.updates -> deciding_change.field) IS NOT NULL) AND ((a.kept IS NULL) OR (deciding_change.field <> ALL (a.kept)))))));
END;
comment on function app_private.deciding_change(uuid,text,timestamp with time zone,timestamp with time zone,uuid,timestamp with time zone,timestamp with time zone,jsonb,uuid) is 'The pending schedule, up to (last_at, last_id), that decides a field of a flag at `at`, given held_schedules(), what guard_summary() says is left out, and which schedule not to look at; no row when the field stays as it is.';

CREATE OR REPLACE FUNCTION app_private.delivering_problems()
 RETURNS SETOF text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.delivering_problems() is 'What keeps the trail from its destinations, a sentence each: one that is ahead, refused ones, and those that confirm nothing.';

CREATE OR REPLACE FUNCTION app_private.delivery_metrics(destinations text[])
 RETURNS TABLE(metric text, destination text, value double precision)
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.delivery_metrics(text[]) is 'How far each destination is behind the ledger: those that have a cursor, and these; and whether one is ahead.';

CREATE OR REPLACE FUNCTION app_private.delivery_obstacle(destination text)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select case
    when exists (select from app_private.open_divergences()) then 'ahead'
    when exists (
      select from audit.incarnations i where delivery_obstacle.destination = any (i.refused_destinations)
    ) then 'refused'
  end
$function$;
comment on function app_private.delivery_obstacle(text) is 'Why nothing may be forwarded to a destination: ahead (a destination has more of this trail), refused (it belongs to the database that this one is a copy of); null when it may.';

CREATE OR REPLACE FUNCTION app_private.delivery_state(destination text, tail jsonb DEFAULT NULL::jsonb, OUT trail uuid, OUT server text, OUT delivered bigint, OUT given_up bigint, OUT obstacle text)
 RETURNS record
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
AS $function$
begin
  if tail is not null then
    perform app_private.record_divergences(delivery_state.destination, tail);
  end if;
  select i.trail into strict trail from audit.incarnations i order by i.incarnation_no desc limit 1;
  server := concat(
    date_part('epoch', pg_postmaster_start_time()), ' ',
    (select d.oid from pg_database d where d.datname = current_database()));
  delivered := coalesce((select c.last_seq from audit.cursors c where c.destination = delivery_state.destination), 0);
  given_up := app_private.given_up_numbers(delivery_state.destination);
  obstacle := app_private.delivery_obstacle(delivery_state.destination);
end;
$function$;
comment on function app_private.delivery_state(text,jsonb) is 'The trail, which server this is, how far the destination has confirmed, up to where it gets nothing, and why nothing may be forwarded to it, after a look at the end of what it holds or has confirmed, if that is given.';
grant execute on function app_private.delivery_state(text,jsonb) to halyard_worker;

CREATE OR REPLACE FUNCTION app_private.destination_is_ahead()
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  return exists (select from app_private.open_divergences());
exception when undefined_table or undefined_column or undefined_function then
  return false;
end;
$function$;
comment on function app_private.destination_is_ahead() is 'Whether a destination has more of this trail than the database, and a person has yet to decide about it.';
grant execute on function app_private.destination_is_ahead() to halyard_authenticator;
grant execute on function app_private.destination_is_ahead() to halyard_worker;

CREATE OR REPLACE FUNCTION app_private.differing_columns(event audit.events)
 RETURNS text[]
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
AS $function$
declare
  v_text jsonb;
begin
  -- Not where it is declared: an error there is past the handler below.
  v_text := event.payload;
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
        ('client_request_id', v_text -> 'clientRequestId', to_jsonb(event.client_request_id)),
        ('metadata', v_text -> 'metadata', event.metadata),
        ('flag_key', v_text #> '{metadata,flagKey}', to_jsonb(event.flag_key)),
        ('admin_user_id', v_text #> '{metadata,adminUserId}', to_jsonb(event.admin_user_id)),
        ('admin_email', v_text #> '{metadata,adminEmail}', to_jsonb(event.admin_email)),
        ('reconciled', coalesce(v_text -> 'reconciled', 'false'), to_jsonb(event.reconciled)),
        ('actor_kind', v_text -> 'actorKind', to_jsonb(event.actor_kind)),
        ('database_user', v_text -> 'databaseUser', to_jsonb(event.database_user)),
        ('application_name', v_text -> 'applicationName', to_jsonb(event.application_name)),
        ('flag_id', v_text -> 'flagId', to_jsonb(event.flag_id)),
        ('schedule_id', v_text -> 'scheduleId', to_jsonb(event.schedule_id)),
        ('revision', v_text -> 'revision', to_jsonb(event.revision))
    ) as c (name, in_text, in_column)
    where coalesce(c.in_text, 'null') is distinct from coalesce(c.in_column, 'null')
  );
exception when data_exception then
  return array['payload'];
end;
$function$;
comment on function app_private.differing_columns(audit.events) is 'The columns of an event that don''t say what its text says.';

CREATE OR REPLACE FUNCTION app_private.drop_audit_months(partitions regclass[], months timestamp with time zone[], counts bigint[])
 RETURNS text
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
AS $function$
declare
  v_events app_private.audit_event[] := '{}';
  v_count bigint;
  v_purged record;
begin
  select coalesce(max(p.events), 0) as events, coalesce(max(p.last_seq), 0) as last_seq into v_purged from app_private.purges() as p;
  for i in 1 .. cardinality(partitions) loop
    execute format('lock table %s in share mode', partitions[i]);
    execute format('select count(*) from %s', partitions[i]) into v_count;
    if v_count <> counts[i] then
      return 'An event of an old month was written just now.';
    end if;
    v_purged.events := v_purged.events + v_count;
    v_purged.last_seq := greatest(v_purged.last_seq, (
      select max(l.seq) from audit.ledger l where l.occurred_at >= months[i] and l.occurred_at < months[i] + interval '1 month'));
    v_events := v_events || app_private.purged_event(months[i], v_count, v_purged.events, v_purged.last_seq);
  end loop;
  lock table audit.events in access exclusive mode;
  for i in 1 .. cardinality(partitions) loop
    execute format('drop table %s', partitions[i]);
  end loop;
  perform app_private.write_events(v_events);
  perform app_private.notify_audit(array(select e.id from unnest(v_events) as e), null);
  return null;
exception when lock_not_available or deadlock_detected then
  return 'Somebody is reading the trail: try again when they are done.';
end;
$function$;
comment on function app_private.drop_audit_months(regclass[],timestamp with time zone[],bigint[]) is 'Drops these partitions and records that in the trail, all or nothing; returns why it didn''t, null when it did.';

CREATE OR REPLACE FUNCTION app_private.drop_console_session(id_hash bytea)
 RETURNS void
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  delete from app_private.console_sessions s where s.id_hash = drop_console_session.id_hash
$function$;
comment on function app_private.drop_console_session(bytea) is 'Ends a session of the console at once; nothing happens when there is none.';
grant execute on function app_private.drop_console_session(bytea) to halyard_authenticator;

CREATE OR REPLACE FUNCTION app_private.dry_run(what text, arguments jsonb)
 RETURNS app_public.dry_run
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.dry_run(text,jsonb) is 'What a plan, an edit, a revert or a resume would do, with the arguments by name; nothing is written. Raises what the real function raises, and lock_not_available where another session has one of the flags locked.';

CREATE OR REPLACE FUNCTION app_private.dry_run_of_plan(plan app_public.plans, by_worker boolean, queue_id bigint)
 RETURNS app_public.dry_run
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.dry_run_of_plan(app_public.plans,boolean,bigint) is 'What applying a plan''s open point does at its time, its events since a place of the queue, and its conflicts.';

CREATE OR REPLACE FUNCTION app_private.dry_run_of_resume(environment app_public.environments, missed text, "except" uuid[], queue_id bigint)
 RETURNS app_public.dry_run
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.dry_run_of_resume(app_public.environments,text,uuid[],bigint) is 'What resuming an environment does, as far as the token reaches: the flags that its schedules change then, and the events of the resume.';

CREATE OR REPLACE FUNCTION app_private.end_point(plan_id uuid, outcome text, problem text DEFAULT NULL::text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.end_point(uuid,text,text) is 'Goes on from a plan''s open point, whose schedules were applied or skipped: it completes the plan; or whose schedules failed: it pauses the plan, for what `problem` says.';

CREATE OR REPLACE FUNCTION app_private.end_stop(environment app_public.environments, missed text, reason text, "except" uuid[])
 RETURNS app_public.environments
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
AS $function$
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
$function$;
comment on function app_private.end_stop(app_public.environments,text,text,uuid[]) is 'Ends the stop of an environment that the caller has locked. Raises ZF023 where it isn''t stopped.';

CREATE OR REPLACE FUNCTION app_private.ensure_audit_partitions(months_ahead integer DEFAULT 3)
 RETURNS integer
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
AS $function$
declare
  v_month timestamptz;
  v_made integer := 0;
begin
  -- Each month is a table: a worker's login must not fill the catalog with them.
  if months_ahead is null or months_ahead not between 0 and 24 then
    raise exception 'The trail''s partitions are made for 0 to 24 months ahead, not %.', months_ahead
      using errcode = 'invalid_parameter_value';
  end if;
  -- Two workers may come at once; the second finds the partitions made.
  perform app_private.take_lock('partitions');
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
$function$;
comment on function app_private.ensure_audit_partitions(integer) is 'Makes the trail''s partitions from last month to this many months ahead, 24 at most; returns how many were missing.';
grant execute on function app_private.ensure_audit_partitions(integer) to halyard_worker;

CREATE OR REPLACE FUNCTION app_private.environment_change(before app_public.environments, after app_public.environments)
 RETURNS text
 LANGUAGE sql
 STABLE
RETURN CASE WHEN ((before).name IS NULL) THEN 'environment.created'::text WHEN ((after).name IS NULL) THEN 'environment.deleted'::text WHEN (((before).stopped_at IS NULL) AND ((after).stopped_at IS NOT NULL)) THEN 'environment.stopped'::text WHEN (((before).stopped_at IS NOT NULL) AND ((after).stopped_at IS NULL)) THEN 'environment.resumed'::text ELSE 'environment.updated'::text END;
comment on function app_private.environment_change(app_public.environments,app_public.environments) is 'The event type of an environment''s change.';

CREATE OR REPLACE FUNCTION app_private.environment_event(at timestamp with time zone, incarnation uuid, before app_public.environments, after app_public.environments, reason text)
 RETURNS app_private.audit_event
 LANGUAGE sql
RETURN app_private.make_event(app_private.changed_event_id(incarnation, app_private.environment_id((COALESCE((after).name, (before).name))::text), COALESCE((after).created_at, (before).created_at), (before).revision, COALESCE((after).revision, ((before).revision + 1))), at, app_private.environment_change(before, after), NULL::uuid, NULL::text, (COALESCE((after).name, (before).name))::text, NULL::uuid, COALESCE((after).revision, ((before).revision + 1)), ((((jsonb_build_object('name', COALESCE((after).name, (before).name)) || CASE WHEN ((before).name IS NULL) THEN '{}'::jsonb ELSE jsonb_build_object('before', app_private.environment_state(before)) END) || CASE WHEN ((after).name IS NULL) THEN '{}'::jsonb ELSE jsonb_build_object('after', app_private.environment_state(after)) END) || CASE WHEN (reason IS NULL) THEN '{}'::jsonb ELSE jsonb_build_object('reason', reason) END) || app_private.stop_details(before, after)));
comment on function app_private.environment_event(timestamp with time zone,uuid,app_public.environments,app_public.environments,text) is 'The environment event of a change from `before` to `after`, with its reason, if one is known.';

CREATE OR REPLACE FUNCTION app_private.environment_found(environment app_public.environments)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
RETURN ('{"stoppedAt": null, "stoppedBy": null, "lastResume": null, "stopReason": null}'::jsonb || app_private.environment_state(environment));
comment on function app_private.environment_found(app_public.environments) is 'What an environment''s row says, with the keys of environment_recorded().';

CREATE OR REPLACE FUNCTION app_private.environment_id(name text)
 RETURNS uuid
 LANGUAGE sql
 STABLE PARALLEL SAFE
RETURN app_private.uuid_of(sha256(convert_to(('environment '::text || name), 'UTF8'::name)));
comment on function app_private.environment_id(text) is 'The id that events of an environment are derived from.';

CREATE OR REPLACE FUNCTION app_private.environment_is_visible(environment text)
 RETURNS boolean
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select not app_private.claims_are_limited() or environment = any (app_private.claim_environments())
$function$;
comment on function app_private.environment_is_visible(text) is 'Whether the token lets through rows of this environment.';

CREATE OR REPLACE FUNCTION app_private.environment_recorded(event audit.events)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
RETURN ('{"stoppedAt": null, "stoppedBy": null, "lastResume": null, "stopReason": null}'::jsonb || ((event).metadata -> 'after'::text));
comment on function app_private.environment_recorded(audit.events) is 'What an event says of its environment after it; null when it says nothing of that.';

CREATE OR REPLACE FUNCTION app_private.environment_state(environment app_public.environments)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
RETURN (jsonb_build_object('createdBy', (environment).created_by) || CASE WHEN (((environment).stopped_at IS NULL) AND ((environment).last_resume IS NULL)) THEN '{}'::jsonb ELSE jsonb_strip_nulls(jsonb_build_object('stoppedAt', app_private.iso((environment).stopped_at), 'stoppedBy', (environment).stopped_by, 'stopReason', (environment).stop_reason, 'lastResume', (environment).last_resume)) END);
comment on function app_private.environment_state(app_public.environments) is 'What of an environment is audited: it stands in before and after of events, and a change of it is an event.';

CREATE OR REPLACE FUNCTION app_private.environments_are_visible(environments character varying[])
 RETURNS boolean
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select not app_private.claims_are_limited() or environments <@ (app_private.claim_environments())::varchar[]
$function$;
comment on function app_private.environments_are_visible(character varying[]) is 'Whether the token lets through what is of all these environments.';

CREATE OR REPLACE FUNCTION app_private.environments_of_events(event_ids uuid[])
 RETURNS SETOF text
 LANGUAGE sql
 STABLE SECURITY DEFINER ROWS 5
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select distinct e.metadata ->> 'name'
  from audit.events e
  where e.id = any (event_ids) and starts_with(e.event_type, 'environment.')
$function$;
comment on function app_private.environments_of_events(uuid[]) is 'The environments that were made, changed or deleted by what these events say.';
grant execute on function app_private.environments_of_events(uuid[]) to halyard_admin;
grant execute on function app_private.environments_of_events(uuid[]) to halyard_auditor;
grant execute on function app_private.environments_of_events(uuid[]) to halyard_viewer;

CREATE OR REPLACE FUNCTION app_private.event_id(incarnation uuid, row_id uuid, created_at timestamp with time zone, revision bigint)
 RETURNS uuid
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
RETURN app_private.uuid_of(sha256((((uuid_send(incarnation) || uuid_send(row_id)) || timestamptz_send(created_at)) || int8send(revision))));
comment on function app_private.event_id(uuid,uuid,timestamp with time zone,bigint) is 'The id of the event by which the row came to be at this revision in this incarnation.';

CREATE OR REPLACE FUNCTION app_private.event_ids(row_id uuid, created_at timestamp with time zone, revision bigint)
 RETURNS uuid[]
 LANGUAGE sql
 STABLE
RETURN ARRAY(SELECT app_private.event_id(i.id, event_ids.row_id, event_ids.created_at, event_ids.revision) AS event_id FROM audit.incarnations i);
comment on function app_private.event_ids(uuid,timestamp with time zone,bigint) is 'The ids that the event of a row''s revision may have.';

CREATE OR REPLACE FUNCTION app_private.event_leaf(payload text, seq bigint)
 RETURNS bytea
 LANGUAGE sql
 STABLE PARALLEL SAFE
RETURN sha256((decode('00'::text, 'hex'::text) || app_private.shipped_bytes(payload, seq)));
comment on function app_private.event_leaf(text,bigint) is 'The Merkle leaf of the message that is shipped for an event''s payload.';

CREATE OR REPLACE FUNCTION app_private.events_since(queue_id bigint)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select coalesce(jsonb_object_agg(q.id, e.payload::jsonb), '{}')
  from audit.queue q
  join audit.events e on e.id = q.event_id and e.occurred_at = q.occurred_at
  where q.id > queue_id
$function$;
comment on function app_private.events_since(bigint) is 'The texts of the events behind this place of the queue, by their place.';

CREATE OR REPLACE FUNCTION app_private.expected_revision()
 RETURNS bigint
 LANGUAGE sql
 STABLE PARALLEL SAFE
RETURN (app_private.attributed_setting('halyard.expected_revision'::text, 18))::bigint;
comment on function app_private.expected_revision() is 'The revision that the row must have for the API''s client to change it; null when the request names none, and in sessions of other logins.';
grant execute on function app_private.expected_revision() to halyard_admin;

CREATE OR REPLACE FUNCTION app_private.expected_triggers()
 RETURNS TABLE(table_name text, trigger_name text, enabled "char", type smallint, has_condition boolean, function_name text)
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.expected_triggers() is 'The triggers that the trail hangs on, as they must be; each partition of audit.events has those of audit.events.';

CREATE OR REPLACE FUNCTION app_private.fault_metrics()
 RETURNS TABLE(metric text, destination text, value double precision)
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.fault_metrics() is 'Events that could not be written, and those that were reconciled lately; counts stop at 10,000 and 1,000.';

CREATE OR REPLACE FUNCTION app_private.flag_change_of(event audit.events)
 RETURNS TABLE(enabled boolean, rollout_percentage integer, was_enabled boolean, was_rollout_percentage integer, deleted boolean)
 LANGUAGE sql
 STABLE
BEGIN ATOMIC
 SELECT s.enabled,
     s.rollout_percentage,
     s.was_enabled,
     s.was_rollout_percentage,
     s.deleted
    FROM (( SELECT
                 CASE
                     WHEN ((flag_change_of.event).event_type <> 'feature_flag.reconciled'::text) THEN ((flag_change_of.event).metadata -> 'before'::text)
                     ELSE ( SELECT (p.metadata -> 'after'::text)
                        FROM audit.events p
                       WHERE ((p.flag_key = (flag_change_of.event).flag_key) AND (p.flag_id = (flag_change_of.event).flag_id) AND (p.occurred_at < (flag_change_of.event).occurred_at) AND (p.event_type = ANY (ARRAY['feature_flag.created'::text, 'feature_flag.updated'::text, 'feature_flag.reconciled'::text])))
                       ORDER BY p.occurred_at DESC, p.revision DESC
                      LIMIT 1)
                 END AS "?column?") b(before)
      CROSS JOIN LATERAL ( SELECT
                 CASE
                     WHEN ((flag_change_of.event).event_type <> 'feature_flag.deleted'::text) THEN (((flag_change_of.event).metadata #>> '{after,enabled}'::text[]))::boolean
                     ELSE false
                 END AS "case",
             (COALESCE(((flag_change_of.event).metadata #>> '{after,rolloutPercentage}'::text[]), (b.before ->> 'rolloutPercentage'::text)))::integer AS "coalesce",
             ((b.before ->> 'enabled'::text))::boolean AS bool,
             ((b.before ->> 'rolloutPercentage'::text))::integer AS int4,
             ((flag_change_of.event).event_type = 'feature_flag.deleted'::text) AS "?column?") s(enabled, rollout_percentage, was_enabled, was_rollout_percentage, deleted))
   WHERE (s.deleted OR ((s.enabled IS DISTINCT FROM s.was_enabled) OR (s.rollout_percentage IS DISTINCT FROM s.was_rollout_percentage)));
END;
comment on function app_private.flag_change_of(audit.events) is 'The change of state that a feature_flag event is about; no row when it left the state alone. A flag that was deleted is off.';

CREATE OR REPLACE FUNCTION app_private.flag_change_text(event audit.events)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.flag_change_text(audit.events) is 'What an event changed of its flag, as the rest of a sentence; null for an event that doesn''t say.';
grant execute on function app_private.flag_change_text(audit.events) to halyard_admin;

CREATE OR REPLACE FUNCTION app_private.flag_diffs(flag_ids uuid[], before jsonb)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select coalesce(
    jsonb_agg(
      jsonb_build_object(
        'flag_key', f.flag_key, 'environment', f.environment, 'before', before -> f.id::text, 'after', app_private.flag_values(f))
      order by i.position),
    '[]')
  from unnest(flag_ids) with ordinality as i (id, position)
  join app_public.feature_flags f on f.id = i.id
$function$;
comment on function app_private.flag_diffs(uuid[],jsonb) is 'These flags, in this order, with their values before, as lock_flags() returned them, and now.';

CREATE OR REPLACE FUNCTION app_private.flag_event(at timestamp with time zone, incarnation uuid, before app_public.feature_flags, after app_public.feature_flags, schedule_id uuid, requested_by text, reason text, point jsonb DEFAULT NULL::jsonb)
 RETURNS app_private.audit_event
 LANGUAGE sql
RETURN app_private.make_event(app_private.changed_event_id(incarnation, COALESCE((after).id, (before).id), COALESCE((after).created_at, (before).created_at), (before).revision, COALESCE((after).revision, ((before).revision + 1))), at, CASE WHEN ((before).id IS NULL) THEN 'feature_flag.created'::text WHEN ((after).id IS NULL) THEN 'feature_flag.deleted'::text ELSE 'feature_flag.updated'::text END, COALESCE((after).id, (before).id), (COALESCE((after).flag_key, (before).flag_key))::text, (COALESCE((after).environment, (before).environment))::text, schedule_id, COALESCE((after).revision, ((before).revision + 1)), (CASE WHEN ((before).id IS NULL) THEN jsonb_build_object('flagKey', (after).flag_key, 'after', app_private.flag_state(after)) WHEN ((after).id IS NULL) THEN jsonb_build_object('flagKey', (before).flag_key, 'before', app_private.flag_state(before)) ELSE jsonb_build_object('flagKey', (after).flag_key, 'before', app_private.flag_state(before), 'after', app_private.flag_state(after)) END || CASE WHEN ((requested_by IS NULL) AND (reason IS NULL)) THEN COALESCE(point, '{}'::jsonb) WHEN (point IS NULL) THEN jsonb_strip_nulls(jsonb_build_object('requestedBy', requested_by, 'reason', reason)) ELSE (jsonb_strip_nulls(jsonb_build_object('requestedBy', requested_by, 'reason', reason)) || point) END));
comment on function app_private.flag_event(timestamp with time zone,uuid,app_public.feature_flags,app_public.feature_flags,uuid,text,text,jsonb) is 'The feature_flag event of a change from `before` to `after`, with its reason, if one is known, and with the schedule that made it, who requested that, and its place in a plan (schedule_point), if one did.';

CREATE OR REPLACE FUNCTION app_private.flag_found(flag app_public.feature_flags)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
RETURN (app_private.flag_state(flag) || jsonb_build_object('flagKey', (flag).flag_key, 'environment', (flag).environment));
comment on function app_private.flag_found(app_public.feature_flags) is 'What a flag''s row says, with the keys of flag_recorded().';

CREATE OR REPLACE FUNCTION app_private.flag_ids_of_events(event_ids uuid[])
 RETURNS SETOF uuid
 LANGUAGE sql
 STABLE SECURITY DEFINER ROWS 50
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select distinct e.flag_id
  from audit.events e
  where e.id = any (event_ids) and e.flag_id is not null and starts_with(e.event_type, 'feature_flag.')
$function$;
comment on function app_private.flag_ids_of_events(uuid[]) is 'The flags that were created or changed by what these events say.';
grant execute on function app_private.flag_ids_of_events(uuid[]) to halyard_admin;
grant execute on function app_private.flag_ids_of_events(uuid[]) to halyard_auditor;
grant execute on function app_private.flag_ids_of_events(uuid[]) to halyard_viewer;

CREATE OR REPLACE FUNCTION app_private.flag_recorded(event audit.events)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
RETURN CASE WHEN ((event).event_type = ANY (ARRAY['feature_flag.created'::text, 'feature_flag.updated'::text, 'feature_flag.reconciled'::text])) THEN (((event).metadata -> 'after'::text) || jsonb_build_object('flagKey', (event).flag_key, 'environment', (event).environment)) ELSE NULL::jsonb END;
comment on function app_private.flag_recorded(audit.events) is 'What an event says of its flag after it; null when it says nothing of that.';

CREATE OR REPLACE FUNCTION app_private.flag_state(flag app_public.feature_flags)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
RETURN jsonb_build_object('enabled', (flag).enabled, 'rolloutPercentage', (flag).rollout_percentage, 'description', (flag).description);
comment on function app_private.flag_state(app_public.feature_flags) is 'What of a flag is audited: it stands in before, after and flagState of events, and a change of it is an event.';
grant execute on function app_private.flag_state(app_public.feature_flags) to halyard_admin;

CREATE OR REPLACE FUNCTION app_private.flag_state_values(state jsonb)
 RETURNS jsonb
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
RETURN jsonb_strip_nulls(jsonb_build_object('enabled', (state -> 'enabled'::text), 'rollout_percentage', (state -> 'rolloutPercentage'::text)));
comment on function app_private.flag_state_values(jsonb) is 'The same of a flag_state(), as events have it; what the event lacks is absent.';

CREATE OR REPLACE FUNCTION app_private.flag_values(flag app_public.feature_flags)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
RETURN jsonb_build_object('enabled', (flag).enabled, 'rollout_percentage', (flag).rollout_percentage);
comment on function app_private.flag_values(app_public.feature_flags) is 'The fields of a flag that schedules may change, with the names that they have in `updates`.';

CREATE OR REPLACE FUNCTION app_private.flags_in_order(content jsonb)
 RETURNS uuid[]
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select array_agg((c.change ->> 'flagId')::uuid order by c.position)
  from jsonb_path_query(content, '$.steps[*].changes[*]') with ordinality as c (change, position)
$function$;
comment on function app_private.flags_in_order(jsonb) is 'The flags that a plan''s content changes, in its order.';

CREATE OR REPLACE FUNCTION app_private.found_before(schedule_ids uuid[])
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.found_before(uuid[]) is 'By the id of each schedule: `before`, the fields of the flag of a plan''s schedule as they are now, and `kept`, the fields that its guard leaves alone.';

CREATE OR REPLACE FUNCTION app_private.gap_event(last audit.events)
 RETURNS app_private.audit_event
 LANGUAGE sql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.gap_event(audit.events) is 'The audit.gap event of the flag, schedule or plan whose last event this is.';

CREATE OR REPLACE FUNCTION app_private.given_up_numbers(destination text)
 RETURNS bigint
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select coalesce(max(n.first_seq) - 1, 0)
  from audit.divergences d
  join audit.incarnations i on i.id = d.incarnation
  join audit.incarnations n on n.incarnation_no = i.incarnation_no + 1
  where d.destination = given_up_numbers.destination
$function$;
comment on function app_private.given_up_numbers(text) is 'The seq up to which a destination gets nothing, because it has these numbers of a history that was given up; 0 without one.';

CREATE OR REPLACE FUNCTION app_private.gone_events(events jsonb)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select coalesce(jsonb_agg(e.event order by e.place::bigint), '[]')
  from jsonb_each(events) as e (place, event)
  where not exists (
    select from audit.events a
    where a.id = (e.event ->> 'eventId')::uuid and a.occurred_at = (e.event ->> 'timestamp')::timestamptz)
$function$;
comment on function app_private.gone_events(jsonb) is 'Of these events those that the trail doesn''t have, in order.';

CREATE OR REPLACE FUNCTION app_private.guard_findings(schedule_ids uuid[], left_out jsonb DEFAULT NULL::jsonb, uncertain uuid[] DEFAULT NULL::uuid[])
 RETURNS TABLE(schedule_id uuid, field text, expected jsonb, found jsonb, cause_id uuid, cause_plan_id uuid, turn_at timestamp with time zone, certain boolean)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
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
$function$;
comment on function app_private.guard_findings(uuid[],jsonb,uuid[]) is 'What each of these waiting schedules expects of each field and will find there, the schedule that makes it so, when, and whether that is certain; given what guards leave out before, and the schedules whose outcome is uncertain.';

CREATE OR REPLACE FUNCTION app_private.guard_metrics()
 RETURNS TABLE(metric text, destination text, value double precision)
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.guard_metrics() is 'Triggers and policies of the trail that aren''t as they must be, rows that the last full reconciliation found to differ from the trail, and how long ago it ended.';

CREATE OR REPLACE FUNCTION app_private.guard_outcomes(until timestamp with time zone, flag_ids uuid[] DEFAULT NULL::uuid[])
 RETURNS TABLE(schedule_id uuid, conflicts jsonb, left_out jsonb, certain boolean)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
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
$function$;
comment on function app_private.guard_outcomes(timestamp with time zone,uuid[]) is 'Of each pending schedule until `until`, of these flags or of all, that a guard or a stop touches: what it finds instead of what it expects, which fields stay as they are, and whether that is certain.';

CREATE OR REPLACE FUNCTION app_private.guard_summary(until timestamp with time zone, flag_ids uuid[] DEFAULT NULL::uuid[])
 RETURNS TABLE(left_out jsonb, uncertain uuid[], in_conflict uuid[])
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.guard_summary(timestamp with time zone,uuid[]) is 'guard_outcomes() in one row: the fields that stay by schedule, the schedules whose outcome is uncertain, and those that a conflict touches; null where there are none.';

CREATE OR REPLACE FUNCTION app_private.guarded_points(until timestamp with time zone, flag_ids uuid[])
 RETURNS TABLE(schedule_ids uuid[], is_stopped boolean)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_custom_plan'
AS $function$
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
$function$;
comment on function app_private.guarded_points(timestamp with time zone,uuid[]) is 'The points until `until` that have a guard or reach into a stopped environment, of these flags or of all, in the order in which they come.';

CREATE OR REPLACE FUNCTION app_private.guarded_with(flag_ids uuid[], until timestamp with time zone)
 RETURNS uuid[]
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.guarded_with(uuid[],timestamp with time zone) is 'These flags, and all that plans until then change together with them.';

CREATE OR REPLACE FUNCTION app_private.guarding_problems()
 RETURNS SETOF text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.guarding_problems() is 'Rows that the last check found to differ, a check that is overdue, and triggers and policies that aren''t as they must be, a sentence each.';

CREATE OR REPLACE FUNCTION app_private.has_no_room_for_pending(flag_id uuid)
 RETURNS boolean
 LANGUAGE sql
 STABLE
RETURN ((SESSION_USER = 'halyard_authenticator'::name) AND (EXISTS (SELECT FROM app_public.feature_flag_schedules s WHERE ((s.flag_id = has_no_room_for_pending.flag_id) AND (s.status = 'pending'::text)) OFFSET (COALESCE((SELECT (p.value)::integer AS value FROM app_private.settings p WHERE (p.name = 'pending_per_flag'::text)), 1000) - 1))));
comment on function app_private.has_no_room_for_pending(uuid) is 'Whether the API calls, and the flag has as many pending schedules as the setting pending_per_flag allows.';

CREATE OR REPLACE FUNCTION app_private.held_schedules(OUT scheduled_until timestamp with time zone, OUT created_until timestamp with time zone)
 RETURNS record
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  perform from app_public.feature_flags where false;
  perform from app_public.feature_flag_schedules where false;
  begin
    select max(d.sealed_at), max(d.created_until) into scheduled_until, created_until from app_private.open_divergences() as d;
  exception when undefined_table or undefined_column or undefined_function then
    -- Without the incarnations it isn't known which divergences are open.
    begin
      select max(d.sealed_at), max(d.created_until) into scheduled_until, created_until from audit.divergences d;
    exception when undefined_table or undefined_column then
      null;
    end;
  end;
  scheduled_until := coalesce(scheduled_until, '-infinity');
  created_until := coalesce(created_until, '-infinity');
end;
$function$;
comment on function app_private.held_schedules() is 'Schedules for times up to scheduled_until that were made up to created_until wait: the history that a destination has may have applied them. -infinity when no destination is ahead.';

CREATE OR REPLACE FUNCTION app_private.highest_revision(source text, row_id uuid, created_at timestamp with time zone, revision bigint, keys text[])
 RETURNS bigint
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.highest_revision(text,uuid,timestamp with time zone,bigint,text[]) is 'The highest revision that a row has, or that the trail has of it.';

CREATE OR REPLACE FUNCTION app_private.holds_lease(name text, token bigint)
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  perform from app_private.leases l where l.name = holds_lease.name and l.token = holds_lease.token for update;
  return found;
end;
$function$;
comment on function app_private.holds_lease(text,bigint) is 'Whether no other holder has taken the lease since this token was given; holds the lease''s row until the transaction ends.';

CREATE OR REPLACE FUNCTION app_private.incarnation()
 RETURNS uuid
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_id uuid;
begin
  select i.id into strict v_id from audit.incarnations i order by i.incarnation_no desc limit 1;
  return v_id;
end;
$function$;
comment on function app_private.incarnation() is 'The id of the incarnation that is written to; raises no_data_found when there is none.';

CREATE OR REPLACE FUNCTION app_private.insert_plan(title text, content jsonb, reason text, reverts jsonb DEFAULT NULL::jsonb)
 RETURNS app_public.plans
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.insert_plan(text,jsonb,text,jsonb) is 'Makes a plan of a content that plan_content() made, and opens its first point. It asks for no rights and for no room.';

CREATE OR REPLACE FUNCTION app_private.insert_revert(title text, reverts jsonb, changes jsonb, at timestamp with time zone, on_conflict text, reason text, waits boolean)
 RETURNS app_public.plans
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.insert_revert(text,jsonb,jsonb,timestamp with time zone,text,text,boolean) is 'Makes the plan that takes these changes back, and opens its point; without `at` its flags are locked, as it is applied next.';

CREATE OR REPLACE FUNCTION app_private.is_applying_text(value text)
 RETURNS boolean
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
RETURN (value ~ '^[{](?:"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}": "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", )*"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}": "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"[}]$'::text);
comment on function app_private.is_applying_text(text) is 'Whether this is a JSON object of UUIDs, as halyard.applying is.';

CREATE OR REPLACE FUNCTION app_private.is_due(schedule app_public.feature_flag_schedules, at timestamp with time zone, held_until timestamp with time zone, held_created_until timestamp with time zone)
 RETURNS boolean
 LANGUAGE sql
 STABLE
RETURN (((schedule).status = 'pending'::text) AND ((schedule).scheduled_at <= at) AND (NOT app_private.is_held(schedule, held_until, held_created_until)) AND (((schedule).next_attempt_at IS NULL) OR ((schedule).next_attempt_at <= at)));
comment on function app_private.is_due(app_public.feature_flag_schedules,timestamp with time zone,timestamp with time zone,timestamp with time zone) is 'Whether a schedule waits to be applied at this time and isn''t held: both apply_due() and apply_flag() ask this.';

CREATE OR REPLACE FUNCTION app_private.is_held(schedule app_public.feature_flag_schedules, held_until timestamp with time zone, held_created_until timestamp with time zone)
 RETURNS boolean
 LANGUAGE sql
 IMMUTABLE
RETURN (((schedule).scheduled_at <= held_until) AND ((schedule).created_at <= held_created_until));
comment on function app_private.is_held(app_public.feature_flag_schedules,timestamp with time zone,timestamp with time zone) is 'Whether a schedule waits until a person decides about a lost history (audit/deliver/divergence.sql), given held_schedules().';

CREATE OR REPLACE FUNCTION app_private.is_recorded(event_id uuid)
 RETURNS boolean
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select exists (select from audit.ledger l where l.event_id = is_recorded.event_id)
    -- A queued event is here, where its id has an index.
    or exists (select from audit.events e where e.id = is_recorded.event_id)
$function$;
comment on function app_private.is_recorded(uuid) is 'Whether the trail has, or had before a purge, the event of this id.';

CREATE OR REPLACE FUNCTION app_private.is_recording()
 RETURNS boolean
 LANGUAGE sql
 STABLE
RETURN (COALESCE((current_setting('halyard.recording'::text, true) = 'on'::text), false) AND ((SESSION_USER = 'halyard_worker'::name) OR pg_has_role(SESSION_USER, 'halyard_owner'::name, 'member'::text)));
comment on function app_private.is_recording() is 'Whether the running statement is record_rows()''s: it sets halyard.recording, and the login is the worker''s or may become the owner.';
grant execute on function app_private.is_recording() to halyard_admin;

CREATE OR REPLACE FUNCTION app_private.is_substituted(event_id uuid, occurred_at timestamp with time zone)
 RETURNS boolean
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select exists (
    select
    from audit.events e
    join audit.events s on s.event_type = e.event_type and s.occurred_at = e.occurred_at and s.metadata ->> 'repeatedId' = e.id::text
    where e.id = is_substituted.event_id and e.occurred_at = is_substituted.occurred_at
      and e.payload = app_private.render_event(app_private.unwritten_event(e))
      and s.payload = app_private.render_event(app_private.substitute_event(app_private.unwritten_event(e), s.id)))
    or exists (
      select
      from audit.dead_letters d
      where d.content @> jsonb_build_object(
        'events', jsonb_build_array(jsonb_build_object('metadata', jsonb_build_object('repeatedId', is_substituted.event_id)))))
$function$;
comment on function app_private.is_substituted(uuid,timestamp with time zone) is 'Whether an event without a number is in the trail once more, under an id of its own, or waits for that as a dead letter.';

CREATE OR REPLACE FUNCTION app_private.is_transient(error_code text)
 RETURNS boolean
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select left(error_code, 2) in ('08', '40', '53', '57', '58', 'XX') or error_code in ('55P03', 'ZF011')
$function$;
comment on function app_private.is_transient(text) is 'Whether an error of this SQLSTATE passes by itself, so that it doesn''t use an attempt of a schedule up.';

CREATE OR REPLACE FUNCTION app_private.is_uncertain(uncertain uuid[], flag_id uuid, field text, decided_at timestamp with time zone, decided_id uuid, last_at timestamp with time zone, last_id uuid)
 RETURNS boolean
 LANGUAGE sql
 STABLE
BEGIN ATOMIC
 SELECT (EXISTS ( SELECT
            FROM app_public.feature_flag_schedules u
           WHERE ((u.id = ANY (is_uncertain.uncertain)) AND (u.flag_id = is_uncertain.flag_id) AND ((u.updates -> is_uncertain.field) IS NOT NULL) AND ((is_uncertain.decided_id IS NULL) OR (ROW(u.scheduled_at, u.id) >= ROW(is_uncertain.decided_at, is_uncertain.decided_id))) AND (ROW(u.scheduled_at, u.id) <= ROW(is_uncertain.last_at, is_uncertain.last_id))))) AS "exists";
END;
comment on function app_private.is_uncertain(uuid[],uuid,text,timestamp with time zone,uuid,timestamp with time zone,uuid) is 'Whether one of the uncertain schedules of a flag sets the field at or after the deciding one, up to (last_at, last_id).';

CREATE OR REPLACE FUNCTION app_private.iso(at timestamp with time zone)
 RETURNS text
 LANGUAGE sql
 STABLE PARALLEL SAFE
RETURN to_char((at AT TIME ZONE 'UTC'::text), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'::text);
comment on function app_private.iso(timestamp with time zone) is 'The instant as ISO 8601 text in UTC.';
grant execute on function app_private.iso(timestamp with time zone) to halyard_admin;

CREATE OR REPLACE FUNCTION app_private.leaf_hash(message text)
 RETURNS bytea
 LANGUAGE sql
 STABLE PARALLEL SAFE
RETURN sha256((decode('00'::text, 'hex'::text) || convert_to(message, 'UTF8'::name)));
comment on function app_private.leaf_hash(text) is 'The Merkle leaf of a shipped message: SHA-256 of 0x00 and its UTF-8 bytes.';

CREATE OR REPLACE FUNCTION app_private.lease_end(lease_ms integer)
 RETURNS timestamp with time zone
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if lease_ms between 100 and 600000 then
    return clock_timestamp() + lease_ms * interval '1 ms';
  end if;
  raise exception 'A lease lasts 100 ms to 10 minutes, not % ms.', lease_ms using errcode = 'invalid_parameter_value';
end;
$function$;
comment on function app_private.lease_end(integer) is 'The end of a lease that begins now; raises invalid_parameter_value below 100 ms and above 10 minutes.';

CREATE OR REPLACE FUNCTION app_private.lock_environment(name text)
 RETURNS app_public.environments
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET lock_timeout TO '9s'
AS $function$
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
$function$;
comment on function app_private.lock_environment(text) is 'Locks and returns an environment when no schedule is being applied, and keeps it so until the transaction ends. Raises ZF014 where there is none, lock_not_available after 9 s.';

CREATE OR REPLACE FUNCTION app_private.lock_flags(flag_ids uuid[], waits boolean DEFAULT true)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.lock_flags(uuid[],boolean) is 'Locks these flags for a change and returns their values by id; without `waits` it raises lock_not_available where another session holds one for longer than a moment.';

CREATE OR REPLACE FUNCTION app_private.lock_plan(id uuid)
 RETURNS app_public.plans
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.lock_plan(uuid) is 'Locks and returns a plan for an admin''s change, with its flags and schedules; raises insufficient_privilege, ZF018, or ZF029 where it isn''t the revision that the client expects.';

CREATE OR REPLACE FUNCTION app_private.lock_plan_tables()
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  lock table app_public.feature_flags, app_public.feature_flag_schedules, app_public.plans in row exclusive mode;
end;
$function$;
comment on function app_private.lock_plan_tables() is 'Takes the tables that a change of a plan writes to, in the order in which all statements take them.';

CREATE OR REPLACE FUNCTION app_private.lock_point(plan_id uuid)
 RETURNS SETOF app_public.feature_flag_schedules
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.lock_point(uuid) is 'Locks a plan, and the flags and the schedules of its open point, and returns these; waits for each as long as the session''s lock_timeout says.';

CREATE OR REPLACE FUNCTION app_private.lock_point_of(schedule_id uuid)
 RETURNS uuid
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.lock_point_of(uuid) is 'Locks the plan that a schedule belongs to, with its open point, and returns the plan''s id, or null for a schedule of its own; raises ZF002 unless the token reaches all of the plan.';

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
$function$;
comment on function app_private.lock_schedule(uuid) is 'Locks and returns a schedule for an admin''s change; raises insufficient_privilege, ZF002, or ZF027 where it isn''t the revision that the client expects.';

CREATE OR REPLACE FUNCTION app_private.lock_schedules(schedule_ids uuid[])
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET lock_timeout TO '2s'
AS $function$
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
$function$;
comment on function app_private.lock_schedules(uuid[]) is 'Locks these schedules, after their plans and flags; raises lock_not_available after a wait of 2 s for one of them.';

CREATE OR REPLACE FUNCTION app_private.lock_trail()
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET lock_timeout TO '1s'
AS $function$
begin
  perform app_private.take_lock('reconciliation');
  perform app_private.take_lock('numbering');
  lock table
    app_public.feature_flags, app_public.feature_flag_schedules, app_public.plans, app_public.environments, app_private.settings, audit.events,
    audit.queue, audit.dead_letters, audit.divergences, audit.incarnations
    in exclusive mode;
end;
$function$;
comment on function app_private.lock_trail() is 'Keeps everything from writing to the trail until the transaction ends; raises lock_not_available after a second''s wait for one of its locks.';

CREATE OR REPLACE FUNCTION app_private.make_audit_partition(month timestamp with time zone)
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
 SET "DateStyle" TO 'ISO'
AS $function$
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
    'for each statement execute function app_private.tg__reject_write()', v_name);
  execute format('alter table audit.%I enable always trigger _100_append_only', v_name);
  execute format('alter table audit.%I enable always trigger _200_append_only_rows', v_name);
  execute format('comment on table audit.%I is %L', v_name, 'The trail of ' || to_char(v_month, 'YYYY-MM') || ' (UTC).');
  return true;
end;
$function$;
comment on function app_private.make_audit_partition(timestamp with time zone) is 'Makes the trail''s partition for the month (UTC) of an instant, unless there is one; returns whether it did.';

CREATE OR REPLACE FUNCTION app_private.make_event(id uuid, at timestamp with time zone, event_type text, flag_id uuid, flag_key text, environment text, schedule_id uuid, revision bigint, details jsonb)
 RETURNS app_private.audit_event
 LANGUAGE sql
RETURN ROW(id, at, event_type, NULL::text, flag_id, flag_key, environment, schedule_id, revision, app_private.actor_kind(), CASE app_private.actor_kind() WHEN 'admin'::text THEN app_private.claim_user_id() ELSE NULL::text END, CASE app_private.actor_kind() WHEN 'admin'::text THEN app_private.claim_email() ELSE NULL::text END, app_private.request_id(), app_private.client_request_id(), (SESSION_USER)::text, current_setting('application_name'::text), false, (details || app_private.actor_details()), NULL::text)::app_private.audit_event;
comment on function app_private.make_event(uuid,timestamp with time zone,text,uuid,text,text,uuid,bigint,jsonb) is 'An audit event with actor and request, without its level and text; writes nothing.';

CREATE OR REPLACE FUNCTION app_private.merkle_path(leaves bytea[], leaf_index integer)
 RETURNS bytea[]
 LANGUAGE plpgsql
 IMMUTABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.merkle_path(bytea[],integer) is 'The inclusion proof of the leaf at an index from 0: the hashes that lead from it to the root (RFC 6962, section 2.1.1).';

CREATE OR REPLACE FUNCTION app_private.merkle_root(leaves bytea[])
 RETURNS bytea
 LANGUAGE plpgsql
 IMMUTABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
      v_above[(i + 1) / 2] := sha256(decode('01', 'hex') || v_nodes[i] || v_nodes[i + 1]);
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
$function$;
comment on function app_private.merkle_root(bytea[]) is 'The Merkle tree hash of leaves that are hashed already (RFC 6962, section 2.1).';

CREATE OR REPLACE FUNCTION app_private.metrics(destinations text[] DEFAULT '{}'::text[])
 RETURNS TABLE(metric text, destination text, value double precision)
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.metrics(text[]) is 'What /metrics says of the database: gauges by name, some of them by destination, and schedules_suspended by the reason, which stands in its place. What can''t be read is left out and counted.';
grant execute on function app_private.metrics(text[]) to halyard_authenticator;
grant execute on function app_private.metrics(text[]) to halyard_worker;

CREATE OR REPLACE FUNCTION app_private.missed_schedules(environment text)
 RETURNS SETOF app_public.feature_flag_schedules
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.missed_schedules(text) is 'The schedules that the end of an environment''s stop decides about: they came due and the stop kept them from being applied.';

CREATE OR REPLACE FUNCTION app_private.missing_flag_of(content jsonb)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select c.change
  from jsonb_path_query(content, '$.steps[*].changes[*]') as c (change)
  where not exists (
    select
    from app_public.feature_flags f
    where f.id::text = c.change ->> 'flagId' and f.flag_key = c.change ->> 'flagKey' and f.environment = c.change ->> 'environment')
  limit 1
$function$;
comment on function app_private.missing_flag_of(jsonb) is 'A change of a content whose flag isn''t there; null when all are.';

CREATE OR REPLACE FUNCTION app_private.missing_message(event_id uuid, seq bigint, purged boolean DEFAULT false)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
RETURN (((('{"eventType": "audit.missing", "eventId": "'::text || (event_id)::text) || '", "seq": '::text) || (seq)::text) || CASE WHEN purged THEN ', "purged": true}'::text ELSE '}'::text END);
comment on function app_private.missing_message(uuid,bigint,boolean) is 'What is shipped in place of an event whose row is gone, or was purged.';

CREATE OR REPLACE FUNCTION app_private.missing_revisions(ids uuid[], created timestamp with time zone[], revisions bigint[])
 RETURNS TABLE(row_id uuid, missing bigint[])
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_nestloop TO 'off'
 SET jit TO 'off'
AS $function$
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
$function$;
comment on function app_private.missing_revisions(uuid[],timestamp with time zone[],bigint[]) is 'For each row with lost events: its revisions, ascending, that neither an event nor a dead letter nor a *.reconciled event accounts for.';

CREATE OR REPLACE FUNCTION app_private.month_problem(month timestamp with time zone, ends timestamp with time zone)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_horizon timestamptz;
  v_purged_to bigint;
  v_seal audit.seals;
  v_chain text;
  v_problem record;
begin
  select max(p.before), max(p.last_seq) into v_horizon, v_purged_to from app_private.purges() as p;
  for v_seal in
    select s.*
    from audit.seals s
    where s.last_seq in (
      select (select t.last_seq from audit.seals t where t.last_seq >= l.seq order by t.last_seq limit 1)
      from audit.ledger l
      where l.occurred_at >= month and l.occurred_at < ends
    )
    order by s.seal_no
  loop
    v_chain := coalesce(
      app_private.chain_problem((select s from audit.seals s where s.seal_no < v_seal.seal_no order by s.seal_no desc limit 1), v_seal),
      -- What gives away a seal that was rewritten, with its head.
      (
        select 'The next seal isn''t chained to its head.'
        from audit.seals s
        where s.seal_no = v_seal.seal_no + 1 and s.previous_head <> v_seal.head
      ));
    if v_chain is not null then
      return format('It doesn''t verify: seal %s, chain_broken. %s', v_seal.seal_no, v_chain);
    end if;
    select p.* into v_problem from app_private.seal_problems(v_seal, v_horizon, v_purged_to) as p where p.status <> 'purged' limit 1;
    if found then
      return format('It doesn''t verify: seal %s, %s. %s', v_seal.seal_no, v_problem.status, v_problem.detail);
    end if;
  end loop;
  return null;
end;
$function$;
comment on function app_private.month_problem(timestamp with time zone,timestamp with time zone) is 'The first thing that verification has against the seals of a month''s events; null when they are as they were sealed.';

CREATE OR REPLACE FUNCTION app_private.next_due(OUT overdue_for double precision, OUT due_in double precision)
 RETURNS record
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.next_due() is 'By the database''s clock, in milliseconds: for how long the latest overdue schedule has been due, and until the next one is; null when there is none.';
grant execute on function app_private.next_due() to halyard_worker;

CREATE OR REPLACE FUNCTION app_private.next_setting_revision(name text)
 RETURNS bigint
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  -- set_setting() comes here each time.
  if exists (select from app_private.settings s where s.name = next_setting_revision.name) then
    return 1;
  end if;
  return 1 + app_private.highest_revision('settings', app_private.setting_id(name), 'epoch', 0, array[name]);
exception when others then
  return 1;
end;
$function$;
comment on function app_private.next_setting_revision(text) is 'The revision that a setting without a row begins at.';

CREATE OR REPLACE FUNCTION app_private.next_work(work text, destination text)
 RETURNS TABLE(item text, due_at timestamp with time zone)
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  -- In the index's order, and no further than this: one that waits for its next attempt isn't due.
  (
    select s.id::text, coalesce(s.next_attempt_at, s.scheduled_at)
    from (
      select p.*
      from app_public.feature_flag_schedules p
      where next_work.work = 'applying' and p.status = 'pending' and p.scheduled_at <= clock_timestamp()
      order by p.scheduled_at, p.id
      limit 1000
    ) as s
    where coalesce(s.next_attempt_at, s.scheduled_at) <= clock_timestamp()
    order by s.scheduled_at, s.id
    limit 1
  )
  union all
  (select q.id::text, q.occurred_at from audit.queue q where next_work.work = 'numbering' order by q.id limit 1)
  union all
  (
    select l.seq::text, l.sequenced_at
    from audit.ledger l
    where next_work.work = 'forwarding' and l.seq > app_private.audit_cursor(next_work.destination)
    order by l.seq
    limit 1
  )
$function$;
comment on function app_private.next_work(text,text) is 'The schedule, the place in the queue or the seq that comes next in applying, numbering or forwarding, and since when; no row when nothing waits.';

CREATE OR REPLACE FUNCTION app_private.notify_audit(event_ids uuid[], schedule_ids uuid[], plan_ids uuid[] DEFAULT NULL::uuid[])
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
  -- A payload must stay under 8,000 bytes; 60 ids of each kind take 7,200.
  perform pg_notify('halyard_audit', json_build_object(
    'events', event_ids[1:60],
    'schedules', schedule_ids[1:60],
    'plans', plan_ids[1:60],
    'truncated', coalesce(cardinality(event_ids), 0) > 60
  )::text);
end;
$function$;
comment on function app_private.notify_audit(uuid[],uuid[],uuid[]) is 'Notifies channel halyard_audit of new events, and of the schedules and plans that they are about, unless the notification queue is half full.';

CREATE OR REPLACE FUNCTION app_private.open_divergences()
 RETURNS SETOF audit.divergences
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select d.* from audit.divergences d
  where not exists (select from audit.incarnations i where i.incarnation_no > d.found_in)
$function$;
comment on function app_private.open_divergences() is 'The divergences that were found in the present incarnation: a person has yet to decide about them.';

CREATE OR REPLACE FUNCTION app_private.open_point(plan app_public.plans)
 RETURNS void
 LANGUAGE sql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  insert into app_public.feature_flag_schedules (
    id, flag_id, scheduled_at, updates, reason, plan_id, occurrence_no, step_no, expects, on_conflict)
  select
    app_private.point_id(plan.id, f.id, plan.step_no, plan.next_at), f.id, plan.next_at, c.change -> 'updates', plan.reason,
    plan.id, plan.occurrence_no, plan.step_no, c.change -> 'expects', coalesce(c.change ->> 'onConflict', 'overwrite')
  from jsonb_array_elements(plan.content -> 'steps' -> (plan.step_no - 1) -> 'changes') as c (change)
  cross join lateral (select (c.change ->> 'flagId')::uuid) as f (id)
  order by f.id
$function$;
comment on function app_private.open_point(app_public.plans) is 'Makes the schedules of a plan''s open point, due at its next_at.';

CREATE OR REPLACE FUNCTION app_private.original_environments(names text[])
 RETURNS TABLE(name text, state jsonb)
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select e.name::text, jsonb_build_object('createdBy', null, 'stoppedAt', null, 'stoppedBy', null, 'stopReason', null, 'lastResume', null)
  from app_public.environments e
  where e.name = any (names) and e.revision = 0
    and e.created_at <= (select i.started_at from audit.incarnations i where i.incarnation_no = 1)
$function$;
comment on function app_private.original_environments(text[]) is 'Of these environments those that were there before the trail began, and so have no event.';

CREATE OR REPLACE FUNCTION app_private.overdue_flags(overdue_ms double precision, skipped uuid[] DEFAULT '{}'::uuid[], waited uuid[] DEFAULT '{}'::uuid[])
 RETURNS TABLE(flag_id uuid, flag_key text, environment text)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.overdue_flags(double precision,uuid[],uuid[]) is 'Flags with schedules, but those in `skipped`, that have been due for so many milliseconds and aren''t applied, the longest overdue first: all such flags in `waited`, and at most 100 others.';
grant execute on function app_private.overdue_flags(double precision,uuid[],uuid[]) to halyard_worker;

CREATE OR REPLACE FUNCTION app_private.overdue_schedules()
 RETURNS SETOF app_public.feature_flag_schedules
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select s.*
  from app_public.feature_flag_schedules s
  cross join app_private.held_schedules() as h
  where s.status = 'pending'
    and case
      when h.scheduled_until = '-infinity' then s.scheduled_at <= clock_timestamp()
      else app_private.is_held(s, h.scheduled_until, h.created_until)
    end
$function$;
comment on function app_private.overdue_schedules() is 'Pending schedules that the lost history may have applied: up to the newest seal that a destination has, or all that are due.';

CREATE OR REPLACE FUNCTION app_private.parse_purge_event(payload text, OUT before timestamp with time zone, OUT events bigint, OUT last_seq bigint)
 RETURNS record
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
AS $function$
declare
  v_metadata jsonb;
begin
  v_metadata := payload::jsonb -> 'metadata';
  before := v_metadata ->> 'before';
  events := coalesce(v_metadata ->> 'eventsInAll', '0');
  last_seq := coalesce(v_metadata ->> 'lastSeqInAll', '0');
exception when data_exception then
  before := null;
end;
$function$;
comment on function app_private.parse_purge_event(text) is 'What an audit.purged event says in its text of all purges so far: before when, how many events, up to which seq.';

CREATE OR REPLACE FUNCTION app_private.past_states(environment text, at timestamp with time zone)
 RETURNS TABLE(flag_key text, enabled boolean, rollout_percentage integer, certain boolean, sources jsonb, flag_id uuid)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_custom_plan'
AS $function$
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
$function$;
comment on function app_private.past_states(text,timestamp with time zone) is 'The state that each flag of an environment had at a time that has passed, from the trail.';

CREATE OR REPLACE FUNCTION app_private.patch_flags(flag_ids uuid[], updates jsonb[])
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  update app_public.feature_flags f
  set
    enabled = coalesce((c.updates ->> 'enabled')::boolean, f.enabled),
    rollout_percentage = coalesce((c.updates ->> 'rollout_percentage')::integer, f.rollout_percentage)
  from unnest(flag_ids, patch_flags.updates) as c (flag_id, updates)
  where f.id = c.flag_id;
end;
$function$;
comment on function app_private.patch_flags(uuid[],jsonb[]) is 'Sets the fields that each schedule''s updates name, of the flag at the same place.';

CREATE OR REPLACE FUNCTION app_private.pause_plans_of(flag app_public.feature_flags)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.pause_plans_of(app_public.feature_flags) is 'Pauses the active plans that change this flag, which is being deleted; the schedules of their other flags fail.';

CREATE OR REPLACE FUNCTION app_private.payload_event_id(payload text)
 RETURNS uuid
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
RETURN ("substring"(payload, '"eventId": "([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"'::text))::uuid;
comment on function app_private.payload_event_id(text) is 'The id in an event''s text; null when it has none.';

CREATE OR REPLACE FUNCTION app_private.plan_change(before app_public.plans, after app_public.plans)
 RETURNS text
 LANGUAGE sql
 STABLE
RETURN CASE WHEN ((before).id IS NULL) THEN 'flag_plan.created'::text WHEN ((after).id IS NULL) THEN 'flag_plan.deleted'::text WHEN ((after).status = (before).status) THEN 'flag_plan.updated'::text WHEN ((after).status = 'completed'::text) THEN 'flag_plan.completed'::text WHEN ((after).status = 'cancelled'::text) THEN 'flag_plan.cancelled'::text WHEN ((after).status = 'paused'::text) THEN 'flag_plan.paused'::text WHEN ((((after).title)::text IS DISTINCT FROM ((before).title)::text) OR ((after).content IS DISTINCT FROM (before).content)) THEN 'flag_plan.updated'::text ELSE 'flag_plan.resumed'::text END;
comment on function app_private.plan_change(app_public.plans,app_public.plans) is 'The event type of a plan''s change.';

CREATE OR REPLACE FUNCTION app_private.plan_change_details(before app_public.plans, after app_public.plans)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
RETURN ((jsonb_build_object('planId', COALESCE((after).id, (before).id)) || CASE app_private.plan_change(before, after) WHEN 'flag_plan.created'::text THEN (jsonb_build_object('title', (after).title, 'contentHash', encode((after).content_hash, 'hex'::text), 'content', (after).content, 'environments', (after).environments, 'firstAt', app_private.iso((after).next_at)) || jsonb_strip_nulls(jsonb_build_object('reason', (after).reason, 'reverts', (after).reverts))) WHEN 'flag_plan.updated'::text THEN (jsonb_build_object('before', app_private.plan_state(before), 'after', app_private.plan_state(after)) || jsonb_strip_nulls(jsonb_build_object('reason', COALESCE(app_private.change_reason(), (CASE WHEN (((after).reason)::text IS DISTINCT FROM ((before).reason)::text) THEN (after).reason ELSE NULL::character varying END)::text)))) WHEN 'flag_plan.paused'::text THEN jsonb_strip_nulls(jsonb_build_object('title', (after).title, 'occurrenceNo', (after).occurrence_no, 'stepNo', (after).step_no, 'reason', (after).status_reason)) WHEN 'flag_plan.resumed'::text THEN jsonb_strip_nulls(jsonb_build_object('title', (after).title, 'occurrenceNo', (after).occurrence_no, 'stepNo', (after).step_no, 'nextAt', app_private.iso((after).next_at), 'reason', (after).reason)) WHEN 'flag_plan.completed'::text THEN jsonb_build_object('title', (after).title, 'applied', (after).applied_count, 'skipped', (after).skipped_count) WHEN 'flag_plan.cancelled'::text THEN jsonb_strip_nulls(jsonb_build_object('title', (after).title, 'reason', (after).status_reason)) ELSE jsonb_build_object('before', app_private.plan_state(before)) END) || CASE WHEN (cardinality(COALESCE((after).environments, (before).environments)) = 1) THEN '{}'::jsonb ELSE jsonb_build_object('environments', COALESCE((after).environments, (before).environments)) END);
comment on function app_private.plan_change_details(app_public.plans,app_public.plans) is 'The metadata of the event of a plan''s change, without the admin.';

CREATE OR REPLACE FUNCTION app_private.plan_change_text(event audit.events)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select case (event).event_type
    when 'flag_plan.created' then 'created it'
    when 'flag_plan.updated' then 'edited it'
    when 'flag_plan.resumed' then 'retried it'
    when 'flag_plan.paused' then 'paused it'
    when 'flag_plan.completed' then 'completed it'
    when 'flag_plan.cancelled' then 'cancelled it'
  end
$function$;
comment on function app_private.plan_change_text(audit.events) is 'What an event changed of its plan, as the rest of a sentence; null for an event that doesn''t say.';

CREATE OR REPLACE FUNCTION app_private.plan_content(steps jsonb, starts_at timestamp with time zone)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.plan_content(jsonb,timestamp with time zone) is 'The content of a plan that a request describes, its flags found. Raises ZF028 for steps that a plan can''t have, ZF005 and ZF006 for a time that can''t be, ZF001 and ZF014 for flags and environments that don''t exist or that the token doesn''t reach.';

CREATE OR REPLACE FUNCTION app_private.plan_environment(plan app_public.plans)
 RETURNS text
 LANGUAGE sql
 STABLE
RETURN CASE WHEN (cardinality((plan).environments) = 1) THEN ((plan).environments[1])::text ELSE NULL::text END;
comment on function app_private.plan_environment(app_public.plans) is 'The environment of all changes of a plan; null when they are of several.';

CREATE OR REPLACE FUNCTION app_private.plan_environments(content jsonb)
 RETURNS text[]
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select array_agg(distinct c.change ->> 'environment') from jsonb_path_query(content, '$.steps[*].changes[*]') as c (change)
$function$;
comment on function app_private.plan_environments(jsonb) is 'The environments of these flags, in order of name.';

CREATE OR REPLACE FUNCTION app_private.plan_event(at timestamp with time zone, incarnation uuid, before app_public.plans, after app_public.plans)
 RETURNS app_private.audit_event
 LANGUAGE sql
RETURN app_private.make_event(app_private.changed_event_id(incarnation, COALESCE((after).id, (before).id), COALESCE((after).created_at, (before).created_at), (before).revision, COALESCE((after).revision, ((before).revision + 1))), at, app_private.plan_change(before, after), NULL::uuid, NULL::text, CASE WHEN ((after).id IS NULL) THEN app_private.plan_environment(before) ELSE app_private.plan_environment(after) END, NULL::uuid, COALESCE((after).revision, ((before).revision + 1)), app_private.plan_change_details(before, after));
comment on function app_private.plan_event(timestamp with time zone,uuid,app_public.plans,app_public.plans) is 'The flag_plan event of a change from `before` to `after`.';

CREATE OR REPLACE FUNCTION app_private.plan_flag_ids(content jsonb)
 RETURNS uuid[]
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select array_agg(distinct (c.change ->> 'flagId')::uuid) from jsonb_path_query(content, '$.steps[*].changes[*]') as c (change)
$function$;
comment on function app_private.plan_flag_ids(jsonb) is 'The flags that a plan''s content changes, in order of id.';

CREATE OR REPLACE FUNCTION app_private.plan_found(plan app_public.plans)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
RETURN ((app_private.plan_state(plan) - 'contentHash'::text) || jsonb_build_object('statusReason', (plan).status_reason, 'applied', (plan).applied_count, 'skipped', (plan).skipped_count, 'reverts', (plan).reverts, 'createdBy', (plan).created_by));
comment on function app_private.plan_found(app_public.plans) is 'What a plan''s row says, with the keys of plan_recorded().';

CREATE OR REPLACE FUNCTION app_private.plan_problem(content jsonb)
 RETURNS text
 LANGUAGE plpgsql
 IMMUTABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.plan_problem(jsonb) is 'Why a plan can''t have this content, as a sentence; null when it can. Immutable, because the plans'' CHECK calls it.';

CREATE OR REPLACE FUNCTION app_private.plan_recorded(event audit.events)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
RETURN CASE (event).event_type WHEN 'flag_plan.created'::text THEN (jsonb_build_object('title', ((event).metadata -> 'title'::text), 'content', ((event).metadata -> 'content'::text), 'status', 'active', 'statusReason', NULL::unknown, 'nextAt', ((event).metadata -> 'firstAt'::text), 'reason', ((event).metadata -> 'reason'::text), 'reverts', ((event).metadata -> 'reverts'::text), 'applied', 0, 'skipped', 0) || CASE (event).actor_kind WHEN 'admin'::text THEN jsonb_build_object('createdBy', (event).admin_user_id) ELSE '{}'::jsonb END) WHEN 'flag_plan.updated'::text THEN ((((event).metadata -> 'after'::text) - 'contentHash'::text) || CASE ((event).metadata #>> '{after,status}'::text[]) WHEN 'active'::text THEN jsonb_build_object('statusReason', NULL::unknown) ELSE '{}'::jsonb END) WHEN 'flag_plan.paused'::text THEN jsonb_build_object('status', 'paused', 'statusReason', ((event).metadata -> 'reason'::text)) WHEN 'flag_plan.resumed'::text THEN jsonb_build_object('status', 'active', 'statusReason', NULL::unknown, 'nextAt', ((event).metadata -> 'nextAt'::text), 'reason', ((event).metadata -> 'reason'::text)) WHEN 'flag_plan.completed'::text THEN jsonb_build_object('status', 'completed', 'statusReason', NULL::unknown, 'nextAt', NULL::unknown, 'applied', ((event).metadata -> 'applied'::text), 'skipped', ((event).metadata -> 'skipped'::text)) WHEN 'flag_plan.cancelled'::text THEN jsonb_build_object('status', 'cancelled', 'statusReason', ((event).metadata -> 'reason'::text), 'nextAt', NULL::unknown) WHEN 'flag_plan.reconciled'::text THEN ((((event).metadata -> 'after'::text) - 'contentHash'::text) || jsonb_build_object('statusReason', ((event).metadata -> 'statusReason'::text), 'applied', ((event).metadata -> 'applied'::text), 'skipped', ((event).metadata -> 'skipped'::text), 'reverts', ((event).metadata -> 'reverts'::text), 'createdBy', ((event).metadata -> 'createdBy'::text))) ELSE NULL::jsonb END;
comment on function app_private.plan_recorded(audit.events) is 'What an event says of its plan after it; null when it says nothing of that.';

CREATE OR REPLACE FUNCTION app_private.plan_state(plan app_public.plans)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
RETURN jsonb_build_object('title', (plan).title, 'contentHash', encode((plan).content_hash, 'hex'::text), 'content', (plan).content, 'status', (plan).status, 'nextAt', app_private.iso((plan).next_at), 'reason', (plan).reason);
comment on function app_private.plan_state(app_public.plans) is 'What of a plan is audited: it stands in before and after of events, and a change of it is an event.';

CREATE OR REPLACE FUNCTION app_private.plan_steps(content jsonb)
 RETURNS jsonb
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select jsonb_agg(jsonb_build_object('changes', c.changes) order by s.position)
  from jsonb_array_elements(content -> 'steps') with ordinality as s (step, position)
  cross join lateral (
    select jsonb_agg(
      jsonb_build_object('flag_key', c.change -> 'flagKey') || c.change - '{flagId,flagKey,onConflict}'::text[]
        || case when c.change ? 'onConflict' then jsonb_build_object('on_conflict', c.change -> 'onConflict') else '{}' end
      order by c.position) as changes
    from jsonb_array_elements(s.step -> 'changes') with ordinality as c (change, position)
  ) as c
$function$;
comment on function app_private.plan_steps(jsonb) is 'A plan''s steps as the request described them.';

CREATE OR REPLACE FUNCTION app_private.point_id(plan_id uuid, flag_id uuid, step_no integer, at timestamp with time zone)
 RETURNS uuid
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
RETURN app_private.uuid_of(sha256((((uuid_send(plan_id) || uuid_send(flag_id)) || int4send(step_no)) || timestamptz_send(at))));
comment on function app_private.point_id(uuid,uuid,integer,timestamp with time zone) is 'The id of the schedule that changes this flag in this step of a plan at this time, as a version 8 UUID.';

CREATE OR REPLACE FUNCTION app_private.postponement(schedule app_public.feature_flag_schedules)
 RETURNS interval
 LANGUAGE sql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select least(
    greatest(2 * (schedule.next_attempt_at - schedule.updated_at), interval '1 second'),
    interval '30 seconds'
  ) * (0.5 + random() / 2)
$function$;
comment on function app_private.postponement(app_public.feature_flag_schedules) is 'How long a schedule waits after an error that passes by itself.';

CREATE OR REPLACE FUNCTION app_private.projected_states(environment text, at timestamp with time zone)
 RETURNS TABLE(flag_key text, enabled boolean, rollout_percentage integer, certain boolean, sources jsonb, flag_id uuid)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_custom_plan'
AS $function$
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
$function$;
comment on function app_private.projected_states(text,timestamp with time zone) is 'The state of each flag of an environment at a time that comes, if no person changes anything until then.';

CREATE OR REPLACE FUNCTION app_private.purge_horizon()
 RETURNS timestamp with time zone
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$ select max(p.before) from app_private.purges() as p $function$;
comment on function app_private.purge_horizon() is 'Events before this instant were purged; null when none were.';

CREATE OR REPLACE FUNCTION app_private.purge_obstacle(month timestamp with time zone, ends timestamp with time zone)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
AS $function$
declare
  v_count bigint;
  v_last_seq bigint;
  v_seal_ends bigint;
  v_name text;
begin
  if month is null then
    return 'Its partition isn''t one month (UTC): an administrator made it.';
  end if;
  if exists (select from audit.queue q where q.occurred_at >= month and q.occurred_at < ends) then
    return 'Some of its events wait for their number: is a worker running?';
  end if;
  select count(*) into v_count
  from audit.dead_letters d
  -- A letter that is younger may be about an event of the month all the same.
  where d.occurred_at < ends
    or exists (select from audit.events e where e.id::text = d.content ->> 'event_id' and e.occurred_at >= month and e.occurred_at < ends);
  if v_count > 0 then
    return format('%s dead letters are from before its end.', v_count);
  end if;
  with unnumbered as materialized (
    select e.id, e.occurred_at
    from audit.events e
    where e.occurred_at >= month and e.occurred_at < ends
      and not exists (select from audit.ledger l where l.event_id = e.id and l.occurred_at = e.occurred_at)
  )
  select count(*) into v_count from unnumbered u where not app_private.is_substituted(u.id, u.occurred_at);
  if v_count > 0 then
    return format('%s of its events have no number and don''t wait for one: they were inserted past the triggers.', v_count);
  end if;
  select max(l.seq) into v_last_seq from audit.ledger l where l.occurred_at >= month and l.occurred_at < ends;
  -- The whole of its last seal must be outside: with it goes the head.
  select s.last_seq into v_seal_ends from audit.seals s where s.last_seq >= v_last_seq order by s.last_seq limit 1;
  if v_seal_ends is null and v_last_seq is not null then
    return format('Event %s isn''t sealed.', v_last_seq);
  end if;
  if not exists (select from audit.cursors) then
    return 'Nothing of the trail was ever delivered.';
  end if;
  select c.destination into v_name from audit.cursors c where c.last_seq < v_seal_ends order by c.last_seq limit 1;
  if v_name is not null then
    return format('%s hasn''t confirmed all of it. If it isn''t used any more: select audit.forget_destination(%L);', v_name, v_name);
  end if;
  return app_private.month_problem(month, ends);
end;
$function$;
comment on function app_private.purge_obstacle(timestamp with time zone,timestamp with time zone) is 'Why the trail''s month must not be purged, as a sentence; null when it may be.';

CREATE OR REPLACE FUNCTION app_private.purged_event(month timestamp with time zone, events bigint, events_in_all bigint, last_seq_in_all bigint)
 RETURNS app_private.audit_event
 LANGUAGE sql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
AS $function$
  select app_private.as_system(app_private.make_event(
    gen_random_uuid(), clock_timestamp(), 'audit.purged', null, null, null, null, null,
    jsonb_strip_nulls(jsonb_build_object(
      'month', to_char(month, 'YYYY-MM'),
      'before', app_private.iso(month + interval '1 month'),
      'events', events,
      'firstSeq', min(l.seq),
      'lastSeq', max(l.seq),
      'eventsInAll', events_in_all,
      'lastSeqInAll', last_seq_in_all))))
  from audit.ledger l
  where l.occurred_at >= month and l.occurred_at < month + interval '1 month'
$function$;
comment on function app_private.purged_event(timestamp with time zone,bigint,bigint,bigint) is 'The audit.purged event; `before`, eventsInAll and lastSeqInAll hold for all months before it too.';

CREATE OR REPLACE FUNCTION app_private.purges()
 RETURNS TABLE(before timestamp with time zone, events bigint, last_seq bigint)
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select t.before, t.events, t.last_seq
  from audit.events e
  left join audit.ledger l on l.event_id = e.id and l.occurred_at = e.occurred_at
  cross join lateral app_private.parse_purge_event(e.payload) as t
  where e.event_type = 'audit.purged'
    and t.before is not null
    and (
      l.leaf = app_private.event_leaf(e.payload, l.seq)
      or exists (select from audit.queue q where q.event_id = e.id)
    )
$function$;
comment on function app_private.purges() is 'The purges that the trail proves.';

CREATE OR REPLACE FUNCTION app_private.put_console_session(id_hash bytea, token bytea, expires_at timestamp with time zone)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.put_console_session(bytea,bytea,timestamp with time zone) is 'Keeps a session of the console until it expires, and deletes up to 100 that have expired. Raises unique_violation when there is one of this id.';
grant execute on function app_private.put_console_session(bytea,bytea,timestamp with time zone) to halyard_authenticator;

CREATE OR REPLACE FUNCTION app_private.readiness(OUT version text, OUT ahead boolean, OUT audit_mode text, OUT writable boolean, OUT privileges boolean)
 RETURNS record
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  version := app_private.schema_version();
  ahead := app_private.destination_is_ahead();
  audit_mode := app_private.audit_mode();
  writable := current_setting('transaction_read_only') = 'off';
  -- Another login that may become an admin is no API to the trail (platform/claims.sql).
  privileges := session_user = 'halyard_authenticator' and pg_has_role(session_user, 'halyard_admin', 'member')
    and has_column_privilege('halyard_admin', 'app_public.feature_flags', 'enabled', 'update')
    and has_column_privilege('halyard_admin', 'app_public.feature_flag_schedules', 'updates', 'insert')
    and has_function_privilege('halyard_admin', 'app_public.cancel_flag_schedule(uuid, text)', 'execute');
end;
$function$;
comment on function app_private.readiness() is 'Whether a change would work in this session: it may write, and its login is the API''s and may become an admin who may change flags; with the last migration, the audit mode, and whether a destination has more of the trail.';
grant execute on function app_private.readiness() to halyard_authenticator;

CREATE OR REPLACE FUNCTION app_private.recent_flag_ids(most integer)
 RETURNS SETOF uuid
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select e.flag_id
  from audit.events e
  where e.occurred_at > now() - interval '10 minutes' and e.flag_id is not null and starts_with(e.event_type, 'feature_flag.')
    and ((select true where not app_private.claims_are_limited()) is not null
      or e.environment = any ((select app_private.claim_environments())::text[]))
  order by e.occurred_at desc, e.id
  limit least(most, 1000)
$function$;
comment on function app_private.recent_flag_ids(integer) is 'The flag of each event of the last ten minutes that says that a flag was created or changed, in the environments that the token reaches, newest first; 1,000 at most.';
grant execute on function app_private.recent_flag_ids(integer) to halyard_admin;
grant execute on function app_private.recent_flag_ids(integer) to halyard_auditor;
grant execute on function app_private.recent_flag_ids(integer) to halyard_viewer;

CREATE OR REPLACE FUNCTION app_private.recent_plan_ids(most integer)
 RETURNS SETOF uuid
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select (e.metadata ->> 'planId')::uuid
  from audit.events e
  where e.occurred_at > now() - interval '10 minutes' and e.metadata ? 'planId' and starts_with(e.event_type, 'flag_')
    and ((select true where not app_private.claims_are_limited()) is not null
      or e.environment = any ((select app_private.claim_environments())::text[])
      or e.metadata -> 'environments' <@ (select to_jsonb(app_private.claim_environments())))
  order by e.occurred_at desc, e.id
  limit least(most, 1000)
$function$;
comment on function app_private.recent_plan_ids(integer) is 'The plan of each event of the last ten minutes that has one, in the environments that the token reaches, newest first; 1,000 at most.';
grant execute on function app_private.recent_plan_ids(integer) to halyard_admin;
grant execute on function app_private.recent_plan_ids(integer) to halyard_auditor;

CREATE OR REPLACE FUNCTION app_private.recent_schedule_ids(most integer)
 RETURNS SETOF uuid
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select e.schedule_id
  from audit.events e
  where e.occurred_at > now() - interval '10 minutes' and e.schedule_id is not null
    and ((select true where not app_private.claims_are_limited()) is not null
      or e.environment = any ((select app_private.claim_environments())::text[]))
  order by e.occurred_at desc, e.id
  limit least(most, 1000)
$function$;
comment on function app_private.recent_schedule_ids(integer) is 'The schedule of each event of the last ten minutes that has one, in the environments that the token reaches, newest first; 1,000 at most.';
grant execute on function app_private.recent_schedule_ids(integer) to halyard_admin;
grant execute on function app_private.recent_schedule_ids(integer) to halyard_auditor;
grant execute on function app_private.recent_schedule_ids(integer) to halyard_viewer;

CREATE OR REPLACE FUNCTION app_private.reconcile_audit(INOUT scope text DEFAULT 'scheduled'::text, INOUT cursor jsonb DEFAULT NULL::jsonb, OUT from_letters integer, OUT from_rows integer, OUT refused integer, OUT unexplained bigint)
 RETURNS record
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
AS $function$
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
$function$;
comment on function app_private.reconcile_audit(text,jsonb) is 'One step of a reconciliation: dead_letters, incremental (and rows updated since the last), full (and all rows, and what is gone; it also counts rows that aren''t as the trail says), recording (full, and each such row is recorded as it is found), or scheduled, the one that is due. Call again with `cursor` until it is null. Says how many events came from dead letters and from rows, how many letters were refused, and at the end of a full run how many rows the trail doesn''t explain.';

CREATE OR REPLACE FUNCTION app_private.reconcile_deleted_rows(after text, batch integer, OUT events integer, OUT last_key text)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET jit TO 'off'
AS $function$
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
$function$;
comment on function app_private.reconcile_deleted_rows(text,integer) is 'Writes an audit.gap event for each flag and schedule that is gone without an event, among the keys of the next `batch` events by key, and first of all for each such plan; says how many, and the last key seen (null when there was none).';

CREATE OR REPLACE FUNCTION app_private.reconcile_due(lease_token bigint, OUT scope text, OUT from_letters integer, OUT from_rows integer, OUT refused integer, OUT unexplained bigint, OUT finished boolean)
 RETURNS record
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.reconcile_due(bigint) is 'The next step of the reconciliation that is due, for the holder of the lease reconcile. Call again until `finished`. Raises object_not_in_prerequisite_state when its token isn''t the present one.';
grant execute on function app_private.reconcile_due(bigint) to halyard_worker;

CREATE OR REPLACE FUNCTION app_private.reconcile_rows(source text, after uuid, since timestamp with time zone, batch integer, OUT events integer, OUT last_id uuid)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_custom_plan'
 SET jit TO 'off'
AS $function$
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
$function$;
comment on function app_private.reconcile_rows(text,uuid,timestamp with time zone,integer) is 'Writes a *.reconciled event for each of the next `batch` rows of a table, updated since then, that lacks events; says how many, and the last row seen (null when there was none).';

CREATE OR REPLACE FUNCTION app_private.reconciled_event(found app_private.audited_rows, missing bigint[])
 RETURNS app_private.audit_event
 LANGUAGE sql
RETURN app_private.as_system(app_private.make_event(app_private.event_id(app_private.incarnation(), (found).row_id, (found).created_at, (- (missing)[cardinality(missing)])), clock_timestamp(), CASE (found).source WHEN 'feature_flags'::text THEN 'feature_flag.reconciled'::text WHEN 'feature_flag_schedules'::text THEN 'flag_schedule.reconciled'::text WHEN 'settings'::text THEN 'setting.reconciled'::text WHEN 'environments'::text THEN 'environment.reconciled'::text WHEN 'plans'::text THEN 'flag_plan.reconciled'::text ELSE NULL::text END, (found).flag_id, (found).flag_key, (found).environment, (found).schedule_id, (missing)[cardinality(missing)], (((found).details || jsonb_build_object('revisions', missing, 'rowRevision', (found).revision)) || CASE WHEN ((found).flag_key IS NULL) THEN '{}'::jsonb ELSE jsonb_build_object('flagKey', (found).flag_key) END)));
comment on function app_private.reconciled_event(app_private.audited_rows,bigint[]) is 'The *.reconciled event for a row''s missing revisions (ascending): the row as it is found.';

CREATE OR REPLACE FUNCTION app_private.reconciliation_due(OUT scope text, OUT since timestamp with time zone)
 RETURNS record
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.reconciliation_due() is 'Which reconciliation is due: full, incremental (rows updated since then) or dead_letters.';

CREATE OR REPLACE FUNCTION app_private.record_denial(operation text, code text, flag_key text DEFAULT NULL::text, environment text DEFAULT NULL::text, count integer DEFAULT 1)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  c_events_a_minute constant integer := 10;
  c_name constant text := '^[A-Za-z0-9][A-Za-z0-9._-]*$';
  v_denials app_private.denials;
  v_flag_key text := case when flag_key ~ c_name and length(flag_key) <= 100 then flag_key end;
  v_environment text := case when environment ~ c_name and length(environment) <= 20 then environment end;
begin
  -- It also refuses every login but the API's.
  perform app_private.record_denial_counts();
  if count is null or count < 1 then
    raise exception 'At least one attempt was denied.' using errcode = '23514';
  end if;
  insert into app_private.denials (user_id, minute, email, role, denied, written)
  values (
    coalesce(app_private.claim_user_id(), ''), date_trunc('minute', clock_timestamp(), 'UTC'), app_private.claim_email(),
    left(app_private.claim_role(), 32), 0, 0)
  on conflict on constraint denials_pkey do update set denied = denials.denied
  returning * into v_denials;
  update app_private.denials d
  set
    denied = d.denied + record_denial.count,
    written = d.written + (operation is not null and d.written < c_events_a_minute)::integer
  where (d.user_id, d.minute) = (v_denials.user_id, v_denials.minute);
  if operation is null or v_denials.written >= c_events_a_minute then
    return;
  end if;
  -- The claims name the user, not actor_kind(): a verified token may have a user and no role.
  perform app_private.record_event(
    'access.denied', 'DENY',
    jsonb_strip_nulls(jsonb_build_object(
      'operation', left(operation, 200), 'code', left(code, 50), 'flagKey', v_flag_key, 'role', left(app_private.claim_role(), 32),
      'adminUserId', app_private.claim_user_id(), 'adminEmail', app_private.claim_email())),
    v_flag_key, v_environment, names_user => true);
end;
$function$;
comment on function app_private.record_denial(text,text,text,text,integer) is 'Records that the running request was denied: its operation, the code of the answer, the flag and the environment if it names them. Ten a user and minute are events, the others are counted. Without an operation `count` attempts are counted only. Raises insufficient_privilege for another login than the API''s.';
grant execute on function app_private.record_denial(text,text,text,text,integer) to halyard_authenticator;

CREATE OR REPLACE FUNCTION app_private.record_denial_counts()
 RETURNS bigint
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_denials app_private.denials;
begin
  if session_user <> 'halyard_authenticator' then
    raise exception 'Only the API records denials: this session''s login is %.', session_user using errcode = 'insufficient_privilege';
  end if;
  for v_denials in
    select d.*
    from app_private.denials d
    where d.minute < clock_timestamp() - interval '75 seconds'
    order by d.minute, d.user_id
    limit 1000
    for update skip locked
  loop
    if v_denials.denied > v_denials.written then
      perform app_private.record_event('access.denied', 'DENY', names_user => true, details => jsonb_strip_nulls(jsonb_build_object(
        'count', v_denials.denied - v_denials.written, 'minute', app_private.iso(v_denials.minute), 'role', v_denials.role,
        'adminUserId', nullif(v_denials.user_id, ''), 'adminEmail', v_denials.email)));
    end if;
    delete from app_private.denials d where (d.user_id, d.minute) = (v_denials.user_id, v_denials.minute);
  end loop;
  return (select count(*) from app_private.denials);
end;
$function$;
comment on function app_private.record_denial_counts() is 'For each user and minute that is over, writes one access.denied event with the number of denials that have none of their own, if there are such; returns for how many the minute isn''t over.';
grant execute on function app_private.record_denial_counts() to halyard_authenticator;

CREATE OR REPLACE FUNCTION app_private.record_divergences(destination text, tail jsonb)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_present audit.incarnations;
  v_first_answer boolean;
begin
  -- First, in the order of platform/locks.sql.
  perform from app_public.feature_flag_schedules where false;
  if not exists (select from app_private.unknown_records(tail)) then
    return;
  end if;
  -- Against restore/accept.sql, which must not miss what is found while it runs.
  lock table audit.divergences in row exclusive mode;
  select i.* into strict v_present from audit.incarnations i order by i.incarnation_no desc limit 1;
  if (tail ->> 'trail')::uuid <> v_present.trail then
    return;
  end if;
  v_first_answer := v_present.incarnation_no > 1 and not exists (
    select from audit.divergences d
    where d.found_in = v_present.incarnation_no - 1
      and (d.found_at < v_present.started_at or d.destination = record_divergences.destination));
  insert into audit.divergences (
    found_in, destination, incarnation, seal_no, last_seq, head, event_id, sealed_at, created_until)
  select
    f.found_in, record_divergences.destination,
    coalesce(n.incarnation, (select i.id from audit.incarnations i where i.incarnation_no = f.found_in)),
    n.seal_no, n.last_seq, n.head, n.event_id, n.lived_until,
    greatest(
      clock_timestamp(), (select max(s.created_at) from app_public.feature_flag_schedules s where s.status = 'pending'))
  from (
    select
      u.*,
      case when u.event_id is null then u.recorded_at else max(u.recorded_at) over (partition by u.event_id is null) end as lived_until,
      row_number() over (partition by u.event_id is null order by u.last_seq desc) as place
    from app_private.unknown_records(tail) as u
    where (u.event_id is null and u.incarnation = v_present.id)
      or not exists (
        select from audit.divergences d
        where d.found_in < v_present.incarnation_no
          and d.sealed_at >= u.recorded_at
          and (u.event_id is null or d.last_seq >= u.last_seq))
  ) as n
  cross join lateral (
    select v_present.incarnation_no - (
      v_first_answer and n.incarnation is distinct from v_present.id and n.lived_until < v_present.started_at)::integer as found_in
  ) as f
  where n.event_id is null or n.place = 1
  on conflict on constraint divergences_record_key do nothing;
end;
$function$;
comment on function app_private.record_divergences(text,jsonb) is 'Records what a destination has of the trail at its end and the database lacks, unless it is of a history whose loss was accepted.';

CREATE OR REPLACE FUNCTION app_private.record_event(event_type text, operation text, details jsonb, flag_key text DEFAULT NULL::text, environment text DEFAULT NULL::text, names_user boolean DEFAULT false, id uuid DEFAULT NULL::uuid)
 RETURNS uuid
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
AS $function$
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
$function$;
comment on function app_private.record_event(text,text,jsonb,text,text,boolean,uuid) is 'Writes an event that is about no row, under this id or a random one, or keeps it as a dead letter, in which `operation` says what was done (DENY, DELIVER); returns its id.';

CREATE OR REPLACE FUNCTION app_private.record_failure(schedule_ids uuid[], error_code text, problem text)
 RETURNS text
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.record_failure(uuid[],text,text) is 'Records why these schedules, one or all of a plan''s point, could not be applied. Counts an attempt, unless the error passes by itself: pending again with a time for the next attempt, or failed for good, which pauses their plan. Returns the status.';

CREATE OR REPLACE FUNCTION app_private.record_row(source text, row_id uuid, revision bigint, differs jsonb)
 RETURNS integer
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.record_row(text,uuid,bigint,jsonb) is 'Raises a row''s revision, and writes the *.reconciled event that shows the row as it is found and what the trail had said of it.';

CREATE OR REPLACE FUNCTION app_private.record_rows(source text, names text[])
 RETURNS integer
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.record_rows(text,text[]) is 'Writes a *.reconciled event for each of these rows that the trail doesn''t explain: the row as it is found, at a revision of its own; returns how many.';

CREATE OR REPLACE FUNCTION app_private.record_undeliverable(destination text, lease_token bigint, seq bigint, event_id uuid, status integer)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_type text;
  v_id uuid;
begin
  if not app_private.holds_lease('forward.' || destination, lease_token) then
    return false;
  end if;
  select coalesce(e.event_type, 'audit.missing') into v_type
  from audit.ledger l
  left join audit.events e on e.id = l.event_id and e.occurred_at = l.occurred_at
  where l.seq = record_undeliverable.seq and l.event_id = record_undeliverable.event_id;
  if v_type is null then
    select 'audit.sealed' into v_type
    from audit.seals s
    where s.last_seq = record_undeliverable.seq and app_private.uuid_of(s.head) = record_undeliverable.event_id;
  end if;
  if v_type is null then
    raise exception 'No event and no seal at % has the id %.', seq, event_id using errcode = 'invalid_parameter_value';
  end if;
  v_id := app_private.uuid_of(sha256(
    uuid_send(app_private.incarnation()) || uuid_send(event_id) || convert_to(destination, 'UTF8')));
  if v_type = 'audit.undeliverable' or app_private.is_recorded(v_id) then
    return true;
  end if;
  perform app_private.record_event(
    'audit.undeliverable', 'DELIVER',
    jsonb_build_object('destination', destination, 'eventId', event_id, 'seq', seq, 'eventType', v_type, 'status', status),
    id => v_id);
  return true;
end;
$function$;
comment on function app_private.record_undeliverable(text,bigint,bigint,uuid,integer) is 'Writes, once, the audit.undeliverable event of an event or a seal that a destination refuses for good, for the holder of the lease forward.<destination>: false when its token isn''t the present one; raises invalid_parameter_value where nothing has that number and id.';
grant execute on function app_private.record_undeliverable(text,bigint,bigint,uuid,integer) to halyard_worker;

CREATE OR REPLACE FUNCTION app_private.recording_problems()
 RETURNS SETOF text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.recording_problems() is 'What keeps events from the trail, a sentence each: dead letters, a queue that stands still, settings that are locked.';

CREATE OR REPLACE FUNCTION app_private.refuse_conflict(plan_id uuid)
 RETURNS void
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.refuse_conflict(uuid) is 'Raises ZF030 for a plan that was suspended for a conflict; its detail is a JSON array of what was expected and what was found.';

CREATE OR REPLACE FUNCTION app_private.refuse_part_of_plan(schedule app_public.feature_flag_schedules)
 RETURNS void
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.refuse_part_of_plan(app_public.feature_flag_schedules) is 'Raises ZF020 for a schedule of a plan, with the plan''s id and title.';

CREATE OR REPLACE FUNCTION app_private.refuse_pending()
 RETURNS void
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  raise exception 'The flag has % pending schedules, and may not have more: cancel some, or wait until some are applied.',
    coalesce(app_private.setting('pending_per_flag'), '1000')
    using errcode = 'ZF013', hint = 'The setting pending_per_flag limits them.';
end;
$function$;
comment on function app_private.refuse_pending() is 'Raises ZF013.';

CREATE OR REPLACE FUNCTION app_private.refuse_stale_flag(flag app_public.feature_flags)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.refuse_stale_flag(app_public.feature_flags) is 'Raises ZF017: the sentence has who changed the flag last, and the detail, as JSON, its revision.';
grant execute on function app_private.refuse_stale_flag(app_public.feature_flags) to halyard_admin;

CREATE OR REPLACE FUNCTION app_private.refuse_stale_plan(plan app_public.plans)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.refuse_stale_plan(app_public.plans) is 'Raises ZF029: the sentence has who changed the plan last, and the detail, as JSON, its revision.';

CREATE OR REPLACE FUNCTION app_private.refuse_stale_schedule(schedule app_public.feature_flag_schedules)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.refuse_stale_schedule(app_public.feature_flag_schedules) is 'Raises ZF027: the sentence has who changed the schedule last, and the detail, as JSON, its revision.';

CREATE OR REPLACE FUNCTION app_private.refuse_unknown_flag(flag_key text, environment text)
 RETURNS void
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  perform app_private.require_environment(refuse_unknown_flag.environment);
  raise exception 'There is no flag % in %.', quote_literal(left(flag_key, 100)), environment
    using errcode = 'ZF001', hint = 'Create the flag first, or name another environment.';
end;
$function$;
comment on function app_private.refuse_unknown_flag(text,text) is 'Raises ZF014 where there is no such environment, else ZF001.';

CREATE OR REPLACE FUNCTION app_private.release_lease(name text, token bigint)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  perform set_config('synchronous_commit', 'off', true);
  update app_private.leases l
  set expires_at = '-infinity'
  where l.name = release_lease.name and l.token = release_lease.token;
  return found;
end;
$function$;
comment on function app_private.release_lease(text,bigint) is 'Ends the lease of this token at once; false when another holder has taken it meanwhile.';
grant execute on function app_private.release_lease(text,bigint) to halyard_worker;

CREATE OR REPLACE FUNCTION app_private.relocated_events(gone bigint[])
 RETURNS TABLE(seq bigint, detail text)
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  with missing as materialized (
    select l.* from audit.ledger l where l.seq = any (gone)
  ), strangers as materialized (
    select e, e.id, e.occurred_at, app_private.payload_event_id(e.payload) as payload_event_id
    from audit.events e
    where (
        e.occurred_at = any (array(select distinct m.occurred_at from missing m))
        or e.id = any (array(select m.event_id from missing m))
      )
      and not exists (select from audit.ledger l where l.event_id = e.id and l.occurred_at = e.occurred_at)
  ), candidates as (
    select m.seq, m.leaf, s.e from missing m join strangers s on s.id = m.event_id
    union all
    select m.seq, m.leaf, s.e from missing m join strangers s on s.payload_event_id = m.event_id
    union all
    select m.seq, m.leaf, s.e
    from missing m
    join strangers s on s.occurred_at = m.occurred_at and s.payload_event_id = s.id
    where (select count(*) from strangers) <= 1000
  )
  select distinct on (c.seq)
    c.seq,
    case
      when cardinality(d.names) > 0 then format('Not what the event''s text says: %s.', array_to_string(d.names, ', '))
      else 'The event is as it was sealed; event_id or occurred_at of the ledger''s row is not.'
    end
  from candidates c
  cross join lateral app_private.differing_columns(c.e) as d (names)
  where c.leaf = app_private.event_leaf((c.e).payload, c.seq)
  order by c.seq
$function$;
comment on function app_private.relocated_events(bigint[]) is 'Of the numbers whose event isn''t where the ledger has it, those whose event stands elsewhere, and why.';

CREATE OR REPLACE FUNCTION app_private.remove_old_plans(status text, batch integer DEFAULT 20)
 RETURNS integer
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.remove_old_plans(text,integer) is 'Deletes up to `batch` plans that were completed, or cancelled, as `status` says, before the days of the setting schedule_retention, with their schedules, an event for each; returns how many plans.';
grant execute on function app_private.remove_old_plans(text,integer) to halyard_worker;

CREATE OR REPLACE FUNCTION app_private.remove_old_schedules(status text, batch integer DEFAULT 1000)
 RETURNS integer
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.remove_old_schedules(text,integer) is 'Deletes up to `batch` schedules of their own that were applied, or cancelled or skipped, as `status` says (applied or cancelled), before the days of the setting schedule_retention, a flag_schedule.deleted event for each; returns how many.';
grant execute on function app_private.remove_old_schedules(text,integer) to halyard_worker;

CREATE OR REPLACE FUNCTION app_private.render_event(event app_private.audit_event)
 RETURNS text
 LANGUAGE sql
 STABLE
RETURN ((((((((((((((((((((((((('{"eventType": "'::text || (event).event_type) || '", "timestamp": "'::text) || app_private.iso((event).occurred_at)) || '", "eventId": "'::text) || ((event).id)::text) || '", "level": "'::text) || (event).level) || '", "environment": '::text) || COALESCE((to_json((event).environment))::text, 'null'::text)) || ', "requestId": '::text) || COALESCE((to_json((event).request_id))::text, 'null'::text)) || COALESCE((', "clientRequestId": '::text || (to_json((event).client_request_id))::text), ''::text)) || ', "actorKind": "'::text) || (event).actor_kind) || '", "databaseUser": '::text) || (to_json((event).database_user))::text) || ', "applicationName": '::text) || (to_json((event).application_name))::text) || COALESCE(((', "flagId": "'::text || ((event).flag_id)::text) || '"'::text), ''::text)) || COALESCE(((', "scheduleId": "'::text || ((event).schedule_id)::text) || '"'::text), ''::text)) || COALESCE((', "revision": '::text || ((event).revision)::text), ''::text)) || CASE WHEN (event).reconciled THEN ', "reconciled": true'::text ELSE ''::text END) || ', "metadata": '::text) || ((event).metadata)::text) || '}'::text);
comment on function app_private.render_event(app_private.audit_event) is 'The event as JSON text, without its seq.';

CREATE OR REPLACE FUNCTION app_private.renew_dead_letters(incarnation uuid)
 RETURNS integer
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.renew_dead_letters(uuid) is 'Gives the events that dead letters hold the ids that they have in an incarnation; returns how many letters were changed.';

CREATE OR REPLACE FUNCTION app_private.renew_lease(name text, token bigint, lease_ms integer)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  perform set_config('synchronous_commit', 'off', true);
  update app_private.leases l
  set expires_at = app_private.lease_end(lease_ms)
  where l.name = renew_lease.name and l.token = renew_lease.token and l.expires_at > clock_timestamp();
  return found;
end;
$function$;
comment on function app_private.renew_lease(text,bigint,integer) is 'Renews the lease of this token for so many milliseconds from now; false when it is over, and nothing changed.';
grant execute on function app_private.renew_lease(text,bigint,integer) to halyard_worker;

CREATE OR REPLACE FUNCTION app_private.renew_queued_events(incarnation uuid)
 RETURNS integer
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.renew_queued_events(uuid) is 'Gives the events that wait for their number the ids that they have in an incarnation; returns how many.';

CREATE OR REPLACE FUNCTION app_private.renewed_event(event app_private.audit_event, incarnation uuid)
 RETURNS app_private.audit_event
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.renewed_event(app_private.audit_event,uuid) is 'The event with the id that it has in an incarnation.';

CREATE OR REPLACE FUNCTION app_private.renewed_event_id(id uuid, row_id uuid, created_at timestamp with time zone, revision bigint, incarnation uuid)
 RETURNS uuid
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select coalesce(
    (
      select app_private.event_id(renewed_event_id.incarnation, row_id, created_at, r.revision)
      from audit.incarnations i
      cross join (values (renewed_event_id.revision), (-renewed_event_id.revision)) as r (revision)
      where app_private.event_id(i.id, row_id, created_at, r.revision) = renewed_event_id.id
      limit 1
    ),
    app_private.uuid_of(sha256(uuid_send(renewed_event_id.id) || uuid_send(renewed_event_id.incarnation))))
$function$;
comment on function app_private.renewed_event_id(uuid,uuid,timestamp with time zone,bigint,uuid) is 'The id in an incarnation of the event that had this id in one before it.';

CREATE OR REPLACE FUNCTION app_private.replay_dead_letters(after bigint, batch integer, OUT events integer, OUT replayed integer, OUT refused integer, OUT last_id bigint)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.replay_dead_letters(bigint,integer) is 'Brings up to `batch` dead letters with ids above `after` into the trail and deletes them; says how many events that gave, how many letters went and stayed, and the last id seen (null when there was none).';

CREATE OR REPLACE FUNCTION app_private.request_id()
 RETURNS text
 LANGUAGE sql
 STABLE PARALLEL SAFE
RETURN app_private.attributed_setting('halyard.request_id'::text, 128);
comment on function app_private.request_id() is 'The API''s id of the HTTP request that this transaction serves; null in sessions of other logins.';
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

CREATE OR REPLACE FUNCTION app_private.require_auditor()
 RETURNS void
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if coalesce(app_private.claim_role(), 'auditor') <> 'auditor' or app_private.claim_environments() is not null then
    raise exception 'Only an auditor whose token isn''t limited to environments may do this: it is about the trail as a whole.'
      using errcode = 'insufficient_privilege';
  end if;
end;
$function$;
comment on function app_private.require_auditor() is 'Raises insufficient_privilege unless the caller is an auditor without limits, or a DBA without a token.';

CREATE OR REPLACE FUNCTION app_private.require_environment(name text, in_trail boolean DEFAULT false)
 RETURNS void
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.require_environment(text,boolean) is 'Raises ZF014, which names the environments that the claims let through, unless this is one of them. With in_trail, one that was deleted counts too.';
grant execute on function app_private.require_environment(text,boolean) to halyard_admin;
grant execute on function app_private.require_environment(text,boolean) to halyard_auditor;
grant execute on function app_private.require_environment(text,boolean) to halyard_viewer;

CREATE OR REPLACE FUNCTION app_private.require_first(first integer)
 RETURNS void
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if first is null or first not between 0 and 10000 then
    raise exception 'first must be from 0 to 10000.' using errcode = '22003';
  end if;
end;
$function$;
comment on function app_private.require_first(integer) is 'Raises 22003 for a number of rows that isn''t from 0 to 10,000.';

CREATE OR REPLACE FUNCTION app_private.require_flag_key(environment text, flag_key text)
 RETURNS void
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.require_flag_key(text,text) is 'Raises ZF001 unless the environment has, or had, a flag with this key; null is none to look for.';

CREATE OR REPLACE FUNCTION app_private.require_flags_of(content jsonb)
 RETURNS void
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_change jsonb := app_private.missing_flag_of(content);
begin
  if v_change is not null then
    raise exception 'There is no flag % in % any more.',
      quote_literal(left(v_change ->> 'flagKey', 100)), left(v_change ->> 'environment', 40)
      using errcode = 'ZF001';
  end if;
end;
$function$;
comment on function app_private.require_flags_of(jsonb) is 'Raises ZF001 for a content that names a flag that isn''t there.';

CREATE OR REPLACE FUNCTION app_private.require_history(at timestamp with time zone)
 RETURNS void
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_horizon timestamptz := app_private.purge_horizon();
begin
  if at < v_horizon then
    raise exception 'The audit trail was purged up to %: ask for a time from then on.', app_private.iso(v_horizon)
      using errcode = 'ZF026', hint = 'Copies of the trail elsewhere may have what is older.';
  end if;
end;
$function$;
comment on function app_private.require_history(timestamp with time zone) is 'Raises ZF026, which names the horizon, for a time whose events were purged.';

CREATE OR REPLACE FUNCTION app_private.require_instant(name text, value timestamp with time zone)
 RETURNS void
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if value is null or not isfinite(value) then
    raise exception '% must be a time.', name using errcode = '22008';
  end if;
end;
$function$;
comment on function app_private.require_instant(text,timestamp with time zone) is 'Raises 22008 for a time that is missing or infinite; `name` is the argument''s.';

CREATE OR REPLACE FUNCTION app_private.require_no_stop(schedule app_public.feature_flag_schedules)
 RETURNS void
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.require_no_stop(app_public.feature_flag_schedules) is 'Raises ZF023 while an environment of a schedule, or of its plan, is stopped.';

CREATE OR REPLACE FUNCTION app_private.require_plan_content(content jsonb)
 RETURNS void
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_problem text := app_private.plan_problem(content);
begin
  if v_problem is not null then
    raise exception '%.', v_problem using errcode = 'ZF028';
  end if;
end;
$function$;
comment on function app_private.require_plan_content(jsonb) is 'Raises ZF028 for a content that no plan can have.';

CREATE OR REPLACE FUNCTION app_private.require_prover()
 RETURNS void
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if coalesce(app_private.claim_role(), 'auditor') not in ('admin', 'auditor')
    or app_private.claim_environments() is not null
    or (app_private.claim_role() is null and not pg_has_role(session_user, 'halyard_auditor', 'member')
      and not pg_has_role(session_user, 'halyard_owner', 'member'))
  then
    raise exception 'This takes the token of an admin or an auditor that isn’t limited to environments.' using errcode = 'ZF015';
  end if;
end;
$function$;
comment on function app_private.require_prover() is 'Raises ZF015 unless the caller is an admin or an auditor whose token has no limits, or a DBA without a token.';

CREATE OR REPLACE FUNCTION app_private.require_reader()
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.require_reader() is 'The role in which the caller reads: admin, viewer or auditor. Raises insufficient_privilege where the token names none, or the login may not become it.';

CREATE OR REPLACE FUNCTION app_private.require_reason(reason text)
 RETURNS text
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_reason constant text := app_private.trim_reason(reason);
begin
  if v_reason is null or char_length(v_reason) > 500 then
    raise exception 'Give a reason of 1 to 500 characters.' using errcode = 'invalid_parameter_value';
  end if;
  return v_reason;
end;
$function$;
comment on function app_private.require_reason(text) is 'The reason without the blanks round it; raises invalid_parameter_value unless 1 to 500 characters are left.';

CREATE OR REPLACE FUNCTION app_private.require_room_for_pending(flag_ids uuid[])
 RETURNS void
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if exists (select from unnest(flag_ids) as f (id) where app_private.has_no_room_for_pending(f.id)) then
    perform app_private.refuse_pending();
  end if;
end;
$function$;
comment on function app_private.require_room_for_pending(uuid[]) is 'Raises ZF013 where one of these flags has as many pending schedules as the setting pending_per_flag allows, and the API calls.';

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

CREATE OR REPLACE FUNCTION app_private.require_span(starts timestamp with time zone, ends timestamp with time zone, most_days integer DEFAULT NULL::integer)
 RETURNS void
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  perform app_private.require_instant('from', starts), app_private.require_instant('to', ends);
  if ends <= starts then
    raise exception 'to must be after from.' using errcode = '22008';
  -- Seconds: a day of an interval has as many hours as the session's time zone gives it.
  elsif extract(epoch from ends - starts) > 86400 * most_days then
    raise exception 'from and to may be % days apart at most.', most_days using errcode = '22008';
  end if;
end;
$function$;
comment on function app_private.require_span(timestamp with time zone,timestamp with time zone,integer) is 'Raises 22008 unless `ends` is after `starts` and, where `most_days` is given, by so many days of 24 hours at most.';

CREATE OR REPLACE FUNCTION app_private.require_start(starts_at timestamp with time zone)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if not isfinite(starts_at) or starts_at >= timestamptz '10000-01-01 00:00:00+00' then
    raise exception 'starts_at must be before the year 10000.' using errcode = 'ZF006';
  elsif starts_at <= clock_timestamp() then
    raise exception 'starts_at must be in the future.' using errcode = 'ZF005', hint = 'Leave it out for a plan that is due now.';
  end if;
end;
$function$;
comment on function app_private.require_start(timestamp with time zone) is 'Raises ZF005 for a start that has passed, ZF006 for one beyond the year 9999; null is now.';

CREATE OR REPLACE FUNCTION app_private.require_title(title text)
 RETURNS void
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if coalesce(char_length(app_private.trim_reason(title)), 0) not between 1 and 200 or title collate "C" ~ '[[:cntrl:]]' then
    raise exception 'title must be text of 1 to 200 characters, without control characters.' using errcode = 'ZF028';
  end if;
end;
$function$;
comment on function app_private.require_title(text) is 'Raises ZF028 for a title that a plan can''t have.';

CREATE OR REPLACE FUNCTION app_private.require_whole_point(plan_id uuid, schedule_ids uuid[])
 RETURNS void
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.require_whole_point(uuid,uuid[]) is 'Raises ZF019 unless the plan is active and these schedules are all of its point, as when SQL deleted or cancelled one of them.';

CREATE OR REPLACE FUNCTION app_private.require_zone(zone text)
 RETURNS void
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.require_zone(text) is 'Raises 22009 for text that is no name of a time zone.';

CREATE OR REPLACE FUNCTION app_private.restored_event(present audit.incarnations, details jsonb)
 RETURNS app_private.audit_event
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  return app_private.as_system(app_private.make_event(
    gen_random_uuid(), clock_timestamp(), 'audit.restored', null, null, null, null, null,
    jsonb_build_object('trail', present.trail, 'incarnation', present.id, 'reason', present.reason) || details));
end;
$function$;
comment on function app_private.restored_event(audit.incarnations,jsonb) is 'The audit.restored event of the incarnation that it begins.';

CREATE OR REPLACE FUNCTION app_private.resume_environment(name text, missed text, reason text, "except" uuid[] DEFAULT '{}'::uuid[])
 RETURNS app_public.environments
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_reason constant text := app_private.require_reason(resume_environment.reason);
begin
  return app_private.end_stop(app_private.lock_environment(resume_environment.name), missed, v_reason, "except");
end;
$function$;
comment on function app_private.resume_environment(text,text,text,uuid[]) is 'Ends the stop of an environment, without asking for a token; what is said of app_public.resume_environment() holds. Raises ZF023 where it isn''t stopped.';

CREATE OR REPLACE FUNCTION app_private.retain_audit_events()
 RETURNS TABLE(month date, events bigint, outcome text, reason text)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_keep interval := nullif(app_private.setting('audit_retention'), '');
begin
  if v_keep is null then
    return;
  end if;
  return query select r.* from audit.retain(v_keep, 1) as r;
end;
$function$;
comment on function app_private.retain_audit_events() is 'audit.retain() for the oldest month that is due by the setting audit_retention, as the system; no row when that is empty.';
grant execute on function app_private.retain_audit_events() to halyard_worker;

CREATE OR REPLACE FUNCTION app_private.retry_delay(attempts integer)
 RETURNS interval
 LANGUAGE sql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select least(
    coalesce(app_private.setting('retry_base')::interval, interval '30 seconds')
      * power(2, least(attempts, 20) - 1),
    interval '1 hour'
  ) * (0.5 + random() / 2)
$function$;
comment on function app_private.retry_delay(integer) is 'Exponential back-off with jitter after this many failed attempts (1 or more).';

CREATE OR REPLACE FUNCTION app_private.revert_of_plan(id uuid, at timestamp with time zone, on_conflict text, reason text, waits boolean DEFAULT true)
 RETURNS app_public.plans
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.revert_of_plan(uuid,timestamp with time zone,text,text,boolean) is 'Makes the plan that reverts a plan. Raises ZF018 for a plan that the token doesn''t reach, ZF019 where nothing of it was applied.';

CREATE OR REPLACE FUNCTION app_private.revert_of_schedule(id uuid, at timestamp with time zone, on_conflict text, reason text, waits boolean DEFAULT true)
 RETURNS app_public.plans
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.revert_of_schedule(uuid,timestamp with time zone,text,text,boolean) is 'Makes the plan that reverts a schedule, also one of a plan. Raises ZF002 for a schedule that the token doesn''t reach, ZF019 for one that wasn''t applied, ZF026 where its events were purged.';

CREATE OR REPLACE FUNCTION app_private.revert_of_span(environment text, "from" timestamp with time zone, "to" timestamp with time zone, flag_keys text[], at timestamp with time zone, on_conflict text, reason text, waits boolean DEFAULT true)
 RETURNS app_public.plans
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.revert_of_span(text,timestamp with time zone,timestamp with time zone,text[],timestamp with time zone,text,text,boolean) is 'Makes the plan that reverts what was changed in an environment from `from` until before `to`. Raises ZF014, ZF001 for environments and flags that aren''t there or that the token doesn''t reach, 22008 for a span that can''t be, ZF026 for one that was purged.';

CREATE OR REPLACE FUNCTION app_private.revert_steps(changes jsonb, on_conflict text)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.revert_steps(jsonb,text) is 'The steps of the plan that takes these changes back. Raises ZF025 where nothing is left of them, ZF028 for more than a plan may have.';

CREATE OR REPLACE FUNCTION app_private.row_differences(recorded jsonb, found jsonb)
 RETURNS jsonb
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select coalesce(jsonb_agg(jsonb_build_object('column', f.key, 'trail', recorded -> f.key, 'row', f.value) order by f.key), '[]')
  from jsonb_each(found) as f
  where recorded ? f.key and recorded -> f.key <> f.value
$function$;
comment on function app_private.row_differences(jsonb,jsonb) is 'Of the columns that both know, those that differ: an array of column, trail and row.';

CREATE OR REPLACE FUNCTION app_private.row_history(source text, row_id uuid, created_at timestamp with time zone, keys text[])
 RETURNS TABLE(event_type text, occurred_at timestamp with time zone, at_revision bigint, recorded jsonb)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.row_history(text,uuid,timestamp with time zone,text[]) is 'The events that are about a row since it was made, or since it was last recorded as found: the revision that each shows, and what it says of the row.';

CREATE OR REPLACE FUNCTION app_private.row_problems(source text, after text, batch integer)
 RETURNS TABLE(source_table text, row_id text, flag_key text, environment text, status text, differs jsonb, detail text, last_key text)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.row_problems(text,text,integer) is 'What audit.verify_rows() answers, of one state of the database.';

CREATE OR REPLACE FUNCTION app_private.row_recorded(source text, event audit.events)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
RETURN CASE source WHEN 'feature_flags'::text THEN app_private.flag_recorded(event) WHEN 'feature_flag_schedules'::text THEN app_private.schedule_recorded(event) WHEN 'settings'::text THEN jsonb_build_object('value', ((event).metadata -> 'after'::text)) WHEN 'environments'::text THEN app_private.environment_recorded(event) WHEN 'plans'::text THEN app_private.plan_recorded(event) ELSE NULL::jsonb END;
comment on function app_private.row_recorded(text,audit.events) is 'What an event says of the row of feature_flags, feature_flag_schedules, settings, environments or plans that it is about, after it; null when it says nothing of that.';

CREATE OR REPLACE FUNCTION app_private.row_verdict(source text, row_id uuid, created_at timestamp with time zone, revision bigint, is_recorded boolean, keys text[], state jsonb)
 RETURNS TABLE(status text, differs jsonb, detail text)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.row_verdict(text,uuid,timestamp with time zone,bigint,boolean,text[],jsonb) is 'What is wrong between a row and its events: row_differs or row_unrecorded; no row when nothing is. is_recorded: whether the trail has, or had, the event of its revision.';

CREATE OR REPLACE FUNCTION app_private.schedule_change(before app_public.feature_flag_schedules, after app_public.feature_flag_schedules)
 RETURNS text
 LANGUAGE sql
 STABLE
RETURN CASE WHEN ((after).status = (before).status) THEN 'flag_schedule.rescheduled'::text WHEN ((after).status = 'pending'::text) THEN CASE (before).status WHEN 'suspended'::text THEN 'flag_schedule.resumed'::text ELSE 'flag_schedule.retried'::text END ELSE ('flag_schedule.'::text || (after).status) END;
comment on function app_private.schedule_change(app_public.feature_flag_schedules,app_public.feature_flag_schedules) is 'The event type of a schedule''s change.';

CREATE OR REPLACE FUNCTION app_private.schedule_change_details(at timestamp with time zone, before app_public.feature_flag_schedules, after app_public.feature_flag_schedules, flag app_public.feature_flags)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
RETURN CASE WHEN (((after).plan_id IS NULL) AND ((after).kept IS NULL)) THEN app_private.schedule_change_own_details(at, before, after, flag) ELSE ((app_private.schedule_change_own_details(at, before, after, flag) || app_private.schedule_point(after)) || CASE WHEN (((after).status = 'applied'::text) AND ((after).kept IS NOT NULL)) THEN jsonb_build_object('kept', (after).kept) ELSE '{}'::jsonb END) END;
comment on function app_private.schedule_change_details(timestamp with time zone,app_public.feature_flag_schedules,app_public.feature_flag_schedules,app_public.feature_flags) is 'The metadata of the event of a schedule''s change, without the admin.';

CREATE OR REPLACE FUNCTION app_private.schedule_change_own_details(at timestamp with time zone, before app_public.feature_flag_schedules, after app_public.feature_flag_schedules, flag app_public.feature_flags)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
RETURN CASE app_private.schedule_change(before, after) WHEN 'flag_schedule.applied'::text THEN jsonb_build_object('scheduleId', (after).id, 'flagKey', (flag).flag_key, 'updates', (after).updates, 'appliedAt', app_private.iso((after).applied_at), 'flagState', (app_private.flag_state(flag) - 'description'::text), 'latenessMs', round(((1000)::numeric * EXTRACT(epoch FROM ((after).applied_at - (after).scheduled_at))))) WHEN 'flag_schedule.cancelled'::text THEN jsonb_build_object('scheduleId', (after).id, 'flagKey', (flag).flag_key, 'scheduledAt', app_private.iso((after).scheduled_at), 'reason', COALESCE((to_jsonb(after) ->> 'cancel_reason'::text), 'manual_cancellation'::text)) WHEN 'flag_schedule.failed'::text THEN jsonb_build_object('scheduleId', (after).id, 'flagKey', (flag).flag_key, 'errorMessage', COALESCE((after).error_message, 'unknown'::text), 'failedAt', app_private.iso(at), 'attempts', (after).attempts) WHEN 'flag_schedule.suspended'::text THEN jsonb_strip_nulls(jsonb_build_object('scheduleId', (after).id, 'flagKey', (flag).flag_key, 'scheduledAt', app_private.iso((after).scheduled_at), 'for', (after).suspended_for, 'details', (after).suspended_details)) WHEN 'flag_schedule.resumed'::text THEN jsonb_strip_nulls(jsonb_build_object('scheduleId', (after).id, 'flagKey', (flag).flag_key, 'scheduledAt', app_private.iso((after).scheduled_at), 'suspendedFor', (before).suspended_for, 'reason', (after).resolution_reason, 'acknowledged', CASE WHEN ((after).on_conflict <> (before).on_conflict) THEN true ELSE NULL::boolean END)) WHEN 'flag_schedule.skipped'::text THEN jsonb_strip_nulls(jsonb_build_object('scheduleId', (after).id, 'flagKey', (flag).flag_key, 'scheduledAt', app_private.iso((after).scheduled_at), 'reason', (after).resolution_reason)) ELSE (jsonb_build_object('scheduleId', (after).id, 'flagKey', (flag).flag_key, 'before', app_private.schedule_snapshot(before), 'after', app_private.schedule_snapshot(after)) || jsonb_strip_nulls(jsonb_build_object('reason', COALESCE(app_private.change_reason(), CASE WHEN ((after).reason IS DISTINCT FROM (before).reason) THEN (after).reason ELSE NULL::text END)))) END;
comment on function app_private.schedule_change_own_details(timestamp with time zone,app_public.feature_flag_schedules,app_public.feature_flag_schedules,app_public.feature_flags) is 'The metadata of the event of a schedule''s change, without the admin and without what belongs to a plan or a guard.';

CREATE OR REPLACE FUNCTION app_private.schedule_change_text(event audit.events)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.schedule_change_text(audit.events) is 'What an event changed of its schedule, as the rest of a sentence; null for an event that doesn''t say.';

CREATE OR REPLACE FUNCTION app_private.schedule_changed_event(at timestamp with time zone, incarnation uuid, before app_public.feature_flag_schedules, after app_public.feature_flag_schedules, flag app_public.feature_flags)
 RETURNS app_private.audit_event
 LANGUAGE sql
RETURN app_private.make_event(app_private.changed_event_id(incarnation, (after).id, (after).created_at, (before).revision, (after).revision), at, app_private.schedule_change(before, after), (after).flag_id, ((flag).flag_key)::text, ((flag).environment)::text, (after).id, (after).revision, app_private.schedule_change_details(at, before, after, flag));
comment on function app_private.schedule_changed_event(timestamp with time zone,uuid,app_public.feature_flag_schedules,app_public.feature_flag_schedules,app_public.feature_flags) is 'The flag_schedule event of a change of status or time.';

CREATE OR REPLACE FUNCTION app_private.schedule_created_event(at timestamp with time zone, incarnation uuid, schedule app_public.feature_flag_schedules, flag app_public.feature_flags)
 RETURNS app_private.audit_event
 LANGUAGE sql
RETURN app_private.make_event(app_private.event_id(incarnation, (schedule).id, (schedule).created_at, (schedule).revision), at, 'flag_schedule.created'::text, (schedule).flag_id, ((flag).flag_key)::text, ((flag).environment)::text, (schedule).id, (schedule).revision, ((jsonb_build_object('scheduleId', (schedule).id, 'flagKey', (flag).flag_key, 'scheduledAt', app_private.iso((schedule).scheduled_at), 'updates', (schedule).updates) || CASE WHEN ((schedule).reason IS NULL) THEN '{}'::jsonb ELSE jsonb_build_object('reason', (schedule).reason) END) || CASE WHEN (((schedule).plan_id IS NULL) AND ((schedule).expects IS NULL)) THEN '{}'::jsonb ELSE (app_private.schedule_point(schedule) || jsonb_strip_nulls(jsonb_build_object('expects', (schedule).expects, 'onConflict', NULLIF((schedule).on_conflict, 'overwrite'::text)))) END));
comment on function app_private.schedule_created_event(timestamp with time zone,uuid,app_public.feature_flag_schedules,app_public.feature_flags) is 'The flag_schedule.created event.';

CREATE OR REPLACE FUNCTION app_private.schedule_deleted_event(at timestamp with time zone, incarnation uuid, schedule app_public.feature_flag_schedules, flag app_public.feature_flags)
 RETURNS app_private.audit_event
 LANGUAGE sql
RETURN app_private.make_event(app_private.event_id(incarnation, (schedule).id, (schedule).created_at, ((schedule).revision + 1)), at, 'flag_schedule.deleted'::text, (schedule).flag_id, ((flag).flag_key)::text, ((flag).environment)::text, (schedule).id, ((schedule).revision + 1), (jsonb_build_object('scheduleId', (schedule).id, 'flagKey', (flag).flag_key, 'before', app_private.schedule_snapshot(schedule)) || app_private.schedule_point(schedule)));
comment on function app_private.schedule_deleted_event(timestamp with time zone,uuid,app_public.feature_flag_schedules,app_public.feature_flags) is 'The flag_schedule.deleted event.';

CREATE OR REPLACE FUNCTION app_private.schedule_found(schedule app_public.feature_flag_schedules)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
RETURN (((((jsonb_build_object('flagId', (schedule).flag_id, 'status', (schedule).status, 'updates', (schedule).updates, 'requestedBy', (schedule).requested_by, 'reason', (schedule).reason, 'planId', (schedule).plan_id, 'occurrenceNo', (schedule).occurrence_no, 'stepNo', (schedule).step_no, 'expects', (schedule).expects, 'onConflict', NULLIF((schedule).on_conflict, 'overwrite'::text), 'resolutionReason', (schedule).resolution_reason) || CASE (schedule).status WHEN 'applied'::text THEN jsonb_build_object('kept', (schedule).kept) WHEN 'suspended'::text THEN jsonb_build_object('suspendedFor', (schedule).suspended_for, 'suspendedDetails', (schedule).suspended_details) ELSE '{}'::jsonb END) || CASE WHEN ((schedule).applied_at IS NULL) THEN jsonb_build_object('scheduledAt', app_private.iso((schedule).scheduled_at)) ELSE jsonb_build_object('appliedAt', app_private.iso((schedule).applied_at), 'latenessMs', round(((1000)::numeric * EXTRACT(epoch FROM ((schedule).applied_at - (schedule).scheduled_at))))) END) || CASE WHEN ((schedule).status = 'failed'::text) THEN jsonb_build_object('attempts', (schedule).attempts, 'errorMessage', COALESCE((schedule).error_message, 'unknown'::text)) ELSE '{}'::jsonb END) || CASE WHEN (to_jsonb(schedule) ? 'created_by'::text) THEN jsonb_build_object('createdBy', (to_jsonb(schedule) -> 'created_by'::text)) ELSE '{}'::jsonb END) || CASE WHEN (((schedule).status = 'cancelled'::text) AND (to_jsonb(schedule) ? 'cancelled_by'::text)) THEN jsonb_build_object('cancelledBy', (to_jsonb(schedule) -> 'cancelled_by'::text), 'cancelReason', COALESCE((to_jsonb(schedule) ->> 'cancel_reason'::text), 'manual_cancellation'::text)) ELSE '{}'::jsonb END);
comment on function app_private.schedule_found(app_public.feature_flag_schedules) is 'What a schedule''s row says, with the keys of schedule_recorded().';

CREATE OR REPLACE FUNCTION app_private.schedule_metrics()
 RETURNS TABLE(metric text, destination text, value double precision)
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.schedule_metrics() is 'Schedules that wait, those that are overdue, and those that are suspended, by the reason; plans'' points that are overdue; environments that are stopped. Counts stop at 10,000.';

CREATE OR REPLACE FUNCTION app_private.schedule_point(schedule app_public.feature_flag_schedules)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
RETURN CASE WHEN ((schedule).plan_id IS NULL) THEN '{}'::jsonb ELSE jsonb_build_object('planId', (schedule).plan_id, 'occurrenceNo', (schedule).occurrence_no, 'stepNo', (schedule).step_no) END;
comment on function app_private.schedule_point(app_public.feature_flag_schedules) is 'The place of a schedule in its plan, as events have it: planId, occurrenceNo and stepNo; an empty object for a schedule of its own.';

CREATE OR REPLACE FUNCTION app_private.schedule_recorded(event audit.events)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
RETURN ((jsonb_build_object('flagId', (event).flag_id) || CASE WHEN ((event).actor_kind <> 'admin'::text) THEN '{}'::jsonb WHEN ((event).event_type = 'flag_schedule.created'::text) THEN jsonb_build_object('createdBy', (event).admin_user_id) WHEN ((event).event_type = 'flag_schedule.cancelled'::text) THEN jsonb_build_object('cancelledBy', (event).admin_user_id) ELSE '{}'::jsonb END) || CASE (event).event_type WHEN 'flag_schedule.created'::text THEN jsonb_build_object('status', 'pending', 'scheduledAt', ((event).metadata -> 'scheduledAt'::text), 'updates', ((event).metadata -> 'updates'::text), 'requestedBy', (event).admin_user_id, 'reason', ((event).metadata -> 'reason'::text), 'planId', ((event).metadata -> 'planId'::text), 'occurrenceNo', ((event).metadata -> 'occurrenceNo'::text), 'stepNo', ((event).metadata -> 'stepNo'::text), 'expects', ((event).metadata -> 'expects'::text), 'onConflict', ((event).metadata -> 'onConflict'::text), 'resolutionReason', NULL::unknown) WHEN 'flag_schedule.applied'::text THEN jsonb_build_object('status', 'applied', 'updates', ((event).metadata -> 'updates'::text), 'appliedAt', ((event).metadata -> 'appliedAt'::text), 'latenessMs', ((event).metadata -> 'latenessMs'::text), 'kept', ((event).metadata -> 'kept'::text)) WHEN 'flag_schedule.cancelled'::text THEN jsonb_build_object('status', 'cancelled', 'scheduledAt', ((event).metadata -> 'scheduledAt'::text), 'cancelReason', ((event).metadata -> 'reason'::text)) WHEN 'flag_schedule.failed'::text THEN jsonb_build_object('status', 'failed', 'attempts', ((event).metadata -> 'attempts'::text), 'errorMessage', ((event).metadata -> 'errorMessage'::text)) WHEN 'flag_schedule.suspended'::text THEN jsonb_build_object('status', 'suspended', 'scheduledAt', ((event).metadata -> 'scheduledAt'::text), 'suspendedFor', ((event).metadata -> 'for'::text), 'suspendedDetails', ((event).metadata -> 'details'::text)) WHEN 'flag_schedule.resumed'::text THEN ((jsonb_build_object('status', 'pending', 'scheduledAt', ((event).metadata -> 'scheduledAt'::text), 'resolutionReason', ((event).metadata -> 'reason'::text)) || CASE WHEN (((event).metadata ->> 'suspendedFor'::text) = 'conflict'::text) THEN jsonb_build_object('requestedBy', (event).admin_user_id) ELSE '{}'::jsonb END) || CASE WHEN ((event).metadata ? 'acknowledged'::text) THEN jsonb_build_object('onConflict', NULL::unknown) ELSE '{}'::jsonb END) WHEN 'flag_schedule.skipped'::text THEN jsonb_build_object('status', 'skipped', 'scheduledAt', ((event).metadata -> 'scheduledAt'::text), 'resolutionReason', ((event).metadata -> 'reason'::text)) WHEN 'flag_schedule.rescheduled'::text THEN ((((event).metadata -> 'after'::text) - '{attempts,errorMessage}'::text[]) || jsonb_build_object('requestedBy', (event).admin_user_id, 'reason', ((event).metadata #> '{after,reason}'::text[]))) WHEN 'flag_schedule.retried'::text THEN ((((event).metadata -> 'after'::text) - '{attempts,errorMessage}'::text[]) || jsonb_build_object('requestedBy', (event).admin_user_id, 'reason', ((event).metadata #> '{after,reason}'::text[]))) WHEN 'flag_schedule.reconciled'::text THEN ((((event).metadata -> 'after'::text) || jsonb_build_object('updates', ((event).metadata -> 'updates'::text), 'appliedAt', ((event).metadata -> 'appliedAt'::text), 'requestedBy', ((event).metadata -> 'requestedBy'::text), 'reason', ((event).metadata #> '{after,reason}'::text[]), 'onConflict', ((event).metadata #> '{after,onConflict}'::text[]), 'resolutionReason', ((event).metadata #> '{after,resolutionReason}'::text[]), 'errorMessage', COALESCE(((event).metadata #>> '{after,errorMessage}'::text[]), 'unknown'::text))) || jsonb_strip_nulls(jsonb_build_object('createdBy', ((event).metadata -> 'createdBy'::text), 'cancelledBy', ((event).metadata -> 'cancelledBy'::text), 'cancelReason', ((event).metadata -> 'cancelReason'::text)))) ELSE NULL::jsonb END);
comment on function app_private.schedule_recorded(audit.events) is 'What an event says of its schedule after it; null when it says nothing of that.';

CREATE OR REPLACE FUNCTION app_private.schedule_snapshot(schedule app_public.feature_flag_schedules)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
RETURN (app_private.schedule_state(schedule) || jsonb_build_object('attempts', (schedule).attempts, 'errorMessage', (schedule).error_message));
comment on function app_private.schedule_snapshot(app_public.feature_flag_schedules) is 'A schedule as it stands in before and after of events: its state, and how its attempts went.';

CREATE OR REPLACE FUNCTION app_private.schedule_state(schedule app_public.feature_flag_schedules)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
RETURN CASE WHEN (((schedule).on_conflict = 'overwrite'::text) AND ((schedule).suspended_for IS NULL) AND ((schedule).resolution_reason IS NULL)) THEN CASE WHEN ((schedule).reason IS NULL) THEN jsonb_build_object('status', (schedule).status, 'scheduledAt', app_private.iso((schedule).scheduled_at)) ELSE jsonb_build_object('status', (schedule).status, 'scheduledAt', app_private.iso((schedule).scheduled_at), 'reason', (schedule).reason) END ELSE jsonb_strip_nulls(jsonb_build_object('status', (schedule).status, 'scheduledAt', app_private.iso((schedule).scheduled_at), 'reason', (schedule).reason, 'onConflict', NULLIF((schedule).on_conflict, 'overwrite'::text), 'suspendedFor', (schedule).suspended_for, 'suspendedDetails', (schedule).suspended_details, 'resolutionReason', (schedule).resolution_reason)) END;
comment on function app_private.schedule_state(app_public.feature_flag_schedules) is 'What of a schedule is audited: a change of it is an event.';

CREATE OR REPLACE FUNCTION app_private.schema_version()
 RETURNS text
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$ select max(m.filename) from graphile_migrate.migrations m $function$;
comment on function app_private.schema_version() is 'The file name of the last migration that ran here.';
grant execute on function app_private.schema_version() to halyard_authenticator;
grant execute on function app_private.schema_version() to halyard_worker;

CREATE OR REPLACE FUNCTION app_private.seal_batch(batch integer, after bigint)
 RETURNS TABLE(queue_id bigint, seq bigint, event_id uuid, occurred_us double precision, message text)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
AS $function$
declare
  v_size constant integer := least(batch, 1000);
  v_seal audit.seals;
  v_last_seq bigint;
  v_sealed integer;
begin
  -- To lock a row writes, and a look that finds nothing must not. What another sequencer has taken, and not committed yet, is still there.
  if (select q.id from audit.queue q where q.id > after order by q.id limit 1) is null then
    return;
  end if;
  -- Not an empty answer, which would tell two forwarders that run at once, each of the other's batch, that nothing is left to do.
  if not app_private.try_lock('numbering') then
    return next;
    return;
  end if;
  -- A destination has these numbers already, with other events: they wait for a person's decision.
  if app_private.destination_is_ahead() then
    return;
  end if;
  -- Statements of their own, after the lock: they see what the last sequencer committed.
  select s.* into v_seal from audit.seals s order by s.seal_no desc limit 1;
  select coalesce(max(l.seq), 0) into v_last_seq from audit.ledger l;
  begin
    return query select n.* from app_private.assign_seq(v_size, after, v_last_seq) as n;
    get diagnostics v_sealed = row_count;
  exception when unique_violation then
    -- The ledger's index is the check: looking up each event before would cost a tenth of it all.
    perform app_private.settle_repeated_events();
    return query select n.* from app_private.assign_seq(v_size, after, v_last_seq) as n;
    get diagnostics v_sealed = row_count;
  end;
  if v_sealed > 0 then
    perform app_private.write_seal(
      v_seal, v_last_seq + 1, array(select l.leaf from audit.ledger l where l.seq > v_last_seq order by l.seq));
    return query
      select
        null::bigint, s.last_seq, app_private.uuid_of(s.head), date_part('epoch', s.sealed_at) * 1000000,
        app_private.seal_message(s)
      from audit.seals s
      where s.last_seq = v_last_seq + v_sealed;
  end if;
end;
$function$;
comment on function app_private.seal_batch(integer,bigint) is 'Numbers and seals up to `batch` (at most 1,000) queued events whose queue id is above `after`; gives them in order and the seal behind them, without a queue id, each with the message to ship. One row of nulls when another sequencer is at work; none while a destination is ahead.';
grant execute on function app_private.seal_batch(integer,bigint) to halyard_worker;

CREATE OR REPLACE FUNCTION app_private.seal_head(previous_head bytea, trail uuid, incarnation uuid, seal_no bigint, first_seq bigint, events bigint, root bytea)
 RETURNS bytea
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
RETURN sha256((((((((decode('02'::text, 'hex'::text) || previous_head) || uuid_send(trail)) || uuid_send(incarnation)) || int8send(seal_no)) || int8send(first_seq)) || int8send(events)) || root));
comment on function app_private.seal_head(bytea,uuid,uuid,bigint,bigint,bigint,bytea) is 'The head of a seal: SHA-256 of 0x02, the head before it, the trail, the incarnation, the seal''s number, its first seq, how many events it seals, and their root.';

CREATE OR REPLACE FUNCTION app_private.seal_message(seal audit.seals)
 RETURNS text
 LANGUAGE sql
 STABLE
RETURN concat('{"eventType": "audit.sealed"', ', "timestamp": "', app_private.iso((seal).sealed_at), '"', ', "eventId": "', app_private.uuid_of((seal).head), '"', ', "level": "info", "environment": null, "requestId": null', ', "metadata": {"seal": ', (seal).seal_no, ', "trail": "', (seal).trail, '"', ', "incarnation": "', (seal).incarnation, '"', ', "firstSeq": ', (seal).first_seq, ', "lastSeq": ', (seal).last_seq, ', "root": "', encode((seal).root, 'hex'::text), '"', ', "previousHead": "', encode((seal).previous_head, 'hex'::text), '"', ', "head": "', encode((seal).head, 'hex'::text), '"}}');
comment on function app_private.seal_message(audit.seals) is 'The audit.sealed record that is shipped for a seal.';

CREATE OR REPLACE FUNCTION app_private.seal_of(seq bigint)
 RETURNS jsonb
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select jsonb_build_object(
    'number', s.seal_no::text,
    'head', encode(s.head, 'hex'),
    'sealedAt', app_private.iso(s.sealed_at),
    'anchored', s.last_seq <= (select coalesce(max(c.last_seq), 0) from audit.cursors c))
  from audit.seals s
  where s.last_seq >= seal_of.seq and s.first_seq <= seal_of.seq
  order by s.last_seq
  limit 1
$function$;
comment on function app_private.seal_of(bigint) is 'The seal that covers the event with this number: its number, its head, when it was made, and whether a destination has confirmed it; null where there is none.';
grant execute on function app_private.seal_of(bigint) to halyard_admin;
grant execute on function app_private.seal_of(bigint) to halyard_auditor;

CREATE OR REPLACE FUNCTION app_private.seal_problems(seal audit.seals, purged_before timestamp with time zone, purged_to bigint DEFAULT NULL::bigint)
 RETURNS TABLE(status text, seqs bigint[], detail text)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
AS $function$
declare
  v_leaves bytea[];
  v_found bytea[];
  v_gone bigint[];
  v_moved bigint[];
  v_purged bigint[];
  v_altered bigint[];
  v_suspect bigint[];
begin
  if seal.last_seq - seal.first_seq not between -1 and 999 then
    return query select 'root_differs', null::bigint[], 'A seal covers at most 1,000 events: this one was changed.';
    return;
  end if;
  -- lateral with a limit, so that each event is looked for in its own month. A join reads all months for each seal, when there are
  -- many: 260 ms instead of 8 for 1,000 of 300,000 events in 37 months.
  select
    array_agg(l.leaf order by l.seq),
    array_agg(coalesce(h.leaf, l.leaf) order by l.seq),
    coalesce(array_agg(l.seq order by l.seq) filter (where e.id is null), '{}'),
    -- By number too: else an event could be made to look purged by dating its row in the ledger back.
    coalesce(array_agg(l.seq order by l.seq) filter (
      where e.id is null and l.occurred_at < purged_before and (purged_to is null or l.seq <= purged_to)), '{}'),
    coalesce(array_agg(l.seq order by l.seq) filter (where h.leaf <> l.leaf), '{}'),
    coalesce(array_agg(l.seq order by l.seq) filter (where h.leaf = l.leaf and (
      e.payload is distinct from app_private.render_event(row(
        e.id, e.occurred_at, e.event_type, e.level, e.flag_id, e.flag_key, e.environment, e.schedule_id, e.revision,
        e.actor_kind, e.admin_user_id, e.admin_email, e.request_id, e.client_request_id, e.database_user, e.application_name, e.reconciled,
        e.metadata, e.payload)::app_private.audit_event)
      -- These three stand in the text as part of the metadata only.
      or e.flag_key is distinct from e.metadata ->> 'flagKey'
      or e.admin_user_id is distinct from e.metadata ->> 'adminUserId'
      or e.admin_email is distinct from e.metadata ->> 'adminEmail'
      -- No leaf covers what the ledger copies of an event.
      or (l.event_type, l.flag_key, l.environment) is distinct from (e.event_type, e.flag_key, e.environment))), '{}')
  into v_leaves, v_found, v_gone, v_purged, v_altered, v_suspect
  from audit.ledger l
  left join lateral (
    select x.* from audit.events x where x.id = l.event_id and x.occurred_at = l.occurred_at limit 1
  ) as e on true
  left join lateral (select app_private.event_leaf(e.payload, l.seq) as leaf) as h on true
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
        select 'root_differs', nullif(v_altered, '{}'),
          'The leaves don''t give the sealed root: an event was changed together with its leaf, or the seal was.';
    end if;
  elsif cardinality(v_altered) > 0 then
    return query select 'event_altered', v_altered, 'The text of these events isn''t what was sealed.';
  end if;

  if cardinality(v_gone) > cardinality(v_purged) then
    return query select 'column_differs', array[m.seq], m.detail from app_private.relocated_events(v_gone) as m order by m.seq;
    v_moved := array(select m.seq from app_private.relocated_events(v_gone) as m);
    v_gone := array(select g.seq from unnest(v_gone) as g (seq) where g.seq <> all (v_moved || v_purged) order by g.seq);
    if cardinality(v_gone) > 0 then
      return query select 'event_missing', v_gone, 'These events are gone and no purge accounts for them.';
    end if;
  end if;
  return query
    select
      'column_differs', array[l.seq],
      case
        when cardinality(d.names) > 0 then format('Not what the event''s text says: %s.', array_to_string(d.names, ', '))
        else 'event_type, flag_key or environment of the ledger''s row isn''t the event''s.'
      end
    from audit.ledger l
    join audit.events e on e.id = l.event_id and e.occurred_at = l.occurred_at
    cross join lateral app_private.differing_columns(e) as d (names)
    where l.seq = any (v_suspect)
      and (
        cardinality(d.names) > 0
        or (l.event_type, l.flag_key, l.environment) is distinct from (e.event_type, e.flag_key, e.environment))
    order by l.seq;
  if cardinality(v_purged) > 0 then
    return query select 'purged', v_purged, format('Purged with all events before %s; the leaves are kept.', app_private.iso(purged_before));
  end if;
end;
$function$;
comment on function app_private.seal_problems(audit.seals,timestamp with time zone,bigint) is 'Checks one seal''s events, columns, leaves and root; a row for each kind of problem, and one for what was purged: before an instant, up to a seq.';

CREATE OR REPLACE FUNCTION app_private.server_metrics()
 RETURNS TABLE(metric text, destination text, value double precision)
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
AS $function$
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
$function$;
comment on function app_private.server_metrics() is 'The notification queue, the audit mode, the workers that are connected, and the partitions ahead (24 at most).';

CREATE OR REPLACE FUNCTION app_private.set_setting(name text, value text)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_revision bigint;
begin
  insert into app_private.settings as s (name, value)
  values (set_setting.name, set_setting.value)
  on conflict on constraint settings_pkey do update set value = excluded.value
  returning s.revision into v_revision;
  return v_revision;
end;
$function$;
comment on function app_private.set_setting(text,text) is 'Sets a setting, as the owner, and returns its revision; raises invalid_parameter_value for an unknown name or a bad value.';

CREATE OR REPLACE FUNCTION app_private.setting(name text)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$ select s.value from app_private.settings s where s.name = setting.name $function$;
comment on function app_private.setting(text) is 'The value of a setting; null when its row is gone.';

CREATE OR REPLACE FUNCTION app_private.setting_definitions()
 RETURNS TABLE(name text, default_value text, description text)
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  values
    ('audit_mode', 'lax', 'lax: a change whose event can''t be written goes through, and the event becomes a dead letter. strict: such a change fails with audit_unavailable. A session can only make itself strict.'),
    ('audit_retention', '', 'How long the worker keeps the audit trail, in whole months or years, as in 24 months; empty: forever.'),
    ('pending_per_flag', '1000', 'How many pending schedules one flag may have by the API; further ones are refused with too_many_schedules. SQL isn''t limited.'),
    ('retry_base', '30 seconds', 'How long a schedule waits after its first failed attempt; each further attempt doubles it, up to an hour. An error that passes by itself, such as a lock or a full disk, counts as no attempt.'),
    ('schedule_retention', '', 'Days after which the worker deletes schedules and plans that ended: applied=90 what was applied, cancelled=30 what was cancelled or skipped, or one of them; empty: never.')
$function$;
comment on function app_private.setting_definitions() is 'Every setting with its default and what it means.';

CREATE OR REPLACE FUNCTION app_private.setting_id(name text)
 RETURNS uuid
 LANGUAGE sql
 STABLE PARALLEL SAFE
RETURN app_private.uuid_of(sha256(convert_to(('setting '::text || name), 'UTF8'::name)));
comment on function app_private.setting_id(text) is 'The id that events of a setting are derived from.';

CREATE OR REPLACE FUNCTION app_private.setting_problem(name text, value text)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.setting_problem(text,text) is 'Why a setting can''t have this value, or that there is none of this name, as a sentence; null when it can.';

CREATE OR REPLACE FUNCTION app_private.settle_missed(environment app_public.environments, missed text, reason text, "except" uuid[])
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.settle_missed(app_public.environments,text,text,uuid[]) is 'Makes the schedules that came due during a stop pending again, or skips them, and with those in `except`, of which one stands for its whole point, does the other. Returns missed, applied and skipped. Raises invalid_parameter_value for an id that isn''t one of them, and for null.';

CREATE OR REPLACE FUNCTION app_private.settle_repeated_event(event_id uuid, occurred_at timestamp with time zone)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_event audit.events;
  v_substitute app_private.audit_event;
  v_problem text;
begin
  select e.* into v_event
  from audit.events e
  where e.id = settle_repeated_event.event_id and e.occurred_at = settle_repeated_event.occurred_at;
  if not found then
    v_problem := 'Somebody put this id into audit.queue: the trail has another event with it, and none of this time.';
  elsif exists (
      select from audit.ledger l where l.event_id = v_event.id and l.occurred_at = v_event.occurred_at)
    or exists (select from audit.queue q where q.event_id = v_event.id and q.occurred_at = v_event.occurred_at)
    or app_private.is_recorded(app_private.substitute_id(v_event.id, v_event.occurred_at))
  then
    v_problem := 'Somebody put this event into audit.queue a second time: it has its number already, or waits for it.';
  end if;
  if v_problem is not null then
    insert into audit.dead_letters (content, error_code, error_message)
    values (
      jsonb_build_object('event_id', settle_repeated_event.event_id, 'occurred_at', settle_repeated_event.occurred_at), 'ZF012', v_problem);
    return;
  end if;
  v_substitute := app_private.substitute_event(app_private.unwritten_event(v_event));
  begin
    perform app_private.write_reconciled_events(array[v_substitute]);
  exception when others then
    -- A letter as any other: the reconciler replays it.
    insert into audit.dead_letters (content, error_code, error_message)
    values (jsonb_build_object('events', to_jsonb(array[v_substitute])), sqlstate, sqlerrm);
  end;
end;
$function$;
comment on function app_private.settle_repeated_event(uuid,timestamp with time zone) is 'Writes a queued event whose id is taken under an id of its own; what isn''t such an event becomes a dead letter.';

CREATE OR REPLACE FUNCTION app_private.settle_repeated_events()
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_queued record;
begin
  for v_queued in
    with taken as (
      delete from audit.queue q
      where exists (select from audit.ledger l where l.event_id = q.event_id)
        or exists (select from audit.queue o where o.event_id = q.event_id and o.id < q.id)
      returning q.id, q.event_id, q.occurred_at
    )
    select t.* from taken t order by t.id
  loop
    perform app_private.settle_repeated_event(v_queued.event_id, v_queued.occurred_at);
  end loop;
end;
$function$;
comment on function app_private.settle_repeated_events() is 'Takes the events whose id is taken out of the queue, and settles each.';

CREATE OR REPLACE FUNCTION app_private.shipped_bytes(payload text, seq bigint)
 RETURNS bytea
 LANGUAGE sql
 STABLE PARALLEL SAFE
RETURN OVERLAY(convert_to(payload, 'UTF8'::name) PLACING convert_to((', "seq": '::text || (seq)::text), 'UTF8'::name) FROM GREATEST(POSITION(('\x2c20226c6576656c223a20'::bytea) IN (convert_to(payload, 'UTF8'::name))), 1) FOR 0);
comment on function app_private.shipped_bytes(text,bigint) is 'shipped_message() in UTF-8.';
grant execute on function app_private.shipped_bytes(text,bigint) to halyard_admin;
grant execute on function app_private.shipped_bytes(text,bigint) to halyard_auditor;

CREATE OR REPLACE FUNCTION app_private.shipped_message(payload text, seq bigint)
 RETURNS text
 LANGUAGE sql
 STABLE PARALLEL SAFE
RETURN convert_from(app_private.shipped_bytes(payload, seq), 'UTF8'::name);
comment on function app_private.shipped_message(text,bigint) is 'The message that destinations get: an event''s payload with its seq put in.';
grant execute on function app_private.shipped_message(text,bigint) to halyard_admin;
grant execute on function app_private.shipped_message(text,bigint) to halyard_auditor;

CREATE OR REPLACE FUNCTION app_private.source_of(schedule_id uuid, at timestamp with time zone, plan_id uuid, occurrence_no integer, step_no integer)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
RETURN CASE WHEN (plan_id IS NULL) THEN jsonb_build_object('schedule_id', schedule_id, 'at', app_private.iso(at)) ELSE jsonb_build_object('schedule_id', schedule_id, 'at', app_private.iso(at), 'plan_id', plan_id, 'occurrence_no', occurrence_no, 'step_no', step_no) END;
comment on function app_private.source_of(uuid,timestamp with time zone,uuid,integer,integer) is 'What decides a field, in `sources`: the schedule and its time, and the point of its plan.';

CREATE OR REPLACE FUNCTION app_private.stale_detail(event audit.events, revision bigint)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select jsonb_build_object(
    'revision', stale_detail.revision,
    'changedAt', case when (event).revision = stale_detail.revision then app_private.iso((event).occurred_at) end,
    'changedBy',
    case when (event).revision = stale_detail.revision then coalesce((event).admin_email, (event).admin_user_id) end)::text
$function$;
comment on function app_private.stale_detail(audit.events,bigint) is 'What stale_text() says, as JSON for the client: the row''s revision, when it came to be, and the admin who made it, as far as they are known.';
grant execute on function app_private.stale_detail(audit.events,bigint) to halyard_admin;

CREATE OR REPLACE FUNCTION app_private.stale_text(event audit.events, change text, revision bigint)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.stale_text(audit.events,text,bigint) is 'The sentence that refuses a change made against another revision than the row''s: with the row''s last event, if it is that of its revision, and with what it changed.';
grant execute on function app_private.stale_text(audit.events,text,bigint) to halyard_admin;

CREATE OR REPLACE FUNCTION app_private.stamp_stop(before app_public.environments, after app_public.environments)
 RETURNS app_public.environments
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.stamp_stop(app_public.environments,app_public.environments) is 'The environment after a change, with when and by whom it was stopped, and with nothing of the stop changed but its begin and its end.';

CREATE OR REPLACE FUNCTION app_private.stop_details(before app_public.environments, after app_public.environments)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
RETURN CASE app_private.environment_change(before, after) WHEN 'environment.stopped'::text THEN jsonb_build_object('reason', (after).stop_reason) WHEN 'environment.resumed'::text THEN (COALESCE(jsonb_strip_nulls((after).last_resume), '{}'::jsonb) - '{at,by}'::text[]) ELSE '{}'::jsonb END;
comment on function app_private.stop_details(app_public.environments,app_public.environments) is 'What the event of a stop''s begin or end says besides before and after: its reason, and what was done with the changes that came due meanwhile.';

CREATE OR REPLACE FUNCTION app_private.stop_environment(name text, reason text)
 RETURNS app_public.environments
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.stop_environment(text,text) is 'Stops an environment, without asking for a token: from the moment that this is committed no schedule changes its flags, until it is resumed. Raises ZF023 where it is stopped already.';

CREATE OR REPLACE FUNCTION app_private.stop_text(environment app_public.environments)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.stop_text(app_public.environments) is 'Whether an environment is stopped, since when, by whom and why, as a sentence.';

CREATE OR REPLACE FUNCTION app_private.stopped_schedules(schedule_ids uuid[])
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.stopped_schedules(uuid[]) is 'Of these schedules those that a stop keeps from being applied, by id: its environment, or null for one whose plan has another change in a stopped environment.';

CREATE OR REPLACE FUNCTION app_private.substitute_event(event app_private.audit_event, id uuid DEFAULT NULL::uuid)
 RETURNS app_private.audit_event
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  event.metadata := event.metadata || jsonb_build_object('repeatedId', event.id);
  event.id := coalesce(substitute_event.id, app_private.substitute_id(event.id, event.occurred_at));
  event.reconciled := true;
  return event;
end;
$function$;
comment on function app_private.substitute_event(app_private.audit_event,uuid) is 'The event under an id of its own, when its id is taken: this one, or substitute_id().';

CREATE OR REPLACE FUNCTION app_private.substitute_id(event_id uuid, occurred_at timestamp with time zone)
 RETURNS uuid
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
RETURN app_private.uuid_of(sha256((uuid_send(event_id) || timestamptz_send(occurred_at))));
comment on function app_private.substitute_id(uuid,timestamp with time zone) is 'The id under which an event of this time is written whose own id is taken.';

CREATE OR REPLACE FUNCTION app_private.suspend_conflicts(schedule_ids uuid[])
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.suspend_conflicts(uuid[]) is 'Suspends all of these schedules when one of them has the guard suspend and its flag isn''t as it expects; returns whether it did.';

CREATE OR REPLACE FUNCTION app_private.suspend_for_stop(stopped jsonb)
 RETURNS void
 LANGUAGE sql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  update app_public.feature_flag_schedules s
  set status = 'suspended', suspended_for = 'stop', suspended_details = nullif(stopped -> s.id::text, 'null')
  where s.id in (select d.id::uuid from jsonb_object_keys(stopped) as d (id))
$function$;
comment on function app_private.suspend_for_stop(jsonb) is 'Suspends pending schedules, given what stopped_schedules() says of them.';

CREATE OR REPLACE FUNCTION app_private.take_lease(name text, holder text, lease_ms integer)
 RETURNS bigint
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_token bigint;
begin
  if name is null or length(name) > 1000 or name !~ '^(reconcile|forward[.].+)$' then
    raise exception 'There is no lease %: a lease is reconcile, or forward. and a destination.', left(name, 100)
      using errcode = 'invalid_parameter_value';
  end if;
  perform set_config('synchronous_commit', 'off', true);
  insert into app_private.leases as l (name, holder, token, expires_at)
  values (
    take_lease.name, left(take_lease.holder, 200),
    (extract(epoch from clock_timestamp()) * 1000000)::bigint, app_private.lease_end(lease_ms))
  on conflict on constraint leases_pkey do update
  set holder = excluded.holder, token = greatest(l.token + 1, excluded.token), expires_at = excluded.expires_at, progress = null
  -- No lease is as long as that: the server's clock was set back, and the holder may be gone.
  where l.expires_at <= clock_timestamp() or l.expires_at > clock_timestamp() + interval '10 minutes'
  returning l.token into v_token;
  return v_token;
end;
$function$;
comment on function app_private.take_lease(text,text,integer) is 'Takes the lease of this name for so many milliseconds, and returns its token; null while another holder has it.';
grant execute on function app_private.take_lease(text,text,integer) to halyard_worker;

CREATE OR REPLACE FUNCTION app_private.take_lock(name text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  perform from app_private.locks l where l.name = take_lock.name for update;
  if not found then
    -- Somebody deleted it. Of two that insert it one waits for the other.
    insert into app_private.locks (name) values (take_lock.name) on conflict on constraint locks_pkey do nothing;
    perform from app_private.locks l where l.name = take_lock.name for update;
  end if;
end;
$function$;
comment on function app_private.take_lock(text) is 'Waits for a lock, and holds it until the transaction ends.';

CREATE OR REPLACE FUNCTION app_private.tg__reject_write()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  raise exception '% of %.% is refused: it is append-only.', tg_op, tg_table_schema, tg_table_name using errcode = 'ZF009';
end;
$function$;
comment on function app_private.tg__reject_write() is 'Refuses a statement on a table that is append-only, of every login: raises ZF009.';

CREATE OR REPLACE FUNCTION app_private.tg_cursors__audit()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if tg_op = 'DELETE' then
    perform app_private.record_event(
      'audit.destination_forgotten', tg_op, jsonb_build_object('destination', old.destination, 'lastSeq', old.last_seq));
  else
    perform app_private.record_event('audit.cursor_moved', tg_op, jsonb_strip_nulls(jsonb_build_object(
      'destination', new.destination, 'renamedFrom', nullif(old.destination, new.destination),
      'before', coalesce(old.last_seq, 0), 'after', new.last_seq)));
  end if;
  return null;
end;
$function$;
comment on function app_private.tg_cursors__audit() is 'Writes audit.cursor_moved for a cursor that jumps, and audit.destination_forgotten for one that is deleted.';

CREATE OR REPLACE FUNCTION app_private.tg_environments__audit()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
AS $function$
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
$function$;
comment on function app_private.tg_environments__audit() is 'Writes one event for each environment that a statement created, stopped, resumed or deleted, or changed past the stamp.';

CREATE OR REPLACE FUNCTION app_private.tg_environments__stamp()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.tg_environments__stamp() is 'Stamps created_at, created_by, the stop and revision, and refuses any other change of an environment.';

CREATE OR REPLACE FUNCTION app_private.tg_feature_flag_schedules__audit()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
AS $function$
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
$function$;
comment on function app_private.tg_feature_flag_schedules__audit() is 'Writes one event for each schedule that a statement created, cancelled, applied, failed, rescheduled, retried, suspended, resumed, skipped or deleted.';

CREATE OR REPLACE FUNCTION app_private.tg_feature_flag_schedules__state()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.tg_feature_flag_schedules__state() is 'The state machine: raises ZF004 for a transition that isn''t allowed, ZF010 for a change of what is fixed; stamps applied_at, requested_by and revision, and clears what belongs to a suspension that is over.';

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
comment on function app_private.tg_feature_flag_schedules__track() is 'Stamps created_by and cancelled_by with the user of a request of the API, null for any other session, and cancelled_at; what a client sends for them is ignored.';

CREATE OR REPLACE FUNCTION app_private.tg_feature_flags__audit()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
AS $function$
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
$function$;
comment on function app_private.tg_feature_flags__audit() is 'Writes one event for each flag that a statement created, changed or deleted.';

CREATE OR REPLACE FUNCTION app_private.tg_feature_flags__delete_schedules()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  perform app_private.pause_plans_of(old);
  delete from app_public.feature_flag_schedules s where s.flag_id = old.id;
  return old;
end;
$function$;
comment on function app_private.tg_feature_flags__delete_schedules() is 'Pauses the plans that change a flag, and deletes its schedules while their flag still stands, so that the trail can name it.';

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
$function$;
comment on function app_private.tg_feature_flags__stamp() is 'Stamps created_at, updated_at and revision, and keeps a flag''s identity fixed. Raises ZF017 for a change that was made against another revision.';

CREATE OR REPLACE FUNCTION app_private.tg_plans__audit()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
AS $function$
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
$function$;
comment on function app_private.tg_plans__audit() is 'Writes one event for each plan that a statement created, edited, paused, resumed, completed, cancelled or deleted.';

CREATE OR REPLACE FUNCTION app_private.tg_plans__state()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.tg_plans__state() is 'The state machine of plans: raises ZF028 for a content or a title that can''t be, ZF001 for a flag that isn''t there, ZF010 for a change of what is fixed, ZF019 for a transition that isn''t allowed; stamps the flags, the environments, who and when, and the revision.';

CREATE OR REPLACE FUNCTION app_private.tg_settings__audit()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
AS $function$
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
$function$;
comment on function app_private.tg_settings__audit() is 'Writes the event setting.changed.';

CREATE OR REPLACE FUNCTION app_private.tg_settings__stamp()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.tg_settings__stamp() is 'Refuses values that are not valid, and stamps revision and updated_at.';

CREATE OR REPLACE FUNCTION app_private.trail_metrics()
 RETURNS TABLE(metric text, destination text, value double precision)
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.trail_metrics() is 'Events that are neither numbered nor sealed yet, and where the ledger and the seals end; counts stop at 10,000.';

CREATE OR REPLACE FUNCTION app_private.trail_problems(from_seq bigint, to_seq bigint)
 RETURNS TABLE(seal_no bigint, first_seq bigint, last_seq bigint, status text, seqs bigint[], detail text)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_seal audit.seals;
  v_previous audit.seals;
  v_horizon timestamptz;
  v_purged_to bigint;
  v_problem text;
begin
  select max(p.before), max(p.last_seq) into v_horizon, v_purged_to from app_private.purges() as p;
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
      from app_private.seal_problems(v_seal, v_horizon, v_purged_to) as p;
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
$function$;
comment on function app_private.trail_problems(bigint,bigint) is 'What audit.verify() answers, of one state of the database.';

CREATE OR REPLACE FUNCTION app_private.trigger_problems()
 RETURNS TABLE(status text, table_name text, detail text)
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.trigger_problems() is 'Triggers that the trail hangs on and that are missing, disabled or altered, those and rules that aren''t Halyard''s, and tables whose row-level security is off.';

CREATE OR REPLACE FUNCTION app_private.trim_reason(reason text)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
RETURN NULLIF(btrim(reason, ((((((((((((((((((((((((' '::text || chr(9)) || chr(10)) || chr(11)) || chr(12)) || chr(13)) || chr(160)) || chr(5760)) || chr(8192)) || chr(8193)) || chr(8194)) || chr(8195)) || chr(8196)) || chr(8197)) || chr(8198)) || chr(8199)) || chr(8200)) || chr(8201)) || chr(8202)) || chr(8232)) || chr(8233)) || chr(8239)) || chr(8287)) || chr(12288)) || chr(65279))), ''::text);
comment on function app_private.trim_reason(text) is 'A reason without the blanks round it; null when nothing is left.';
grant execute on function app_private.trim_reason(text) to halyard_admin;

CREATE OR REPLACE FUNCTION app_private.try_lock(name text)
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  perform from app_private.locks l where l.name = try_lock.name for update skip locked;
  if not found then
    if exists (select from app_private.locks l where l.name = try_lock.name) then
      return false;
    end if;
    perform app_private.take_lock(name);
  end if;
  return true;
end;
$function$;
comment on function app_private.try_lock(text) is 'Takes a lock until the transaction ends, if no other transaction holds it; whether it did.';

CREATE OR REPLACE FUNCTION app_private.try_lock_plan(plan_id uuid)
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  perform from app_public.plans p where p.id = try_lock_plan.plan_id for update skip locked;
  return found;
end;
$function$;
comment on function app_private.try_lock_plan(uuid) is 'Locks a plan, unless another session has it locked; returns whether it is locked now.';

CREATE OR REPLACE FUNCTION app_private.try_point(schedule_ids uuid[], deadline timestamp with time zone)
 RETURNS text
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.try_point(uuid[],timestamp with time zone) is 'Applies all changes of a plan''s point, or one guarded schedule. Says what became of all of them: applied, suspended, pending (tried again later), failed for good, stuck (not even marked), or untried, because the deadline had passed.';

CREATE OR REPLACE FUNCTION app_private.turn_of(schedule app_public.feature_flag_schedules, at timestamp with time zone)
 RETURNS TABLE(turn_at timestamp with time zone, last_at timestamp with time zone, last_id uuid)
 LANGUAGE sql
 STABLE
BEGIN ATOMIC
 SELECT GREATEST((turn_of.schedule).scheduled_at, (turn_of.schedule).next_attempt_at, turn_of.at) AS "greatest",
         CASE
             WHEN w.comes_late THEN GREATEST((turn_of.schedule).next_attempt_at, turn_of.at)
             ELSE (turn_of.schedule).scheduled_at
         END AS scheduled_at,
         CASE
             WHEN w.comes_late THEN '00000000-0000-0000-0000-000000000000'::uuid
             ELSE (turn_of.schedule).id
         END AS id
    FROM ( SELECT (((turn_of.schedule).next_attempt_at > turn_of.at) OR COALESCE(((turn_of.schedule).suspended_for = 'conflict'::text), false)) AS "?column?") w(comes_late);
END;
comment on function app_private.turn_of(app_public.feature_flag_schedules,timestamp with time zone) is 'When a schedule that waits comes to its turn, seen from `at`, and up to which (scheduled_at, id) its flag''s schedules are applied by then.';

CREATE OR REPLACE FUNCTION app_private.undelivered_audit_events(destination text, batch integer DEFAULT 1000)
 RETURNS TABLE(seq bigint, event_id uuid, occurred_at timestamp with time zone, message text)
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
AS $function$
  with page as (
    select l.seq, l.event_id, l.occurred_at
    from audit.ledger l
    where l.seq > app_private.audit_cursor(undelivered_audit_events.destination)
      and (select app_private.delivery_obstacle(undelivered_audit_events.destination)) is null
    order by l.seq
    limit batch
  )
  select r.seq, r.event_id, r.occurred_at, r.message
  from (
    select
      0 as kind, p.seq, p.event_id, p.occurred_at,
      case
        when e.id is not null then app_private.shipped_message(e.payload, p.seq)
        else app_private.missing_message(p.event_id, p.seq, coalesce(p.occurred_at < (select app_private.purge_horizon()), false))
      end as message
    from page p
    -- In its own month only, as in seal_problems().
    left join lateral (
      select x.id, x.payload from audit.events x where x.id = p.event_id and x.occurred_at = p.occurred_at limit 1
    ) as e on true
    union all
    select 1, s.last_seq, app_private.uuid_of(s.head), s.sealed_at, app_private.seal_message(s)
    from audit.seals s
    where s.last_seq >= (select min(p.seq) from page p) and s.last_seq <= (select max(p.seq) from page p)
  ) as r
  order by r.seq, r.kind
$function$;
comment on function app_private.undelivered_audit_events(text,integer) is 'Up to `batch` events that this destination has not confirmed yet, in order of seq, each seal behind its last event, with the message to ship.';
grant execute on function app_private.undelivered_audit_events(text,integer) to halyard_worker;

CREATE OR REPLACE FUNCTION app_private.unexplained_page(source text, after uuid, batch integer, ids uuid[] DEFAULT NULL::uuid[])
 RETURNS TABLE(row_id uuid, name text, created_at timestamp with time zone, revision bigint, flag_key text, environment text, key text, status text, differs jsonb, detail text)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_custom_plan'
 SET jit TO 'off'
AS $function$
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
$function$;
comment on function app_private.unexplained_page(text,uuid,integer,uuid[]) is 'Of the next `batch` rows of a table behind an id, those that the trail doesn''t explain; and a row that is ok with the last id, when there was a row.';

CREATE OR REPLACE FUNCTION app_private.unexplained_rows(source text, ids uuid[], created timestamp with time zone[], revisions bigint[], keys text[], found jsonb[])
 RETURNS TABLE(row_id uuid, status text, differs jsonb, detail text)
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_nestloop TO 'off'
 SET jit TO 'off'
AS $function$
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
$function$;
comment on function app_private.unexplained_rows(text,uuid[],timestamp with time zone[],bigint[],text[],jsonb[]) is 'Of rows of one table, those that the trail doesn''t explain: row_differs, with the columns, or row_unrecorded.';

CREATE OR REPLACE FUNCTION app_private.unknown_records(tail jsonb)
 RETURNS TABLE(incarnation uuid, seal_no bigint, last_seq bigint, head bytea, event_id uuid, recorded_at timestamp with time zone)
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select s.incarnation, s.seal, s."lastSeq", decode(s.head, 'hex'), null::uuid, s."sealedAt"
  from jsonb_to_recordset(coalesce(tail -> 'seals', '[]'))
    as s (incarnation uuid, seal bigint, "lastSeq" bigint, head text, "sealedAt" timestamptz)
  where not exists (
    select from audit.seals x
    where x.seal_no = s.seal and x.incarnation = s.incarnation and x.head = decode(s.head, 'hex'))
  union all
  select e.incarnation, null, e.seq, null, e."eventId", e.at
  from jsonb_to_recordset(coalesce(tail -> 'events', '[]'))
    as e (incarnation uuid, seq bigint, "eventId" uuid, leaf text, at timestamptz)
  -- Both histories may have made the same revision of the same row, under one id, with two texts.
  where not exists (
    select from audit.ledger l
    where l.seq = e.seq and l.event_id = e."eventId"
      and (
        l.leaf = coalesce(decode(e.leaf, 'hex'), l.leaf)
        -- Sent as it is here, but changed since it was numbered: that is for verification to say, and no other history.
        or decode(e.leaf, 'hex') = (
          select app_private.event_leaf(x.payload, l.seq)
          from audit.events x
          where x.id = l.event_id and x.occurred_at = l.occurred_at limit 1)))
$function$;
comment on function app_private.unknown_records(jsonb) is 'The seals and events among the end of what a destination holds (its keys are those of Tail in src/audit/delivery/tail.ts) that the database lacks.';

CREATE OR REPLACE FUNCTION app_private.unless_taken(event app_private.audit_event)
 RETURNS app_private.audit_event
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select case
    when exists (select from audit.ledger l where l.event_id = event.id and l.occurred_at <> event.occurred_at)
      or exists (select from audit.events e where e.id = event.id and e.occurred_at <> event.occurred_at)
    then app_private.substitute_event(event)
    else event
  end
$function$;
comment on function app_private.unless_taken(app_private.audit_event) is 'The event, under an id of its own when the trail has another event with its id.';

CREATE OR REPLACE FUNCTION app_private.unmet_expectations(schedule app_public.feature_flag_schedules, flag app_public.feature_flags)
 RETURNS TABLE(field text, expected jsonb, found jsonb)
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select e.key, e.value, app_private.flag_values(flag) -> e.key
  from jsonb_each((schedule).expects) as e
  where app_private.flag_values(flag) -> e.key is distinct from e.value
    and not exists (
      select
      from app_public.feature_flag_schedules l
      where l.flag_id = (schedule).flag_id and l.status = 'applied'
        and (l.scheduled_at, l.id) > ((schedule).scheduled_at, (schedule).id)
        and l.updates ? e.key and (l.kept is null or e.key <> all (l.kept)))
$function$;
comment on function app_private.unmet_expectations(app_public.feature_flag_schedules,app_public.feature_flags) is 'The fields in which a flag isn''t as its schedule expects, with what is expected and what is found.';

CREATE OR REPLACE FUNCTION app_private.unsealed_events()
 RETURNS TABLE(id uuid, occurred_at timestamp with time zone)
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  with unmatched as materialized (
    select e.id, e.occurred_at, e.payload, app_private.payload_event_id(e.payload) as payload_event_id
    from audit.events e
    where not exists (select from audit.ledger l where l.event_id = e.id and l.occurred_at = e.occurred_at)
      and not exists (select from audit.queue q where q.event_id = e.id)
  ), orphans as materialized (
    select l.seq, l.leaf, l.event_id, l.occurred_at
    from audit.ledger l
    where (select count(*) from unmatched) between 1 and 1000
      and not exists (select from audit.events e where e.id = l.event_id and e.occurred_at = l.occurred_at)
  ), candidates as (
    select s.id, s.occurred_at, s.payload, l.seq, l.leaf, l.event_id, l.occurred_at as sealed_at
    from unmatched s
    join audit.ledger l on l.event_id = s.id
    union all
    select s.id, s.occurred_at, s.payload, l.seq, l.leaf, l.event_id, l.occurred_at
    from unmatched s
    join audit.ledger l on l.event_id = s.payload_event_id
    union all
    select s.id, s.occurred_at, s.payload, o.seq, o.leaf, o.event_id, o.occurred_at
    from unmatched s
    join orphans o on o.occurred_at = s.occurred_at and s.payload_event_id = s.id
  )
  select s.id, s.occurred_at
  from unmatched s
  where (s.id, s.occurred_at) not in (
    select c.id, c.occurred_at
    from candidates c
    where c.leaf = app_private.event_leaf(c.payload, c.seq)
      and not exists (select from audit.events e where e.id = c.event_id and e.occurred_at = c.sealed_at))
    and not app_private.is_substituted(s.id, s.occurred_at)
$function$;
comment on function app_private.unsealed_events() is 'Events that are neither sealed nor queued for it.';

CREATE OR REPLACE FUNCTION app_private.unsealed_problems()
 RETURNS TABLE(status text, seqs bigint[], detail text)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
      format('%s events are neither sealed nor queued for it: they were inserted past the triggers, or their rows in the ledger are gone: %s',
        count(*),
        array_to_string((array_agg(e.id order by e.occurred_at))[1:5], ', ') || case when count(*) > 5 then ', …' else '' end)
    from app_private.unsealed_events() as e
    having count(*) > 0;
  return query
    select 'chain_broken', null::bigint[], format('Incarnation %s began without an audit.restored event.', i.incarnation_no)
    from audit.incarnations i
    where i.incarnation_no > 1
      and i.started_at >= coalesce(app_private.purge_horizon(), '-infinity')
      and not exists (
        select from audit.events e where e.event_type = 'audit.restored' and e.metadata ->> 'incarnation' = i.id::text)
    order by i.incarnation_no;
  return query
    select 'event_missing', null::bigint[],
      format('%s events are gone that the purges should have taken, but these took %s.', g.count, p.events)
    from (select max(p.before) as before, max(p.last_seq) as last_seq, max(p.events) as events from app_private.purges() as p) as p
    cross join lateral (
      select count(*)
      from audit.ledger l
      where l.occurred_at < p.before and l.seq <= p.last_seq
        and not exists (select from audit.events e where e.id = l.event_id and e.occurred_at = l.occurred_at)
    ) as g (count)
    where g.count > p.events;
end;
$function$;
comment on function app_private.unsealed_problems() is 'Events that no seal covers, numbers behind the last seal, destinations that know more than it, and incarnations without their event.';

CREATE OR REPLACE FUNCTION app_private.unwritten_event(event audit.events)
 RETURNS app_private.audit_event
 LANGUAGE sql
 IMMUTABLE
RETURN ROW((event).id, (event).occurred_at, (event).event_type, (event).level, (event).flag_id, (event).flag_key, (event).environment, (event).schedule_id, (event).revision, (event).actor_kind, (event).admin_user_id, (event).admin_email, (event).request_id, (event).client_request_id, (event).database_user, (event).application_name, (event).reconciled, (event).metadata, NULL::text)::app_private.audit_event;
comment on function app_private.unwritten_event(audit.events) is 'An event of the trail as it was before its text was rendered.';

CREATE OR REPLACE FUNCTION app_private.updates_problem(updates jsonb)
 RETURNS text
 LANGUAGE plpgsql
 IMMUTABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.updates_problem(jsonb) is 'Why these updates can''t be scheduled, as a sentence; null when they can. Immutable, because the schedules'' CHECK calls it.';
grant execute on function app_private.updates_problem(jsonb) to halyard_admin;

CREATE OR REPLACE FUNCTION app_private.uuid_of(hash bytea)
 RETURNS uuid
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
RETURN (encode(set_byte(set_byte(substr(hash, 1, 16), 6, ((get_byte(hash, 6) & 15) | 128)), 8, ((get_byte(hash, 8) & 63) | 128)), 'hex'::text))::uuid;
comment on function app_private.uuid_of(bytea) is 'The first 16 bytes of a hash as a version 8 UUID.';

CREATE OR REPLACE FUNCTION app_private.vanished_environments()
 RETURNS TABLE(name text)
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.vanished_environments() is 'Environments whose row is gone though the trail doesn''t say that they were deleted.';

CREATE OR REPLACE FUNCTION app_private.vanished_plans()
 RETURNS TABLE(plan_id text, event_id uuid, occurred_at timestamp with time zone)
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.vanished_plans() is 'Plans whose row is gone though the trail doesn''t say that they were deleted, each with its last event.';

CREATE OR REPLACE FUNCTION app_private.vanished_row_problems(after text, batch integer)
 RETURNS TABLE(source_table text, row_id text, flag_key text, environment text, status text, differs jsonb, detail text, last_key text)
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET jit TO 'off'
AS $function$
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
$function$;
comment on function app_private.vanished_row_problems(text,integer) is 'Of the next `batch` events by flag key behind one, the rows that they are about and that are gone without an event; and a row that is ok with the last key, when there was an event.';

CREATE OR REPLACE FUNCTION app_private.vanished_rows(after text, batch integer)
 RETURNS TABLE(row_id uuid, event_id uuid, occurred_at timestamp with time zone, last_key text)
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET jit TO 'off'
AS $function$
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
$function$;
comment on function app_private.vanished_rows(text,integer) is 'The flags and schedules that are gone without an event, among the keys of the next `batch` events by flag key, each with its last event; and a row with the last key seen, when there was an event.';

CREATE OR REPLACE FUNCTION app_private.waiting_work(destination text)
 RETURNS TABLE(work text, item text, due_at timestamp with time zone)
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  foreach work in array '{applying,numbering,forwarding}'::text[] loop
    begin
      return query select waiting_work.work, n.item, n.due_at from app_private.next_work(work, destination) as n;
    exception when others then
      -- Somebody has locked its table, or it is broken.
      item := 'unreadable';
      due_at := null;
      return next;
    end;
  end loop;
end;
$function$;
comment on function app_private.waiting_work(text) is 'What comes next in applying, numbering and forwarding to this destination, a row for each that has something to do; unreadable where that can''t be read.';
grant execute on function app_private.waiting_work(text) to halyard_worker;

CREATE OR REPLACE FUNCTION app_private.write_dead_letter(what jsonb, error_code text, error_message text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.write_dead_letter(jsonb,text,text) is 'Keeps what could not be written to the trail. Raises ZF011 when the audit mode is strict, and an error of class 53 when the server lacks the resources for the event or the dead letter, and neither can be written.';

CREATE OR REPLACE FUNCTION app_private.write_events(events app_private.audit_event[])
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
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
$function$;
comment on function app_private.write_events(app_private.audit_event[]) is 'Appends events to the trail and to the sequencer''s queue.';

CREATE OR REPLACE FUNCTION app_private.write_lost_events(events app_private.audit_event[])
 RETURNS integer
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.write_lost_events(app_private.audit_event[]) is 'Writes *.reconciled and audit.gap events, and warns of those that the trail refuses; returns how many were written.';

CREATE OR REPLACE FUNCTION app_private.write_reconciled_events(events app_private.audit_event[])
 RETURNS integer
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_private.write_reconciled_events(app_private.audit_event[]) is 'Writes those of the events that the trail hasn''t got, marked as reconciled; returns how many.';

CREATE OR REPLACE FUNCTION app_private.write_seal(previous audit.seals, first_seq bigint, leaves bytea[])
 RETURNS void
 LANGUAGE sql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  insert into audit.seals (seal_no, trail, incarnation, first_seq, last_seq, root, previous_head, head)
  select
    n.seal_no, i.trail, i.id, write_seal.first_seq, write_seal.first_seq + cardinality(leaves) - 1, n.root, n.previous_head,
    app_private.seal_head(n.previous_head, i.trail, i.id, n.seal_no, write_seal.first_seq, cardinality(leaves), n.root)
  from (select x.trail, x.id from audit.incarnations x order by x.incarnation_no desc limit 1) as i
  cross join (
    -- Without any seal before it, the chain begins again; verification says so.
    select
      coalesce((previous).seal_no, 0) + 1,
      coalesce((previous).head, sha256('')),
      app_private.merkle_root(leaves)
  ) as n (seal_no, previous_head, root)
$function$;
comment on function app_private.write_seal(audit.seals,bigint,bytea[]) is 'Appends the seal over these leaves, chained to the one before it.';

CREATE OR REPLACE FUNCTION app_public.cancel_flag_schedule(id uuid, reason text DEFAULT NULL::text)
 RETURNS app_public.feature_flag_schedules
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_public.cancel_flag_schedule(uuid,text) is 'Cancels a pending or suspended schedule and records who did it; `reason` is free text of up to 500 characters.';
grant execute on function app_public.cancel_flag_schedule(uuid,text) to halyard_admin;

CREATE OR REPLACE FUNCTION app_public.cancel_plan(id uuid, reason text DEFAULT NULL::text)
 RETURNS app_public.plans
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_public.cancel_plan(uuid,text) is 'Cancels a plan that hasn''t ended. `reason` is free text of up to 500 characters.';
grant execute on function app_public.cancel_plan(uuid,text) to halyard_admin;

CREATE OR REPLACE FUNCTION app_public.change_flags(changes jsonb, reason text DEFAULT NULL::text)
 RETURNS app_public.change_result
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_public.change_flags(jsonb,text) is 'Makes changes of several flags in this transaction, all or nothing, also in a stopped environment. `reason` is free text of up to 500 characters.';
grant execute on function app_public.change_flags(jsonb,text) to halyard_admin;

CREATE OR REPLACE FUNCTION app_public.changes_per_day(environment text, "from" timestamp with time zone, "to" timestamp with time zone, zone text DEFAULT 'UTC'::text)
 RETURNS TABLE(day text, changes integer, failed integer, pending integer)
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_custom_plan'
AS $function$
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
$function$;
comment on function app_public.changes_per_day(text,timestamp with time zone,timestamp with time zone,text) is '@behavior -*
For each day of the zone from `from` until before `to`, at most 400 days: how many changes of state an environment''s flags had, and how many schedules for it have failed or are pending.';
grant execute on function app_public.changes_per_day(text,timestamp with time zone,timestamp with time zone,text) to halyard_admin;
grant execute on function app_public.changes_per_day(text,timestamp with time zone,timestamp with time zone,text) to halyard_auditor;
grant execute on function app_public.changes_per_day(text,timestamp with time zone,timestamp with time zone,text) to halyard_viewer;

CREATE OR REPLACE FUNCTION app_public.create_environment(name text)
 RETURNS app_public.environments
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_public.create_environment(text) is 'Creates an environment: flags can be created in it from then on. For admins whose token isn''t limited to environments.';
grant execute on function app_public.create_environment(text) to halyard_admin;

CREATE OR REPLACE FUNCTION app_public.create_plan(title text, steps jsonb, starts_at timestamp with time zone DEFAULT NULL::timestamp with time zone, reason text DEFAULT NULL::text)
 RETURNS app_public.plans
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_content jsonb;
begin
  perform app_private.require_admin();
  perform app_private.require_title(create_plan.title);
  v_content := app_private.plan_content(create_plan.steps, create_plan.starts_at);
  perform app_private.require_room_for_pending(app_private.plan_flag_ids(v_content));
  return app_private.insert_plan(create_plan.title, v_content, create_plan.reason);
end;
$function$;
comment on function app_public.create_plan(text,jsonb,timestamp with time zone,text) is 'Makes a plan: changes of several flags that are made at one instant, all or nothing. Without `starts_at` it is due now. `reason` is free text of up to 500 characters.';
grant execute on function app_public.create_plan(text,jsonb,timestamp with time zone,text) to halyard_admin;

CREATE OR REPLACE FUNCTION app_public.dry_run_edit(id uuid, title text DEFAULT NULL::text, steps jsonb DEFAULT NULL::jsonb, starts_at timestamp with time zone DEFAULT NULL::timestamp with time zone, reason text DEFAULT NULL::text)
 RETURNS app_public.dry_run
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  perform app_private.require_admin();
  return app_private.dry_run('edit', jsonb_build_object(
    'id', dry_run_edit.id, 'title', title, 'steps', steps, 'at', dry_run_edit.starts_at, 'reason', dry_run_edit.reason));
end;
$function$;
comment on function app_public.dry_run_edit(uuid,text,jsonb,timestamp with time zone,text) is 'What a plan would do at its time after edit_plan() with these arguments, and without any as it is. Nothing is written.';
grant execute on function app_public.dry_run_edit(uuid,text,jsonb,timestamp with time zone,text) to halyard_admin;

CREATE OR REPLACE FUNCTION app_public.dry_run_plan(title text, steps jsonb, starts_at timestamp with time zone DEFAULT NULL::timestamp with time zone, reason text DEFAULT NULL::text)
 RETURNS app_public.dry_run
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  perform app_private.require_admin();
  return app_private.dry_run(
    'plan', jsonb_build_object('title', title, 'steps', steps, 'at', dry_run_plan.starts_at, 'reason', dry_run_plan.reason));
end;
$function$;
comment on function app_public.dry_run_plan(text,jsonb,timestamp with time zone,text) is 'What a plan would do at its time, as far as that can be foreseen: its changes, its events, and what stands against it. Nothing is written.';
grant execute on function app_public.dry_run_plan(text,jsonb,timestamp with time zone,text) to halyard_admin;

CREATE OR REPLACE FUNCTION app_public.dry_run_resume(environment text, missed text, "except" uuid[] DEFAULT '{}'::uuid[])
 RETURNS app_public.dry_run
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  perform app_private.require_admin();
  perform app_private.require_environment(dry_run_resume.environment);
  return app_private.dry_run(
    'resume', jsonb_build_object('environment', dry_run_resume.environment, 'missed', missed, 'except', to_jsonb(coalesce("except", '{}'))));
end;
$function$;
comment on function app_public.dry_run_resume(text,text,uuid[]) is 'What resume_environment() would do now: the flags that the schedules change that came due meanwhile, what these will find instead of what they expect, and the events of the resume. Nothing is written.';
grant execute on function app_public.dry_run_resume(text,text,uuid[]) to halyard_admin;

CREATE OR REPLACE FUNCTION app_public.dry_run_revert(source jsonb, at timestamp with time zone DEFAULT NULL::timestamp with time zone, on_conflict text DEFAULT 'keep'::text)
 RETURNS app_public.dry_run
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  perform app_private.require_admin();
  if source - 'plan_id' <> '{}' and source - 'schedule_id' <> '{}' and source - '{environment,from,to,flags}'::text[] <> '{}'
    or source is null or source = '{}'
  then
    raise exception 'source must have plan_id, or schedule_id, or environment, from and to.' using errcode = 'invalid_parameter_value';
  end if;
  return app_private.dry_run('revert', source || jsonb_build_object('at', dry_run_revert.at, 'on_conflict', on_conflict));
end;
$function$;
comment on function app_public.dry_run_revert(jsonb,timestamp with time zone,text) is 'What a revert would do, as dry_run_plan() says it of a plan. `source` is {"plan_id"}, {"schedule_id"} or {"environment", "from", "to", "flags"}; nothing is written.';
grant execute on function app_public.dry_run_revert(jsonb,timestamp with time zone,text) to halyard_admin;

CREATE OR REPLACE FUNCTION app_public.edit_plan(id uuid, title text DEFAULT NULL::text, steps jsonb DEFAULT NULL::jsonb, starts_at timestamp with time zone DEFAULT NULL::timestamp with time zone, reason text DEFAULT NULL::text)
 RETURNS app_public.plans
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_public.edit_plan(uuid,text,jsonb,timestamp with time zone,text) is 'Changes a plan that isn''t applied yet, and makes a paused one active again; an argument that is null leaves its part as it is.';
grant execute on function app_public.edit_plan(uuid,text,jsonb,timestamp with time zone,text) to halyard_admin;

CREATE OR REPLACE FUNCTION app_public.flag_changes(environment text, "from" timestamp with time zone, "to" timestamp with time zone, of_flag text DEFAULT NULL::text, first integer DEFAULT 1000)
 RETURNS TABLE(at timestamp with time zone, flag_key text, enabled boolean, rollout_percentage integer, was_enabled boolean, was_rollout_percentage integer, schedule_id uuid, deleted boolean)
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_custom_plan'
AS $function$
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
$function$;
comment on function app_public.flag_changes(text,timestamp with time zone,timestamp with time zone,text,integer) is '@behavior -*
The changes of state of an environment''s flags from `from` until before `to`, from the trail, oldest first, the first `first` (10,000 at most), of one flag where `of_flag` is given. Who made them and why, admins and auditors find in the trail.';
grant execute on function app_public.flag_changes(text,timestamp with time zone,timestamp with time zone,text,integer) to halyard_admin;
grant execute on function app_public.flag_changes(text,timestamp with time zone,timestamp with time zone,text,integer) to halyard_auditor;
grant execute on function app_public.flag_changes(text,timestamp with time zone,timestamp with time zone,text,integer) to halyard_viewer;

CREATE OR REPLACE FUNCTION app_public.flag_state_at(environment text, at timestamp with time zone)
 RETURNS TABLE(flag_key text, enabled boolean, rollout_percentage integer, certain boolean, sources jsonb, flag_id uuid)
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_public.flag_state_at(text,timestamp with time zone) is '@behavior -*
The state of each flag of an environment at `at`, by key, at most 10,000: what the trail says of the past, and what the pending schedules will make of the future. `certain` is false where a schedule of the flag is overdue or its environment is stopped, and where what a guard will find isn''t certain. `sources` names what decides: of the past the event, of the future the schedule for each field that one will have changed, and the point of its plan.';
grant execute on function app_public.flag_state_at(text,timestamp with time zone) to halyard_admin;
grant execute on function app_public.flag_state_at(text,timestamp with time zone) to halyard_auditor;
grant execute on function app_public.flag_state_at(text,timestamp with time zone) to halyard_viewer;

CREATE OR REPLACE FUNCTION app_public.last_flag_change(flag_id uuid)
 RETURNS TABLE(at timestamp with time zone, by text, event_type text, schedule_id uuid, reason text)
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER ROWS 1
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_public.last_flag_change(uuid) is '@behavior -*
The last change of a flag that the trail has, with the schedule that made it; who wanted it and why for admins and auditors only.';
grant execute on function app_public.last_flag_change(uuid) to halyard_admin;
grant execute on function app_public.last_flag_change(uuid) to halyard_auditor;
grant execute on function app_public.last_flag_change(uuid) to halyard_viewer;

CREATE OR REPLACE FUNCTION app_public.plan_conflicts(plan_id uuid)
 RETURNS SETOF app_public.change_conflict
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_public.plan_conflicts(uuid) is '@behavior -*
What stands against the open point of a plan, as far as it can be known: where a field will have another value than its change expects, and where another change of the field is for the same instant.';
grant execute on function app_public.plan_conflicts(uuid) to halyard_admin;
grant execute on function app_public.plan_conflicts(uuid) to halyard_auditor;

CREATE OR REPLACE FUNCTION app_public.reschedule_flag_change(id uuid, scheduled_at timestamp with time zone, reason text DEFAULT NULL::text)
 RETURNS app_public.feature_flag_schedules
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_public.reschedule_flag_change(uuid,timestamp with time zone,text) is 'Moves a pending schedule to another time in the future. `reason` is free text of up to 500 characters; without one the schedule keeps its own.';
grant execute on function app_public.reschedule_flag_change(uuid,timestamp with time zone,text) to halyard_admin;

CREATE OR REPLACE FUNCTION app_public.resume_environment(name text, missed text, reason text, "except" uuid[] DEFAULT '{}'::uuid[])
 RETURNS app_public.environments
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  perform app_private.require_admin();
  perform app_private.require_environment(resume_environment.name);
  return app_private.resume_environment(resume_environment.name, missed, resume_environment.reason, "except");
end;
$function$;
comment on function app_public.resume_environment(text,text,text,uuid[]) is 'Ends the stop of an environment. What came due meanwhile is applied or skipped, as `missed` says (apply or skip), but for the schedules in `except`, with which the other is done. `reason` is free text of 1 to 500 characters.';
grant execute on function app_public.resume_environment(text,text,text,uuid[]) to halyard_admin;

CREATE OR REPLACE FUNCTION app_public.resume_schedule(id uuid, reason text)
 RETURNS app_public.feature_flag_schedules
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_public.resume_schedule(uuid,text) is 'Makes a suspended schedule pending again, and of a plan''s schedule all of its point. One that was suspended for a conflict is due now and sets its fields, with all that it finds; one that a stop suspended keeps its time. `reason` is free text of 1 to 500 characters.';
grant execute on function app_public.resume_schedule(uuid,text) to halyard_admin;

CREATE OR REPLACE FUNCTION app_public.retry_flag_schedule(id uuid, reason text DEFAULT NULL::text)
 RETURNS app_public.feature_flag_schedules
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_public.retry_flag_schedule(uuid,text) is 'Makes a failed schedule due again, now, with all its attempts. `reason` is free text of up to 500 characters; without one the schedule keeps its own.';
grant execute on function app_public.retry_flag_schedule(uuid,text) to halyard_admin;

CREATE OR REPLACE FUNCTION app_public.retry_plan(id uuid, reason text DEFAULT NULL::text)
 RETURNS app_public.plans
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_public.retry_plan(uuid,text) is 'Makes a paused plan''s changes, which failed, due again, now, with all their attempts. `reason` is free text of up to 500 characters; without one the plan keeps its own.';
grant execute on function app_public.retry_plan(uuid,text) to halyard_admin;

CREATE OR REPLACE FUNCTION app_public.revert_plan(id uuid, at timestamp with time zone DEFAULT NULL::timestamp with time zone, on_conflict text DEFAULT 'keep'::text, reason text DEFAULT NULL::text)
 RETURNS app_public.plans
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  perform app_private.require_admin();
  return app_private.apply_unless_timed(app_private.revert_of_plan(revert_plan.id, at, on_conflict, revert_plan.reason), at);
end;
$function$;
comment on function app_public.revert_plan(uuid,timestamp with time zone,text,text) is 'Makes a plan that takes back what a plan changed; without `at` it is applied in this transaction. `on_conflict` says what happens to fields that were changed since: keep leaves them, overwrite sets them, suspend waits for an admin. `reason` is free text of up to 500 characters.';
grant execute on function app_public.revert_plan(uuid,timestamp with time zone,text,text) to halyard_admin;

CREATE OR REPLACE FUNCTION app_public.revert_schedule(id uuid, at timestamp with time zone DEFAULT NULL::timestamp with time zone, on_conflict text DEFAULT 'keep'::text, reason text DEFAULT NULL::text)
 RETURNS app_public.plans
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  perform app_private.require_admin();
  return app_private.apply_unless_timed(app_private.revert_of_schedule(revert_schedule.id, at, on_conflict, revert_schedule.reason), at);
end;
$function$;
comment on function app_public.revert_schedule(uuid,timestamp with time zone,text,text) is 'Makes a plan that takes back what an applied schedule changed; the other arguments are those of revert_plan().';
grant execute on function app_public.revert_schedule(uuid,timestamp with time zone,text,text) to halyard_admin;

CREATE OR REPLACE FUNCTION app_public.revert_span(environment text, "from" timestamp with time zone, "to" timestamp with time zone, flag_keys text[] DEFAULT NULL::text[], at timestamp with time zone DEFAULT NULL::timestamp with time zone, on_conflict text DEFAULT 'keep'::text, reason text DEFAULT NULL::text)
 RETURNS app_public.plans
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  perform app_private.require_admin();
  return app_private.apply_unless_timed(
    app_private.revert_of_span(revert_span.environment, "from", "to", flag_keys, at, on_conflict, revert_span.reason), at);
end;
$function$;
comment on function app_public.revert_span(text,timestamp with time zone,timestamp with time zone,text[],timestamp with time zone,text,text) is 'Makes a plan that takes back what was changed in an environment from `from` until before `to`, of all flags or of those in `flag_keys`; the other arguments are those of revert_plan().';
grant execute on function app_public.revert_span(text,timestamp with time zone,timestamp with time zone,text[],timestamp with time zone,text,text) to halyard_admin;

CREATE OR REPLACE FUNCTION app_public.schedule_conflicts(schedule_id uuid)
 RETURNS SETOF app_public.change_conflict
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_public.schedule_conflicts(uuid) is '@behavior -*
What stands against a schedule that is pending or suspended, as plan_conflicts() says it of a plan.';
grant execute on function app_public.schedule_conflicts(uuid) to halyard_admin;
grant execute on function app_public.schedule_conflicts(uuid) to halyard_auditor;

CREATE OR REPLACE FUNCTION app_public.schedule_flag_change(flag_key text, environment text, scheduled_at timestamp with time zone, updates jsonb, reason text DEFAULT NULL::text)
 RETURNS app_public.feature_flag_schedules
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function app_public.schedule_flag_change(text,text,timestamp with time zone,jsonb,text) is 'Schedules a change of a flag for a time in the future. `environment` is production unless given; `reason` is free text of up to 500 characters.';
grant execute on function app_public.schedule_flag_change(text,text,timestamp with time zone,jsonb,text) to halyard_admin;

CREATE OR REPLACE FUNCTION app_public.schedules_between(environment text, "from" timestamp with time zone, "to" timestamp with time zone, of_flag text DEFAULT NULL::text, first integer DEFAULT 1000)
 RETURNS TABLE(id uuid, flag_key text, at timestamp with time zone, updates jsonb, status text, applied_at timestamp with time zone, cancelled_at timestamp with time zone, plan_id uuid)
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_custom_plan'
AS $function$
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
$function$;
comment on function app_public.schedules_between(text,timestamp with time zone,timestamp with time zone,text,integer) is '@behavior -*
The schedules of an environment''s flags for times from `from` until before `to`, of every status, by time, the first `first` (10,000 at most), of one flag where `of_flag` is given.';
grant execute on function app_public.schedules_between(text,timestamp with time zone,timestamp with time zone,text,integer) to halyard_admin;
grant execute on function app_public.schedules_between(text,timestamp with time zone,timestamp with time zone,text,integer) to halyard_auditor;
grant execute on function app_public.schedules_between(text,timestamp with time zone,timestamp with time zone,text,integer) to halyard_viewer;

CREATE OR REPLACE FUNCTION app_public.server_time()
 RETURNS timestamp with time zone
 LANGUAGE sql
 STABLE
RETURN clock_timestamp();
comment on function app_public.server_time() is 'The time by the database''s clock, by which schedules are applied.';
grant execute on function app_public.server_time() to halyard_admin;
grant execute on function app_public.server_time() to halyard_auditor;
grant execute on function app_public.server_time() to halyard_viewer;

CREATE OR REPLACE FUNCTION app_public.stop_environment(name text, reason text)
 RETURNS app_public.environments
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  perform app_private.require_admin();
  perform app_private.require_environment(stop_environment.name);
  return app_private.stop_environment(stop_environment.name, stop_environment.reason);
end;
$function$;
comment on function app_public.stop_environment(text,text) is 'Stops an environment: from the moment that this returns no schedule changes its flags, until it is resumed. Changes by admins go on. `reason` is free text of 1 to 500 characters.';
grant execute on function app_public.stop_environment(text,text) to halyard_admin;

CREATE OR REPLACE FUNCTION app_public.upcoming_changes(environment text, "from" timestamp with time zone, "to" timestamp with time zone, first integer DEFAULT 100)
 RETURNS TABLE(at timestamp with time zone, flag_key text, updates jsonb, schedule_id uuid, plan_id uuid, occurrence_no integer, step_no integer, status text, enabled boolean, rollout_percentage integer, certain boolean, in_conflict boolean)
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_custom_plan'
AS $function$
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
$function$;
comment on function app_public.upcoming_changes(text,timestamp with time zone,timestamp with time zone,integer) is '@behavior -*
The changes of an environment''s flags from `from` until before `to`, at most 400 days, in the order in which they come, the first `first` (10,000 at most), with the state that each leaves. An overdue schedule comes now, or with its next attempt; one that is held until a person decides, or is suspended, isn''t there. `certain` is as in flag_state_at(). `in_conflict` is true where a guard will find something else than it expects: what it suspends or keeps is among the updates, and not in the state.';
grant execute on function app_public.upcoming_changes(text,timestamp with time zone,timestamp with time zone,integer) to halyard_admin;
grant execute on function app_public.upcoming_changes(text,timestamp with time zone,timestamp with time zone,integer) to halyard_auditor;
grant execute on function app_public.upcoming_changes(text,timestamp with time zone,timestamp with time zone,integer) to halyard_viewer;

CREATE OR REPLACE FUNCTION audit.forget_destination(name text)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  delete from audit.cursors c where c.destination = name;
  return found;
end;
$function$;
comment on function audit.forget_destination(text) is 'Forgets how far a destination has come that isn''t used any more, so that it no longer keeps the trail from being purged; false when there is none of that name.';

CREATE OR REPLACE FUNCTION audit.last_seq()
 RETURNS bigint
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$ select coalesce(max(l.seq), 0) from audit.ledger l $function$;
comment on function audit.last_seq() is 'The number of the last event in the ledger; 0 when there is none.';
grant execute on function audit.last_seq() to halyard_admin;
grant execute on function audit.last_seq() to halyard_auditor;

CREATE OR REPLACE FUNCTION audit.prove(event_id uuid)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
AS $function$
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
$function$;
comment on function audit.prove(uuid) is 'The proof that an event is in its seal, which `halyard audit verify-proof` checks without a database; message is null when the event was purged. Raises no_data_found when there is no sealed event with this id, and ZF015 for a token with limits.';
grant execute on function audit.prove(uuid) to halyard_admin;
grant execute on function audit.prove(uuid) to halyard_auditor;

CREATE OR REPLACE FUNCTION audit.record_export(format text, filters jsonb, follow boolean DEFAULT false)
 RETURNS uuid
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if session_user <> 'halyard_authenticator' then
    raise exception 'Only the API records exports: this session''s login is %.', session_user
      using errcode = 'insufficient_privilege', hint = 'Read audit.events, or export by the API.';
  end if;
  if coalesce(app_private.claim_role(), 'auditor') not in ('admin', 'auditor') then
    raise exception 'Only an admin or an auditor may do this.' using errcode = 'insufficient_privilege';
  end if;
  -- The trail keeps what it gets: the description of an export must not fill it.
  if format is null or format not in ('json', 'ndjson', 'csv') or follow is null
    or jsonb_typeof(filters) is distinct from 'object' or octet_length(filters::text) > 8000
  then
    raise exception 'An export has the format json, ndjson or csv, and as filters a JSON object of 8,000 bytes at most.'
      using errcode = '23514';
  end if;
  -- There a dead letter can't be written either, and the export would be in the server's log alone.
  if current_setting('transaction_read_only') = 'on' then
    raise exception 'An export is an event of the trail, and this session is read only.'
      using errcode = '25006', hint = 'Export from the primary, in a session that may write.';
  end if;
  return app_private.record_event(
    'audit.exported', 'EXPORT', jsonb_build_object('format', format, 'filters', filters, 'follow', follow));
end;
$function$;
comment on function audit.record_export(text,jsonb,boolean) is 'Writes the audit.exported event of an export that begins: its format (json, ndjson or csv), its filters as they were given, and whether it waits for new events. Returns the event''s id. Raises insufficient_privilege for another login than the API''s.';
grant execute on function audit.record_export(text,jsonb,boolean) to halyard_admin;
grant execute on function audit.record_export(text,jsonb,boolean) to halyard_auditor;

CREATE OR REPLACE FUNCTION audit.retain(keep interval, at_most integer DEFAULT NULL::integer, dry_run boolean DEFAULT false)
 RETURNS TABLE(month date, events bigint, outcome text, reason text)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
 SET lock_timeout TO '200ms'
AS $function$
declare
  v_months record;
  v_reasons text[] := '{}';
  v_counts bigint[] := '{}';
  v_reason text;
  v_good integer := 0;
begin
  -- What was written since the first statement is looked for under a lock (drop_audit_months): only READ COMMITTED sees it.
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'The trail can only be purged in a transaction that is READ COMMITTED.'
      using errcode = 'invalid_transaction_state', hint = 'Begin it so: begin isolation level read committed;';
  end if;
  if keep is null or keep < interval '1 month' or at_most < 1 then
    raise exception 'Keep at least one month of the trail, as in audit.retain(''24 months''), and purge at least one month at a time.'
      using errcode = 'invalid_parameter_value';
  end if;
  -- Before looking at the months: those that the other one drops are locked.
  if not app_private.try_lock('retention') then
    outcome := 'busy';
    reason := 'Another purge is at work.';
    return next;
    return;
  end if;
  select array_agg(m.partition) as partitions, array_agg(m.month) as starts, array_agg(m.ends) as ends into v_months
  from (
    select *
    from app_private.audit_months() m
    -- Not "keep" alone: thirty days pass for a month, and one month back there may be 31.
    where m.ends <= least(now() - keep, now() - interval '1 month')
    limit at_most
  ) as m;
  for i in 1 .. coalesce(cardinality(v_months.partitions), 0) loop
    execute format('select count(*) from %s', v_months.partitions[i]) into events;
    v_counts[i] := events;
    v_reason := case
      when v_good < i - 1 then 'A month before it is kept.'
      else app_private.purge_obstacle(v_months.starts[i], v_months.ends[i])
    end;
    v_reasons[i] := v_reason;
    v_good := v_good + (v_reason is null)::integer;
  end loop;
  v_reason := case when v_good > 0 and not dry_run then
    app_private.drop_audit_months(v_months.partitions[1:v_good], v_months.starts[1:v_good], v_counts[1:v_good]) end;
  for i in 1 .. cardinality(v_counts) loop
    month := v_months.starts[i];
    events := v_counts[i];
    reason := coalesce(v_reasons[i], v_reason);
    outcome := case
      when reason is null then case when dry_run then 'purgeable' else 'purged' end
      when v_reasons[i] is not null then 'kept'
      else 'busy'
    end;
    return next;
  end loop;
end;
$function$;
comment on function audit.retain(interval,integer,boolean) is 'Purges the months (UTC) of the trail that ended longer ago than `keep` (at least a month), oldest first, at most `at_most` of them; with dry_run only says what it would do. A row for each: purged, purgeable, kept, or busy (try again), and why. Only what is sealed, delivered and unchanged is purged.';

CREATE OR REPLACE FUNCTION audit.trail_status()
 RETURNS TABLE(last_seq bigint, sealed_seq bigint, seal_no bigint, sealed_at timestamp with time zone, anchored_seal_no bigint, anchored_at timestamp with time zone, problems text[])
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;
comment on function audit.trail_status() is '@behavior -*
How far the trail reaches, is sealed, and has been confirmed by the destination that has most of it, and what is known to be wrong with it, a sentence each. It verifies nothing.';
grant execute on function audit.trail_status() to halyard_admin;
grant execute on function audit.trail_status() to halyard_auditor;

CREATE OR REPLACE FUNCTION audit.verify(from_seq bigint DEFAULT 1, to_seq bigint DEFAULT NULL::bigint)
 RETURNS TABLE(seal_no bigint, first_seq bigint, last_seq bigint, status text, seqs bigint[], detail text)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  perform app_private.require_auditor();
  if from_seq is null then
    raise exception 'Say from which event on, as in audit.verify(1).' using errcode = 'null_value_not_allowed';
  end if;
  lock table audit.events in access share mode;
  return query select p.* from app_private.trail_problems(from_seq, to_seq) as p;
end;
$function$;
comment on function audit.verify(bigint,bigint) is 'Checks the seals that cover the events from_seq to to_seq (all by default): a row for each seal that is ok, and one for each problem: event_altered, event_missing, column_differs, leaf_altered, leaf_missing, root_differs, chain_broken, purged. Without to_seq also what no seal covers: event_unsealed, not_sealed, tail_cut.';
grant execute on function audit.verify(bigint,bigint) to halyard_auditor;

CREATE OR REPLACE FUNCTION audit.verify_rows(source text, after text DEFAULT NULL::text, batch integer DEFAULT NULL::integer)
 RETURNS TABLE(source_table text, row_id text, flag_key text, environment text, status text, differs jsonb, detail text, last_key text)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
AS $function$
begin
  perform app_private.require_auditor();
  lock table audit.events in access share mode;
  return query select p.* from app_private.row_problems(source, verify_rows.after, batch) as p;
end;
$function$;
comment on function audit.verify_rows(text,text,integer) is 'Checks that the rows of settings, environments, plans, feature_flags or feature_flag_schedules are as the trail says, and, by source = events, that none is gone without an event: a row for each problem, row_differs, row_unrecorded or row_vanished. `batch` rows behind the key `after`, all by default; a row that is ok has the last key, to go on from, when there was anything to check.';
grant execute on function audit.verify_rows(text,text,integer) to halyard_auditor;

CREATE OR REPLACE FUNCTION audit.verify_triggers()
 RETURNS TABLE(status text, table_name text, detail text)
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  perform app_private.require_auditor();
  return query select p.* from app_private.trigger_problems() as p;
end;
$function$;
comment on function audit.verify_triggers() is 'Checks that the triggers and the row-level security that guard the trail are as they must be now: a row for each problem, trigger_missing, trigger_disabled, trigger_altered, trigger_added or policies_off.';
grant execute on function audit.verify_triggers() to halyard_auditor;

-- default privileges on f of halyard_owner: {halyard_owner=X/halyard_owner}
