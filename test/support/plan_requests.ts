import type pg from 'pg';
import { value } from './actors.ts';
import { become, type TestClaims } from './roles.ts';

/** A change of a plan, as REST and SQL take it. */
export interface PlanChange {
  readonly flag_key: string;
  readonly environment?: string;
  readonly updates: object;
  readonly expects?: object;
  readonly on_conflict?: 'overwrite' | 'keep' | 'suspend';
}

interface Request {
  readonly title?: string;
  /** Milliseconds from now; null for due now. */
  readonly inMs?: number | null;
  readonly reason?: string;
  readonly as?: TestClaims;
}

/** The one step of a plan; of production unless a change says otherwise. */
export const stepsOf = (changes: readonly PlanChange[]) =>
  JSON.stringify([
    { changes: changes.map((change) => ({ environment: 'production', ...change })) },
  ]);

/**
 * Runs `work` as an admin of the API, in a transaction that is committed.
 *
 * @param client an administrator's
 */
export async function asApiAdmin<T>(
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

/** Makes a plan as an admin of the API, in an hour unless `inMs` says otherwise; gives its id. */
export function createPlan(
  client: pg.ClientBase,
  changes: readonly PlanChange[],
  { title = 'A release', inMs = 3_600_000, reason, as }: Request = {},
): Promise<string> {
  return asApiAdmin(
    client,
    () =>
      value<string>(
        client,
        `select id from app_public.create_plan($1, $2, clock_timestamp() + $3 * interval '1 ms', $4)`,
        [title, stepsOf(changes), inMs, reason ?? null],
      ),
    as,
  );
}
