--! Previous: sha1:7f25ffaf51d4d7c77437abfd7df3352c57d95503
--! Hash: sha1:29437fd9b320fac1aa7b4a078bc337be72712580
--! Message: Console

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

-- The pending schedules of a flag by their time, for projections; it serves what the narrower one did.
create index if not exists feature_flag_schedules_pending_flag_idx
  on app_public.feature_flag_schedules (flag_id, scheduled_at, id) where status = 'pending';
drop index if exists app_public.feature_flag_schedules_pending_of_flag_idx;

-- The states of a flag by their time.
create index if not exists events_flag_states_idx on audit.events (flag_id, occurred_at desc, revision desc)
  where event_type in ('feature_flag.created', 'feature_flag.updated', 'feature_flag.deleted', 'feature_flag.reconciled');

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
-- The body is bound, so that the planner puts it in line.
create or replace function app_private.deciding_change(
  flag_id uuid, field text, at timestamptz, last_at timestamptz, last_id uuid, held_until timestamptz, held_created_until timestamptz
)
returns table (schedule_id uuid, scheduled_at timestamptz, value jsonb)
language sql
stable
begin atomic
  select d.id, d.scheduled_at, d.value
  from (
    select s.id, s.scheduled_at, s.updates -> deciding_change.field as value
    from app_public.feature_flag_schedules s
    where s.flag_id = deciding_change.flag_id and s.status = 'pending'
      and (s.scheduled_at, s.id) <= (last_at, last_id)
      and (s.next_attempt_at is null or s.next_attempt_at <= deciding_change.at)
      and not app_private.is_held(s, held_until, held_created_until)
      and (s.updates -> deciding_change.field) is not null
    order by s.scheduled_at desc, s.id desc
    limit 1
  ) as d
  where not exists (
    select
    from app_public.feature_flag_schedules a
    where a.flag_id = deciding_change.flag_id and a.status = 'applied' and (a.scheduled_at, a.id) > (d.scheduled_at, d.id)
      and (a.updates -> deciding_change.field) is not null);
end;

comment on function app_private.deciding_change(uuid, text, timestamptz, timestamptz, uuid, timestamptz, timestamptz) is
  'The pending schedule, up to (last_at, last_id), that decides a field of a flag at `at`, given held_schedules(); no row when the field stays as it is.';

-- The future. An overdue schedule is due now, by the rule; but it waits for something, and so what it will do isn't certain.
create or replace function app_private.projected_states(environment text, at timestamptz)
returns table (flag_key text, enabled boolean, rollout_percentage integer, certain boolean, sources jsonb, flag_id uuid)
language plpgsql
stable
set search_path to pg_catalog, pg_temp
set plan_cache_mode to force_custom_plan
as $$
declare
  c_last_id constant uuid := 'ffffffff-ffff-ffff-ffff-ffffffffffff';
  v_now timestamptz := clock_timestamp();
  v_held record;
