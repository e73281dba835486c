import { Registry } from 'prom-client';
import { makeSinks, type Destination } from '../audit/delivery/sinks/index.ts';
import { makeDivergenceCheck } from '../audit/delivery/divergence.ts';
import type { Config } from '../config/config.ts';
import type { Logger } from '../lib/log.ts';
import { raceAbort, withDeadline } from '../lib/wait.ts';
import { makeWorkerMetrics } from '../metrics/worker.ts';
import type { ListenerOptions } from '../postgres/listener.ts';
import { makePool } from '../postgres/pool.ts';
import { makeParts, type WorkerParts } from './parts.ts';
import { makeStandstillWatch, type StandstillWatch } from './standstill.ts';

export interface WorkerOptions {
  readonly config: Config;
  /** The login halyard_worker's. */
  readonly databaseUrl: string;
  readonly log: Logger;
  /** Nothing connects before it has resolved, which is when the database is there and migrated; by default at once. */
  readonly database?: Promise<unknown>;
  /** Ends the start: it is undone, and rejects with the signal's reason. */
  readonly signal?: AbortSignal;
  /** Where audit events go; by default the configuration's choice. What is given stays open. */
  readonly destinations?: readonly Destination[];
  /** Where its metrics go. */
  readonly registry?: Registry;
  /** Times of the listener, for tests. */
  readonly listening?: Pick<ListenerOptions, 'heartbeat' | 'queueFullMs'>;
  /** See makeStandstillWatch, for tests. */
  readonly standstillMs?: number;
}

export type RunningWorker = Awaited<ReturnType<typeof startWorker>>;

/** Tasks at a time. */
const CONCURRENCY = 4;
/** For the tasks, the timer, what applies beside the tasks, and the delivery loop with its lease … */
const CONNECTIONS = 10;
/** … and for that of each further destination. */
const CONNECTIONS_PER_DESTINATION = 2;
/** graphile-worker's own: it listens on one, and each slot for a task asks for jobs on one. */
const JOB_CONNECTIONS = CONCURRENCY + 1;
/** A little above the 60 s that the server itself gives a statement of the worker's (migrations/roles.sql). */
const ANSWER_MS = 65_000;
/** Below the 30 s after which orchestrators kill. Only an outage takes so long: another worker then does what is left. */
const STOP_DEADLINE_MS = 25_000;

const CANNOT_BE_ASKED =
  "this destination can't be asked for its newest seal: after the restore of an older snapshot run halyard restore accept before the first worker";

/**
 * Starts a worker: schedules are applied as they come due, audit events forwarded as they are written. When the database goes
 * away meanwhile, the start takes as long as it is away.
 *
 * @throws ConfigError when one of its sinks can't work, what `database` rejects with, and the signal's reason
 */
export async function startWorker(options: WorkerOptions) {
  const { config, databaseUrl, log, listening, signal = new AbortController().signal } = options;
  await using starting = new AsyncDisposableStack();
  const makeOne = (name: string, max: number) => {
    const pool = makePool(databaseUrl, { name, max, queryTimeoutMs: ANSWER_MS, log });
    starting.defer(() => pool.end());
    return pool;
  };
  const made =
    options.destinations ??
    (await makeSinks(config, log, (sink) => starting.defer(() => sink.close())));
  const max = CONNECTIONS + CONNECTIONS_PER_DESTINATION * (made.length - 1);
  const pool = makeOne('halyard worker', max);
  const jobsPool = makeOne('halyard worker jobs', JOB_CONNECTIONS);
  const destinations = made.map((one) => ({
    ...one,
    divergence: makeDivergenceCheck({ pool, log, ...one }),
  }));
  const metrics = makeWorkerMetrics(options.registry ?? new Registry());
  let parts: WorkerParts | null = null;
  let standstill: StandstillWatch | null = null;
  const standing = () => standstill?.standing() ?? [];
  const healthy = () => (parts?.healthy() ?? false) && standing().length === 0;
  const stopped = (destination: string) => parts?.stopped(destination) ?? false;
  const ignored = () => parts?.ignored() ?? 0;
  metrics.watch({ pool, healthy, ignored, destinations, stopped, standing });
  await raceAbort(Promise.resolve(options.database), signal);

  const names = destinations.map(({ destination }) => destination);
  standstill = makeStandstillWatch({
    ...{ pool, log, standstillMs: options.standstillMs },
    destinations: () => names.filter((name) => !stopped(name)),
  });
  starting.defer(standstill.close);
  for (const { sink, destination } of destinations)
    if (sink.readTail === undefined) log.info({ destination }, CANNOT_BE_ASKED);
  parts = makeParts({
    ...{ databaseUrl, log, pool, jobsPool, destinations, metrics, listening },
    concurrency: CONCURRENCY,
    leaseMs: config.audit.leaseMs,
  });
  starting.defer(parts.close);
  const running = starting.move();
  let stopping: Promise<void> | undefined;
  const stopOnce = () => (stopping ??= stop(running, log));
  try {
    await raceAbort(parts.begin(), signal);
  } catch (error) {
    await stopOnce();
    throw error;
  }
  log.info({ destinations: names, concurrency: CONCURRENCY }, 'the worker is running');
  return {
    /** Whether it receives notifications, reads what is due, and takes jobs, and no work of the workers stands still. */
    healthy,
    /** Finishes the tasks that run, and closes everything. May be called twice. */
    stop: stopOnce,
  };
}

async function stop(running: AsyncDisposableStack, log: Logger): Promise<void> {
  await withDeadline(
    () => running.disposeAsync(),
    STOP_DEADLINE_MS,
    `The worker did not come to an end within ${STOP_DEADLINE_MS} ms.`,
  ).catch((error: unknown) => log.warn({ err: error }, 'the worker leaves work unfinished'));
  log.info('the worker has stopped');
}
