import pg from 'pg';

/**
 * Runs `work` on a connection of its own. When that is lost, the query in hand fails, or the next one; it ends no process.
 *
 * @param name what pg_stat_activity shows as application_name
 * @throws the error of connecting, and what `work` throws
 */
export async function withConnection<T>(
  url: string,
  name: string,
  work: (client: pg.Client) => Promise<T>,
): Promise<T> {
  const client = new pg.Client({ connectionString: url, application_name: name });
  // The next query fails. Without a listener Node would end the process.
  client.on('error', () => undefined);
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}
