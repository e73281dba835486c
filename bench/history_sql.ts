/** The trail's months, this one and those before it. */
export const MAKE_MONTHS = `
  select app_private.make_audit_partition(now() - make_interval(months => n))
  from generate_series(0, $1::integer - 1) as n`;

/** The partitions that are filled, each with its time; the last one until now. */
export const MONTHS = `
  select
    'audit.events_' || to_char(month, 'YYYY_MM') as partition, month at time zone 'UTC' as first,
    least(now(), (month + interval '1 month') at time zone 'UTC') as last
  from generate_series(
    date_trunc('month', now() at time zone 'UTC') - make_interval(months => $1::integer - 1),
    date_trunc('month', now() at time zone 'UTC'), interval '1 month') as month
  order by month`;

/** flag-0 is the hot one. */
export const FLAGS = `
  insert into app_public.feature_flags (id, flag_key, environment)
  select md5('flag ' || f)::uuid, 'flag-' || f, ($2::text[])[1 + f % cardinality($2::text[])]
  from generate_series(0, $1::integer - 1) as f`;

/** Partitions, not their parent. */
export const TABLES = `
  select c.oid::regclass::text as name
  from pg_class c
  where c.relkind = 'r' and c.oid in (
    select relid from pg_partition_tree('audit.events')
    union all values ('audit.ledger'::regclass), ('app_public.feature_flag_schedules'::regclass))`;

/** Triggers that would write events, and a check of schedules that takes more time than all else. */
export const TAKE_GUARDS = `
  alter table app_public.feature_flags disable trigger _900_audit_insert;
  alter table app_public.feature_flag_schedules
    disable trigger _900_audit_insert, drop constraint feature_flag_schedules_updates_check`;
export const PUT_GUARDS = `
  alter table app_public.feature_flags enable always trigger _900_audit_insert;
  alter table app_public.feature_flag_schedules
    enable always trigger _900_audit_insert,
    add constraint feature_flag_schedules_updates_check check (app_private.updates_problem(updates) is null) not valid`;

/**
 * How to take and to make the indexes that grow with each row. The trail's key first, because making it waits for no other;
 * then what is made beside the trail's indexes.
 */
export const INDEXES = `
  select
    case when k.oid is null then format('drop index %s', i.indexrelid::regclass)
      else format('alter table %s drop constraint %I', i.indrelid::regclass, k.conname) end as drop,
    case when k.oid is null then replace(pg_get_indexdef(i.indexrelid), ' ON ONLY ', ' ON ')
      else format('alter table %s add constraint %I %s', i.indrelid::regclass, k.conname, pg_get_constraintdef(k.oid))
      end as make
  from pg_index i
  left join pg_constraint k on k.conindid = i.indexrelid and k.conrelid = i.indrelid and k.contype in ('p', 'u')
  where i.indrelid in (
    'audit.events'::regclass, 'audit.ledger'::regclass, 'app_public.feature_flag_schedules'::regclass)
    and (i.indpred is null or pg_get_expr(i.indpred, i.indrelid) ~ 'IS NOT NULL|applied')
  order by i.indrelid = 'audit.events'::regclass and k.oid is null, i.indrelid <> 'audit.events'::regclass, i.indexrelid`;

/**
 * What each month is made of: $1 rows for $2 flags, $3 admins and the environments $4. Who and what is a function of n, so that
 * each run reads the same; a square makes the first admins frequent.
 */
export const MONTH = `
  create unlogged table bench_month as
  select
    m.*, m.admin || '@example.com' as email,
    case when m.kind < 38 then 'admin' when m.kind = 38 then 'database' else 'system' end as actor,
    case
      when m.kind < 30 then 'flag_schedule.created' when m.kind < 34 then 'flag_schedule.cancelled'
      when m.kind < 36 then 'flag_schedule.rescheduled' when m.kind < 66 then 'feature_flag.updated'
      when m.kind < 98 then 'flag_schedule.applied' else 'flag_schedule.failed'
    end as event_type,
    case when m.kind = 0 then 'pending' when m.kind < 90 then 'applied' when m.kind < 98 then 'cancelled' else 'failed' end as status,
    jsonb_build_object(
      'flagKey', m.flag_key, 'scheduleId', m.flag_id, 'scheduledAt', now(), 'adminUserId', m.admin, 'adminEmail', m.admin,
      'updates', jsonb_build_object('enabled', true, 'rolloutPercentage', 25)) as metadata
  from (
    select
      n, md5('flag ' || f)::uuid as flag_id, 'flag-' || f as flag_key, ($4::text[])[1 + f % cardinality($4::text[])] as environment,
      'user-' || floor($3::integer * ((h >> 20) % 1000 / 1000.0::float8) ^ 2) as admin, ((h >> 40) % 100)::integer as kind
    from (
      select n, h, case when h % 5 = 0 then 0 else h / 5 % $2::bigint end as f
      from (
        select n, hashint8extended(n, 42) & 4611686018427387903 as h from generate_series(0, $1::bigint - 1) as n
      ) as hashed
    ) as flagged
  ) as m
  order by m.n`;

/** A month of the trail and of its ledger, which had $1 numbers before: from $2, an event each $3. */
export const events = (partition: string) => `
  with written as (
    insert into ${partition} (
      id, occurred_at, event_type, level, flag_id, flag_key, environment, schedule_id, revision, actor_kind, admin_user_id,
      admin_email, request_id, database_user, application_name, metadata, payload)
    select
      gen_random_uuid(), $2::timestamptz + m.n * $3::interval, m.event_type,
      case m.event_type when 'flag_schedule.failed' then 'error' else 'info' end, m.flag_id, m.flag_key, m.environment,
      gen_random_uuid(), 2, m.actor, case m.actor when 'admin' then m.admin end, case m.actor when 'admin' then m.email end,
      'request-' || m.n, case m.actor when 'database' then 'dba' else 'halyard' end, 'halyard bench', m.metadata,
      '{"eventType": "' || m.event_type || '", "environment": "' || m.environment || '", "metadata": ' || repeat('.', 400) || '}'
    from bench_month m
    returning id, occurred_at
  )
  insert into audit.ledger (seq, event_id, occurred_at, leaf)
  select $1::bigint + row_number() over (), w.id, w.occurred_at, uuid_send(w.id) || uuid_send(w.id)
  from written w`;

/** A hundredth is pending, the rest is over: from $1, a schedule each $2. */
export const SCHEDULES = `
  insert into app_public.feature_flag_schedules (
    flag_id, scheduled_at, status, updates, applied_at, created_at, updated_at, created_by, cancelled_by, cancelled_at)
  select
    m.flag_id, case m.status when 'pending' then now() + interval '1 year' else s.at end, m.status, '{"enabled": true}',
    case m.status when 'applied' then s.at end, s.at, s.at, m.admin, case m.status when 'cancelled' then m.admin end,
    case m.status when 'cancelled' then s.at end
  from bench_month m
  cross join lateral (select $1::timestamptz + m.n * $2::interval) as s (at)`;
