--! Previous: sha1:a5c2c6a9c56e2fd975c4d41e3360e8d650d213f0
--! Hash: sha1:502dc6b93b0a41e7b509364c680b641ecf1b62da
--! Message: events-delivered-as-they-are-sealed

-- The migration in the making. See migrations/README.md.

-- number_and_hand_out() is in its place.
drop function if exists app_private.number_events(integer, bigint, bigint);
--! Included sealing.sql
-- From the queue to the ledger: number the events, and seal each batch, so that whoever holds a seal's head can tell whether
-- anything before it was changed, taken out or put in.
--
-- A seal is the root of an RFC 6962 Merkle tree over the batch's leaves, chained to the seal before it. A leaf is the hash of
-- the very message that is shipped, so that a copy outside can be checked line by line without the database.

-- RFC 6962, section 2.1: MTH({d}) = SHA-256(0x00 || d).
create or replace function app_private.leaf_hash(message text)
returns bytea
language sql
stable
parallel safe
return sha256('\x00'::bytea || convert_to(message, 'UTF8'));

comment on function app_private.leaf_hash(text) is 'The Merkle leaf of a shipped message: SHA-256 of 0x00 and its UTF-8 bytes.';

-- leaf_hash() of shipped_message(), without the way through text.
create or replace function app_private.event_leaf(payload text, seq bigint)
returns bytea
language sql
stable
parallel safe
return sha256('\x00'::bytea || app_private.shipped_bytes(payload, seq));

comment on function app_private.event_leaf(text, bigint) is 'The Merkle leaf of the message that is shipped for an event''s payload.';

-- What is shipped, and sealed, for an event whose row is gone before it was numbered.
create or replace function app_private.missing_message(event_id uuid, seq bigint)
returns text
language sql
immutable
parallel safe
return '{"eventType": "audit.missing", "eventId": "' || event_id::text || '", "seq": ' || seq::text || '}';

comment on function app_private.missing_message(uuid, bigint) is 'What is shipped in place of an event whose row is gone.';

-- To a destination that begins to be used when the event has been purged.
create or replace function app_private.purged_message(event_id uuid, seq bigint)
returns text
language sql
immutable
parallel safe
return '{"eventType": "audit.missing", "eventId": "' || event_id::text || '", "seq": ' || seq::text || ', "purged": true}';

comment on function app_private.purged_message(uuid, bigint) is 'What is shipped in place of an event that was purged before.';

-- Level by level, a last node without a partner going up as it is: the tree of RFC 6962, section 2.1, whose left half is always
-- the largest power of two. 1.5 µs a leaf.
create or replace function app_private.merkle_root(leaves bytea[])
returns bytea
language plpgsql
immutable
parallel safe
set search_path to pg_catalog, pg_temp
as $$
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
      v_above[(i + 1) / 2] := sha256('\x01'::bytea || v_nodes[i] || v_nodes[i + 1]);
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
$$;

comment on function app_private.merkle_root(bytea[]) is 'The Merkle tree hash of leaves that are hashed already (RFC 6962, section 2.1).';

-- 0x02 keeps heads apart from leaves and nodes. Numbers are eight bytes, the most significant first.
create or replace function app_private.seal_head(previous_head bytea, seal_no bigint, first_seq bigint, events bigint, root bytea)
returns bytea
language sql
immutable
parallel safe
return sha256('\x02'::bytea || previous_head || int8send(seal_no) || int8send(first_seq) || int8send(events) || root);

comment on function app_private.seal_head(bytea, bigint, bigint, bigint, bytea) is
  'The head of a seal: SHA-256 of 0x02, the head before it, the seal''s number, its first seq, how many events it seals, and their root.';

