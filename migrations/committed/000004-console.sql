--! Previous: sha1:7f25ffaf51d4d7c77437abfd7df3352c57d95503
--! Hash: sha1:83c1a1667e24c41581502c69372a6e2a516bc0eb
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

-- The pending schedules of a flag by their time, for projections; it serves what the narrower one did.
create index if not exists feature_flag_schedules_pending_flag_idx
  on app_public.feature_flag_schedules (flag_id, scheduled_at, id) where status = 'pending';
drop index if exists app_public.feature_flag_schedules_pending_of_flag_idx;

-- The states of a flag by their time.
create index if not exists events_flag_states_idx on audit.events (flag_id, occurred_at desc, revision desc)
  where event_type in ('feature_flag.created', 'feature_flag.updated', 'feature_flag.deleted', 'feature_flag.reconciled');

--! Included platform/claims.sql
-- Who asks. The API sets these settings for each transaction (src/postgres/request_settings.ts); nothing else in the database reads them.
--
-- Access and attribution are two things. Access goes by claims, in policies: any login that may become halyard_admin sets them for
-- itself. Attribution (who did it, by which request, for which schedule) goes by session_user, which a session can't set: what another
-- login than Halyard's own says of itself counts for nothing. SET ROLE and security definer functions leave session_user alone; only a
-- superuser changes it, by SET SESSION AUTHORIZATION. The logins' names are fixed (migrations/roles.sql).
--
-- A setting that was once set locally reads '' afterwards in the same session, and NULL in a session that never set it:
-- both mean "unknown", hence nullif. Policies call these as `(select app_private.claim_role())`, so that they run once a
-- statement and not once a row (500,000 rows: 22 ms instead of 135 ms).
--
-- Bodies that are bound when they are made (`return …`) need no search_path, so the planner puts them in line; an insert asks
-- a dozen times, and each call that isn't in line takes 6 to 15 us (bench/sql/insert.md).

-- The form is the API's to check (src/auth/claims.ts, src/http/request_id.ts), as no other login is believed: a regular expression here
-- took up to half of an event's time. The bound holds in any case.
create or replace function app_private.attributed_setting(name text, max_length integer)
returns text
language sql
stable
parallel safe
return case
  when session_user = 'halyard_authenticator'
    and length(current_setting(name, true)) <= max_length
  then nullif(current_setting(name, true), '')
end;

create or replace function app_private.claim_user_id()
returns text
language sql
stable
parallel safe
return app_private.attributed_setting('jwt.claims.user_id', 255);

create or replace function app_private.claim_email()
returns text
language sql
stable
parallel safe
return app_private.attributed_setting('jwt.claims.email', 320);

-- Of the policies: text that is no role opens nothing, and must not read as unknown.
create or replace function app_private.claim_role()
returns text
language sql
stable
parallel safe
return nullif(current_setting('jwt.claims.role', true), '');

-- Asked before the environments themselves: those take a call, and few tokens are limited.
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
return app_private.attributed_setting('halyard.request_id', 128);

create or replace function app_private.client_request_id()
returns text
language sql
stable
parallel safe
return app_private.attributed_setting('halyard.client_request_id', 128);

-- Beside the claims, because a change of a flag is a plain UPDATE, which has no place for it.
create or replace function app_private.change_reason()
returns text
language sql
stable
parallel safe
return app_private.attributed_setting('halyard.reason', 500);

-- Beside the claims for the same reason. Of the API's login alone, so that no setting of a server can hold the worker's changes.
create or replace function app_private.expected_revision()
returns bigint
language sql
stable
parallel safe
return app_private.attributed_setting('halyard.expected_revision', 18)::bigint;

-- What a session of another login says of itself, for its event: shown, not believed.
create or replace function app_private.claimed()
returns jsonb
language sql
stable
parallel safe
return case
  when concat(
    current_setting('jwt.claims.user_id', true), current_setting('jwt.claims.email', true), current_setting('jwt.claims.role', true),
    current_setting('halyard.request_id', true), current_setting('halyard.reason', true)) = ''
  then '{}'::jsonb
  else jsonb_build_object('claimed', jsonb_strip_nulls(jsonb_build_object(
    'userId', nullif(left(current_setting('jwt.claims.user_id', true), 255), ''),
    'email', nullif(left(current_setting('jwt.claims.email', true), 320), ''),
    'role', nullif(left(current_setting('jwt.claims.role', true), 32), ''),
    'requestId', nullif(left(current_setting('halyard.request_id', true), 128), ''),
    'reason', nullif(left(current_setting('halyard.reason', true), 500), ''))))
