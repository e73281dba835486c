import type pg from 'pg';
import { destinationOf, makeSink } from '../audit/destination.ts';
import { makeForwarder } from '../audit/forwarder.ts';
import type { Sink } from '../audit/sink.ts';
import type { Config } from '../config.ts';
import { makePool } from '../db.ts';
import { makeListener } from '../listener.ts';
import type { Logger } from '../log.ts';
import { makeAlarm } from './alarm.ts';
import { applyDueSchedules } from './apply.ts';
import { makeDelivery } from './delivery.ts';
import { makeJanitor } from './janitor.ts';
import { startJobPool } from './job_pool.ts';
import { addJob } from './jobs.ts';
import { makePresence } from './presence.ts';
import { assertMigrated } from './schema_check.ts';

export interface WorkerOptions {
  readonly config: Config;
  /** The login halyard_worker's. */
  readonly databaseUrl: string;
  readonly log: Logger;
  /** Where audit events go; by default the configuration's choice. One that is given stays open. */
  readonly sink?: Sink;
  /** Tasks at a time; 4 by default. */
  readonly concurrency?: number;
}

export interface RunningWorker {
  /** Whether it hears of changes, sees what is due, takes jobs, and is known to be alive. */
  healthy(): boolean;
  /** Finishes the tasks that run, and closes everything. May be called twice. */
  stop(): Promise<void>;
  /** Resolves once stopped. Outages don't stop it. */
  readonly stopped: Promise<void>;
}

/** The listener, the alarm and the jobs' pool each have connections of their own or enough of these. */
const SPARE_CONNECTIONS = 6;
/** How long events that are being sent may take, from the request to stop on, before they are given up and sent again later. */
const SEND_GRACE_MS = 3_000;

/**
 * Starts a worker: schedules are applied as they come due, audit events forwarded as they are written.
 *
 * @throws Error when the database can't be reached or isn't migrated
 */
export async function startWorker(options: WorkerOptions): Promise<RunningWorker> {
  const pool = makePool(options.databaseUrl, {
    name: 'halyard worker',
    max: (options.concurrency ?? 4) + SPARE_CONNECTIONS,
    log: options.log,
  });
  try {
    await assertMigrated(pool);
    return await assemble(options, pool);
  } catch (error) {
    await pool.end();
    throw error;
  }
}

async function assemble(options: WorkerOptions, pool: pg.Pool): Promise<RunningWorker> {
  const { config, databaseUrl, log, concurrency = 4 } = options;
  const stop = new AbortController();
  const abort = new AbortController();
  const stopping = stop.signal;
  const sink = options.sink ?? makeSink(config, log);
  const forwarder = makeForwarder({ pool, sink, destination: destinationOf(config), log });
  const delivery = makeDelivery({ pool, forwarder, log, stopping, abort: abort.signal });
  const presence = makePresence({ url: databaseUrl, log });
  const janitor = makeJanitor({ pool, presence, log, stopping });
  const context = { pool, log, delivery, janitor, stopping };
  const alarm = makeAlarm({
    pool,
    log,
    ring: () => addJob(pool, 'apply_due_schedules'),
    applyDirectly: () => applyDueSchedules(context),
  });
  const hint = () => {
    alarm.look();
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

  async function closeAll(): Promise<void> {
    stop.abort(new Error('The worker is stopping.'));
    const giveUp = setTimeout(
      () => abort.abort(new Error('The worker is stopping.')),
      SEND_GRACE_MS,
    );
    await Promise.all([listener.close(), alarm.close(), janitor.close(), jobs?.stop()]);
    await delivery.close();
    clearTimeout(giveUp);
    // Last: as long as a task runs, the process must be known to be alive.
    await presence.close();
    if (options.sink === undefined) await sink.close();
  }

  let jobs: Awaited<ReturnType<typeof startJobPool>> | undefined;
  try {
    jobs = await startJobPool({ context, presence, concurrency });
    await begin(pool, log);
    await listener.start();
  } catch (error) {
    await closeAll();
    throw error;
  }
  log.info({ destination: destinationOf(config), concurrency }, 'the worker is running');

  const stopped = Promise.withResolvers<undefined>();
  let closing: Promise<void> | null = null;
  return {
    healthy: () =>
      !stopping.aborted &&
      listener.healthy() &&
      alarm.healthy() &&
      presence.healthy() &&
      jobs.healthy(),
    async stop() {
      closing ??= closeAll()
        .then(() => pool.end())
        .finally(() => {
          log.info('the worker has stopped');
          stopped.resolve(undefined);
        });
      await closing;
    },
    stopped: stopped.promise,
  };
}

/** What shouldn't wait for the crontab: forwarding by this process's own sink at once, and room for the trail. */
async function begin(pool: pg.Pool, log: Logger): Promise<void> {
  await addJob(pool, 'ensure_audit_partitions');
  await addJob(pool, 'forward_audit_events');
  log.debug('the first jobs are queued');
}
