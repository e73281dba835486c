import { Registry } from 'prom-client';
import { destinationOf, makeSink } from '../audit/delivery/sinks/index.ts';
import { makeDivergenceCheck } from '../audit/delivery/divergence.ts';
import type { Sink } from '../audit/delivery/sink.ts';
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
  /** Where audit events go; by default the configuration's choice. One that is given stays open. */
  readonly sink?: Sink;
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
/** For the tasks, the timer, what applies beside the tasks, and the delivery loop with its lease. */
const CONNECTIONS = 10;
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
 * @throws ConfigError when its sink can't work, what `database` rejects with, and the signal's reason
 */
export async function startWorker(options: WorkerOptions) {
  const { config, databaseUrl, log, listening, signal = new AbortController().signal } = options;
  const destination = destinationOf(config);
  await using starting = new AsyncDisposableStack();
  const makeOne = (name: string, max: number) => {
    const pool = makePool(databaseUrl, { name, max, queryTimeoutMs: ANSWER_MS, log });
    starting.defer(() => pool.end());
    return pool;
  };
  const pool = makeOne('halyard worker', CONNECTIONS);
  const jobsPool = makeOne('halyard worker jobs', JOB_CONNECTIONS);
  const sink = options.sink ?? starting.adopt(await makeSink(config, log), (made) => made.close());
  const divergence = makeDivergenceCheck({ pool, sink, destination, log });
  const metrics = makeWorkerMetrics(options.registry ?? new Registry());
  let parts: WorkerParts | null = null;
  const healthy = () => parts?.healthy() ?? false;
  let standstill: StandstillWatch | null = null;
  const standing = () => standstill?.standing() ?? [];
  const ignored = () => parts?.ignored() ?? 0;
  metrics.watch({ pool, healthy, ignored, sink, divergence, standing });
  await raceAbort(Promise.resolve(options.database), signal);

  const { standstillMs } = options;
  standstill = makeStandstillWatch({ pool, destination, log, standstillMs });
  starting.defer(standstill.close);
  if (sink.readTail === undefined) log.info({ destination }, CANNOT_BE_ASKED);
  parts = makeParts({
    ...{ databaseUrl, log, pool, jobsPool, sink, destination, divergence, metrics, listening },
    concurrency: CONCURRENCY,
    standstill,
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
  log.info({ destination, concurrency: CONCURRENCY }, 'the worker is running');
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
