import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { ConfigError, loadProcessConfig, type Config } from '../config/config.ts';
import { startEmbeddedPostgres } from '../postgres/embedded/postgres.ts';
import { chosenSinks, makeSinks, type Destination } from '../audit/delivery/sinks/index.ts';
import { assertCanListen } from '../http/listen.ts';
import { makeLogger, type Logger } from '../lib/log.ts';
import { setUp, type Logins } from '../postgres/setup.ts';
import { raceAbort } from '../lib/wait.ts';
import { placeOf } from '../postgres/error.ts';
import type { ApiServer } from '../api/server.ts';
import { serve, type Service } from './shutdown.ts';
import { exampleTokens, welcome } from './banner.ts';
import { withView } from './trail_view.ts';

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
  const wait = await import('../postgres/wait.ts');
  return {
    ...{ migrate, startMetrics, makeGraphql, startApi, startWorker },
    ...wait,
  };
}

type Parts = Awaited<ReturnType<typeof loadParts>>;

export interface StartArguments {
  /** On a database of its own that is filled with something to look at. */
  readonly demo?: boolean;
}

/**
 * `halyard start`: database, API and worker in one process, for development and a first look. Without DATABASE_URL the
 * database is the embedded one; with it, the server that it names, set up first when ROOT_DATABASE_URL is given too. While that
 * is away it serves, not ready, and waits.
 */
export async function start({ demo: isDemo = false }: StartArguments = {}): Promise<void> {
  const demo = isDemo ? await import('./demo.ts') : null;
  const given = loadProcessConfig('start');
  const config = demo?.demoConfig(given) ?? given;
  const format = config.logFormat ?? (process.stderr.isTTY ? 'text' : 'json');
  const log = makeLogger({ ...config, logFormat: format }, 'halyard');
  // Nobody reads on, as behind `npm start | head -1`: that must not end the product.
  process.stdout.on('error', (error) => log.warn({ err: error }, 'standard output is closed'));
  await serve(log, async (service) => {
    // Before a cluster is made.
    await assertCanListen({ '': config, METRICS_: config.metrics });
    demo?.claimDataDir(config);
    const parts = loadParts();
    parts.catch(() => undefined);
    const openSinks = () =>
      makeSinks(config, log, (sink) => service.running.defer(() => sink.close()));
    // What can never work, as CloudWatch without a region, shows before a cluster is made.
    const isLate = chosenSinks(config.audit.sinks).some(({ isInDataDir = false }) => isInDataDir);
    const early = isLate ? null : await openSinks();
    // A signal in the middle of it must not leave a server behind: its guard ends it with this process.
    const preparing = prepareDatabase(config, log, service);
    const database = await raceAbort(preparing, service.signal);
    const destinations = early ?? (await openSinks());
    const { api, metrics } = await startParts(config, log, service, {
      ...{ ...database, ...(await parts), destinations },
    });
    const { url, enterUrl } = api;
    const { ownerUrl } = database.logins;
    const text = await demo?.openDemo({ config, url, ownerUrl, enterUrl, signal: service.signal });
    const tokens = exampleTokens(config);
    const enter = text === undefined && 'admin' in tokens ? enterUrl(tokens.admin) : null;
    const outside = config.databaseUrl === null ? null : placeOf(config.databaseUrl);
    const shown = shownOf(config);
    process.stdout.write(
      welcome(config, { api: url, metrics, enter, demo: text, database: outside, shown }),
    );
  });
}

/** How the terminal shows audit events: what a sink on standard output prints already is the copy itself. */
function shownOf({ audit, logFormat }: Config): 'text' | 'json' | null {
  if (audit.sinks.includes('stdout')) return 'json';
  const format = logFormat ?? (process.stdout.isTTY ? 'text' : 'json');
  // Of what goes elsewhere a pipe gets nothing, but of the embedded server's file.
  return format === 'text' || audit.sinks.includes('file') ? format : null;
}

