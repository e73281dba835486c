import { createServer, type IncomingMessage } from 'node:http';
import express, { type NextFunction, type Request, type Response } from 'express';
import { Registry } from 'prom-client';
import { makeDenialRecorder } from '../audit/denials/recorder.ts';
import { makeAuthentication } from '../auth/auth.ts';
import type { Config } from '../config/config.ts';
import { makeConsole } from '../console/index.ts';
import { shareByUser } from '../postgres/fair_pool.ts';
import { makePool } from '../postgres/pool.ts';
import type { DatabaseWait } from '../postgres/wait.ts';
import type { ProblemCode } from '../lib/errors.ts';
import type { Logger } from '../lib/log.ts';
import { settlesWithin } from '../lib/wait.ts';
import { makeApiMetrics } from '../metrics/api.ts';
import { developmentSecret } from '../auth/token.ts';
import { makeAccessLog } from '../http/access_log.ts';
import { cutUnread, limitConnections } from '../http/connections.ts';
import { makeDrain } from '../http/drain.ts';
import { listen } from '../http/listen.ts';
import { makeErrorHandler, notFound } from '../http/problems.ts';
import { sendRequestId } from '../http/request_id.ts';
import type { makeGraphql } from '../graphql/index.ts';
import { denialOf } from './denials.ts';
import { makeHealth } from './health.ts';
import { makeRest } from './router.ts';

/** How long requests in flight get at the end: as long as the database lets a statement run. */
const DRAIN_MS = 10_000;
/** Milliseconds for connections to close; what is left by then has no client any more. */
const CLOSE_MS = 2_000;
/** Longer than a transaction of the API can take: a statement gets 10 s, and GraphQL 15 s for all. */
const HOLD_MS = 20_000;

/** A head is a few kilobytes and a body 256: only a client that takes up connections on purpose needs longer. */
const TIMEOUTS = {
  headersTimeout: 10_000,
  requestTimeout: 30_000,
  connectionsCheckingInterval: 1_000,
  // Longer than load balancers keep idle connections (60 s), so that it is they who close them.
  keepAliveTimeout: 65_000,
};

export interface ApiOptions {
  readonly config: Config;
  /** The authenticator's URL. */
  readonly databaseUrl: string;
  readonly log: Logger;
  /** GraphQL is made when it is ready; by default at once. */
  readonly database?: DatabaseWait | undefined;
  /** Left out: REST alone. */
  readonly makeGraphql?: typeof makeGraphql | undefined;
  /** Milliseconds that requests in flight get at the end. */
  readonly drainMs?: number | undefined;
  /** Milliseconds after which a request's connection to the database is given up for lost. */
  readonly maxCheckoutMs?: number | undefined;
  /** HTTP connections at a time; 2,000 by default. */
  readonly maxConnections?: number | undefined;
  /** The console's built files; by default those of this checkout. */
  readonly consoleFolder?: string | undefined;
  /** The registry of its metrics. */
  readonly registry?: Registry | undefined;
}

/**
 * Starts the API and resolves once it listens. It needs no database to start: /readyz says when there is one.
 *
 * @returns `url`, as clients on this machine reach it, `started` and `close`
 * @throws ConfigError when the address can't be listened on, Error when a production configuration has no token source, and what
 *   `database.ready` rejects with
 */
export async function startApi(options: ApiOptions) {
  const { config, databaseUrl, log } = options;
  const metrics = makeApiMetrics(options.registry ?? new Registry());
  // Ends in the opposite order: nothing new is accepted, requests in flight finish, then the database's connections close.
  await using starting = new AsyncDisposableStack();
  const pool = makePool(databaseUrl, {
    name: 'halyard-api',
    maxCheckoutMs: options.maxCheckoutMs ?? HOLD_MS,
    log,
  });
  shareByUser(pool, config.limits.queuePerUser);
  starting.defer(async () => {
    if (!(await settlesWithin(CLOSE_MS, pool.end())))
      log.warn('database connections did not close in time');
  });
  const console = makeConsole({ config, pool, log, folder: options.consoleFolder });
  starting.defer(() => console.close());
  const authentication = makeAuthentication(tokenSource(config), log, {
    onRefused: metrics.authenticationFailed,
    sessions: console.tokens,
  });
  const denials = makeDenialRecorder(pool, log);
  starting.defer(() => denials.close());
  const server = createServer({ ...TIMEOUTS, shouldUpgradeCallback: isWebSocket });
  starting.defer(() => server.closeAllConnections());
  limitConnections(server, options.maxConnections);
  const drain = makeDrain(server);
  const graphql = await options.makeGraphql?.({
    pool,
    listenerUrl: databaseUrl,
    authentication,
    config,
    log,
    database: options.database,
    onErrors: metrics.graphqlErrors,
    onDenied: (denial) => denials.record(denial),
  });
  starting.defer(() => graphql?.close());
  starting.defer(async () => {
    const cutOff = await drain.run(options.drainMs ?? DRAIN_MS);
    if (cutOff > 0) log.warn({ requests: cutOff }, 'requests did not finish in time');
  });
  metrics.watch({ pool, graphql });
  const app = express();
  // No proxy is believed (Express's default), and no ETag: nothing here may be cached.
  app.disable('x-powered-by').disable('etag');
  app.use(metrics.middleware, sendRequestId, makeAccessLog(log), setHeaders);
  app.use(cutUnread(config.limits.streamWriteMs));
  const draining = () => drain.signal.aborted;
  app.use(makeHealth({ pool, log, listener: graphql, draining }));
  await graphql?.attach(app, server);
  app.use(console.makeRouter(authentication));
  app.use('/api', makeRest(pool, authentication, config.limits, drain.signal));
  const onDenied = (request: Request, code: ProblemCode) => denials.record(denialOf(request, code));
  app.use(notFound, makeErrorHandler(log, onDenied));
  server.on('request', app);
  const url = await listen(server, config);
  log.info({ url }, 'the API is listening');
  const started = graphql?.started ?? Promise.resolve();
  // Behind the start, which it must not delay.
  started.then(
    () => console.begin(),
    () => undefined,
  );
  const running = starting.move();
  let closing: Promise<void> | undefined;
  return {
    url,
    /** Resolves once it answers all that it is asked; rejects as `database.ready` does. */
    started,
    /** The address that signs a browser in at the console with this token, once, within 10 minutes. */
    enterUrl: (token: string) => `${config.console.url ?? url}${console.enterPath(token)}`,
    close: () => (closing ??= running.disposeAsync()),
  };
}

export type ApiServer = Awaited<ReturnType<typeof startApi>>;

function setHeaders(_request: Request, response: Response, next: NextFunction): void {
  response.setHeader('X-Content-Type-Options', 'nosniff');
  response.setHeader('Cache-Control', 'no-store');
  next();
}

/** Clients that would rather speak HTTP/2 offer an upgrade to it (h2c) with each request: they are answered in HTTP/1.1. */
function isWebSocket({ headers }: IncomingMessage): boolean {
  return headers.upgrade?.toLowerCase() === 'websocket';
}

/** In development there is always a secret: one that was made at the first start. */
function tokenSource({ jwt, dataDir, nodeEnv }: Config): Config['jwt'] {
  if (jwt.secret !== null || jwt.jwksUri !== null) return jwt;
  return { ...jwt, secret: developmentSecret(dataDir, nodeEnv) };
}
