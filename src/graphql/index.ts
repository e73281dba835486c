import './environment.ts';

import type { Server } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';

import type { Express } from 'express';
import { lexicographicSortSchema, printSchema } from 'postgraphile/graphql';
import type pg from 'pg';
import { pino } from 'pino';

import type { Authentication } from '../auth/auth.ts';
import type { Config } from '../config/config.ts';
import { DatabaseUnavailableError, makePool } from '../postgres/pool.ts';
import type { Logger } from '../lib/log.ts';
import { makeChanges } from './live/changes.ts';
import { makeEngine, readSchema, type Engine } from './execute.ts';
import { makeHttp } from './http.ts';
import { makeSockets } from './websocket.ts';

export interface GraphqlOptions {
  /** The authenticator's. */
  readonly pool: pg.Pool;
  /** The authenticator's URL, for the connection that LISTENs. */
  readonly listenerUrl: string;
  readonly authentication: Authentication;
  readonly config: Config;
  readonly log: Logger;
  /** WebSockets at once; 500 by default. */
  readonly maxSockets?: number;
  /** Milliseconds that a query or a mutation may take. */
  readonly executionMs?: number | undefined;
  /** Hears the codes of the errors of each answer that has some. */
  readonly onErrors?: (codes: readonly string[]) => void;
}

export interface GraphqlServer {
  /** Mounts /graphql, in development /ruru, and WebSockets at /graphql. */
  attach(app: Express, server: Server): Promise<void>;
  /** Whether the schema is there and changes are being listened to. */
  healthy(): boolean;
  /** Open WebSockets, and subscriptions on them. */
  readonly load: { readonly sockets: number; readonly subscriptions: number };
  /** Closes the WebSockets with 1001, and the listener. The pool is the caller's. */
  close(): Promise<void>;
}

const LONGEST_RETRY_MS = 10_000;

/**
 * The GraphQL API. The schema is made from the database, here; when it can't be reached or isn't migrated yet, this
 * resolves all the same, requests get database_unavailable, and it is tried again until it works.
 */
export async function makeGraphql(options: GraphqlOptions): Promise<GraphqlServer> {
  const { pool, authentication, config, executionMs } = options;
  const log = options.log.child({ part: 'graphql' });
  const production = config.nodeEnv === 'production';
  const changes = makeChanges(options.listenerUrl, log);
  const engine = makeLasting(() => makeEngine({ pool, changes, production, executionMs }), log);
  const sockets = makeSockets({
    engine: engine.current,
    authentication,
    log,
    ...(options.maxSockets === undefined ? {} : { maxSockets: options.maxSockets }),
  });
  await engine.firstAttempt;

  return {
    async attach(app, server) {
      app.use(
        '/graphql',
        makeHttp({ engine: engine.current, authentication, log, onErrors: options.onErrors }),
      );
      sockets.attach(server);
      if (config.nodeEnv === 'development') {
        const { mountRuru } = await import('./ide.ts');
        await mountRuru(app, server);
      }
    },
    healthy: () => engine.ready() && changes.healthy(),
    get load() {
      return { sockets: sockets.size, subscriptions: changes.size };
    },
    async close() {
      await engine.close();
      await sockets.close();
      await changes.close();
    },
  };
}

/** Makes the engine, again and again until it works. */
function makeLasting(make: () => Promise<Engine>, log: Logger) {
  const closing = new AbortController();
  let engine: Engine | undefined;

  async function attempt(): Promise<void> {
    try {
      engine = await make();
    } catch (error) {
      log.warn({ err: error }, 'the GraphQL schema can’t be made from the database yet');
    }
  }

  async function retry(): Promise<void> {
    await firstAttempt;
    for (let ms = 500; engine === undefined; ms = Math.min(2 * ms, LONGEST_RETRY_MS)) {
      await delay(ms, undefined, { signal: closing.signal });
      await attempt();
    }
  }

  const firstAttempt = attempt();
  const retrying = retry().catch((error: unknown) => {
    if (!closing.signal.aborted) throw error;
  });
  return {
    firstAttempt,
    ready: () => engine !== undefined,
    current: (): Engine => {
      if (engine === undefined)
        throw new DatabaseUnavailableError(new Error('There is no GraphQL schema yet.'));
      return engine;
    },
    async close() {
      closing.abort();
      await retrying;
    },
  };
}

/**
 * The schema of a database as sorted SDL, for schema/halyard.graphql.
 *
 * @param databaseUrl the authenticator's URL: what its roles may not do isn't in the schema
 */
export async function printGraphqlSchema(databaseUrl: string): Promise<string> {
  const log = pino({ level: 'silent' });
  const pool = makePool(databaseUrl, { name: 'halyard-schema', max: 2, log });
  try {
    return `${printSchema(lexicographicSortSchema(await readSchema(pool)))}\n`;
  } finally {
    await pool.end();
  }
}
