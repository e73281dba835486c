import type { NextFunction, Request, Response } from 'express';
import type pg from 'pg';

import { claimsOf } from '../auth/auth.ts';
import type { Statement } from '../postgres/pipeline.ts';
import { NoRoleError } from '../postgres/request_settings.ts';

/** Express: a token without a role may do nothing, by REST or GraphQL. Behind the authentication. */
export function requireRole(request: Request, _response: Response, next: NextFunction): void {
  if (claimsOf(request).role === null) throw new NoRoleError();
  next();
}

/**
 * Runs one statement in a transaction of its own, with the claims and the id of the request.
 *
 * @param sql the statement. Give a name only to a statement whose best plan doesn't depend on the values: it is planned once
 *   for each connection.
 * @param reason why the client makes the change, if it says so
 */
export type QueryAsCaller = <R extends pg.QueryResultRow>(
  request: Request,
  sql: Statement,
  values: readonly unknown[],
  reason?: string | null,
) => Promise<pg.QueryResult<R>>;
