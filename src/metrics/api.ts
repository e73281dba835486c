import { Counter, Histogram, type Registry } from 'prom-client';
import type { NextFunction, Request, Response } from 'express';
import type pg from 'pg';
import { routeOf } from '../http/route.ts';
import { watch, watchIgnored, watchPool } from './pool.ts';

/** What is read at each scrape. */
interface ApiParts {
  readonly pool: pg.Pool;
  readonly graphql:
    | {
        healthy(): boolean;
        load: { sockets: number; silent: number; subscriptions: number; ignored: number };
      }
    | undefined;
}

const BUCKETS = [0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

/** Other methods are counted as one: a client may make up as many as the parser lets through. */
const METHODS = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']);

const REFUSALS = ['token_missing', 'token_expired', 'token_invalid'];

/** @param registry one that has no API's metrics yet */
export function makeApiMetrics(registry: Registry) {
  const duration = new Histogram({
    name: 'halyard_http_request_duration_seconds',
    help: 'Time from a request to the end of its answer. Slow or 5xx on one route: see its requests in the log; on all: the database.',
    labelNames: ['method', 'route', 'status'],
    buckets: BUCKETS,
    registers: [registry],
  });
  const errors = new Counter({
    name: 'halyard_graphql_errors_total',
    help: 'Errors in GraphQL answers, whose HTTP status is mostly 200. internal_error: see the log; the others are in docs/errors.md.',
    labelNames: ['code'],
    registers: [registry],
  });
  // There from the start: to Prometheus the first of a series that comes into being is no increase, and raises no alert.
  errors.inc({ code: 'internal_error' }, 0);
  const refusals = new Counter({
    name: 'halyard_authentication_failures_total',
    help: 'Requests and WebSockets that were refused for want of a valid token (401). Many of token_invalid: the issuer, its keys or a client is set up wrong, or tokens are being guessed.',
    labelNames: ['reason'],
    registers: [registry],
  });
  for (const reason of REFUSALS) refusals.inc({ reason }, 0);
  return {
    middleware: (request: Request, response: Response, next: NextFunction) => {
      const end = duration.startTimer();
      response.once('close', () => {
        const { method } = request;
        end({
          method: METHODS.has(method) ? method : 'other',
          route: routeOf(request),
          status: response.writableFinished
            ? `${Math.floor(response.statusCode / 100)}xx`
            : 'aborted',
        });
      });
      next();
    },
    /** The codes of the errors in one GraphQL answer, whose HTTP status may be 200. */
    graphqlErrors: (codes: readonly string[]) => {
      for (const code of codes) errors.inc({ code });
    },
    /** The code of a request's 401. */
    authenticationFailed: (reason: string) => refusals.inc({ reason }),
    watch({ pool, graphql }: ApiParts) {
      watchPool(registry, 'api', pool);
      if (graphql === undefined) return;
      watch(registry, 'halyard_api_listener_healthy', {
        help: '1 while changes are listened to for subscriptions and the GraphQL schema is there. 0 for long: see the log.',
        read: () => Number(graphql.healthy()),
      });
      watch(registry, 'halyard_websockets_open', {
        help: 'Open WebSockets with a verified token; 500 at most, further ones are refused.',
        read: () => graphql.load.sockets,
      });
      watch(registry, 'halyard_websockets_silent', {
        help: 'Open WebSockets whose token was not verified yet; 1000 at most, the oldest makes room. Many for long: an attack.',
        read: () => graphql.load.silent,
      });
      watchIgnored(registry, 'api', () => graphql.load.ignored);
      watch(registry, 'halyard_subscriptions_open', {
        help: 'Open GraphQL subscriptions on them.',
        read: () => graphql.load.subscriptions,
      });
    },
  };
}
