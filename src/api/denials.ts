import type { Request } from 'express';
import type { Denial } from '../audit/denials/recorder.ts';
import { claimsOf } from '../auth/auth.ts';
import { DEFAULT_ENVIRONMENT } from '../flags/schemas.ts';
import { requestIdsOf } from '../http/request_id.ts';
import { routeOf, routeParameter } from '../http/route.ts';
import type { ProblemCode } from '../lib/errors.ts';

/**
 * The denial of a REST request whose token was verified: what it asked for, as its address and body say.
 *
 * @param code of the answer
 */
export function denialOf(request: Request, code: ProblemCode): Denial {
  const route = routeOf(request);
  const { body, query } = request as { body?: unknown; query: Record<string, unknown> };
  const inBody = typeof body === 'object' && body !== null ? (body as Record<string, unknown>) : {};
  const flagKey = textOf(routeParameter(request, 'flagKey') ?? inBody.flag_key);
  const environment = textOf(
    query.environment ?? inBody.environment ?? routeParameter(request, 'name'),
  );
  return {
    claims: claimsOf(request),
    request: requestIdsOf(request),
    // Before a route takes a request, its path is the client's own text.
    operation: `${request.method} ${route === 'none' ? '/api' : route}`,
    code,
    flagKey: flagKey ?? textOf(query.flag),
    environment: environment ?? (flagKey === undefined ? undefined : DEFAULT_ENVIRONMENT),
  };
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}
