import type { Server } from 'node:http';

import express from 'express';
import type { Express, RequestHandler, Router } from 'express';

import type { GraphqlServer } from '../graphql/index.ts';
import type { Logger } from '../lib/log.ts';
import { makeAccessLog } from '../http/access_log.ts';
import { makeErrorHandler, notFound } from '../http/problems.ts';
import { echoRequestId } from '../http/request_id.ts';

/** The application of a server: which middleware runs in which order, nothing else. */
export async function makeApp(parts: {
  readonly server: Server;
  readonly log: Logger;
  /** Times each request. */
  readonly timing: RequestHandler;
  readonly health: Router;
  readonly rest: Router;
  readonly graphql: GraphqlServer | undefined;
}): Promise<Express> {
  const app = express();
  // No proxy is believed (Express's default), and no ETag: nothing here may be cached.
  app.disable('x-powered-by').disable('etag');

  app.use(parts.timing);
  app.use(echoRequestId);
  app.use(makeAccessLog(parts.log));
  app.use((_request, response, next) => {
    response.setHeader('X-Content-Type-Options', 'nosniff');
    response.setHeader('Cache-Control', 'no-store');
    next();
  });
  app.use(parts.health);
  await parts.graphql?.attach(app, parts.server);
  app.use('/api', parts.rest);
  app.use(notFound);
  app.use(makeErrorHandler(parts.log));
  return app;
}
