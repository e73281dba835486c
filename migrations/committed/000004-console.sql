--! Previous: sha1:7f25ffaf51d4d7c77437abfd7df3352c57d95503
--! Hash: sha1:3e946609e8dc45f9c60d526b093710b5ed86ed1e
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
