import type pg from 'pg';
import { Registry } from 'prom-client';
import { withDeadline } from '../lib/wait.ts';
import { destinationOf, makeSink } from '../audit/delivery/sinks/index.ts';
import { makeForwarder } from '../audit/delivery/forwarder.ts';
import { makeDivergenceCheck } from '../audit/delivery/divergence.ts';
import type { Sink } from '../audit/delivery/sink.ts';
import type { Config } from '../config/config.ts';
import { makePool } from '../postgres/pool.ts';
import { makeListener, type ListenerOptions } from '../postgres/listener.ts';
import type { Logger } from '../lib/log.ts';
import { meterSink } from '../metrics/sink.ts';
import { makeWorkerMetrics } from '../metrics/worker.ts';
import { makeDueTimer } from '../schedules/timer.ts';
import { makeApplier } from '../schedules/apply.ts';
import type { AppliedBatch } from '../schedules/batch.ts';
import { makeLockedFlags } from '../schedules/locked_flags.ts';
import { makeStuckSchedules } from '../schedules/stuck.ts';
import { makeDelivery } from '../audit/delivery/loop.ts';
import { startJobPool, type JobPool } from './job_pool.ts';
import { addJob } from '../jobs/jobs.ts';
import { assertMigrated } from '../postgres/migrate.ts';

export interface WorkerOptions {
  readonly config: Config;
  /** The login halyard_worker's. */
  readonly databaseUrl: string;
  readonly log: Logger;
  /** Where audit events go; by default the configuration's choice. One that is given stays open. */
  readonly sink?: Sink;
  /** Where its metrics go. */
  readonly registry?: Registry;
  /** Times of the listener, for tests. */
  readonly listening?: Pick<ListenerOptions, 'heartbeat' | 'queueFullMs'>;
}

export type RunningWorker = Awaited<ReturnType<typeof startWorker>>;

/** Tasks at a time. */
const CONCURRENCY = 4;
/** What shouldn't wait for the crontab: room for the trail, forwarding by this process's own sink, and what the trail lacks. */
const FIRST_JOBS = ['ensure_audit_partitions', 'forward_audit_events', 'reconcile_audit'] as const;
/** For the tasks, the timer, what applies beside the tasks, and the delivery loop with its lease. */
const CONNECTIONS = 10;
/** graphile-worker's own: it listens on one, and each slot for a task asks for jobs on one. */
const JOB_CONNECTIONS = CONCURRENCY + 1;
/** A little above the 60 s that the server itself gives a statement of the worker's (migrations/roles.sql). */
const ANSWER_MS = 65_000;
/** How long events that are being sent may take, from the request to stop on, before they are given up and sent again later. */
const SEND_GRACE_MS = 3_000;
/** Below the 30 s after which orchestrators kill. Only an outage takes so long: another worker then does what is left. */
const STOP_DEADLINE_MS = 25_000;

const CANNOT_BE_ASKED =
  "this destination can't be asked for its newest seal: after the restore of an older snapshot run halyard restore accept before the first worker";

/**
 * Starts a worker: schedules are applied as they come due, audit events forwarded as they are written.
 *
 * @throws Error when the database can't be reached or isn't migrated, ConfigError when its sink can't work
 */
export async function startWorker(options: WorkerOptions) {
  const { config, log } = options;
  const destination = destinationOf(config);
  await using starting = new AsyncDisposableStack();
  const pool = makePool(options.databaseUrl, {
    name: 'halyard worker',
    max: CONNECTIONS,
    answerMs: ANSWER_MS,
    log,
  });
  starting.defer(() => pool.end());
  const jobsPool = makePool(options.databaseUrl, {
    name: 'halyard worker jobs',
    max: JOB_CONNECTIONS,
    answerMs: ANSWER_MS,
    log,
  });
  starting.defer(() => jobsPool.end());
  await assertMigrated(pool);
  const sink = options.sink ?? starting.adopt(await makeSink(config, log), (made) => made.close());
  let jobs: JobPool | null = null;
  const { context, listener, dueTimer, divergence, close } = makeParts(options, pool, sink, () =>
    jobs?.relisten(),
  );
  starting.defer(() => close(jobs));
  if (sink.newestSeal === undefined) log.info({ destination }, CANNOT_BE_ASKED);
  // Before anything is applied or forwarded.
  await divergence.settled(context.stopping);
  jobs = await startJobPool(context, jobsPool, CONCURRENCY);
  for (const task of FIRST_JOBS) await addJob(pool, task);
  await listener.start();
  const running = starting.move();
  log.info({ destination, concurrency: CONCURRENCY }, 'the worker is running');

  const watched = [listener, dueTimer, jobs];
  const healthy = () => !context.stopping.aborted && watched.every((part) => part.healthy());
  context.metrics.watch({ pool, healthy, sink, divergence });
  let stopping: Promise<void> | undefined;
  return {
    /** Whether it receives notifications, reads what is due, and takes jobs. */
    healthy,
    /** Finishes the tasks that run, and closes everything. May be called twice. */
    stop: () => (stopping ??= stop(running, log)),
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

/** Everything but the jobs' pool, none of it waited for yet. */
function makeParts(
  { config, databaseUrl, log, registry = new Registry(), listening }: WorkerOptions,
  pool: pg.Pool,
  sink: Sink,
  onQueueFull: () => void,
) {
  const metrics = makeWorkerMetrics(registry);
  const stop = new AbortController();
  const abort = new AbortController();
  const stopping = stop.signal;
  const destination = destinationOf(config);
  const divergence = makeDivergenceCheck({ pool, sink, destination, log });
  const forwarder = makeForwarder({
    pool,
    divergence,
    leaseMs: config.audit.leaseMs,
    sink: meterSink(sink, metrics.delivery),
    destination,
    log,
  });
  const applying = {
    ...{ pool, log, stopping, stuck: makeStuckSchedules() },
    onBatch: (batch: AppliedBatch) => metrics.applied(batch),
  };
  const { apply, ...applierParts } = makeApplier(applying);
  const lockedFlags = makeLockedFlags({ ...applying, drainedAt: applierParts.drainedAt });
  /** What a destination may have applied is held; so it is asked first where this may be another server than before. */
  const checked =
    <T>(applyNow: () => Promise<T>) =>
    async () => {
      await divergence.settled(stopping);
      return applyNow();
    };
  const applier = { ...applierParts, apply: checked(apply) };
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
    applyLocked: checked(() => lockedFlags.apply()),
  });
  const hint = () => {
    dueTimer.refresh();
    delivery.hint();
  };
  const listener = makeListener({
    ...listening,
    onQueueFull,
    url: databaseUrl,
    channel: 'halyard_audit',
    name: 'halyard worker listener',
    onNotification: hint,
    onConnect: hint,
    log,
  });
  async function close(jobs: JobPool | null): Promise<void> {
    const reason = new Error('The worker is stopping.');
    stop.abort(reason);
    const giveUp = setTimeout(() => abort.abort(reason), SEND_GRACE_MS);
    await Promise.all([listener.close(), dueTimer.close(), jobs?.stop()]);
    await delivery.close();
    clearTimeout(giveUp);
  }
  return { context, dueTimer, listener, divergence, close };
}
