import type { Request } from 'express';
import type pg from 'pg';

import type { Statement } from '../postgres/pipeline.ts';

/**
 * Runs one statement in a transaction of its own, with the claims and the id of the request.
 *
 * @param sql the statement. Give a name only to a statement whose best plan doesn't depend on the values: it is planned once
 *   for each connection.
 */
export type QueryAsCaller = <R extends pg.QueryResultRow>(
  request: Request,
  sql: Statement,
  values: readonly unknown[],
) => Promise<pg.QueryResult<R>>;
