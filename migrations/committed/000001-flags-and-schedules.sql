--! Previous: -
--! Hash: sha1:6d96189242b34c11a9e444e2c0c7cb905c11c985
--! Message: Flags and schedules

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
    app_public.feature_flags,
    app_public.feature_flag_schedules,
    app_public.environments,
    app_private.settings,
    app_private.denials,
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
    audit.manual_changes
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

-- The schemas, the flags and their schedules.

create schema if not exists app_public;
create schema if not exists app_private;
create schema if not exists audit;
comment on schema app_public is 'What the API exposes; row-level security on every table.';
comment on schema app_private is 'Triggers and internals.';
comment on schema audit is 'The audit trail: append-only, read with plain SQL.';

revoke all on schema app_public, app_private, audit from public;
grant usage on schema app_public to halyard_admin, halyard_viewer, halyard_auditor;
-- A new function is nobody's until it is granted.
alter default privileges revoke execute on functions from public;

create table if not exists app_public.environments (
  name varchar(20) primary key,
  created_at timestamptz not null default now(),
  created_by varchar(255),
  revision bigint not null default 0,
  constraint environments_name_check check (name ~ '^[A-Za-z0-9][A-Za-z0-9._-]*$')
);
comment on table app_public.environments is 'Where flags hold, as production or staging.';
comment on column app_public.environments.name is 'The name: 1 to 20 letters, digits, dots, hyphens or underscores.';
comment on column app_public.environments.created_at is 'When it was created.';
comment on column app_public.environments.created_by is 'The user id of the admin who created it; null when unknown.';
comment on column app_public.environments.revision is 'Counts the row''s versions from 1; 0 for what was there before the audit trail.';

-- Only at first: an admin may have deleted it since.
insert into app_public.environments (name)
select 'production' where not exists (select from app_public.environments);

create table if not exists app_public.feature_flags (
  id uuid primary key default gen_random_uuid(),
  flag_key varchar(100) not null,
  environment varchar(20) not null default 'production' references app_public.environments (name) on delete restrict,
  enabled boolean not null default false,
  rollout_percentage integer not null default 100,
  description text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  revision bigint not null default 1,
  constraint feature_flags_environment_flag_key_key unique (environment, flag_key),
  -- A key stands in a URL's path and in log queries: letters, digits, dot, hyphen, underscore.
  constraint feature_flags_flag_key_check check (flag_key ~ '^[A-Za-z0-9][A-Za-z0-9._-]*$'),
  constraint feature_flags_environment_check check (environment ~ '^[A-Za-z0-9][A-Za-z0-9._-]*$'),
  constraint feature_flags_rollout_percentage_check check (rollout_percentage between 0 and 100),
  constraint feature_flags_description_check check (char_length(description) <= 2000)
);

comment on table app_public.feature_flags is 'A feature flag in one environment.';
comment on column app_public.feature_flags.id is 'The flag''s id.';
comment on column app_public.feature_flags.flag_key is 'The name that applications ask for: 1 to 100 letters, digits, dots, hyphens or underscores.';
comment on column app_public.feature_flags.environment is 'The environment in which the flag holds.';
comment on column app_public.feature_flags.enabled is 'Whether the flag is on.';
comment on column app_public.feature_flags.rollout_percentage is 'The share of users that get the feature while the flag is on, 0 to 100.';
comment on column app_public.feature_flags.description is 'What the flag is for, up to 2,000 characters.';
comment on column app_public.feature_flags.created_at is 'When the flag was created.';
comment on column app_public.feature_flags.updated_at is 'When the flag was last changed.';
comment on column app_public.feature_flags.revision is 'Counts the row''s versions from 1: with the id, the identity of a change.';

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

