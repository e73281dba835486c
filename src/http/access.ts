import type { NextFunction, Request, Response } from 'express';

import { claimsOf } from '../auth/auth.ts';
import { NoRoleError } from '../postgres/pool.ts';

/** Express: a token without a role may do nothing, by REST or GraphQL. Behind the authentication. */
export function requireRole(request: Request, _response: Response, next: NextFunction): void {
  if (claimsOf(request).role === null) throw new NoRoleError();
  next();
}
