import type pg from 'pg';
import { withClient, type TestDatabase } from './database.ts';
import { one } from './factory.ts';

/**
 * A transaction that can act as every role, and is rolled back: an administrator's session, which acts as the owner,
 * without claims, at first. Change to a request's role with `become`, and back with `actAsOwner`.
 */
export async function withActors<T>(
  database: TestDatabase,
  work: (client: pg.Client) => Promise<T>,
): Promise<T> {
  return withClient(database.rootUrl, async (client) => {
    await client.query('begin');
    try {
      await actAsOwner(client);
      return await work(client);
    } finally {
      await client.query('rollback');
    }
  });
}

/** The owner without claims: what it sees is what there is. */
export async function actAsOwner(client: pg.ClientBase): Promise<void> {
  await actAs(client, 'halyard_owner');
}

/** Any role, without claims, in a session of the administrator's own login. */
export async function actAs(client: pg.ClientBase, role: string): Promise<void> {
  await client.query('set local session authorization default');
  await client.query(
    `select set_config(name, '', true)
     from unnest(array['jwt.claims.role', 'jwt.claims.user_id', 'jwt.claims.email', 'jwt.claims.environments',
       'halyard.request_id', 'halyard.client_request_id', 'halyard.reason']) as setting (name)`,
  );
  await client.query(`select set_config('role', $1, true)`, [role]);
}

/** The worker in a session of its own login, for the length of `work`; then the owner again. */
export async function asWorker<T>(client: pg.ClientBase, work: () => Promise<T>): Promise<T> {
  await actAs(client, 'none');
  await client.query('set local session authorization halyard_worker');
  const result = await work();
  await actAsOwner(client);
  return result;
}

/** The first value of a query's only row. */
export async function value<T>(
  client: pg.ClientBase,
  query: string,
  parameters: readonly unknown[] = [],
): Promise<T> {
  const { rows } = await client.query<[T]>({
    text: query,
    values: [...parameters],
    rowMode: 'array',
  });
  return one(rows)[0];
}
