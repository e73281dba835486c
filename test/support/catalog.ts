import type pg from 'pg';

/** The schemas that are ours, as a list for `in`. */
export const OURS = `('app_public', 'app_private', 'audit')`;

/** The column `name` of what a query gives. */
export async function names(client: pg.ClientBase, query: string): Promise<string[]> {
  const { rows } = await client.query<{ name: string }>(query);
  return rows.map(({ name }) => name);
}
