import { makeGraphql } from '../graphql/index.ts';
import { startApi } from '../api/server.ts';
import { ConfigError, loadProcessConfig } from '../config/config.ts';
import { assertCanListen } from '../http/listen.ts';
import { makeLogger } from '../lib/log.ts';
import { startMetrics } from '../metrics/endpoint.ts';
import { API_LOGIN, waitForDatabase } from '../postgres/wait.ts';
import { serve } from './shutdown.ts';

/**
 * `halyard api`: the GraphQL and REST server, until SIGTERM or SIGINT. Without a database it serves, not ready, and waits.
 */
export async function api(): Promise<void> {
  const config = loadProcessConfig('api');
  const { authDatabaseUrl: databaseUrl, nodeEnv } = config;
  if (databaseUrl === null)
    throw new ConfigError([
      'Set AUTH_DATABASE_URL: api needs a database. (npm start brings one of its own.)',
    ]);
  const log = makeLogger(config, 'api');
  await serve(log, async ({ running, signal }) => {
    await assertCanListen({ '': config, METRICS_: config.metrics });
    const metrics = await startMetrics({ config, databaseUrl, delivers: false, log });
    running.defer(() => metrics.close());
    const delayed = Promise.withResolvers<undefined>();
    const ready = waitForDatabase({
      ...{ url: databaseUrl, name: 'halyard-api', nodeEnv, log, signal },
      login: API_LOGIN,
      onWaiting: () => delayed.resolve(undefined),
    });
    const database = { ready, delayed: delayed.promise };
    const { registry } = metrics;
    const server = await startApi({ config, databaseUrl, log, makeGraphql, registry, database });
    running.defer(() => server.close());
    await ready;
  });
}
