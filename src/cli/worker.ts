import { ConfigError, loadProcessConfig } from '../config/config.ts';
import { makeLogger } from '../lib/log.ts';
import { withMetrics } from '../metrics/endpoint.ts';
import { onShutdown } from './shutdown.ts';
import { startWorker } from '../worker/runner.ts';

/** `halyard worker`: applies and forwards until SIGTERM or SIGINT, then finishes what runs. */
export async function worker(): Promise<void> {
  const config = loadProcessConfig('worker');
  const { workerDatabaseUrl: databaseUrl } = config;
  if (databaseUrl === null)
    throw new ConfigError([
      'Set WORKER_DATABASE_URL: worker needs a database. (npm start brings one of its own.)',
    ]);
  const log = makeLogger(config, 'worker');
  const starting = withMetrics({ config, databaseUrl, delivers: true, log }, (registry) =>
    startWorker({ config, databaseUrl, log, registry }),
  );
  // Not once it is started: a signal that comes meanwhile is heard too.
  onShutdown(log, async () => (await starting).stop());
  await starting;
}
