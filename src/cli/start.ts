import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { ConfigError, loadProcessConfig, type Config } from '../config/config.ts';
import { startEmbeddedPostgres } from '../postgres/embedded/postgres.ts';
import { makeLogger, type Logger } from '../lib/log.ts';
import { setUp, type Logins } from '../postgres/setup.ts';
import { onShutdown } from './shutdown.ts';
import { welcome } from './banner.ts';

/** By then the database's process has been started, or asked for. */
const LAUNCHED_MS = 30;

/** The rest of the code, which takes as long to load as a database to start: it is loaded meanwhile. */
async function loadParts() {
  await delay(LAUNCHED_MS);
  const { migrate } = await import('../postgres/migrate.ts');
  const { startMetrics } = await import('../metrics/endpoint.ts');
  const { makeGraphql } = await import('../graphql/index.ts');
  const { startApi } = await import('../api/server.ts');
  const { startWorker } = await import('../worker/runner.ts');
  return { migrate, startMetrics, makeGraphql, startApi, startWorker };
}

/**
 * `halyard start`: database, API and worker in one process, for development and a first look. Without DATABASE_URL the
 * database is the embedded one; with it, the server that it names, set up first when ROOT_DATABASE_URL is given too.
 */
export async function start(): Promise<void> {
  const config = loadProcessConfig('start');
  const log = makeLogger(config, 'halyard');
  // Disposed of in the order opposite to that of starting: the database goes last.
  const running = new AsyncDisposableStack();
  let closing: Promise<void> | undefined;
  const close = () => (closing ??= running.disposeAsync());
  // From the first moment: a signal in the middle of starting must not leave a server behind.
  const stop = onShutdown(log, close);
  // Nobody reads on, as behind `npm start | head -1`: that must not end the product.
  process.stdout.on('error', (error) => log.warn({ err: error }, 'standard output is closed'));

  try {
    const parts = loadParts();
    parts.catch(() => undefined);
    const logins = await prepareDatabase(config, log, running, stop);
    const { migrate, startMetrics, makeGraphql, startApi, startWorker } = await parts;
    await migrate(logins.ownerUrl, log);
    const metrics = await startMetrics({
      // Without a port of its own any free one: two copies on one machine must not disturb each other.
      config: { ...config, metrics: { ...config.metrics, port: config.metrics.port ?? 0 } },
      databaseUrl: logins.workerUrl,
      delivers: true,
      log,
    });
    running.defer(() => metrics.close());
    const { registry } = metrics;
    const { authenticatorUrl, workerUrl } = logins;
    const starting = [
      startApi({ config, databaseUrl: authenticatorUrl, log, makeGraphql, registry }).then(
        (api) => {
          running.defer(() => api.close());
          return api.url;
        },
      ),
      startWorker({ config, databaseUrl: workerUrl, log, registry }).then((worker) => {
        running.defer(() => worker.stop());
      }),
    ] as const;
    // When one of them fails, the other one is up and can be closed.
    await Promise.allSettled(starting);
    const [api] = await Promise.all(starting);
    process.stdout.write(welcome(config, { api, metrics: metrics.url }));
  } catch (error) {
    // What was being started fails with the database that a signal stops: no news, and the process ends by itself.
    if (running.disposed) return;
    await close();
    throw error;
  }
}

async function prepareDatabase(
  config: Config,
  log: Logger,
  running: AsyncDisposableStack,
  stop: (reason: string) => void,
): Promise<Logins> {
  if (config.databaseUrl !== null) return outsideDatabase(config, log);
  const server = await startEmbeddedPostgres({ dataDir: config.dataDir, log });
  let stopping = false;
  running.defer(() => {
    stopping = true;
    return server.stop();
  });
  void server.exited.then((code) => {
    if (stopping) return;
    log.error({ code }, 'the embedded PostgreSQL has ended; its log is in the data folder');
    stop('the embedded PostgreSQL ended');
  });
  // Passwords are new at every start: nothing has to keep them.
  const url = (role: string) => server.url(role, randomBytes(18).toString('base64url'), 'halyard');
  const logins = {
    ownerUrl: url('halyard_owner'),
    authenticatorUrl: url('halyard_authenticator'),
    workerUrl: url('halyard_worker'),
  };
  await setUp({ rootUrl: server.superuserUrl, ...logins, log });
  return logins;
}

async function outsideDatabase(config: Config, log: Logger): Promise<Logins> {
  const { databaseUrl, authDatabaseUrl, workerDatabaseUrl, rootDatabaseUrl } = config;
  if (databaseUrl === null || authDatabaseUrl === null || workerDatabaseUrl === null)
    throw new ConfigError([
      'Set AUTH_DATABASE_URL and WORKER_DATABASE_URL as well: DATABASE_URL is the owner’s, and the API and the worker don’t run as the owner.',
    ]);
  const logins = {
    ownerUrl: databaseUrl,
    authenticatorUrl: authDatabaseUrl,
    workerUrl: workerDatabaseUrl,
  };
  if (rootDatabaseUrl !== null) await setUp({ rootUrl: rootDatabaseUrl, ...logins, log });
  return logins;
}
