import type pg from 'pg';

/** Events for benchmarks, written past the triggers: what is measured begins at the queue. Their text is a usual one's. */
export async function queueEvents(root: pg.Pool, count: number): Promise<void> {
  const half = Math.ceil(count / 2);
  await Promise.all([fill(root, 1, half), fill(root, half + 1, count)]);
  await analyze(root, 'audit.events, audit.queue, audit.ledger');
}

/** On a connection, and a processor, of its own. */
async function fill(root: pg.Pool, first: number, last: number): Promise<void> {
  const chunk = 50_000;
  for (let from = first; from <= last; from += chunk)
    await root.query(FILL, [from, Math.min(last, from + chunk - 1)]);
}

/** Gathers statistics of a tenth of the usual sample, which are as good for these rows: a whole one takes longer than to fill. */
export async function analyze(root: pg.Pool, tables: string, how = ''): Promise<void> {
  const client = await root.connect();
  try {
    await client.query('set default_statistics_target = 10');
    await client.query(`${how} analyze ${tables}`);
    await client.query('reset default_statistics_target');
  } finally {
    client.release();
  }
}

const FILL = `
  with made as materialized (
    select
      gen_random_uuid() as id, clock_timestamp() as occurred_at, gen_random_uuid() as flag_id,
      jsonb_build_object(
        'flagKey', 'flag-' || n,
        'before', '{"enabled": false, "rolloutPercentage": 100, "description": null}'::jsonb,
        'after', '{"enabled": true, "rolloutPercentage": 100, "description": null}'::jsonb,
        'adminUserId', 'alice', 'adminEmail', 'alice@example.com') as metadata,
      n
    from generate_series($1::bigint, $2::bigint) as n
  ), written as (
    insert into audit.events (
      id, occurred_at, event_type, level, flag_id, flag_key, environment, revision, actor_kind, admin_user_id, admin_email,
      request_id, database_user, application_name, metadata, payload)
    select
      m.id, m.occurred_at, 'feature_flag.updated', 'info', m.flag_id, 'flag-' || m.n, 'production', 2, 'admin', 'alice',
      'alice@example.com', 'request-' || m.n, 'halyard_authenticator', 'halyard-api', m.metadata,
      app_private.render_event(row(
        m.id, m.occurred_at, 'feature_flag.updated', 'info', m.flag_id, 'flag-' || m.n, 'production', null, 2, 'admin',
        'alice', 'alice@example.com', 'request-' || m.n, null, 'halyard_authenticator', 'halyard-api', false,
        m.metadata, null)::app_private.audit_event)
    from made m
  )
  insert into audit.queue (event_id, occurred_at)
  select m.id, m.occurred_at from made m order by m.n`;

/** Waits until a worker has applied what is due and sent every event. @throws Error when it hasn't after a minute */
export async function whenSettled(root: pg.Pool): Promise<void> {
  const deadline = performance.now() + 60_000;
  for (;;) {
    const { rows } = await root.query<{ undone: boolean }>(UNDONE);
    if (rows[0]?.undone === false) return;
    if (performance.now() > deadline) throw new Error('Not everything was applied and delivered.');
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

const UNDONE = `
  select exists (select from app_public.feature_flag_schedules s where s.status = 'pending' and s.scheduled_at < now())
    or exists (select from audit.queue)
    or coalesce((select max(l.seq) from audit.ledger l), 0) > coalesce((select min(c.last_seq) from audit.cursors c), 0) as undone`;

/** Numbers and seals all that is queued, a transaction for each batch, as the forwarder does; what was sealed isn't handed out. */
export async function sealAll(worker: pg.Pool, batch = 1_000): Promise<number> {
  let sealed = 0;
  let after: string | null = '0';
  while (after !== null) {
    const { rows }: pg.QueryResult<{ sealed: number; last_id: string | null }> = await worker.query(
      {
        name: 'seal',
        text: 'select count(queue_id)::int as sealed, max(queue_id) as last_id from app_private.seal_batch($1, $2)',
      },
      [batch, after],
    );
    sealed += rows[0]?.sealed ?? 0;
    after = rows[0]?.last_id ?? null;
  }
  return sealed;
}
