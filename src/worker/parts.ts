import type pg from 'pg';
import { backOff } from '../lib/backoff.ts';
import { makeOutage } from '../lib/outage.ts';
import { sleep } from '../lib/wait.ts';
import type { DivergenceCheck } from '../audit/delivery/divergence.ts';
import { makeForwarder } from '../audit/delivery/forwarder.ts';
import { looksLikeHint } from '../audit/hint.ts';
import { makeDeliveries } from '../audit/delivery/deliveries.ts';
import type { Destination } from '../audit/delivery/sinks/index.ts';
import { addJob } from '../jobs/jobs.ts';
import type { Logger } from '../lib/log.ts';
import { meterSink } from '../metrics/sink.ts';
import type { WorkerMetrics } from '../metrics/worker.ts';
import { makeListener, type ListenerOptions } from '../postgres/listener.ts';
import { makeApplier } from '../schedules/apply.ts';
import type { AppliedBatch } from '../schedules/batch.ts';
import { makeLockedFlags } from '../schedules/locked_flags.ts';
import { makeStuckSchedules } from '../schedules/stuck.ts';
import { makeDueTimer } from '../schedules/timer.ts';
import type { WorkerContext } from './context.ts';
import { startJobPool, type JobPool } from './job_pool.ts';

/** A destination, and the check whether the database is behind it. */
export interface CheckedDestination extends Destination {
  readonly divergence: DivergenceCheck;
}

interface PartsOptions {
  /** The login halyard_worker's. */
  readonly databaseUrl: string;
  readonly log: Logger;
  /** For all but graphile-worker, which has one of its own. */
  readonly pool: pg.Pool;
  readonly jobsPool: pg.Pool;
  /** Tasks at a time. */
  readonly concurrency: number;
  readonly destinations: readonly CheckedDestination[];
  readonly metrics: WorkerMetrics;
  /** See makeForwarder. */
  readonly leaseMs: number;
  /** Times of the listener, for tests. */
  readonly listening?: Pick<ListenerOptions, 'heartbeat' | 'queueFullMs'> | undefined;
}

export type WorkerParts = ReturnType<typeof makeParts>;

/** What shouldn't wait for the crontab: room for the trail, forwarding to this process's own destinations, and what the trail lacks. */
const FIRST_JOBS = ['ensure_audit_partitions', 'forward_audit_events', 'reconcile_audit'] as const;
const FIRST_JOBS_BACK_OFF = { baseMs: 200, capMs: 2_000 };
/** How long events that are being sent may take, from the request to stop on, before they are given up and sent again later. */
const SEND_GRACE_MS = 3_000;

/** Everything that a worker runs on its pools, none of it waited for yet. */
export function makeParts(options: PartsOptions) {
  const { databaseUrl, log, pool, jobsPool, concurrency, destinations, metrics } = options;
  const stop = new AbortController();
  const abort = new AbortController();
  const stopping = stop.signal;
  const applying = makeApplying(options, stopping);
  const { applier } = applying;
  const deliveries = makeDeliveries({
    ...{ pool, log, stopping, abort: abort.signal, waitFor: () => applier.idle() },
    forwarders: destinations.map(({ destination, sink, divergence }) => ({
      destination,
      forwarder: makeForwarder({
        ...{ pool, divergence, log, leaseMs: options.leaseMs, destination },
        sink: meterSink(sink, metrics.delivery(destination)),
      }),
    })),
  });
  const context = { pool, log, applier, deliveries, metrics, stopping };
  const dueTimer = makeDueTimer({
    ...{ pool, log, applyLocked: applying.applyLocked },
    queueJob: () => addJob(pool, 'apply_due_schedules'),
    applyDirectly: () => applier.apply(),
  });
  const hint = () => {
    dueTimer.refresh();
    deliveries.hint();
  };
  let jobs: JobPool | null = null;
  const listener = makeListener({
    ...options.listening,
    url: databaseUrl,
    channel: 'halyard_audit',
    name: 'halyard worker listener',
    onNotification(payload) {
      const isHint = looksLikeHint(payload);
      if (isHint) hint();
      return isHint;
    },
    onConnect: hint,
    onQueueFull: () => jobs?.relisten(),
    log,
  });
  return {
    healthy: () =>
      !stopping.aborted && [listener, dueTimer, jobs].every((part) => part?.healthy() ?? false),
    /** Whether nothing is sent to a destination any more, because it asked for that. */
    stopped: deliveries.stopped,
    ignored: listener.ignored,
    /** Resolves once all of it runs; while the database is away each tries until it does. */
    async begin(): Promise<void> {
      // Before anything is applied or forwarded.
      await applying.settled();
      jobs = await startJobPool(context, jobsPool, concurrency);
      await Promise.all([jobs.started, queueFirstJobs(context), listener.start()]);
    },
    close: async (): Promise<void> => {
      const reason = new Error('The worker is stopping.');
      stop.abort(reason);
      const giveUp = setTimeout(() => abort.abort(reason), SEND_GRACE_MS);
      await Promise.all([listener.close(), dueTimer.close(), jobs?.stop()]);
      await deliveries.close();
      clearTimeout(giveUp);
    },
  };
}

/** What a destination may have applied is held, so all are asked before each run that may be on another server than the last. */
function makeApplying({ pool, log, destinations, metrics }: PartsOptions, stopping: AbortSignal) {
  const shared = {
    ...{ pool, log, stopping, stuck: makeStuckSchedules() },
    onBatch: (batch: AppliedBatch) => metrics.applied(batch),
  };
  const applier = makeApplier(shared);
  const lockedFlags = makeLockedFlags({ ...shared, drainedAt: applier.drainedAt });
  const settled = async () => {
    await Promise.all(destinations.map(({ divergence }) => divergence.settled(stopping)));
  };
  const checked =
    <T>(apply: () => Promise<T>) =>
    async (): Promise<T> => {
      await settled();
      return apply();
    };
  return {
    settled,
    applier: { ...applier, apply: checked(() => applier.apply()) },
    applyLocked: checked(() => lockedFlags.apply()),
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
    await sleep(backOff(failures, FIRST_JOBS_BACK_OFF), stopping);
  }
}
