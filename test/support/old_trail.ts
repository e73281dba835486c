import type pg from 'pg';

/** Three events in each of `count` months, the last of which ended nine months ago; the months' first days, oldest first. */
export async function writeOldMonths(client: pg.ClientBase, count: number): Promise<string[]> {
  const { rows } = await client.query<{ month: string }>(
    `select to_char(date_trunc('month', now(), 'UTC') at time zone 'UTC' - make_interval(months => 9 + i), 'YYYY-MM-DD') as month
     from generate_series($1::int, 1, -1) as i`,
    [count],
  );
  const months = rows.map(({ month }) => month);
  for (const month of months)
    await client.query(
      `select app_private.make_audit_partition($1::date::timestamp at time zone 'UTC'),
         app_private.write_events(array(
           select app_private.make_event(
             gen_random_uuid(), ($1::date + i)::timestamp at time zone 'UTC', 'feature_flag.created', gen_random_uuid(),
             'flag-' || i, 'production', null, 1, jsonb_build_object('flagKey', 'flag-' || i))
           from generate_series(1, 3) as i))`,
      [month],
    );
  return months;
}

/** Has the destination confirm all that is sealed, as if the worker had delivered it: without the event of a jump. */
export async function deliverAll(client: pg.ClientBase, destination: string): Promise<void> {
  const setTriggers = (action: string) =>
    client.query(
      `alter table audit.cursors ${action} trigger _900_audit_insert, ${action} trigger _900_audit_update`,
    );
  await setTriggers('disable');
  await client.query(
    `insert into audit.cursors (destination, last_seq) select $1, max(last_seq) from audit.seals
     on conflict (destination) do update set last_seq = excluded.last_seq`,
    [destination],
  );
  await setTriggers('enable always');
}

/** A row of audit.retain(). */
export interface RetainedMonth {
  readonly month: string | null;
  readonly events: string | null;
  readonly outcome: string;
  readonly reason: string | null;
}

/** Calls audit.retain(). */
export async function retain(
  client: pg.ClientBase,
  keep: string | null,
  options: { atMost?: number; dryRun?: boolean } = {},
): Promise<RetainedMonth[]> {
  const { rows } = await client.query<RetainedMonth>(
    'select month::text, events, outcome, reason from audit.retain($1::interval, $2, $3)',
    [keep, options.atMost ?? null, options.dryRun ?? false],
  );
  return rows;
}
