import { ConfigError, loadProcessConfig } from '../config/config.ts';
import { makeLogger } from '../lib/log.ts';
import { startMetrics } from '../metrics/endpoint.ts';
import { WORKER_LOGIN, waitForDatabase } from '../postgres/wait.ts';
import { serve } from './shutdown.ts';
import { startWorker } from '../worker/runner.ts';

/** `halyard worker`: applies and forwards until SIGTERM or SIGINT, then finishes what runs. Without a database it waits. */
export async function worker(): Promise<void> {
  const config = loadProcessConfig('worker');
  const { workerDatabaseUrl: databaseUrl, nodeEnv } = config;
  if (databaseUrl === null)
    throw new ConfigError([
      'Set WORKER_DATABASE_URL: worker needs a database. (npm start brings one of its own.)',
    ]);
  const log = makeLogger(config, 'worker');
  await serve(log, async ({ running, signal }) => {
    const metrics = await startMetrics({ config, databaseUrl, delivers: true, log });
    running.defer(() => metrics.close());
    const database = waitForDatabase({
      ...{ url: databaseUrl, name: 'halyard worker', nodeEnv, log, signal },
      login: WORKER_LOGIN,
    });
    const { registry } = metrics;
    const started = await startWorker({ config, databaseUrl, log, registry, database, signal });
    running.defer(() => started.stop());
  });
}
