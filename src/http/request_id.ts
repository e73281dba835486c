import { randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { NextFunction, Request, Response } from 'express';
import type { RequestIds } from '../postgres/request_settings.ts';

/** Printable ASCII. */
const PRINTABLE = /^[\x20-\x7e]{1,128}$/;

const known = new WeakMap<IncomingMessage, RequestIds>();

/**
 * A request's ids, the same at every call: a new UUID, which names the request in the trail, the log and the answers, and beside it
 * what the client sent as X-Request-Id, when that is 1 to 128 printable characters. A client may send what another has sent.
 */
export function requestIdsOf(request: IncomingMessage): RequestIds {
  const ids = known.get(request) ?? makeIds(request);
  known.set(request, ids);
  return ids;
}

function makeIds({ headers }: IncomingMessage): RequestIds {
  const sent = headers['x-request-id'];
  const isPrintable = typeof sent === 'string' && PRINTABLE.test(sent);
  return { requestId: randomUUID(), ...(isPrintable && { clientRequestId: sent }) };
}

/** Express: sends the API's id in the answer's head, also when what follows fails. */
export function sendRequestId(request: Request, response: Response, next: NextFunction): void {
  response.setHeader('X-Request-Id', requestIdsOf(request).requestId);
  next();
}
