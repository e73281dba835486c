import pg from 'pg';
import type { Claims } from '../auth/claims.ts';
import { pipeline, type Statement } from './pipeline.ts';
import { connectAs } from './fair_pool.ts';
import { DatabaseUnavailableError, isLost } from './pool.ts';
import { pgSettings, setStatement } from './request_settings.ts';
import type { Asking, RequestIds, Settings } from './request_settings.ts';

const BEGIN: Statement = { name: 'begin', text: 'begin' };

/** Statement names include the role: a cached plan depends on row-level security, so a shared name would plan again at every switch of roles. */
function preparedFor({ role }: Settings, { name, ...statement }: Statement): Statement {
  return name === undefined ? statement : { ...statement, name: `${role}:${name}` };
}

/**
 * cached plan must not change result type; datatype_mismatch: a migration changed a type that the statement returns after it had
 * been planned, in our case while it waited for the migration's lock.
 */
const STALE_PLAN: ReadonlySet<string> = new Set(['0A000', '42804']);

/**
 * Runs one statement in a transaction of its own, as the role and with the claims of the caller, in one round trip. If the
 * settings can't be set, the statement isn't run. If a migration made its plan stale, it was rolled back and is run again, once.
 *
 * @param first a statement before it, in the same transaction, whose result isn't returned
 * @throws DatabaseUnavailableError when there is no connection or it is lost, ProblemError too_many_requests where the user's
 *   queue is full, and the statement's or the commit's error
 */
export async function queryAs<R extends pg.QueryResultRow>(
  pool: pg.Pool,
  settings: Settings,
  statement: Statement,
  first?: Statement,
): Promise<pg.QueryResult<R>> {
  const named = [...(first === undefined ? [] : [first]), statement].map((one) =>
    preparedFor(settings, one),
  );
  const statements = [setStatement(settings), ...named];
  try {
    return await queryOnce<R>(pool, settings, statements);
  } catch (error) {
    if (!(error instanceof pg.DatabaseError) || !STALE_PLAN.has(error.code ?? '')) throw error;
    return queryOnce<R>(pool, settings, statements);
  }
}

async function queryOnce<R extends pg.QueryResultRow>(
  pool: pg.Pool,
  settings: Settings,
  statements: readonly Statement[],
): Promise<pg.QueryResult<R>> {
  const client = await connectAs(pool, settings);
  try {
    const results = await pipeline(client, statements);
    client.release(!isIdle(client));
    return results.at(-1) as pg.QueryResult<R>;
  } catch (error) {
    client.release(await awaitReady(client));
    throw isLost(client) ? new DatabaseUnavailableError(error) : error;
  }
}

/**
 * Runs `work` in one transaction as the role and with the claims of the caller: committed when it
 * resolves, rolled back when it rejects. For one statement queryAs is faster.
 *
 * @param asking how it waits for a connection; by default its turn comes in any case
 * @throws NoRoleError before any connection is taken, DatabaseUnavailableError when there is none or it is lost, ProblemError
 *   too_many_requests where the user's queue is full, and what `work` or the commit throws
 */
export async function transactionAs<T>(
  pool: pg.Pool,
  claims: Claims,
  request: RequestIds,
  work: (client: pg.PoolClient) => Promise<T>,
  asking?: Asking,
): Promise<T> {
  const settings = pgSettings(claims, request, asking);
  const client = await connectAs(pool, settings);
  let ending = false;
  try {
    await pipeline(client, [BEGIN, setStatement(settings)]);
    const result = await work(client);
    ending = true;
    await commit(client);
    client.release();
    return result;
  } catch (error) {
    // A commit ends the transaction also when it fails, and may have failed with its connection.
    client.release(ending || (await rollBack(client)));
    throw isLost(client) ? new DatabaseUnavailableError(error) : error;
  }
}

/** PostgreSQL answers a commit of a failed transaction with a rollback and no error. */
async function commit(client: pg.PoolClient): Promise<void> {
  const { command } = await client.query('commit');
  if (command !== 'COMMIT')
    throw new Error(
      "The transaction was rolled back because a query in it failed; don't swallow that query's error.",
    );
}

/** The error for which the pool must discard the client, if it can't be rolled back. */
async function rollBack(client: pg.PoolClient): Promise<Error | undefined> {
  try {
    await client.query('rollback');
    return undefined;
  } catch (error) {
    return error instanceof Error ? error : new Error('Rolling back failed.', { cause: error });
  }
}

function isIdle(client: pg.PoolClient): boolean {
  return client.getTransactionStatus() === 'I';
}

/**
 * Waits until what failed is over, which its error doesn't say: the connection may be about to close behind it.
 *
 * @returns whether the pool must discard the client
 */
async function awaitReady(client: pg.PoolClient): Promise<boolean> {
  try {
    // An empty query; a rollback outside of a transaction block would be warned of.
    await client.query('');
    return !isIdle(client);
  } catch {
    return true;
  }
}
