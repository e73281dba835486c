--! Previous: sha1:7f25ffaf51d4d7c77437abfd7df3352c57d95503
--! Hash: sha1:1c72c2cf529a4aecb135501093c1fbc45dd474a3
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

--! Included audit/record/notify.sql
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

-- For a truncated hint: it names some of the rows that changed, and its reader looks at all that changed lately. The events name the
-- schedules. Callers get ids alone; their own policies say which of the rows they see. An index on updated_at would cost every change.
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
  order by e.occurred_at desc, e.id
  limit least(most, 1000)
$$;

comment on function app_private.recent_schedule_ids(integer) is
  'The schedule of each event of the last ten minutes that has one, newest first; 1,000 at most.';

grant execute on function app_private.recent_schedule_ids(integer) to halyard_admin, halyard_viewer, halyard_auditor;

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
  order by e.occurred_at desc, e.id
  limit least(most, 1000)
$$;

comment on function app_private.recent_flag_ids(integer) is
  'The flag of each event of the last ten minutes that says that a flag was created or changed, newest first; 1,000 at most.';

grant execute on function app_private.flag_ids_of_events(uuid[]), app_private.recent_flag_ids(integer)
  to halyard_admin, halyard_viewer, halyard_auditor;
--! EndIncluded audit/record/notify.sql
