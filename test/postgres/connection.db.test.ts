import { expect, inject, test } from 'vitest';
import { withConnection } from '../../src/postgres/connection.ts';

test('a connection that is lost while nobody asks ends no process, and fails the next query', async () => {
  const url = inject('rootUrl');
  const pid = (client: { query: (sql: string) => Promise<{ rows: { pid: number }[] }> }) =>
    client.query('select pg_backend_pid() as pid').then(({ rows }) => rows[0]?.pid);
  const lost = withConnection(url, 'halyard test', async (client) => {
    const ended = new Promise((resolve) => client.once('end', resolve));
    const victim = await pid(client);
    await withConnection(url, 'halyard test', (other) =>
      other.query('select pg_terminate_backend($1)', [victim]),
    );
    await ended;
    await pid(client);
  });
  await expect(lost).rejects.toThrow();
});
