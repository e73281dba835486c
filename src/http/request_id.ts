import { randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';

import type { NextFunction, Request, Response } from 'express';

const SANE = /^[A-Za-z0-9._-]{1,128}$/;

const ids = new WeakMap<IncomingMessage, string>();

/** A request's id, the same at every call: the client's X-Request-Id when it is sane, a new UUID otherwise. */
export function requestIdOf(request: IncomingMessage): string {
  const known = ids.get(request);
  if (known !== undefined) return known;
  const sent = request.headers['x-request-id'];
  const id = typeof sent === 'string' && SANE.test(sent) ? sent : randomUUID();
  ids.set(request, id);
  return id;
}

/** Express: tells the client the id, also when what follows fails. */
export function echoRequestId(request: Request, response: Response, next: NextFunction): void {
  response.setHeader('X-Request-Id', requestIdOf(request));
  next();
}
