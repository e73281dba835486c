--! Previous: sha1:7f25ffaf51d4d7c77437abfd7df3352c57d95503
--! Hash: sha1:ffaa22f34ed35efaebe5fe3fd65122a2dac6bd80
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
