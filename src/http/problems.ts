import type { NextFunction, Request, Response } from 'express';
import type { z } from '../lib/zod.ts';
import type { FoundConflict } from '../lib/conflicts.ts';
import type { CurrentRevision } from '../lib/current_revision.ts';
import { ProblemError, PROBLEMS, problemOf } from '../lib/errors.ts';
import type { Problem, ProblemCode } from '../lib/errors.ts';
import type { Logger } from '../lib/log.ts';
import { DatabaseUnavailableError } from '../postgres/pool.ts';
import { fromBodyError } from './json_body.ts';
import { requestIdsOf } from './request_id.ts';
import type { ProblemBody } from './schema_parts.ts';

/** The fields that have a code of their own. */
const FIELD_CODES: Readonly<Record<string, ProblemCode>> = {
  updates: 'invalid_updates',
  scheduled_at: 'invalid_scheduled_at',
  title: 'invalid_plan',
  steps: 'invalid_plan',
  changes: 'invalid_plan',
};

/** A body may hold thousands of unknown keys; an answer that repeats them doesn't help. */
const MAX_ISSUES = 20;
const MAX_CHARACTERS = 200;

/**
 * Checks what a client sent against its schema.
 *
 * @param value a body, a query or the parts of an address
 * @throws ProblemError with each issue in `errors`: invalid_updates or invalid_scheduled_at when all are of that
 *   field, otherwise invalid_request
 */
export function parse<T extends z.ZodMiniType>(schema: T, value: unknown): z.output<T> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const { issues } = result.error;
  const codes = new Set(
    issues.map(({ path }) => FIELD_CODES[String(path[0])] ?? 'invalid_request'),
  );
  const [code] = codes;
  const errors = issues.slice(0, MAX_ISSUES).map(({ path, message }) => ({
    path: path.join('.'),
    message: message.slice(0, MAX_CHARACTERS),
  }));
  // One value may break the same rule in several ways.
  const sentences = new Set(
    errors.map(({ path, message }) => (path === '' ? message : `${path}: ${message}`)),
  );
  throw new ProblemError(
    code === undefined || codes.size > 1 ? 'invalid_request' : code,
    `${[...sentences].slice(0, 3).join('; ')}.`,
    { errors },
  );
}

/** Express: nothing answered, so there is nothing at this address. */
export function notFound(): never {
  throw new ProblemError('not_found', 'There is nothing at this address.');
}

/** Express: answers methods that a path doesn't have with 405 and what it allows, and OPTIONS with the same list. */
export function onlyMethods(...methods: readonly string[]) {
  const allow = [...methods.flatMap((m) => (m === 'GET' ? [m, 'HEAD'] : [m])), 'OPTIONS'].join(
    ', ',
  );
  return (request: Request, response: Response): void => {
    response.setHeader('Allow', allow);
    if (request.method !== 'OPTIONS')
      throw new ProblemError(
        'method_not_allowed',
        `${request.method} is not allowed here: use ${allow}.`,
      );
    response.status(204).end();
  };
}

/**
 * Express's last: every error becomes a problem+json answer (RFC 9457); what isn't known is logged and masked.
 *
 * @param onDenied hears of each 403 of a request whose token was verified
 */
export function makeErrorHandler(
  log: Logger,
  onDenied?: (request: Request, code: ProblemCode) => void,
) {
  return (error: unknown, request: Request, response: Response, next: NextFunction): void => {
    const requestLog = (request as { log?: Logger }).log ?? log;
    if (isDisconnect(error, request)) {
      requestLog.debug('the client went away');
      response.destroy();
      return;
    }
    const problem = httpProblemOf(error);
    logProblem(requestLog, problem, error);
    if (problem.status === 403) onDenied?.(request, problem.code);
    if (response.headersSent) {
      // Half an answer is out: Express ends the connection, so that no client takes it for a whole one.
      next(error);
      return;
    }
    const body: ProblemBody = {
      type: `urn:halyard:problem:${problem.code}`,
      title: PROBLEMS[problem.code].title,
      status: problem.status,
      detail: problem.detail,
      code: problem.code,
      request_id: requestIdsOf(request).requestId,
      ...(problem.errors === undefined ? {} : { errors: [...problem.errors] }),
      ...(problem.current === undefined ? {} : { current: currentBody(problem.current) }),
      ...(problem.conflicts === undefined
        ? {}
        : { conflicts: problem.conflicts.map(conflictBody) }),
    };
    response.set(headersOf(error, problem)).status(problem.status);
    response.type('application/problem+json').json(body);
  };
}

function currentBody({ revision, changedAt, changedBy }: CurrentRevision) {
  return { revision, changed_at: changedAt, changed_by: changedBy };
}

function conflictBody({ flagKey, ...rest }: FoundConflict) {
  return { flag_key: flagKey, ...rest };
}

/** Logs our own faults as errors, and what passes by itself as a warning; a client's fault is not logged. */
export function logProblem(log: Logger, problem: Problem, error: unknown): void {
  if (problem.code === 'internal_error') log.error({ err: error }, 'a request failed');
  else if (problem.status >= 500)
    log[turnedAwayLevel(error)]({ err: error }, 'a request was turned away');
}

/** The level of what passes by itself. An outage is in the log already, once for all that it turns away. */
export function turnedAwayLevel(error: unknown): 'warn' | 'debug' {
  return error instanceof DatabaseUnavailableError ? 'debug' : 'warn';
}

/** problemOf, and before it what only HTTP has: addresses and bodies that can't be read. */
function httpProblemOf(error: unknown): Problem {
  if (error instanceof URIError)
    return new ProblemError(
      'invalid_url',
      'The address has a % that isn’t followed by two hex digits, or bytes that aren’t UTF-8.',
    ).problem;
  return problemOf(fromBodyError(error));
}

/** The headers of a known error: WWW-Authenticate, or when to try again. */
export function headersOf(error: unknown, problem: Problem): Readonly<Record<string, string>> {
  const retry = [429, 503].includes(problem.status) ? { 'Retry-After': '1' } : {};
  if (typeof error !== 'object' || error === null || !('headers' in error)) return retry;
  // body-parser's and Express's own errors may carry headers too, but none of ours lacks a problem code.
  if (!('code' in error) || error.code !== problem.code) return retry;
  return { ...retry, ...(error.headers as Readonly<Record<string, string>>) };
}

/** Nobody is there to be answered. */
function isDisconnect(error: unknown, request: Request): boolean {
  if (error instanceof Error && 'type' in error && error.type === 'request.aborted') return true;
  return request.socket.destroyed;
}
