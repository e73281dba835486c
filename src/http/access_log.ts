import type { IncomingMessage, ServerResponse } from 'node:http';

import type { RequestHandler } from 'express';
import { pinoHttp } from 'pino-http';

import type { Logger } from '../lib/log.ts';
import { requestIdOf } from './request_id.ts';

/** Asked every few seconds for ever. */
const UNLOGGED = new Set(['/healthz', '/readyz']);

/**
 * One line for each request, and `request.log`, whose lines carry the request's id. Method, path, status and time only:
 * headers and queries may hold tokens. Always info: what failed is logged by who knows why.
 */
export function makeAccessLog(log: Logger): RequestHandler {
  const write = pinoHttp({
    // None of these fields is one that is redacted, and looking for those takes longer than all the rest of a line. What looks
    // like a token is taken out of this line as of any.
    logger: log.child({}, { redact: [] }),
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
  return (request, response, next) => {
    // pino-http leaves alone what is there. Who logs by this one may log anything.
    (request as { log?: Logger }).log = log.child({ requestId: requestIdOf(request) });
    write(request, response, next);
  };
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
