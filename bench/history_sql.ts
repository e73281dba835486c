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
 * How to take the indexes that grow with each row, and to make those again that lists and searches can use: not those by a schedule's
 * key, by when it was applied or is tried again, and by an event's schedule. The trail's key first, because making it waits for no
 * other; then what is made beside the trail's indexes, and of those the longest first.
 */
export const INDEXES = `
  select
    case when k.oid is null then format('drop index %s', i.indexrelid::regclass)
      else format('alter table %s drop constraint %I', i.indrelid::regclass, k.conname) end as drop,
    case when i.indexrelid::regclass::text ~ 'schedules_(pkey|applied_idx|retry_idx)$|events_schedule_idx$' then null
      when k.oid is null then replace(pg_get_indexdef(i.indexrelid), ' ON ONLY ', ' ON ')
      else format('alter table %s add constraint %I %s', i.indrelid::regclass, k.conname, pg_get_constraintdef(k.oid))
      end as make
  from pg_index i
  left join pg_constraint k on k.conindid = i.indexrelid and k.conrelid = i.indrelid and k.contype in ('p', 'u')
  where i.indrelid in (
    'audit.events'::regclass, 'audit.ledger'::regclass, 'app_public.feature_flag_schedules'::regclass)
    and (i.indpred is null or pg_get_expr(i.indpred, i.indrelid) ~ 'IS NOT NULL|applied')
  order by
    i.indrelid = 'audit.events'::regclass and k.oid is null, i.indrelid <> 'audit.events'::regclass,
    i.indexrelid::regclass::text !~ 'events_(type|flag_key)_idx$', i.indexrelid`;

/** What searches are by; to gather statistics of texts and documents takes three times as long. */
export const VACUUM = `
  select
    format('vacuum (analyze) %s (%s)', c.oid::regclass, string_agg(quote_ident(a.attname), ', ')) as vacuum
  from pg_class c
  join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and a.attname not in ('payload', 'metadata', 'updates', 'leaf')
  where c.oid = $1::regclass
  group by c.oid`;

/**
 * What each month is made of: $1 rows for $2 flags, $3 admins and the environments $4. Who and what is a function of n, so that
 * each run reads the same; a square makes the first admins frequent. Metadata are made once a flag: for each row they would take longer
 * than all its rest.
 */
export const MONTH = `
  create unlogged table public.bench_month as
  with flag as materialized (
    select
      f, md5('flag ' || f)::uuid as flag_id, 'flag-' || f as flag_key, ($4::text[])[1 + f % cardinality($4::text[])] as environment,
      jsonb_build_object(
        'flagKey', 'flag-' || f, 'scheduleId', md5('flag ' || f)::uuid, 'scheduledAt', now(),
        'adminUserId', 'user-' || f % $3::bigint, 'adminEmail', 'user-' || f % $3::bigint || '@example.com',
        'updates', jsonb_build_object('enabled', true, 'rolloutPercentage', 25)) as metadata
    from generate_series(0, $2::bigint - 1) as f
  )
  select
    m.*, m.admin || '@example.com' as email,
    case when m.kind < 38 then 'admin' when m.kind = 38 then 'database' else 'system' end as actor,
    case
      when m.kind < 30 then 'flag_schedule.created' when m.kind < 34 then 'flag_schedule.cancelled'
      when m.kind < 36 then 'flag_schedule.rescheduled' when m.kind < 66 then 'feature_flag.updated'
      when m.kind < 98 then 'flag_schedule.applied' else 'flag_schedule.failed'
    end as event_type,
    case when m.kind = 0 then 'pending' when m.kind < 90 then 'applied' when m.kind < 98 then 'cancelled' else 'failed' end as status
  from (
    select
      h.n, flag.flag_id, flag.flag_key, flag.environment, flag.metadata,
      'user-' || floor($3::integer * ((h.h >> 20) % 1000 / 1000.0::float8) ^ 2) as admin, ((h.h >> 40) % 100)::integer as kind
    from (
      select n, hashint8extended(n, 42) & 4611686018427387903 as h from generate_series(0, $1::bigint - 1) as n
    ) as h
    join flag on flag.f = case when h.h % 5 = 0 then 0 else h.h / 5 % $2::bigint end
  ) as m
  order by m.n`;

/** A random uuid of a row's number, in half the time that gen_random_uuid() takes; each kind of row has a seed. */
const uuidOf = (n: string, seed: number) =>
  `encode(hashint8extended(${n}, ${seed})::bytea || hashint8extended(${n}, ${seed + 1})::bytea, 'hex')::uuid`;
const EVENT_ID = uuidOf('$1::bigint + m.n', 1);

/** A month of the trail, which had $1 events before: from $2, an event each $3. Their texts are short. */
export const events = (partition: string) => `
  insert into ${partition} (
    id, occurred_at, event_type, level, flag_id, flag_key, environment, schedule_id, revision, actor_kind, admin_user_id,
    admin_email, request_id, database_user, application_name, metadata, payload)
  select
    ${EVENT_ID}, $2::timestamptz + m.n * $3::interval, m.event_type,
    case m.event_type when 'flag_schedule.failed' then 'error' else 'info' end, m.flag_id, m.flag_key, m.environment,
    m.flag_id, 2, m.actor, case m.actor when 'admin' then m.admin end, case m.actor when 'admin' then m.email end,
    'request-' || m.n, case m.actor when 'database' then 'dba' else 'halyard' end, 'halyard bench', m.metadata,
    '{"eventType": "' || m.event_type || '", "environment": "' || m.environment || '"}'
  from public.bench_month m`;

/** The numbers of the same events. */
export const LEDGER = `
  insert into audit.ledger (seq, event_id, occurred_at, leaf, event_type, flag_key, environment)
  select
    $1::bigint + m.n + 1, ${EVENT_ID}, $2::timestamptz + m.n * $3::interval,
    uuid_send(m.flag_id) || uuid_send(m.flag_id), m.event_type, m.flag_key, m.environment
  from public.bench_month m`;

/** A hundredth is pending, the rest is over: $1 before, from $2, a schedule each $3. */
export const SCHEDULES = `
  insert into app_public.feature_flag_schedules (
    id, flag_id, scheduled_at, status, updates, applied_at, created_at, updated_at, created_by, cancelled_by, cancelled_at)
  select
    ${uuidOf('$1::bigint + m.n', 3)}, m.flag_id, case m.status when 'pending' then now() + interval '1 year' else s.at end, m.status,
    '{"enabled": true}', case m.status when 'applied' then s.at end, s.at, s.at, m.admin,
    case m.status when 'cancelled' then m.admin end, case m.status when 'cancelled' then s.at end
  from public.bench_month m
  cross join lateral (select $2::timestamptz + m.n * $3::interval) as s (at)`;