end;

-- record_rows() raises a revision and writes the event itself. A login that isn't the owner's, or can't become the owner, has no such
-- right, with any setting.
create or replace function app_private.is_recording()
returns boolean
language sql
stable
return coalesce(current_setting('halyard.recording', true) = 'on', false)
  and (session_user = 'halyard_worker' or pg_has_role(session_user, 'halyard_owner', 'member'));

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

comment on function app_private.attributed_setting(text, integer) is
  'A setting that says who did something: null unless the API''s login set it, to 1 to `max_length` characters.';
comment on function app_private.claim_user_id() is 'The user id in the verified token of a request of the API; null otherwise.';
comment on function app_private.claim_email() is 'The e-mail address in the verified token of a request of the API; null otherwise.';
comment on function app_private.claim_role() is 'admin, viewer or auditor; null when there is no verified token.';
comment on function app_private.claims_are_limited() is 'Whether the token is limited to some environments, or to none.';
comment on function app_private.claim_environments() is 'The environments that the token is limited to; null means all.';
comment on function app_private.request_id() is 'The API''s id of the HTTP request that this transaction serves; null in sessions of other logins.';
comment on function app_private.client_request_id() is 'The id that the client gave that request; null when it gave none.';
comment on function app_private.change_reason() is
  'Why the client of the API makes this change, as the request says; null when it gave no reason, and in sessions of other logins.';
comment on function app_private.expected_revision() is
  'The revision that the row must have for the API''s client to change it; null when the request names none, and in sessions of other logins.';
comment on function app_private.claimed() is
  '`claimed` with the claims, the request id and the reason that a session set, cut to length; an empty object when it set none.';
comment on function app_private.is_recording() is
  'Whether the running statement is record_rows()''s: it sets halyard.recording, and the login is the worker''s or may become the owner.';
comment on function app_private.require_admin() is 'Raises insufficient_privilege unless the verified token is an admin''s.';
comment on function app_private.environment_is_visible(text) is 'Whether the token lets through rows of this environment.';

-- These run inside policies and stamps, as the role that asks.
grant usage on schema app_private to halyard_admin, halyard_viewer, halyard_auditor;
grant execute on function
  app_private.claim_user_id(), app_private.claim_email(), app_private.claim_role(), app_private.claims_are_limited(),
  app_private.claim_environments(), app_private.request_id(), app_private.attributed_setting(text, integer)
to halyard_admin, halyard_viewer, halyard_auditor;
grant execute on function app_private.is_recording(), app_private.expected_revision() to halyard_admin;
--! EndIncluded platform/claims.sql
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
-- Of environments that the token doesn't reach they get none: many of those would leave no room for their own.
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
    and ((select true where not app_private.claims_are_limited()) is not null
      or e.environment = any ((select app_private.claim_environments())::text[]))
  order by e.occurred_at desc, e.id
  limit least(most, 1000)
$$;

comment on function app_private.recent_schedule_ids(integer) is
  'The schedule of each event of the last ten minutes that has one, in the environments that the token reaches, newest first; 1,000 at most.';

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
    and ((select true where not app_private.claims_are_limited()) is not null
      or e.environment = any ((select app_private.claim_environments())::text[]))
  order by e.occurred_at desc, e.id
  limit least(most, 1000)
$$;

comment on function app_private.recent_flag_ids(integer) is
  'The flag of each event of the last ten minutes that says that a flag was created or changed, in the environments that the token reaches, newest first; 1,000 at most.';

grant execute on function app_private.flag_ids_of_events(uuid[]), app_private.recent_flag_ids(integer)
  to halyard_admin, halyard_viewer, halyard_auditor;
--! EndIncluded audit/record/notify.sql
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
--! Included console/server_time.sql
-- The console shows how long it is until a change, and a browser's clock may be minutes off: the clock that applies schedules counts.

-- stable, though the clock isn't: GraphQL makes a mutation of what is volatile, and a statement asks once.
create or replace function app_public.server_time()
returns timestamptz
language sql
stable
return clock_timestamp();

