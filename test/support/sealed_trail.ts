import type pg from 'pg';
import { value } from './actors.ts';

/** A problem as audit.verify() tells it; rows that are ok are left out. */
export interface Finding {
  readonly seal: number | null;
  readonly status: string;
  readonly seqs: number[] | null;
  readonly detail: string;
}

/** Events made by the triggers: `count` flags, numbered and sealed, `batch` events a seal. */
export async function sealFlags(client: pg.ClientBase, count: number, batch = 10): Promise<void> {
  await client.query(
    `insert into app_public.feature_flags (flag_key)
     select 'sealed-' || gen_random_uuid() from generate_series(1, $1)`,
    [count],
  );
  await sealAll(client, batch);
}

/** Numbers and seals what is queued, `batch` events a seal. */
export async function sealAll(client: pg.ClientBase, batch = 1000): Promise<void> {
  const seal = 'select count(queue_id)::int as sealed from app_private.seal_batch($1, 0)';
  while ((await value<number>(client, seal, [batch])) > 0);
}

/** What audit.verify() finds wrong, or purged, by seal and status. */
export async function findings(client: pg.ClientBase, from = 1, to?: number): Promise<Finding[]> {
  const { rows } = await client.query<Finding>(
    `select seal_no::int as seal, status, seqs::int[], detail
     from audit.verify($1, $2)
     where status <> 'ok'`,
    [from, to ?? null],
  );
  return rows;
}

/** Runs statements past every trigger, as who may do anything with a database can. */
export async function tamper(client: pg.ClientBase, ...statements: string[]): Promise<void> {
  await client.query('set local role postgres');
  const tables = ['audit.events', 'audit.ledger', 'audit.seals'];
  const { rows: partitions } = await client.query<{ name: string }>(
    `select inhrelid::regclass::text as name from pg_inherits where inhparent = 'audit.events'::regclass`,
  );
  for (const table of [...tables, ...partitions.map(({ name }) => name)])
    await client.query(`alter table ${table} disable trigger user`);
  for (const statement of statements) await client.query(statement);
}

/** Switches the triggers that keep the trail append-only, as only a superuser can. */
export const triggersOfEvents = (how: 'disable' | 'enable always'): string => `
  do $$
  declare v text;
  begin
    for v in
      select format('alter table %s ${how} trigger %I', t.tgrelid::regclass, t.tgname)
      from pg_partition_tree('audit.events') p join pg_trigger t on t.tgrelid = p.relid
      where t.tgname like '\\_%'
    loop
      execute v;
    end loop;
  end $$`;

/** An event, as far as searches of the trail ask for it. */
export interface SearchedEvent {
  readonly id: string;
  readonly eventType: string;
  readonly requestId: string | null;
  readonly seq: string | null;
  readonly seal: {
    number: string;
    head: string;
    sealedAt: string;
    anchored: boolean;
    problem: string | null;
  } | null;
}
