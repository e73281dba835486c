import type { NextFunction, Request, Response } from 'express';
import type pg from 'pg';
import { claimsOf } from '../auth/auth.ts';
import type { Action } from '../auth/rights.ts';
import type { Statement } from '../postgres/pipeline.ts';
import { NoRoleError, type ChangeOptions } from '../postgres/request_settings.ts';

/** Express: a token without a role may do nothing, by REST or GraphQL. Behind the authentication. */
export function requireRole(request: Request, _response: Response, next: NextFunction): void {
  const claims = claimsOf(request);
  if (claims.role === null) throw new NoRoleError(claims);
  next();
}

/** Options of a statement, beside its values. */
interface QueryOptions extends ChangeOptions {
  /** The action that is denied to a role that isn't meant to do it; by default to read or to change flags, by the method. */
  readonly action?: Action;
  /** A statement before it, in the same transaction. */
  readonly first?: Statement;
}

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
  options?: QueryOptions,
) => Promise<pg.QueryResult<R>>;
