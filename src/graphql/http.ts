import express from 'express';
import type { ErrorRequestHandler, Request, RequestHandler, Response } from 'express';
import { claimsOf } from '../auth/auth.ts';
import { ProblemError, PROBLEMS, problemOf, type ProblemCode } from '../lib/errors.ts';
import type { Logger } from '../lib/log.ts';
import { requireRole } from '../http/caller.ts';
import { fromBodyError, readJson } from '../http/json_body.ts';
import { headersOf, logProblem } from '../http/problems.ts';
import { requestIdsOf } from '../http/request_id.ts';
import type { EndOptions, GraphqlRequest } from './execute.ts';
import type { Result } from './errors.ts';

/** GraphQL over HTTP, draft 2025: validation errors have a status of their own under this type. */
const GRAPHQL_RESPONSE = 'application/graphql-response+json';
const JSON_TYPE = 'application/json';

/**
 * POST /graphql with one JSON object. No GET, no forms, no batches: what another site can make a browser send is none of
 * these. The token is verified before the body is read.
 *
 * @param onErrors hears the codes of the errors of each answer that has some
 */
export function makeHttp(
  { executor, authentication, log, onDenied }: EndOptions,
  onErrors?: (codes: readonly string[]) => void,
): express.Router {
  const answer: RequestHandler = async (request, response) => {
    const ids = requestIdsOf(request);
    const result = await executor().run(readBody(request.body), {
      claims: claimsOf(request),
      request: ids,
      log: log.child(ids),
      client: response,
    });
    if (result.errors !== undefined) onErrors?.(codesOf(result));
    // With data, or the null of a field that failed, it ran: 200.
    const status = result.data === undefined ? statusOf(result) : 200;
    const type = typeFor(request);
    if (status === 429 || status === 503) response.setHeader('Retry-After', '1');
    // Under plain JSON, a well-formed request gets 200 with its errors: by that type they look like a proxy's.
    send(response, type === JSON_TYPE && status === 400 ? 200 : status, type, result);
  };

  const router = express.Router();
  router.all('/', onlyPost, authentication.middleware, requireRole, onlyJson, readJson(), answer);
  router.use(makeErrorHandler(log, onDenied));
  return router;
}

const onlyPost: RequestHandler = (request, response, next) => {
  response.setHeader('Cache-Control', 'no-store');
  if (request.method === 'POST') {
    next();
    return;
  }
  response.setHeader('Allow', 'POST');
  throw new ProblemError(
    'method_not_allowed',
    'Send GraphQL by POST, as JSON with query and variables. A client that sends queries by GET must be set to POST: in urql, preferGetMethod: false.',
  );
};

const onlyJson: RequestHandler = (request, _response, next) => {
  if (request.is(JSON_TYPE) !== JSON_TYPE)
    throw new ProblemError('unsupported_media_type', 'Send JSON: Content-Type: application/json.');
  next();
};

/** The request in a JSON body. @throws ProblemError invalid_query when its shape is wrong */
export function readBody(body: unknown): GraphqlRequest {
  if (typeof body !== 'object' || body === null || Array.isArray(body))
    throw new ProblemError('invalid_query', 'Send one JSON object; batches are not taken.');
  const { query, operationName = null, variables = null } = body as Record<string, unknown>;
  if (typeof query !== 'string')
    throw new ProblemError('invalid_query', 'query must be a string with the GraphQL document.');
  if (operationName !== null && typeof operationName !== 'string')
    throw new ProblemError('invalid_query', 'operationName must be a string.');
  if (variables !== null && (typeof variables !== 'object' || Array.isArray(variables)))
    throw new ProblemError('invalid_query', 'variables must be an object.');
  return { query, operationName, variables: { ...variables } };
}

/** The status of an answer when nothing ran: a fault of ours, too many requests, or another fault of the client's. */
function statusOf(result: Result): number {
  const statuses = codesOf(result).map((code) => PROBLEMS[code].status);
  return Math.max(400, ...statuses.filter((status) => status >= 429));
}

function codesOf({ errors = [] }: Result): ProblemCode[] {
  return errors.map(({ extensions }) => extensions?.code as ProblemCode);
}

function typeFor(request: Request): string {
  return request.accepts([GRAPHQL_RESPONSE, JSON_TYPE]) || GRAPHQL_RESPONSE;
}

function send(response: Response, status: number, type: string, result: Result): void {
  response.status(status).type(type).send(JSON.stringify(result));
}

/** Errors from before the execution, in GraphQL's shape and with a status in every media type. */
function makeErrorHandler(log: Logger, onDenied: EndOptions['onDenied']): ErrorRequestHandler {
  return (error: unknown, request, response, next) => {
    if (response.headersSent || request.socket.destroyed) {
      next(error);
      return;
    }
    const problem = problemOf(fromBodyError(error));
    const { status, detail, code } = problem;
    const ids = requestIdsOf(request);
    logProblem(log.child(ids), problem, error);
    if (status === 403)
      onDenied?.({ claims: claimsOf(request), request: ids, operation: 'POST /graphql', code });
    response.set(headersOf(error, problem));
    const errors = [{ message: detail, extensions: { code } }];
    send(response, status, typeFor(request), { errors });
  };
}
