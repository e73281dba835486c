import type pg from 'pg';

/**
 * Runs `work` in one transaction of the login's own, without claims: its role is its right. After an error the connection is
 * discarded, and its transaction with it.
 *
 * @param begin the statement that begins it
 * @throws what `work` or the database throws
 */
export async function inTransaction<T>(
  pool: pg.Pool,
  work: (client: pg.PoolClient) => Promise<T>,
  begin = 'begin',
): Promise<T> {
  const client = await pool.connect();
  let isCommitted = false;
  try {
    await client.query(begin);
    const result = await work(client);
    await client.query('commit');
    isCommitted = true;
    return result;
  } finally {
    client.release(!isCommitted);
  }
}