create table if not exists app_public.feature_flag_schedules (
  id uuid primary key default gen_random_uuid(),
  flag_id uuid not null references app_public.feature_flags (id) on delete cascade,
  scheduled_at timestamptz not null,
  -- Text with a CHECK and not an enum: enum comparison isn't leakproof, which keeps indexes from serving policies.
  status text not null default 'pending',
  updates jsonb not null,
  applied_at timestamptz,
  error_message text,
  attempts integer not null default 0,
  max_attempts integer not null default 3,
  next_attempt_at timestamptz,
  requested_by varchar(255),
  reason text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  revision bigint not null default 1,
  constraint feature_flag_schedules_status_check check (status in ('pending', 'applied', 'failed', 'cancelled')),
  constraint feature_flag_schedules_updates_check check (app_private.updates_problem(updates) is null),
  constraint feature_flag_schedules_scheduled_at_check check (
    isfinite(scheduled_at) and scheduled_at < timestamptz '10000-01-01 00:00:00+00'),
  constraint feature_flag_schedules_attempts_check check (attempts >= 0),
  constraint feature_flag_schedules_max_attempts_check check (max_attempts between 0 and 10),
  constraint feature_flag_schedules_applied_at_check check ((status = 'applied') = (applied_at is not null)),
  -- As the API's own check: control characters would forge lines where a reason is printed.
  constraint feature_flag_schedules_reason_check check (
    char_length(reason) >= 1 and char_length(reason) <= 500 and reason collate "C" !~ '[[:cntrl:]]')
);

comment on table app_public.feature_flag_schedules is 'A change of a flag at a set time.';
comment on column app_public.feature_flag_schedules.id is 'The schedule''s id.';
comment on column app_public.feature_flag_schedules.flag_id is 'The flag to change.';
comment on column app_public.feature_flag_schedules.scheduled_at is 'When to change it.';
comment on column app_public.feature_flag_schedules.status is 'pending, applied, failed or cancelled.';
comment on column app_public.feature_flag_schedules.updates is 'What to change: enabled, rollout_percentage or both.';
comment on column app_public.feature_flag_schedules.applied_at is 'When the flag was changed.';
comment on column app_public.feature_flag_schedules.error_message is 'Why the last attempt failed.';
comment on column app_public.feature_flag_schedules.attempts is 'How often it was tried. An error that passes by itself, such as a lock, doesn''t count.';
comment on column app_public.feature_flag_schedules.max_attempts is 'How often it is tried at most; with 0 as with 1 the first failure is final.';
comment on column app_public.feature_flag_schedules.next_attempt_at is 'When it is tried again after a failure; null before the first attempt and at the end.';
comment on column app_public.feature_flag_schedules.requested_by is 'The user id of the admin who scheduled it, or moved or retried it last; null when unknown.';
comment on column app_public.feature_flag_schedules.reason is 'Why it was scheduled, or moved or retried last, if a reason was given: up to 500 characters.';
comment on column app_public.feature_flag_schedules.created_at is 'When the schedule was made.';
comment on column app_public.feature_flag_schedules.updated_at is 'When the row was last changed.';
comment on column app_public.feature_flag_schedules.revision is 'Counts the row''s versions from 1: with the id, the identity of a change.';

-- The list over all flags, by time. What failed and what was cancelled is rare: among a million applied ones a page of it took 0.2 to
-- 1.3 s, and these grow only when a schedule comes to that end (bench/sql/all_schedules.md).
create index if not exists feature_flag_schedules_scheduled_at_idx
  on app_public.feature_flag_schedules (scheduled_at, id);
create index if not exists feature_flag_schedules_failed_idx
  on app_public.feature_flag_schedules (scheduled_at, id)
  where status = 'failed';
create index if not exists feature_flag_schedules_cancelled_idx
  on app_public.feature_flag_schedules (scheduled_at, id)
  where status = 'cancelled';
-- First attempts in the order in which they are applied, and retries apart, of which there are few. One index over
-- coalesce(next_attempt_at, scheduled_at) would serve neither order: every batch would sort all that is due.
create index if not exists feature_flag_schedules_pending_idx
  on app_public.feature_flag_schedules (scheduled_at, id)
  where status = 'pending';
create index if not exists feature_flag_schedules_retry_idx
  on app_public.feature_flag_schedules (next_attempt_at)
  where status = 'pending' and next_attempt_at is not null;
-- A flag's schedules, newest first; also serves the foreign key.
create index if not exists feature_flag_schedules_flag_id_created_at_idx
  on app_public.feature_flag_schedules (flag_id, created_at desc, id desc);
-- How many of a flag's schedules are pending.
create index if not exists feature_flag_schedules_pending_of_flag_idx
  on app_public.feature_flag_schedules (flag_id)
  where status = 'pending';
-- What a schedule that comes late must not undo.
create index if not exists feature_flag_schedules_applied_idx
  on app_public.feature_flag_schedules (flag_id, scheduled_at, id)
  where status = 'applied';

alter table app_public.environments enable row level security;
alter table app_public.feature_flags enable row level security;
alter table app_public.feature_flag_schedules enable row level security;