comment on function app_public.server_time() is 'The time by the database''s clock, by which schedules are applied.';

grant execute on function app_public.server_time() to halyard_admin, halyard_viewer, halyard_auditor;
--! EndIncluded console/server_time.sql
--! Included audit/read/last_change.sql
-- What a change says that was made against an older revision than the row's: who changed the row since, what, and when.
--
-- The caller may change the row, so it is an admin who reaches its environment, and may read the row's events.

create or replace function app_private.actor_text(event audit.events)
returns text
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
  select case
    when (event).actor_kind = 'admin' then coalesce((event).admin_email, (event).admin_user_id, 'An admin')
    when (event).actor_kind = 'database' then 'The database login ' || (event).database_user
    when (event).event_type like 'feature_flag.%' and (event).schedule_id is not null
      then coalesce('A schedule of ' || ((event).metadata ->> 'requestedBy'), 'A schedule')
    else 'The worker'
  end
$$;

comment on function app_private.actor_text(audit.events) is 'Who made the change of an event, as the beginning of a sentence.';

-- The day only where it isn't today: the change is mostly minutes old. The revision is the row's: an event of another one is no answer.
create or replace function app_private.stale_text(event audit.events, change text, revision bigint)
returns text
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
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
$$;

comment on function app_private.stale_text(audit.events, text, bigint) is
  'The sentence that refuses a change made against another revision than the row''s: with the row''s last event, if it is that of its revision, and with what it changed.';

create or replace function app_private.stale_detail(event audit.events, revision bigint)
returns text
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'revision', stale_detail.revision,
    'changedAt', case when (event).revision = stale_detail.revision then app_private.iso((event).occurred_at) end,
    'changedBy',
    case when (event).revision = stale_detail.revision then coalesce((event).admin_email, (event).admin_user_id) end)::text
$$;

comment on function app_private.stale_detail(audit.events, bigint) is
  'What stale_text() says, as JSON for the client: the row''s revision, when it came to be, and the admin who made it, as far as they are known.';

-- The stamp of flags runs with the rights of the role that changes the row.
grant execute on function
  app_private.iso(timestamptz), app_private.actor_text(audit.events), app_private.stale_text(audit.events, text, bigint), app_private.stale_detail(audit.events, bigint)
to halyard_admin;
--! EndIncluded audit/read/last_change.sql
--! Included flags/flags.sql
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
$$;

comment on function app_private.tg_feature_flags__stamp() is
  'Stamps created_at, updated_at and revision, and keeps a flag''s identity fixed. Raises ZF017 for a change that was made against another revision.';

create or replace trigger _100_stamp
  before insert or update on app_public.feature_flags
  for each row execute function app_private.tg_feature_flags__stamp();

-- Ahead of the foreign key's cascade, which comes when the flag is gone, and with it the way to know whose the schedules were.
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

-- A DBA without a token too, as in the trail (audit/read/policies.sql).
drop policy if exists auditor_select on app_public.feature_flags;
create policy auditor_select on app_public.feature_flags
  for select to halyard_auditor
  using (
    (select true from (select app_private.claim_role() as role) as c where coalesce(c.role, 'auditor') = 'auditor') is not null
    and (
      (select true where not app_private.claims_are_limited()) is not null
      or environment = any ((select app_private.claim_environments())::text[])
    )
  );
--! EndIncluded flags/flags.sql
--! Included flags/stale.sql
-- A change of a flag that was made against another revision than the row's.

-- A field that isn't here is a change all the same.
create or replace function app_private.flag_change_text(event audit.events)
returns text
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
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
$$;

comment on function app_private.flag_change_text(audit.events) is
  'What an event changed of its flag, as the rest of a sentence; null for an event that doesn''t say.';

create or replace function app_private.refuse_stale_flag(flag app_public.feature_flags)
returns void
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
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
$$;

comment on function app_private.refuse_stale_flag(app_public.feature_flags) is
  'Raises ZF017: the sentence has who changed the flag last, and the detail, as JSON, its revision.';

grant execute on function app_private.flag_change_text(audit.events), app_private.refuse_stale_flag(app_public.feature_flags) to halyard_admin;
--! EndIncluded flags/stale.sql
--! Included schedules/stale.sql
-- A change of a schedule that was made against another revision than the row's.

