import { loadProcessConfig } from '../config.ts';
import { makeLogger } from '../log.ts';
import { startWorker } from '../worker/runner.ts';

/** `halyard worker`: applies and forwards until SIGTERM or SIGINT, then finishes what runs; a second signal ends it at once. */
export async function worker(): Promise<void> {
  const config = loadProcessConfig('worker');
  if (config.workerDatabaseUrl === null)
    throw new Error(
      'Set WORKER_DATABASE_URL: the embedded server runs only with "npm start", which has a worker in it.',
    );
  const log = makeLogger(config, 'worker');
  const running = await startWorker({ config, databaseUrl: config.workerDatabaseUrl, log });
  let signals = 0;
  const onSignal = (signal: NodeJS.Signals) => {
    signals++;
    if (signals > 1) process.exit(1);
    log.info({ signal }, 'finishing what runs; a second signal ends the worker at once');
    void running.stop();
  };
  process.on('SIGTERM', onSignal).on('SIGINT', onSignal);
  await running.stopped;
  // All that was to be written is written; a timer of a connection that never came must not hold up the end.
  process.exit(0);
}
