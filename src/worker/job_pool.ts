import { EventEmitter } from 'node:events';
import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type pg from 'pg';
import {
  getTasks,
  run,
  type Runner,
  type RunnerOptions,
  type TaskList,
  type WorkerEvents,
} from 'graphile-worker';
import type { WorkerContext } from './context.ts';
import { workerLogger } from '../jobs/logger.ts';
import { backOff } from '../lib/backoff.ts';
import type { Logger } from '../lib/log.ts';
import { makeOutage, type Outage } from '../lib/outage.ts';
import { sleep } from '../lib/wait.ts';
import { watchNotifications } from './job_notifications.ts';
import { assertInstalled, noteFailure, outageLogger } from './job_failures.ts';

/** graphile-worker, kept running. */
export type JobPool = Awaited<ReturnType<typeof startJobPool>>;

const TASK_FOLDER = fileURLToPath(new URL('../../tasks', import.meta.url));
const CRONTAB = new URL('../../crontab', import.meta.url);

/** A job in the future, and one whose notification was lost, is found by polling. */
const POLL_MS = 1_000;
/** How long a pool whose tasks have ended may take to record that, before it is abandoned. */
const REPORT_MS = 5_000;
const RESTART = { baseMs: 200, capMs: 2_000 };

/**
 * Starts graphile-worker on the tasks in tasks/ and the times in crontab, in the background, and tries again while the database is
 * away. graphile-worker stops when it can't record how a job ended, as when PostgreSQL restarts: then another pool is started. The
 * jobs of the old one stay locked, which delays nothing (decision 20).
 *
 * @param pool graphile-worker's own: while its tables are locked it holds all of these connections, and none of the context's
 * @param concurrency tasks at a time
 * @throws Error when a file in tasks/ isn't a task
 */
export async function startJobPool(context: WorkerContext, pool: pg.Pool, concurrency: number) {
  const { log, stopping } = context;
  releaseOnce(pool);
  // A function, because TypeScript doesn't know that a signal changes while something is awaited.
  const stopped = () => stopping.aborted;
  const outage = makeOutage(log, { failing: 'no jobs are taken', back: 'jobs are taken again' });
  const options = {
    ...{ pgPool: pool, concurrency },
    taskList: await loadTasks(context),
    crontab: await readFile(CRONTAB, 'utf8'),
  };
  const started = Promise.withResolvers<undefined>();
  let current: Awaited<ReturnType<typeof begin>> | null = null;
  const running = supervise().finally(() => started.resolve(undefined));

  async function supervise(): Promise<void> {
    for (let failures = 0; !stopped(); failures++) {
      try {
        current = await begin(log, options, outage);
        // The worker may have been stopped meanwhile.
        if (stopped()) {
          await current.runner.stop();
          return;
        }
        started.resolve(undefined);
        failures = 0;
        await current.finished;
      } catch (error) {
        const isKnown = noteFailure(outage, error);
        const level = isKnown ? 'debug' : 'warn';
        log[level]({ err: error }, 'taking jobs was interrupted and begins again');
      }
      if (stopped()) return;
      current = null;
      await sleep(backOff(failures, RESTART), stopping);
    }
  }

  return {
    /** Resolves once jobs are taken for the first time, or it is stopped. */
    started: started.promise,
    healthy: () => current !== null && !outage.active(),
    /** Listens to the channels of jobs again, so that the server's notification queue can be emptied. */
    relisten: () => current?.relisten(),
    /** Resolves once the tasks that run are finished and nothing is taken any more. */
    async stop(): Promise<void> {
      // It rejects when graphile-worker stops by itself at this very moment.
      await current?.runner.stop().catch((error: unknown) => {
        log.debug({ err: error }, 'graphile-worker had stopped already');
      });
      await running;
    },
  };
}

/**
 * graphile-worker 0.18 releases the client that listens twice when it is stopped, or loses the connection, before LISTEN is answered
 * (`listenForChanges` in main.js), and the error of the second time is thrown where nothing can catch it. From now on the second
 * time does nothing, for clients that are handed to a callback, as that one is.
 */