create or replace function app_private.schedule_change_text(event audit.events)
returns text
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
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
  end
$$;

comment on function app_private.schedule_change_text(audit.events) is
  'What an event changed of its schedule, as the rest of a sentence; null for an event that doesn''t say.';

create or replace function app_private.refuse_stale_schedule(schedule app_public.feature_flag_schedules)
returns void
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
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
$$;

comment on function app_private.refuse_stale_schedule(app_public.feature_flag_schedules) is
  'Raises ZF027: the sentence has who changed the schedule last, and the detail, as JSON, its revision.';
--! EndIncluded schedules/stale.sql
--! Included schedules/lifecycle.sql
-- What an admin does with schedules. GraphQL mutations and REST routes both call these, so there is one path.

-- A client that schedules in a loop would make one flag's lists and its applying slow. Only what comes by the API is limited: a DBA
-- knows what a statement does. At most so many index entries are counted, about 0.2 ms for 1,000. No lock is taken for it, so calls
-- at the same moment may go beyond the limit by as many as they are. Put in line: a call takes as long as the look itself.
create or replace function app_private.has_no_room_for_pending(flag_id uuid)
returns boolean
language sql
stable
return session_user = 'halyard_authenticator' and exists (
  select
  from app_public.feature_flag_schedules s
  where s.flag_id = has_no_room_for_pending.flag_id and s.status = 'pending'
  offset coalesce((select p.value::integer from app_private.settings p where p.name = 'pending_per_flag'), 1000) - 1);

comment on function app_private.has_no_room_for_pending(uuid) is
  'Whether the API calls, and the flag has as many pending schedules as the setting pending_per_flag allows.';

create or replace function app_private.refuse_pending()
returns void
language plpgsql
stable
set search_path to pg_catalog, pg_temp
as $$
begin
  raise exception 'The flag has % pending schedules, and may not have more: cancel some, or wait until some are applied.',
    coalesce(app_private.setting('pending_per_flag'), '1000')
    using errcode = 'ZF013', hint = 'The setting pending_per_flag limits them.';
end;
$$;

comment on function app_private.refuse_pending() is 'Raises ZF013.';

-- With the owner's rights, as its sisters below: row-level security would look the flag up three times more.
create or replace function app_public.schedule_flag_change(
  flag_key text,
  environment text,
  scheduled_at timestamptz,
  updates jsonb,
  reason text default null
)
returns app_public.feature_flag_schedules
language plpgsql
volatile
security definer
set search_path to pg_catalog, pg_temp
as $$
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
$$;

comment on function app_public.schedule_flag_change(text, text, timestamptz, jsonb, text) is
  'Schedules a change of a flag for a time in the future. `environment` is production unless given; `reason` is free text of up to 500 characters.';

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
$$;

comment on function app_private.lock_schedule(uuid) is
  'Locks and returns a schedule for an admin''s change; raises insufficient_privilege, ZF002, or ZF027 where it isn''t the revision that the client expects.';

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
  set status = 'cancelled', cancel_reason = app_private.trim_reason(cancel_flag_schedule.reason)
  where s.id = v_schedule.id
  returning s.* into v_schedule;
  return v_schedule;
end;
$$;

comment on function app_public.cancel_flag_schedule(uuid, text) is
  'Cancels a pending schedule and records who did it; `reason` is free text of up to 500 characters.';

create or replace function app_public.reschedule_flag_change(id uuid, scheduled_at timestamptz, reason text default null)
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
  set
    scheduled_at = reschedule_flag_change.scheduled_at, attempts = 0, next_attempt_at = null, error_message = null,
    reason = coalesce(app_private.trim_reason(reschedule_flag_change.reason), s.reason)
  where s.id = v_schedule.id
  returning s.* into v_schedule;
  return v_schedule;
end;
$$;

comment on function app_public.reschedule_flag_change(uuid, timestamptz, text) is
  'Moves a pending schedule to another time in the future. `reason` is free text of up to 500 characters; without one the schedule keeps its own.';

-- A retry is a new decision, taken now: the schedule becomes due now, after all that was applied since its first time,
-- so it isn't outdone by them. The time it was meant for stays in the trail.
create or replace function app_public.retry_flag_schedule(id uuid, reason text default null)
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
$$;