-- Takes the next events out of the queue and writes them into the ledger with their leaves. No one else takes from the queue,
-- so no row has to be locked first. The bound is a statement's own snapshot, in which the same rows are deleted.
create or replace function app_private.number_and_hand_out(batch integer, after bigint, last_seq bigint)
returns table (queue_id bigint, seq bigint, event_id uuid, occurred_us double precision, message text)
language plpgsql
volatile
set search_path to pg_catalog, pg_temp
as $$
begin
  return query
  with taken as (
    delete from audit.queue q
    where q.id > number_and_hand_out.after
      and q.id <= (
        select max(b.id)
        from (select n.id from audit.queue n where n.id > number_and_hand_out.after order by n.id limit batch) as b)
    returning q.id, q.event_id, q.occurred_at
  ), numbered as (
    select t.*, number_and_hand_out.last_seq + row_number() over (order by t.id) as seq
    from taken t
  ), told as materialized (
    select
      n.*,
      coalesce(
        app_private.shipped_bytes(e.payload, n.seq),
        convert_to(app_private.missing_message(n.event_id, n.seq), 'UTF8')) as message
    from numbered n
    -- In its own month only, as in seal_problems().
    left join lateral (
      select x.payload from audit.events x where x.id = n.event_id and x.occurred_at = n.occurred_at limit 1
    ) as e on true
  ), stored as (
    insert into audit.ledger (seq, event_id, occurred_at, leaf)
    -- As leaf_hash(), without the way through text.
    select t.seq, t.event_id, t.occurred_at, sha256('\x00'::bytea || t.message)
    from told t
  )
  select t.id, t.seq, t.event_id, date_part('epoch', t.occurred_at) * 1000000, convert_from(t.message, 'UTF8')
  from told t
  order by t.seq;
end;
$$;

comment on function app_private.number_and_hand_out(integer, bigint, bigint) is
  'Numbers up to `batch` queued events above the queue id `after`; gives them in order, each with its queue id, its time in microseconds since 1970 and the message to ship.';

-- An id that is numbered already, or queued twice, can only be one that was put in by hand: the ledger has each event once.
create or replace function app_private.refuse_repeated_events()
returns void
language sql
volatile
set search_path to pg_catalog, pg_temp
as $$
  with repeated as (
    delete from audit.queue q
    where exists (select from audit.ledger l where l.event_id = q.event_id)
      or exists (select from audit.queue o where o.event_id = q.event_id and o.id < q.id)
    returning q.event_id, q.occurred_at
  )
  insert into audit.dead_letters (content, error_code, error_message)
  select
    jsonb_build_object('event_id', r.event_id, 'occurred_at', r.occurred_at), 'ZF012',
    'The trail has an event with this id already; this one was put in by hand.'
  from repeated r
$$;

comment on function app_private.refuse_repeated_events() is 'Moves queued events whose id is taken to the dead letters.';

-- Ids and times are not in the order of commits, so a cursor over them would skip what commits late (28 % of the events
-- under twelve writers). So the triggers queue each event, and this gives each queued one the next number: gapless, once,
-- in the order of the queue among those that are committed. One sequencer at a time; a second one leaves at once.
--
-- Taken rows stay in the index until vacuum can remove them, which it can't while an old transaction is open: a run that
-- looked from the start each time would walk over all that it has taken before. So a run hands the last id that it took to
-- its next call, and looks from the start again at its end, for what was committed late.
--
-- What has just been sealed is in hand, so whoever delivers it needn't read it from the trail again. Times are microseconds,
-- which a client reads quicker than a timestamp.
create or replace function app_private.seal_and_hand_out(batch integer, after bigint)
returns table (queue_id bigint, seq bigint, event_id uuid, occurred_us double precision, message text)
language plpgsql
volatile
security definer
set search_path to pg_catalog, pg_temp
set timezone to 'UTC'
as $$
declare
  v_size constant integer := least(batch, 1000);
  v_seal audit.seals;
  v_last_seq bigint;
  v_sealed integer;
begin
  -- Not an empty answer, which would tell two forwarders that run at once, each of the other's batch, that nothing is left to do.
  if not pg_try_advisory_xact_lock(hashtext('halyard.sequence_audit_events')) then
    return next;
    return;
  end if;
  -- Statements of their own, after the lock: they see what the last sequencer committed.
  select s.* into v_seal from audit.seals s order by s.seal_no desc limit 1;
  select coalesce(max(l.seq), 0) into v_last_seq from audit.ledger l;
  begin
    return query select n.* from app_private.number_and_hand_out(v_size, after, v_last_seq) as n;
    get diagnostics v_sealed = row_count;
  exception when unique_violation then
    -- The ledger's index is the check: looking up each event before would cost a tenth of it all.
    perform app_private.refuse_repeated_events();
    return query select n.* from app_private.number_and_hand_out(v_size, after, v_last_seq) as n;
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
$$;

