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
