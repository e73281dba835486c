--!include platform/locks.sql

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

--!include plans/content.sql

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

--!include platform/claims.sql
--!include audit/record/event_types.sql
--!include platform/settings.sql
--!include audit/record/notify.sql
--!include audit/record/trail.sql
--!include audit/record/append_only.sql
--!include console/sessions.sql
--!include console/server_time.sql
--!include environments/fields.sql
--!include environments/environments.sql
--!include environments/events.sql
--!include environments/recorded.sql
--!include audit/read/last_change.sql
--!include flags/fields.sql
--!include flags/flags.sql
--!include flags/events.sql
--!include flags/stale.sql
--!include schedules/fields.sql
--!include schedules/schedules.sql
--!include schedules/events.sql
--!include schedules/stale.sql
--!include schedules/recorded.sql
--!include schedules/lifecycle.sql
--!include schedules/resume.sql
--!include schedules/attempts.sql
--!include schedules/gates.sql
--!include schedules/apply.sql
--!include schedules/points.sql
--!include schedules/batches.sql
--!include schedules/overdue.sql
--!include environments/stop.sql
--!include environments/resume.sql
--!include plans/fields.sql
--!include plans/requests.sql
--!include plans/plans.sql
--!include plans/points.sql
--!include plans/events.sql
--!include plans/stale.sql
--!include plans/recorded.sql
--!include plans/locks.sql
--!include plans/lifecycle.sql
--!include plans/change_flags.sql
--!include plans/revert.sql
--!include plans/revert_sources.sql
--!include plans/guard_outcomes.sql
--!include plans/conflicts.sql
--!include plans/dry_run.sql
--!include plans/dry_run_requests.sql
--!include audit/read/policies.sql
--!include audit/verify/triggers.sql
--!include audit/seal/proof.sql
--!include platform/metrics.sql
--!include schedules/retention.sql
--!include plans/retention.sql
--!include audit/read/views.sql
--!include audit/read/status.sql
--!include audit/verify/audited_rows.sql
--!include audit/reconcile/dead_letters.sql
--!include audit/reconcile/reconcile_rows.sql
--!include audit/reconcile/reconcile_deleted.sql
--!include audit/verify/rows.sql
--!include audit/verify/verify_rows.sql
--!include audit/reconcile/record_rows.sql
--!include audit/reconcile/reconcile.sql
--!include audit/restore/renew.sql
--!include audit/restore/accept.sql
--!include console/arguments.sql
--!include console/state.sql
--!include console/upcoming.sql
--!include console/changes.sql
