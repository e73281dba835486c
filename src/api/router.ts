import express, { type NextFunction, type Request, type Response, type Router } from 'express';
import type pg from 'pg';
import { claimsOf, type Authentication } from '../auth/auth.ts';
import { explainDenial } from '../auth/rights.ts';
import { pgSettings } from '../postgres/request_settings.ts';
import { queryAs } from '../postgres/transaction.ts';
import { ProblemError } from '../lib/errors.ts';
import { requireRole, type QueryAsCaller } from '../http/caller.ts';
import type { ExportLimits } from '../audit/export/places.ts';
import { makeAuditRoutes } from '../audit/export/routes.ts';
import { makeProofRoutes } from '../audit/seals/routes.ts';
import { makeEnvironmentRoutes } from '../environments/routes.ts';
import { makeFlagRoutes } from '../flags/routes.ts';
import { readJson } from '../http/json_body.ts';
import { notFound } from '../http/problems.ts';
import { requestIdsOf } from '../http/request_id.ts';
import { makeChangeRoutes } from '../plans/dry_runs.ts';
import { makeRevertRoutes } from '../plans/reverts.ts';
import { makePlanRoutes } from '../plans/routes.ts';
import { makeAllScheduleRoutes } from '../schedules/all.ts';
import { makeScheduleRoutes } from '../schedules/routes.ts';
import { pendingSchedules } from '../schedules/rows.ts';
import { makeStateRoutes } from '../schedules/states.ts';

/**
 * Everything under /api. Authentication comes first: without a token nothing is read, and no address is disclosed.
 *
 * @param ending raised when the server is about to stop
 */
export function makeRest(
  pool: pg.Pool,
  authentication: Authentication,
  limits: ExportLimits,
  ending: AbortSignal,
): Router {
  const query: QueryAsCaller = async (request, sql, values, { action, first, ...change } = {}) => {
    const claims = claimsOf(request);
    try {
      const asking = { isLimited: true, client: request.res };
      const settings = pgSettings(claims, requestIdsOf(request), asking, change);
      return await queryAs(pool, settings, { ...sql, values }, first);
    } catch (error) {
      const reads = request.method === 'GET' || request.method === 'HEAD';
      throw explainDenial(error, claims.role, action ?? (reads ? 'read_flags' : 'change_flags'));
    }
  };
  const router = express.Router();
  router.use(apiSecurityHeaders);
  router.use(authentication.middleware, requireRole, requireJson, readJson());
  router.use(
    '/admin',
    makeEnvironmentRoutes(query),
    makeFlagRoutes(query, pendingSchedules),
    makeScheduleRoutes(query),
    makeAllScheduleRoutes(query),
    makeChangeRoutes(query),
    makePlanRoutes(query),
    makeRevertRoutes(query),
    makeProofRoutes(query),
    makeStateRoutes(query),
    makeAuditRoutes(pool, limits, ending),
  );
  router.use(notFound);
  return router;
}

/** Answers are data: no browser may take one for a page. */
function apiSecurityHeaders(_request: Request, response: Response, next: NextFunction): void {
  response.setHeader('Content-Security-Policy', "default-src 'none'; frame-ancestors 'none'");
  next();
}

/** express.json passes over a body of another type, and then it would seem that none was sent. */
function requireJson(request: Request, _response: Response, next: NextFunction): void {
  const { 'content-length': length, 'transfer-encoding': chunked } = request.headers;
  const hasBody = chunked !== undefined || (length !== undefined && length !== '0');
  if (hasBody && request.is('application/json') === false)
    throw new ProblemError('unsupported_media_type', 'Send JSON: Content-Type: application/json.');
  next();
}
