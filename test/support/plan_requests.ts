import type pg from 'pg';
import { createPlan, type PlanChange } from './plans.ts';
import { become, type TestClaims } from './roles.ts';

/**
 * What `work` does as an admin of a request of the API, in a transaction that is committed.
 *
 * @param client the authenticator's, or an administrator's
 */
export async function asRequest<T>(
  client: pg.ClientBase,
  work: () => Promise<T>,
  claims: TestClaims = { userId: 'alice', email: 'alice@example.com' },
): Promise<T> {
  await client.query('begin');
  try {
    await become(client, 'admin', claims);
    const result = await work();
    await client.query('commit');
    return result;
  } catch (error) {
    await client.query('rollback');
    throw error;
  }
}

/** Makes a plan of alice's, and commits it; due in an hour unless `dueIn`, null for now, says otherwise. Gives its id. */
export async function requestPlan(
  client: pg.ClientBase,
  changes: PlanChange[],
  options: Parameters<typeof createPlan>[2] = {},
): Promise<string> {
  return (await asRequest(client, () => createPlan(client, changes, options))).id;
}
