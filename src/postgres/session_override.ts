import type pg from 'pg';
import { ConfigError } from '../config/error.ts';

/** Settings of a session by name, the role among them, with values as PostgreSQL shows them. */
export type SessionSettings = Readonly<Record<string, string>>;

/**
 * Sets a session's settings. Not in the start-up packet: PgBouncer refuses its `options`, or ignores them.
 *
 * @throws ConfigError when they don't hold for the next statement, as behind a pooler that lends a connection for a transaction
 */
export async function setSession(
  client: Pick<pg.ClientBase, 'query'>,
  settings: SessionSettings,
): Promise<void> {
  const names = Object.keys(settings);
  const values = [names, Object.values(settings)];
  const wanted = 'unnest($1::text[], $2::text[]) as s (name, value)';
  await client.query(`select set_config(s.name, s.value, false) from ${wanted}`, values);
  const { rows } = await client.query<{ name: string }>(
    `select s.name from ${wanted} where current_setting(s.name) is distinct from s.value`,
    values,
  );
  if (rows.length > 0)
    throw new ConfigError([
      `The database doesn't keep the session's ${rows.map(({ name }) => name).join(', ')}: connect to PostgreSQL itself, ` +
        'or by a pooler in session mode.',
    ]);
}