comment on function app_public.retry_flag_schedule(uuid, text) is
  'Makes a failed schedule due again, now, with all its attempts. `reason` is free text of up to 500 characters; without one the schedule keeps its own.';

grant execute on function
  app_public.schedule_flag_change(text, text, timestamptz, jsonb, text),
  app_public.cancel_flag_schedule(uuid, text),
  app_public.reschedule_flag_change(uuid, timestamptz, text),
  app_public.retry_flag_schedule(uuid, text)
to halyard_admin;
--! EndIncluded schedules/lifecycle.sql
--! Included audit/read/policies.sql
-- Who reads the trail. An admin needs a verified token, as everywhere. An auditor may also be a DBA at a psql prompt, who
-- has no token: there the role itself is the permission, and a token, when there is one, only narrows it.
--
-- `is not null`, because the planner takes that for nearly always true. It can't know what a token says, and takes `is null` for
-- rare: it expected a third of the rows that come, and so read all of a flag's months and sorted them instead of walking
-- the index from the latest event on (bench/sql/flag_events.md).
do $$
declare
  c_admin constant text := $policy$(select app_private.claim_role()) = 'admin'$policy$;
  c_auditor constant text := $policy$coalesce((select app_private.claim_role()), 'auditor') = 'auditor'$policy$;
  c_environments constant text := '((select true where not app_private.claims_are_limited()) is not null '
    'or environment = any ((select app_private.claim_environments())::text[]))';
  c_no_limits constant text := '(select app_private.claim_environments()) is null';
  v_policy record;
begin
  for v_policy in
    select *
    from (values
      ('events', 'admin', c_admin, c_environments),
      ('events', 'auditor', c_auditor, c_environments),
      -- A number is for readers of its event's environment. The ledger has a copy of it, and keeps that when the event is purged.
      ('ledger', 'admin', c_admin, c_environments),
      ('ledger', 'auditor', c_auditor, c_environments),
      -- These say something of all environments at once.
      ('seals', 'auditor', c_auditor, c_no_limits),
      ('incarnations', 'auditor', c_auditor, c_no_limits),
      ('divergences', 'auditor', c_auditor, c_no_limits),
      ('dead_letters', 'auditor', c_auditor, c_no_limits)
    ) as p (table_name, reader, who, which)
  loop
    execute format('drop policy if exists %I on audit.%I', v_policy.reader || '_select', v_policy.table_name);
    execute format(
      'create policy %I on audit.%I for select to %I using (%s and %s)',
      v_policy.reader || '_select', v_policy.table_name, 'halyard_' || v_policy.reader, v_policy.who, v_policy.which);
  end loop;
end;
$$;

-- The catalogue says nothing of what happened.
drop policy if exists reader_select on audit.event_types;
create policy reader_select on audit.event_types for select to halyard_admin, halyard_auditor using (true);

-- For functions that read past the policies for their caller.
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

-- A proof says of the trail as a whole what any auditor may know, and of one event what its reader reads. Without a token the caller
-- is a DBA, for whom the login speaks: of the two roles that may call what asks this, an auditor's has the permission by itself.
create or replace function app_private.require_prover()
returns void
language plpgsql
stable
set search_path to pg_catalog, pg_temp
as $$
begin
  if coalesce(app_private.claim_role(), 'auditor') not in ('admin', 'auditor')
    or app_private.claim_environments() is not null
    or (app_private.claim_role() is null and not pg_has_role(session_user, 'halyard_auditor', 'member')
      and not pg_has_role(session_user, 'halyard_owner', 'member'))
  then
    raise exception 'This takes the token of an admin or an auditor that isn’t limited to environments.' using errcode = 'ZF015';
  end if;
end;
$$;

comment on function app_private.require_prover() is
  'Raises ZF015 unless the caller is an admin or an auditor whose token has no limits, or a DBA without a token.';

revoke all on table
  audit.events, audit.event_types, audit.queue, audit.ledger, audit.seals, audit.incarnations, audit.divergences, audit.cursors, audit.dead_letters
  from public, halyard_admin, halyard_viewer, halyard_auditor, halyard_worker;
grant usage on schema audit to halyard_admin, halyard_auditor;
grant select on table audit.events, audit.event_types to halyard_admin, halyard_auditor;
grant select (seq, event_id, occurred_at, sequenced_at, event_type, flag_key, environment) on table audit.ledger to halyard_admin;
grant select on table audit.ledger, audit.seals, audit.incarnations, audit.divergences, audit.dead_letters to halyard_auditor;
--! EndIncluded audit/read/policies.sql
--! Included audit/seal/proof.sql
-- The proof that one event is in its seal.

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
$$;

