import type pg from 'pg';

/**
 * Reads one value: the first column of the first row.
 *
 * @returns undefined when there is no row
 * @throws the database's error
 */
export async function readValue<T>(
  client: pg.Pool | pg.ClientBase,
  text: string,
  values: readonly unknown[] = [],
): Promise<T | undefined> {
  const { rows } = await client.query<[T]>({ text, values: [...values], rowMode: 'array' });
  return rows[0]?.[0];
}