comment on function app_private.seal_and_hand_out(integer, bigint) is
  'Numbers and seals up to `batch` (at most 1,000) queued events whose queue id is above `after`; gives them in order and the seal behind them, without a queue id, each with the message to ship. One row of nulls when another sequencer is at work.';

-- Without what was sealed.
create or replace function app_private.seal_audit_events(
  batch integer default 1000,
  after bigint default 0,
  out sealed integer,
  out last_id bigint
)
language sql
volatile
security definer
set search_path to pg_catalog, pg_temp
as $$
  select case when count(*) = count(h.seq) then count(h.queue_id) end, max(h.queue_id)
  from app_private.seal_and_hand_out(batch, after) as h
$$;

comment on function app_private.seal_audit_events(integer, bigint) is
  'Numbers and seals up to `batch` (at most 1,000) queued events whose queue id is above `after`; says how many (null when another sequencer is at work), and the last id that it took (null when there was none).';

create or replace function app_private.write_seal(previous audit.seals, first_seq bigint, leaves bytea[])
returns void
language sql
volatile
set search_path to pg_catalog, pg_temp
as $$
  insert into audit.seals (seal_no, first_seq, last_seq, root, previous_head, head)
  select
    n.seal_no, write_seal.first_seq, write_seal.first_seq + cardinality(leaves) - 1, n.root, n.previous_head,
    app_private.seal_head(n.previous_head, n.seal_no, write_seal.first_seq, cardinality(leaves), n.root)
  from (
    -- Without any seal before it, the chain begins anew; verification tells.
    select
      coalesce((previous).seal_no, 0) + 1,
      coalesce((previous).head, sha256('')),
      app_private.merkle_root(leaves)
  ) as n (seal_no, previous_head, root)
$$;

comment on function app_private.write_seal(audit.seals, bigint, bytea[]) is 'Appends the seal over these leaves, chained to the one before it.';

-- For processes of the version before, during a deployment.
create or replace function app_private.sequence_audit_events(batch integer default 1000)
returns integer
language sql
volatile
security definer
set search_path to pg_catalog, pg_temp
as $$ select coalesce(s.sealed, 0) from app_private.seal_audit_events(batch) as s $$;

comment on function app_private.sequence_audit_events(integer) is
  'Numbers and seals up to `batch` queued events; returns how many, 0 also when another sequencer is at work.';

-- A seal as it is shipped: the copy outside is what the trail is checked against.
create or replace function app_private.seal_message(seal audit.seals)
returns text
language sql
stable
return concat(
  '{"eventType": "audit.sealed"',
  ', "timestamp": "', app_private.iso((seal).sealed_at), '"',
  ', "eventId": "', app_private.uuid_of((seal).head), '"',
  ', "level": "info", "environment": null, "requestId": null',
  ', "metadata": {"seal": ', (seal).seal_no,
  ', "firstSeq": ', (seal).first_seq,
  ', "lastSeq": ', (seal).last_seq,
  ', "root": "', encode((seal).root, 'hex'), '"',
  ', "previousHead": "', encode((seal).previous_head, 'hex'), '"',
  ', "head": "', encode((seal).head, 'hex'), '"}}');

comment on function app_private.seal_message(audit.seals) is 'The audit.sealed record that is shipped for a seal.';

revoke all on function
  app_private.leaf_hash(text),
  app_private.event_leaf(text, bigint),
  app_private.missing_message(uuid, bigint),
  app_private.purged_message(uuid, bigint),
  app_private.merkle_root(bytea[]),
  app_private.seal_head(bytea, bigint, bigint, bigint, bytea),
  app_private.number_and_hand_out(integer, bigint, bigint),
  app_private.refuse_repeated_events(),
  app_private.seal_audit_events(integer, bigint),
  app_private.seal_and_hand_out(integer, bigint),
  app_private.write_seal(audit.seals, bigint, bytea[]),
  app_private.sequence_audit_events(integer),
  app_private.seal_message(audit.seals)
from public;
grant execute on function
  app_private.seal_audit_events(integer, bigint), app_private.seal_and_hand_out(integer, bigint),
  app_private.sequence_audit_events(integer)
to halyard_worker;
--! EndIncluded sealing.sql