comment on function audit.prove(uuid) is
  'The proof that an event is in its seal, which `halyard audit verify-proof` checks without a database; message is null when the event was purged. Raises no_data_found when there is no sealed event with this id, and ZF015 for a token with limits.';

grant execute on function audit.prove(uuid) to halyard_admin, halyard_auditor;

-- For lists of events: called once for each row of a page, behind its limit. Seals are for auditors without limits; of the seal of an
-- event that they may read, all readers of the trail get this much. The caller has the number of the event.
create or replace function app_private.seal_of(seq bigint)
returns jsonb
language sql
stable
security definer
set search_path to pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'number', s.seal_no::text,
    'head', encode(s.head, 'hex'),
    'sealedAt', app_private.iso(s.sealed_at),
    'anchored', s.last_seq <= (select coalesce(max(c.last_seq), 0) from audit.cursors c))
  from audit.seals s
  where s.last_seq >= seal_of.seq and s.first_seq <= seal_of.seq
  order by s.last_seq
  limit 1
$$;

comment on function app_private.seal_of(bigint) is
  'The seal that covers the event with this number: its number, its head, when it was made, and whether a destination has confirmed it; null where there is none.';

grant execute on function app_private.seal_of(bigint) to halyard_admin, halyard_auditor;

-- Beside a seal, so that no event looks sealed that isn't what was sealed. `audit verify` looks at the seals too, and at what is outside.
create or replace function app_private.alteration_of(event audit.events)
returns text
language sql
stable
security definer
set search_path to pg_catalog, pg_temp
as $$
  select case
    when app_private.event_leaf((event).payload, l.seq) <> l.leaf then 'event_altered'
    when l.occurred_at <> (event).occurred_at or cardinality(app_private.differing_columns(event)) > 0 then 'column_differs'
  end
  from audit.ledger l
  where l.event_id = (event).id
$$;

comment on function app_private.alteration_of(audit.events) is
  'What `audit verify` calls an event that isn''t what was sealed; null for one that is, or isn''t sealed yet.';

grant execute on function app_private.alteration_of(audit.events) to halyard_admin, halyard_auditor;
--! EndIncluded audit/seal/proof.sql
--! Included audit/read/status.sql
-- What the console's badge says of the trail at each request: ends of indexes, the newest row of a few, and catalogs. Nothing here counts or
-- verifies: `audit verify` does. A problem is a sentence with the words of docs/audit.md. It has no numbers of rows, because readers who are
-- limited to some environments may not count anything of others.

-- Of events on their way into the trail. The bound is that of the alert HalyardEventsUnsealed.
create or replace function app_private.recording_problems()
returns setof text
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
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
$$;

comment on function app_private.recording_problems() is
  'What keeps events from the trail, a sentence each: dead letters, a queue that stands still, settings that are locked.';

-- Of the way to the destinations. The bound is that of the alert HalyardDeliveryBehind.
create or replace function app_private.delivering_problems()
returns setof text
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
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
$$;

comment on function app_private.delivering_problems() is
  'What keeps the trail from its destinations, a sentence each: one that is ahead, refused ones, and those that confirm nothing.';

-- What the last full reconciliation found, which is kept, and what guards the trail. The bound is that of the alert HalyardRowsUnchecked.
create or replace function app_private.guarding_problems()
returns setof text
language sql
stable
set search_path to pg_catalog, pg_temp
as $$
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
$$;

comment on function app_private.guarding_problems() is
  'Rows that the last check found to differ, a check that is overdue, and triggers and policies that aren''t as they must be, a sentence each.';

-- Each part by itself: where one is broken the others are still said.
create or replace function audit.trail_status()
returns table (
  last_seq bigint, sealed_seq bigint, seal_no bigint, sealed_at timestamptz, anchored_seal_no bigint, anchored_at timestamptz, problems text[]
)
language plpgsql
stable
security definer
set search_path to pg_catalog, pg_temp
as $$
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
$$;

comment on function audit.trail_status() is
  '@behavior -*
