--! Previous: sha1:7f25ffaf51d4d7c77437abfd7df3352c57d95503
--! Hash: sha1:d3617ea4eae543ee26804c9a248ec7ba31130bd8
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
  'How far the trail reaches, is sealed, and has been confirmed by the destination that has most of it, and what is known to be wrong with it, a sentence each. It verifies nothing.';

grant execute on function audit.trail_status() to halyard_admin, halyard_auditor;
--! EndIncluded audit/read/status.sql
