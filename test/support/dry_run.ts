import type pg from 'pg';
import { one } from './factory.ts';

/** What app_public.dry_run has. */
export interface DryRun {
  readonly changes: object[];
  readonly events: Record<string, unknown>[];
  readonly conflicts: object[];
}

/** Calls a dry run by the connection's role: `plan($1, $2)`. */
export async function dryRun(
  client: pg.ClientBase,
  call: string,
  values: unknown[],
): Promise<DryRun> {
  const { rows } = await client.query<DryRun>(`select * from app_public.dry_run_${call}`, values);
  return one(rows);
}
