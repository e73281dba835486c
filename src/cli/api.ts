import { makeGraphql } from '../graphql/index.ts';
import { startApi } from '../api/server.ts';
import { ConfigError, loadProcessConfig } from '../config/config.ts';
import { makeLogger } from '../lib/log.ts';
import { withMetrics } from '../metrics/endpoint.ts';
import { onShutdown } from './shutdown.ts';

/** `halyard api`: the GraphQL and REST server, until SIGTERM or SIGINT. */
export async function api(): Promise<void> {
  const config = loadProcessConfig('api');
  const { authDatabaseUrl: databaseUrl } = config;
  if (databaseUrl === null)
    throw new ConfigError([
      'Set AUTH_DATABASE_URL: api needs a database. (npm start brings one of its own.)',
    ]);
  const log = makeLogger(config, 'api');
  const starting = withMetrics({ config, databaseUrl, delivers: false, log }, async (registry) => {
    const server = await startApi({ config, databaseUrl, log, makeGraphql, registry });
    return { stop: server.close };
  });
  // Not once it is started: a signal that comes meanwhile is heard too.
  onShutdown(log, async () => (await starting).stop());
  await starting;
}
