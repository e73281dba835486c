import type { IncomingMessage, ServerResponse } from 'node:http';

import { pinoHttp } from 'pino-http';
import type { HttpLogger } from 'pino-http';

import type { Logger } from '../log.ts';
import { requestIdOf } from './request_id.ts';

/** Asked every few seconds for ever. */
const UNLOGGED = new Set(['/healthz', '/readyz']);

/**
 * One line for each request, and `request.log`, whose lines carry the request's id. Method, path, status and time only:
 * headers and queries may hold tokens. Always info: what failed is logged by who knows why.
 */
export function makeAccessLog(log: Logger): HttpLogger {
  return pinoHttp({
    logger: log,
    genReqId: requestIdOf,
    quietReqLogger: true,
    quietResLogger: true,
    customAttributeKeys: { reqId: 'requestId' },
    autoLogging: { ignore: (request) => UNLOGGED.has(pathOf(request)) },
    customSuccessObject: describe,
    customErrorObject: (request, response, _error, value) => describe(request, response, value),
    customSuccessMessage: () => 'request',
    customErrorMessage: () => 'request',
  });
}

function describe(request: IncomingMessage, response: ServerResponse, value: unknown): object {
  return {
    method: request.method,
    path: pathOf(request),
    status: response.writableFinished ? response.statusCode : null,
    responseTime: (value as { responseTime?: number }).responseTime,
  };
}

function pathOf(request: IncomingMessage): string {
  // Express shortens `url` below a router.
  const { originalUrl = request.url ?? '' } = request as { originalUrl?: string };
  return originalUrl.split('?', 1)[0] ?? '';
}