/** Starts all but the database; resolves to the addresses once all of it runs. */
async function startParts(
  config: Config,
  log: Logger,
  service: Service,
  {
    logins,
    rootUrl,
    setUpFirst,
    destinations,
    ...parts
  }: Parts & Database & { readonly destinations: readonly Destination[] },
): Promise<{ api: ApiServer; metrics: string | null }> {
  const { running } = service;
  const { authenticatorUrl, workerUrl, ownerUrl } = logins;
  // When one of them fails, the others must not wait on for a database.
  const failing = new AbortController();
  const signal = AbortSignal.any([service.signal, failing.signal]);
  const delayed = Promise.withResolvers<undefined>();
  const options = { log, signal, nodeEnv: config.nodeEnv, name: 'halyard start' };
  const onWaiting = () => delayed.resolve(undefined);
  const prepare = (url: string, work: () => Promise<void>) =>
    parts.retryWhileAway(work, {
      ...{ ...options, onWaiting },
      log: log.child({ database: placeOf(url) }),
    });
  const migrated = prepare(rootUrl ?? ownerUrl, setUpFirst).then(() =>
    prepare(ownerUrl, () => parts.migrate(ownerUrl, log)),
  );
  const ready = (url: string, login: typeof parts.API_LOGIN, waiting?: { onWaiting: () => void }) =>
    parts.mayRejectEarly(
      migrated.then(() => parts.waitForDatabase({ ...options, ...waiting, url, login })),
    );
  // Only the API goes on without a database.
  const apiReady = ready(authenticatorUrl, parts.API_LOGIN, { onWaiting });
  const workerReady = ready(workerUrl, parts.WORKER_LOGIN);
  const metrics = await parts.startMetrics({
    // Without a port of its own any free one: two copies on one machine must not disturb each other.
    config: { ...config, metrics: { ...config.metrics, port: config.metrics.port ?? 0 } },
    databaseUrl: workerUrl,
    delivers: true,
    log,
  });
  running.defer(() => metrics.close());
  const { registry } = metrics;
  const shown = config.audit.sinks.includes('stdout') ? null : shownOf(config);
  const apiDatabase = { ready: apiReady, delayed: delayed.promise };
  const starting = [
    parts
      .startApi({
        ...{ config, databaseUrl: authenticatorUrl, log, registry, database: apiDatabase },
        makeGraphql: parts.makeGraphql,
      })
      .then(async (api) => {
        running.defer(() => api.close());
        await raceAbort<unknown>(api.started, signal);
        return api;
      }),
    parts
      .startWorker({
        ...{ config, databaseUrl: workerUrl, log, registry, signal },
        ...{
          database: workerReady,
          destinations: destinations.map((one, i) =>
            // Each event once, when the first destination has it.
            shown === null || i > 0
              ? one
              : { ...one, sink: withView(one.sink, process.stdout, shown) },
          ),
        },
      })
      .then((worker) => {
        running.defer(() => worker.stop());
      }),
  ] as const;
  for (const part of starting) part.catch((error: unknown) => failing.abort(error));
  // Then what is up can be closed.
  await Promise.allSettled(starting);
  const [api] = await Promise.all(starting);
  return { api, metrics: metrics.url };
}

/** The database of a start. */
interface Database {
  readonly logins: Logins;
  /** The administrator's, where one was given. */
  readonly rootUrl: string | null;
  /** Makes roles and database where that isn't done yet and an administrator's URL was given. */
  readonly setUpFirst: () => Promise<void>;
}

async function prepareDatabase(
  config: Config,
  log: Logger,
  { running, stop }: Service,
): Promise<Database> {
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
  await setUp({
    ...{ rootUrl: server.superuserUrl, ...logins, log },
    limits: config.connectionLimits,
  });
  return { logins, rootUrl: null, setUpFirst: () => Promise.resolve() };
}

function outsideDatabase(config: Config, log: Logger): Database {
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
  const setUpFirst = async () => {
    if (rootDatabaseUrl === null) return;
    await setUp({
      ...{ rootUrl: rootDatabaseUrl, ...logins, log },
      limits: config.connectionLimits,
    });
  };
  return { logins, rootUrl: rootDatabaseUrl, setUpFirst };
}