begin
  select h.* into v_held from app_private.held_schedules() as h;
  return query
    select
      f.flag_key::text,
      coalesce(e.value::boolean, f.enabled),
      coalesce(r.value::integer, f.rollout_percentage),
      not exists (
        select
        from app_public.feature_flag_schedules s
        where s.flag_id = f.id and s.status = 'pending' and s.scheduled_at <= v_now),
      case when e.schedule_id is null then '{}'
        else jsonb_build_object('enabled', jsonb_build_object('schedule_id', e.schedule_id, 'at', app_private.iso(e.scheduled_at))) end
      || case when r.schedule_id is null then '{}'
        else jsonb_build_object('rollout_percentage', jsonb_build_object('schedule_id', r.schedule_id, 'at', app_private.iso(r.scheduled_at))) end,
      f.id
    from app_public.feature_flags f
    left join lateral app_private.deciding_change(
      f.id, 'enabled', projected_states.at, projected_states.at, c_last_id, v_held.scheduled_until, v_held.created_until) as e on true
    left join lateral app_private.deciding_change(
      f.id, 'rollout_percentage', projected_states.at, projected_states.at, c_last_id, v_held.scheduled_until, v_held.created_until) as r on true
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
      l.id is not null or n.id is null or n.before is not null,
      case when coalesce(l.id, n.id) is null then '{}'
        else jsonb_build_object('event', jsonb_strip_nulls(jsonb_build_object(
          'id', coalesce(l.id, n.id), 'at', app_private.iso(coalesce(l.occurred_at, n.occurred_at)), 'schedule_id', l.schedule_id,
          'is_after', case when l.id is null then true end)))
      end,
      i.flag_id
    from (
      select f.id as flag_id, f.flag_key::text as flag_key, f.created_at, f
      from app_public.feature_flags f
      where f.environment = past_states.environment
      union all
      select e.flag_id, min(e.flag_key), null, null
      from audit.events e
      where e.event_type = 'feature_flag.deleted' and e.environment = past_states.environment and e.occurred_at > past_states.at
        and not exists (select from app_public.feature_flags f where f.id = e.flag_id)
      group by e.flag_id
    ) as i (flag_id, flag_key, created_at, flag)
    left join lateral (
      select e.id, e.occurred_at, e.event_type, e.schedule_id, e.metadata -> 'after' as after
      from audit.events e
      where e.flag_id = i.flag_id and e.occurred_at <= past_states.at
        and e.event_type in ('feature_flag.created', 'feature_flag.updated', 'feature_flag.deleted', 'feature_flag.reconciled')
      order by e.occurred_at desc, e.revision desc
      limit 1
    ) as l on true
    left join lateral (
      select e.id, e.occurred_at, e.event_type, e.metadata -> 'before' as before, e.metadata -> 'after' as after
      from audit.events e
      where l.id is null and e.flag_id = i.flag_id and e.occurred_at > past_states.at
        and e.event_type in ('feature_flag.created', 'feature_flag.updated', 'feature_flag.deleted', 'feature_flag.reconciled')
      order by e.occurred_at, e.revision
      limit 1
    ) as n on true
    cross join lateral (
      select case when l.id is not null then l.after else coalesce(n.before, n.after, app_private.flag_state(i.flag)) end as state
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
  'The state of each flag of an environment at `at`, by key, at most 10,000: what the trail says of the past, and what the pending schedules will make of the future. `certain` is false where a schedule of the flag is overdue. `sources` names what decides: of the past the event, of the future the schedule for each field that one will have changed.';

grant execute on function app_public.flag_state_at(text, timestamptz) to halyard_admin, halyard_viewer, halyard_auditor;
--! EndIncluded console/state.sql
--! Included console/upcoming.sql
-- The changes that the pending schedules will make, each with the state that it leaves.

create or replace function app_public.upcoming_changes(environment text, "from" timestamptz, "to" timestamptz, first integer default 100)
returns table (
  at timestamptz, flag_key text, updates jsonb, schedule_id uuid, plan_id uuid, occurrence_no integer, step_no integer, status text,
  enabled boolean, rollout_percentage integer
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
  v_held record;
begin
  perform app_private.require_reader(), app_private.require_environment(upcoming_changes.environment);
  perform app_private.require_span("from", "to", 400), app_private.require_first(upcoming_changes.first);
  select h.* into v_held from app_private.held_schedules() as h;
  return query
    with pending as materialized (
      select p.*
      from (
        (
          select s.scheduled_at as due_at, s.scheduled_at, s.id, s.flag_id, s.next_attempt_at, s.updates, s.status
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
          select greatest(v_now, s.next_attempt_at), s.scheduled_at, s.id, s.flag_id, s.next_attempt_at, s.updates, s.status
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
      p.due_at, f.flag_key::text, p.updates, p.id, null::uuid, null::integer, null::integer, p.status,
      coalesce(e.value::boolean, f.enabled), coalesce(r.value::integer, f.rollout_percentage)
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
      p.flag_id, 'enabled', p.due_at, o.last_at, o.last_id, v_held.scheduled_until, v_held.created_until) as e on true
    left join lateral app_private.deciding_change(
      p.flag_id, 'rollout_percentage', p.due_at, o.last_at, o.last_id, v_held.scheduled_until, v_held.created_until) as r on true
    order by p.due_at, p.scheduled_at, p.id;
end;
$$;

comment on function app_public.upcoming_changes(text, timestamptz, timestamptz, integer) is
  'The changes of an environment''s flags from `from` until before `to`, at most 400 days, in the order in which they come, the first `first` (10,000 at most), with the state that each leaves. An overdue schedule comes now, or with its next attempt; one that is held until a person decides isn''t there.';

grant execute on function app_public.upcoming_changes(text, timestamptz, timestamptz, integer) to halyard_admin, halyard_viewer, halyard_auditor;
--! EndIncluded console/upcoming.sql
--! Included console/changes.sql
-- What changed: of the trail only states and times, which every role may read; of persons, reasons and descriptions nothing.

create or replace function app_private.flag_change_of(event audit.events)
returns table (enabled boolean, rollout_percentage integer, was_enabled boolean, was_rollout_percentage integer, deleted boolean)
language sql
stable
begin atomic
  select s.*
  from (
    select
      case when (event).event_type <> 'feature_flag.deleted' then ((event).metadata #>> '{after,enabled}')::boolean else false end,
      coalesce((event).metadata #>> '{after,rolloutPercentage}', (event).metadata #>> '{before,rolloutPercentage}')::integer,
      ((event).metadata #>> '{before,enabled}')::boolean,
      ((event).metadata #>> '{before,rolloutPercentage}')::integer,
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
  'The changes of state of an environment''s flags from `from` until before `to`, from the trail, oldest first, the first `first` (10,000 at most), of one flag where `of_flag` is given. Who made them and why, admins and auditors find in the trail.';

create or replace function app_public.schedules_between(
  environment text, "from" timestamptz, "to" timestamptz, of_flag text default null, first integer default 1000
)
returns table (
  id uuid, flag_key text, at timestamptz, updates jsonb, status text, applied_at timestamptz, cancelled_at timestamptz
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
      case when s.status = 'cancelled' then coalesce((to_jsonb(s) ->> 'cancelled_at')::timestamptz, s.updated_at) end
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
  'The schedules of an environment''s flags for times from `from` until before `to`, of every status, by time, the first `first` (10,000 at most), of one flag where `of_flag` is given.';

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
    ) as d
    left join changed c on c.day = d.day
    left join scheduled s on s.day = d.day
    order by d.day;
end;
$$;

comment on function app_public.changes_per_day(text, timestamptz, timestamptz, text) is
  'For each day of the zone from `from` until before `to`, at most 400 days: how many changes of state an environment''s flags had, and how many schedules for it have failed or are pending.';

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
        e.metadata ->> 'requestedBy', e.admin_user_id, case when e.actor_kind = 'database' then e.database_user end) end,
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
  'The last change of a flag that the trail has, with the schedule that made it; who wanted it and why for admins and auditors only.';

grant execute on function app_public.last_flag_change(uuid) to halyard_admin, halyard_viewer, halyard_auditor;
--! EndIncluded console/changes.sql
