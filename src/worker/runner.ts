import type pg from 'pg';
import { Registry } from 'prom-client';
import { backOff } from '../lib/backoff.ts';
import { makeOutage } from '../lib/outage.ts';
import { orAborted, pause, withDeadline } from '../lib/wait.ts';
import { destinationOf, makeSink } from '../audit/delivery/sinks/index.ts';
import { makeForwarder } from '../audit/delivery/forwarder.ts';
import type { Sink } from '../audit/delivery/sink.ts';
import type { Config } from '../config/config.ts';
import { makePool } from '../postgres/pool.ts';
import { makeListener } from '../postgres/listener.ts';
import type { Logger } from '../lib/log.ts';
import { meterSink } from '../metrics/sink.ts';
import { makeWorkerMetrics, type WorkerMetrics } from '../metrics/worker.ts';
import { makeDueTimer } from '../schedules/timer.ts';
import { makeApplier } from '../schedules/apply.ts';
import { makeDelivery } from '../audit/delivery/loop.ts';
import type { WorkerContext } from './context.ts';
import { startJobPool, type JobPool } from './job_pool.ts';
import { addJob } from '../jobs/jobs.ts';

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
}

export type RunningWorker = Awaited<ReturnType<typeof startWorker>>;

/** Tasks at a time. */
const CONCURRENCY = 4;
/** What shouldn't wait for the crontab: room for the trail, forwarding by this process's own sink, and what the trail lacks. */
const FIRST_JOBS = ['ensure_audit_partitions', 'forward_audit_events', 'reconcile_audit'] as const;
const FIRST_JOBS_BACK_OFF = { baseMs: 200, capMs: 2_000 };
/** Beside one for each task: for the timer, the delivery loop, the lease, and graphile-worker's own listener and queries. */
const SPARE_CONNECTIONS = 6;
/** A little above the 60 s that the server itself gives a statement of the worker's (migrations/roles.sql). */
const ANSWER_MS = 65_000;
/** How long events that are being sent may take, from the request to stop on, before they are given up and sent again later. */
const SEND_GRACE_MS = 3_000;
/** Below the 30 s after which orchestrators kill. Only an outage takes so long: another worker then does what is left. */
const STOP_DEADLINE_MS = 25_000;

/**
 * Starts a worker: schedules are applied as they come due, audit events forwarded as they are written. When the database goes
 * away meanwhile, the start takes as long as it is away.
 *
 * @throws ConfigError when its sink can't work, what `database` rejects with, and the signal's reason
 */
export async function startWorker(options: WorkerOptions) {
  const { config, log, signal = new AbortController().signal } = options;
  await using starting = new AsyncDisposableStack();
  const pool = makePool(options.databaseUrl, {
    name: 'halyard worker',
    max: CONCURRENCY + SPARE_CONNECTIONS,
    answerMs: ANSWER_MS,
    log,
  });
  starting.defer(() => pool.end());
  const sink = options.sink ?? starting.adopt(await makeSink(config, log), (made) => made.close());
  const metrics = makeWorkerMetrics(options.registry ?? new Registry());
  let parts: WorkerParts | null = null;
  const healthy = () => parts?.healthy() ?? false;
  metrics.watch({ pool, healthy, sink });
  await orAborted(Promise.resolve(options.database), signal);

  parts = makeParts(options, pool, sink, metrics);
  starting.defer(parts.close);
  const running = starting.move();
  let stopping: Promise<void> | undefined;
  const stopOnce = () => (stopping ??= stop(running, log));
  try {
    await orAborted(parts.begin(), signal);
  } catch (error) {
    await stopOnce();
    throw error;
  }
  const destination = destinationOf(config);
  log.info({ destination, concurrency: CONCURRENCY }, 'the worker is running');
  return {
    /** Whether it receives notifications, reads what is due, and takes jobs. */
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

type WorkerParts = ReturnType<typeof makeParts>;

/** Everything, none of it waited for yet. */
function makeParts(
  { config, databaseUrl, log }: WorkerOptions,
  pool: pg.Pool,
  sink: Sink,
  metrics: WorkerMetrics,
) {
  const stop = new AbortController();
  const abort = new AbortController();
  const stopping = stop.signal;
  const destination = destinationOf(config);
  const forwarder = makeForwarder({
    pool,
    leaseMs: config.audit.leaseMs,
    sink: meterSink(sink, metrics.delivery),
    destination,
    log,
  });
  const applier = makeApplier({ pool, log, onBatch: (batch) => metrics.applied(batch), stopping });
  const delivery = makeDelivery({
    ...{ pool, forwarder, log, stopping, abort: abort.signal },
    waitFor: () => applier.idle(),
  });
  const context = { pool, log, applier, delivery, metrics, stopping };
  const dueTimer = makeDueTimer({
    pool,
    log,
    queueJob: () => addJob(pool, 'apply_due_schedules'),
    applyDirectly: () => applier.apply(),
  });
  const hint = () => {
    dueTimer.refresh();
    delivery.hint();
  };
  const listener = makeListener({
    url: databaseUrl,
    channel: 'halyard_audit',
    name: 'halyard worker listener',
    onNotification: hint,
    onConnect: hint,
    log,
  });
  let jobs: JobPool | null = null;
  return {
    healthy: () =>
      !stopping.aborted && [listener, dueTimer, jobs].every((part) => part?.healthy() ?? false),
    /** Resolves once all of it runs; while the database is away each tries until it does. */
    async begin(): Promise<void> {
      jobs = await startJobPool(context, CONCURRENCY);
      await Promise.all([jobs.started, queueFirstJobs(context), listener.start()]);
    },
    close: async (): Promise<void> => {
      const reason = new Error('The worker is stopping.');
      stop.abort(reason);
      const giveUp = setTimeout(() => abort.abort(reason), SEND_GRACE_MS);
      await Promise.all([listener.close(), dueTimer.close(), jobs?.stop()]);
      await delivery.close();
      clearTimeout(giveUp);
    },
  };
}

/** Tries until they are queued, or the worker stops. */
async function queueFirstJobs({ pool, log, stopping }: WorkerContext): Promise<void> {
  const outage = makeOutage(log, {
    failing: 'the first jobs could not be queued',
    back: 'the first jobs are queued',
  });
  const left = [...FIRST_JOBS];
  const stopped = () => stopping.aborted;
  for (let failures = 0; !stopped(); failures++) {
    try {
      for (let task = left[0]; task !== undefined; task = left[0]) {
        await addJob(pool, task);
        left.shift();
      }
      outage.back();
      return;
    } catch (error) {
      if (!stopped()) outage.failed(error);
    }
    await pause(backOff(failures, FIRST_JOBS_BACK_OFF), stopping);
  }
}
