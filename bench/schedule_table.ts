import { readFile } from 'node:fs/promises';
import type { BenchDatabase } from './environment.ts';

/** What is done for a schedule that is inserted, each with all that stands before it. */
export const PARTS = ['bare', 'stamps', 'rls', 'audit', 'notify'] as const;
export type Part = (typeof PARTS)[number];

const TABLE = 'app_public.feature_flag_schedules';
const NOTIFY_FILE = new URL('../migrations/fixtures/audit/record/notify.sql', import.meta.url);
/** As it is but for what it does. */
const NO_NOTIFY = `
  create or replace function app_private.notify_audit(event_ids uuid[], schedule_ids uuid[]) returns void language plpgsql
  volatile set search_path to pg_catalog, pg_temp as $$ begin return; end $$`;

/**
 * Leaves switched on what a part has, and nothing behind it. Row-level security is the matter of who inserts. Checks,
 * indexes and the foreign key are always there.
 */
export async function switchTo({ root }: BenchDatabase, part: Part): Promise<void> {
  const has = (other: Part) => PARTS.indexOf(other) <= PARTS.indexOf(part);
  const notify = has('notify') ? await readFile(NOTIFY_FILE, 'utf8') : NO_NOTIFY;
  const stamps = has('stamps') ? 'enable' : 'disable';
  const audit = has('audit') ? 'enable always' : 'disable';
  await root.query(`
    begin;
    ${notify};
    alter table ${TABLE} ${stamps} trigger _100_state, ${stamps} trigger _200_track, ${audit} trigger _900_audit_insert;
    commit`);
}

/** Flags of environment production, with keys that begin with `prefix`. @returns their ids */
export async function makeFlags(
  { root }: BenchDatabase,
  prefix: string,
  count: number,
): Promise<string[]> {
  const { rows } = await root.query<{ id: string }>(
    `insert into app_public.feature_flags (flag_key)
     select $1 || '-' || n from generate_series(1, $2::integer) as n returning id`,
    [prefix, count],
  );
  return rows.map(({ id }) => id);
}