How far the trail reaches, is sealed, and has been confirmed by the destination that has most of it, and what is known to be wrong with it, a sentence each. It verifies nothing.';

grant execute on function audit.trail_status() to halyard_admin, halyard_auditor;
--! EndIncluded audit/read/status.sql
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
--
-- A revision between two events, or between the last one and the row, is a change whose event is missing: a dead letter, or lost. Then
-- the row says what is so from its last change on, and of a time before that nothing is certain. By the revision, as a clock that was set
-- back gives the later change the earlier time.
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
      c.by_row or case when l.id is null then n.before is not null else not c.is_lost end,
      case when c.by_row or coalesce(l.id, n.id) is null then '{}'
        else jsonb_build_object('event', jsonb_strip_nulls(jsonb_build_object(
          'id', coalesce(l.id, n.id), 'at', app_private.iso(coalesce(l.occurred_at, n.occurred_at)), 'schedule_id', l.schedule_id,
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
  '@behavior -*
The state of each flag of an environment at `at`, by key, at most 10,000: what the trail says of the past, and what the pending schedules will make of the future. `certain` is false where a schedule of the flag is overdue. `sources` names what decides: of the past the event, of the future the schedule for each field that one will have changed.';

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
  '@behavior -*
The changes of an environment''s flags from `from` until before `to`, at most 400 days, in the order in which they come, the first `first` (10,000 at most), with the state that each leaves. An overdue schedule comes now, or with its next attempt; one that is held until a person decides isn''t there.';

grant execute on function app_public.upcoming_changes(text, timestamptz, timestamptz, integer) to halyard_admin, halyard_viewer, halyard_auditor;
--! EndIncluded console/upcoming.sql
--! Included console/changes.sql
-- What changed: of the trail only states and times, which every role may read; of persons, reasons and descriptions nothing.

-- An event that the reconciler wrote doesn't say what was before: the event before it does.
create or replace function app_private.flag_change_of(event audit.events)
returns table (enabled boolean, rollout_percentage integer, was_enabled boolean, was_rollout_percentage integer, deleted boolean)
language sql
stable
begin atomic
  select s.*
  from (
    select case
      when (event).event_type <> 'feature_flag.reconciled' then (event).metadata -> 'before'
      else (
        select p.metadata -> 'after'
        from audit.events p
        where p.flag_key = (event).flag_key and p.flag_id = (event).flag_id and p.occurred_at < (event).occurred_at
          and p.event_type in ('feature_flag.created', 'feature_flag.updated', 'feature_flag.reconciled')
        order by p.occurred_at desc, p.revision desc
        limit 1)
    end
  ) as b (before)
  cross join lateral (
    select
      case when (event).event_type <> 'feature_flag.deleted' then ((event).metadata #>> '{after,enabled}')::boolean else false end,
      coalesce((event).metadata #>> '{after,rolloutPercentage}', b.before ->> 'rolloutPercentage')::integer,
      (b.before ->> 'enabled')::boolean,
      (b.before ->> 'rolloutPercentage')::integer,
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
  '@behavior -*
The changes of state of an environment''s flags from `from` until before `to`, from the trail, oldest first, the first `first` (10,000 at most), of one flag where `of_flag` is given. Who made them and why, admins and auditors find in the trail.';

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
  '@behavior -*
The schedules of an environment''s flags for times from `from` until before `to`, of every status, by time, the first `first` (10,000 at most), of one flag where `of_flag` is given.';

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
      -- A zone that crosses the date line leaves a day out, as Apia did 2011-12-30.
      where ((g.day at time zone changes_per_day.zone) at time zone changes_per_day.zone)::date = g.day::date
    ) as d
    left join changed c on c.day = d.day
    left join scheduled s on s.day = d.day
    order by d.day;
end;
$$;

comment on function app_public.changes_per_day(text, timestamptz, timestamptz, text) is
  '@behavior -*
For each day of the zone from `from` until before `to`, at most 400 days: how many changes of state an environment''s flags had, and how many schedules for it have failed or are pending.';

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
$$;

comment on function app_public.last_flag_change(uuid) is
  '@behavior -*
The last change of a flag that the trail has, with the schedule that made it; who wanted it and why for admins and auditors only.';

grant execute on function app_public.last_flag_change(uuid) to halyard_admin, halyard_viewer, halyard_auditor;
--! EndIncluded console/changes.sql