export function releaseOnce(pool: pg.Pool): void {
  type Release = (error?: Error | boolean) => void;
  // pg gives neither of a pool that has been ended.
  type Callback = (error: Error | undefined, client?: unknown, release?: Release) => void;
  const connect = pool.connect.bind(pool) as (callback?: Callback) => unknown;
  const connectOnce = (callback?: Callback) =>
    callback === undefined
      ? connect()
      : connect((error, client, release) => {
          let isReleased = false;
          callback(error, client, (reason) => {
            if (!isReleased) release?.(reason);
            isReleased = true;
          });
        });
  Object.assign(pool, { connect: connectOnce });
}

/**
 * Starts one run of graphile-worker.
 *
 * @returns `finished` settles when it takes no more jobs, and none of its tasks runs
 */
async function begin(
  log: Logger,
  options: RunnerOptions & { readonly pgPool: pg.Pool; readonly concurrency: number },
  outage: Outage,
) {
  // graphile-worker itself would try again, after pauses of up to two minutes that nothing cuts short.
  await assertInstalled(options.pgPool);
  const idle = Promise.withResolvers<undefined>();
  const events = makeEvents(outage, () => idle.resolve(undefined));
  let runner: Runner | null = null;
  const stop = () => void runner?.stop().catch(() => undefined);
  // graphile-worker 0.18 reads the ids of its tasks once, and keeps the error where that failed (`getTaskDetails`): such a run takes no
  // job any more. The error is the same object each time.
  let kept: unknown = null;
  events.on('worker:getJob:error', ({ error }) => {
    if (error === kept) stop();
    kept = error;
  });
  const { pgPool, concurrency } = options;
  await watchNotifications(events, { pool: pgPool, slots: concurrency, log, stop });
  let listening: pg.PoolClient | null = null;
  events.on('pool:listen:success', ({ client }) => (listening = client));
  events.on('pool:listen:release', () => (listening = null));
  runner = await run({
    ...options,
    logger: outageLogger(log, outage),
    events,
    pollInterval: POLL_MS,
    noHandleSignals: true,
    // At once, but through the batcher: without it an error in recording a job's end is thrown where nothing
    // can catch it, and ends the process.
    preset: { worker: { completeJobBatchDelay: 0, failJobBatchDelay: 0 } },
  });
  return {
    runner,
    finished: Promise.race([runner.promise, abandon(runner, idle.promise)]),
    relisten: () => listening && relisten(listening),
  };
}

/** In two transactions: within one the session would keep its place in the queue. What is missed is found by polling. */
function relisten(client: pg.PoolClient): void {
  client
    .query('unlisten *')
    .then(() => client.query('listen "jobs:insert"; listen "worker:migrate"'))
    // graphile-worker connects again when this connection ends.
    .catch((error: unknown) => client.connection.stream.destroy(error as Error));
}

/** @param onIdle called when it takes no more jobs and none of its tasks runs */
function makeEvents(outage: Outage, onIdle: () => void): WorkerEvents {
  const events: WorkerEvents = new EventEmitter();
  for (const end of [
    'pool:gracefulShutdown:complete',
    'pool:forcefulShutdown:complete',
    'pool:forcefulShutdown:error',
  ] as const)
    events.on(end, onIdle);
  // graphile-worker has these in its log at debug level only.
  events.on('worker:getJob:error', ({ error }) => {
    if (!noteFailure(outage, error)) outage.failed(error);
  });
  for (const success of ['worker:getJob:empty', 'job:start'] as const)
    events.on(success, () => outage.back());
  return events;
}

/**
 * Stops a runner once its tasks have ended. One that could not report several jobs' ends never ends by itself: its batcher counts what
 * is pending, and counts down twice for each report that fails after the first (graphile-worker 0.18, `batch` in main.js).
 *
 * @param idle its tasks have ended
 */
async function abandon(runner: Runner, idle: Promise<unknown>): Promise<void> {
  await idle;
  await delay(REPORT_MS, undefined, { ref: false });
  // Ends its crontab. It has ended already unless it waits for them.
  await runner.stop().catch(() => undefined);
}

/**
 * The files of tasks/, loaded as graphile-worker's own command line would, each given the context with its helpers.
 *
 * @throws Error when a file isn't a task
 */
async function loadTasks(context: WorkerContext): Promise<TaskList> {
  const { tasks, release } = await getTasks({ logger: workerLogger(context.log) }, TASK_FOLDER);
  release();
  return Object.fromEntries(
    Object.entries(tasks).map(([name, task]) => [
      name,
      (payload, helpers) => task?.(payload, Object.assign({}, helpers, { halyard: context })),
    ]),
  );
}
