import pg from 'pg';
import { ConnectionError } from './error.ts';

/**
 * How long a connection may take to be made, in milliseconds: the operating system would wait for two minutes. A start keeps
 * this process busy for seconds meanwhile.
 */
const CONNECT_TIMEOUT_MS = 20_000;

/**
 * Runs `work` on a connection of its own. When that is lost, the query in hand fails, or the next one; it ends no process.
 *
 * @param name what pg_stat_activity shows as application_name
 * @throws ConnectionError when there is no connection or it is lost, and what `work` throws
 */
export async function withConnection<T>(
  url: string,
  name: string,
  work: (client: pg.Client) => Promise<T>,
): Promise<T> {
  const client = await connect(url, name);
  const loss = new AbortController();
  // The next query fails. Without a listener Node would end the process.
  client.on('error', () => loss.abort());
  try {
    return await work(client);
  } catch (error) {
    throw loss.signal.aborted ? new ConnectionError(url, error) : error;
  } finally {
    await client.end();
  }
}

async function connect(url: string, name: string): Promise<pg.Client> {
  try {
    const client = new pg.Client({
      connectionString: url,
      application_name: name,
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    });
    client.on('error', () => undefined);
    await client.connect();
    return client;
  } catch (error) {
    throw new ConnectionError(url, error);
  }
}
