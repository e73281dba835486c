import './environment.ts';
import type { Server } from 'node:http';
import type { Express } from 'express';
import type pg from 'pg';
import type { Denial } from '../audit/denials/recorder.ts';
import type { Authentication } from '../auth/auth.ts';
import type { Config } from '../config/config.ts';
import { DatabaseUnavailableError } from '../postgres/pool.ts';
import { NO_WAIT, retryWhileAway, type DatabaseWait } from '../postgres/wait.ts';
import type { Logger } from '../lib/log.ts';
import { makeChanges } from './live/changes.ts';
import { makeExecutor, type Executor } from './execute.ts';
import { makeHttp } from './http.ts';
import { makeSockets } from './websocket.ts';

interface GraphqlOptions {
  /** The authenticator's. */
  readonly pool: pg.Pool;
  /** The authenticator's URL, for the connection that LISTENs. */
  readonly listenerUrl: string;
  readonly authentication: Authentication;
  readonly config: Config;
  readonly log: Logger;
  /** Nothing connects before it is ready; by default at once. */
  readonly database?: DatabaseWait | undefined;
  /** WebSockets with a token at once; 500 by default. */
  readonly maxSockets?: number | undefined;
  /** WebSockets whose token was not verified yet; 1,000 by default. */
  readonly maxSilent?: number | undefined;
  /** Milliseconds that a query or a mutation may take. */
  readonly executionMs?: number | undefined;
  /** Hears the codes of the errors of each answer that has some. */
  readonly onErrors?: (codes: readonly string[]) => void;
  /** Hears of what verified tokens were denied. */
  readonly onDenied?: (denial: Denial) => void;
}

const BACK_OFF = { baseMs: 500, capMs: 10_000 };
const SCHEMA = {
  failing: 'the GraphQL schema can’t be made from the database yet',
  back: 'the GraphQL schema is made',
};

/**
 * The GraphQL API. The schema is made from the database, here; when that is delayed, or the schema can't be made at once, this
 * resolves all the same, requests get database_unavailable, and it is tried again until it works.
 *
 * @throws what `database.ready` rejects with
 */
export async function makeGraphql(options: GraphqlOptions) {
  const { pool, authentication, config, executionMs, maxSockets, onErrors, onDenied } = options;
  const { ready, delayed } = options.database ?? NO_WAIT;
  const log = options.log.child({ part: 'graphql' });
  const production = config.nodeEnv === 'production';
  const changes = makeChanges(options.listenerUrl, log);
  const { queuePerUser } = config.limits;
  const executorOptions = { pool, changes, production, executionMs, queuePerUser, log, onDenied };
  const executor = retryUntilReady(() => makeExecutor(executorOptions), log);
  const ends = { executor: executor.current, authentication, log, onDenied };
  const { maxSilent } = options;
  const sockets = makeSockets({ ...ends, maxSockets, maxSilent, limits: config.limits });
  const started = ready.then(() => Promise.all([executor.start(), changes.start()]));
  const triedOnce = ready.then(() => executor.firstAttempt);
  await Promise.race([triedOnce, delayed, started]);

  return {
    /** Resolves once it is healthy, or closed; rejects as `database.ready` does. */
    started,
    /** Mounts /graphql, in development /ruru, and WebSockets at /graphql. */
    async attach(app: Express, server: Server): Promise<void> {
      app.use('/graphql', makeHttp(ends, onErrors));
      sockets.attach(server);
      if (config.nodeEnv === 'development') {
        const { mountRuru } = await import('./ide.ts');
        await mountRuru(app, server);
      }
    },
    /** Whether the schema is there and changes are being listened to. */
    healthy: () => executor.ready() && changes.healthy(),
    /** Open WebSockets, with a token and silent, subscriptions on them, and the notifications that were ignored since the start. */
    get load() {
      const subscriptions = executor.ready() ? executor.current().subscriptions() : 0;
      return { ...sockets.load, subscriptions, ignored: changes.ignored() };
    },
    /** Closes the WebSockets with 1001, and the listener. The pool is the caller's. */
    async close(): Promise<void> {
      await executor.close();
      await sockets.close();
      if (executor.ready()) executor.current().close();
      await changes.close();
    },
  };
}

export type GraphqlServer = Awaited<ReturnType<typeof makeGraphql>>;

/** Makes the executor, again and again until it works. */
function retryUntilReady(make: () => Promise<Executor>, log: Logger) {
  const closing = new AbortController();
  const firstAttempt = Promise.withResolvers<undefined>();
  const onWaiting = () => firstAttempt.resolve(undefined);
  const options = { log, signal: closing.signal, onWaiting, says: SCHEMA, limits: BACK_OFF };
  let executor: Executor | undefined;
  let running: Promise<void> | undefined;

  async function run(): Promise<void> {
    // It rejects only when this is closed.
    executor = await retryWhileAway(make, options, () => true).catch(() => undefined);
    onWaiting();
  }

  return {
    firstAttempt: firstAttempt.promise,
    /** Resolves once it is made, or closed. */
    start: () => (running ??= run()),
    ready: () => executor !== undefined,
    current: (): Executor => {
      if (executor === undefined)
        throw new DatabaseUnavailableError(new Error('There is no GraphQL schema yet.'));
      return executor;
    },
    async close() {
      closing.abort();
      await running;
    },
  };
}
