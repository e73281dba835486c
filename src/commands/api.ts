import { makeGraphql } from '../api/graphql.ts';
import { startApi } from '../api/server.ts';
import { ConfigError, loadProcessConfig } from '../config.ts';
import { makeLogger } from '../log.ts';
import { onShutdown } from '../shutdown.ts';

/** `halyard api`: the GraphQL and REST server, until SIGTERM or SIGINT. */
export async function api(): Promise<void> {
  const config = loadProcessConfig('api');
  if (config.authDatabaseUrl === null) {
    throw new ConfigError([
      'Set AUTH_DATABASE_URL: api needs a database. (npm start brings one of its own.)',
    ]);
  }
  const log = makeLogger(config, 'api');
  const starting = startApi({
    config,
    databaseUrl: config.authDatabaseUrl,
    log,
    makeGraphql,
  });
  // Not once it is started: a signal that comes meanwhile is heard too.
  onShutdown(log, async () => (await starting).close());
  await starting;
}
