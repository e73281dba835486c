import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type pg from 'pg';
import { expect, onTestFinished, vi } from 'vitest';
import type { AuditEvent, Sink } from '../../src/audit/delivery/sink.ts';
import { destinationsOf } from '../../src/audit/delivery/sinks/index.ts';
import { loadConfig } from '../../src/config/config.ts';
import { addJob } from '../../src/jobs/jobs.ts';
import type { TaskName } from '../../src/jobs/jobs.ts';
import { makePool } from '../../src/postgres/pool.ts';
import { startWorker } from '../../src/worker/runner.ts';
import type { RunningWorker, WorkerOptions } from '../../src/worker/runner.ts';
import { COMPILE_CACHE } from './compile_cache.ts';
import { cloneDatabase } from './database.ts';
import type { TestDatabase } from './database.ts';
import { makeTestLog } from './log.ts';
import type { LogLine } from './log.ts';

/** A shipped message, parsed. */
export interface Shipped {
  readonly eventType: string;
  readonly eventId: string;
  readonly seq: number;
  readonly level: string;
  readonly metadata: Record<string, unknown>;
}

export function parseShipped(text: string): Shipped {
  return JSON.parse(text) as Shipped;
}

/** A destination in memory. Until `trouble` is null each send throws what it gives, before or after it has taken the events. */
export interface MemorySink extends Sink {
  readonly taken: AuditEvent[];
  readonly sends: number[][];
  trouble: ((events: readonly AuditEvent[], signal: AbortSignal) => Promise<void>) | null;
}

export function makeMemorySink(): MemorySink {
  const sink: MemorySink = {
    taken: [],
    sends: [],
    trouble: null,
    async send(events, signal) {
      sink.sends.push(events.map(({ seq }) => seq));
      await sink.trouble?.(events, signal);
      sink.taken.push(...events);
    },
    close: () => Promise.resolve(),
  };
  return sink;
}

export interface TestWorker {
  readonly worker: RunningWorker;
  readonly sink: MemorySink;
  readonly lines: LogLine[];
}

/** A database for one test, dropped when what the test starts after this has ended. */
export async function useFreshDatabase(): Promise<TestDatabase> {
  const database = await cloneDatabase();
  onTestFinished(() => database.drop());
  return database;
}

/** A worker in this process, stopped at the end of the test. */
export async function startTestWorker(
  database: TestDatabase,
  options: Partial<WorkerOptions> & { env?: NodeJS.ProcessEnv; sink?: Sink } = {},
): Promise<TestWorker> {
  const { env, sink: given, ...overrides } = options;
  const sink = makeMemorySink();
  const config = loadConfig({ NODE_ENV: 'test', ...env }, 'worker');
  const [destination = ''] = destinationsOf(config);
  const { log, lines } = makeTestLog();
  const worker = await startWorker({
    config,
    databaseUrl: database.workerUrl,
    log,
    destinations: [{ destination, sink: given ?? sink }],
    ...overrides,
  });
  onTestFinished(() => worker.stop());
  return { worker, sink, lines };
}

export interface WorkerProcess {
  readonly child: ChildProcess;
  readonly pid: number;
  /** What it has printed, by line. */
  readonly stdout: string[];
  readonly stderr: string[];
  /** Ends it if it still runs, and resolves to its exit code, or the signal that ended it. */
  readonly end: (signal: NodeJS.Signals) => Promise<number | NodeJS.Signals | null>;
}

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url));

/** `halyard worker` in a process of its own, ready when it says so in its log, and ended with the test at the latest. */
export async function spawnWorker(
  database: TestDatabase,
  env: NodeJS.ProcessEnv = {},
): Promise<WorkerProcess> {
  const child = spawn(process.execPath, [MAIN, 'worker'], {
    env: {
      PATH: process.env.PATH,
      ...COMPILE_CACHE,
      NODE_ENV: 'test',
      WORKER_DATABASE_URL: database.workerUrl,
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const exited = once(child, 'exit') as Promise<[number | null, NodeJS.Signals | null]>;
  const stdout: string[] = [];
  const stderr: string[] = [];
  const ready = Promise.withResolvers<undefined>();
  createInterface(child.stdout).on('line', (line) => stdout.push(line));
  createInterface(child.stderr).on('line', (line) => {
    stderr.push(line);
    if (line.includes('the worker is running')) ready.resolve(undefined);
  });
  void exited.then(() => ready.reject(new Error(`The worker ended:\n${stderr.join('\n')}`)));
  const end = async (signal: NodeJS.Signals) => {
    if (child.exitCode === null && child.signalCode === null) child.kill(signal);
    const [code, by] = await exited;
    return code ?? by;
  };
  onTestFinished(async () => {
    await end('SIGKILL');
  });
  await ready.promise;
  if (child.pid === undefined) throw new Error('The worker has no process id.');
  return { child, pid: child.pid, stdout, stderr, end };
}

/** Queues a task that queues itself for later at most, and waits until a worker has run it. */
export async function runTask(database: TestDatabase, task: TaskName): Promise<void> {
  const pool = makePool(database.workerUrl, { name: 'halyard test', log: makeTestLog().log });
  try {
    await addJob(pool, task);
    await vi.waitFor(
      async () => {
        const { rows } = await pool.query(
          'select from graphile_worker.jobs where task_identifier = $1 and run_at <= now()',
          [task],
        );
        expect(rows).toHaveLength(0);
      },
      { timeout: 10_000 },
    );
  } finally {
    await pool.end();
  }
}

/** How many schedules there are of each status. */
export async function countByStatus(client: pg.ClientBase): Promise<Record<string, number>> {
  const { rows } = await client.query<{ status: string; count: number }>(
    'select status, count(*)::int as count from app_public.feature_flag_schedules group by 1',
  );
  return Object.fromEntries(rows.map(({ status, count }) => [status, count]));
}

/** The applied events of the trail: how often each schedule was applied, and how late. */
export async function appliedEvents(
  client: pg.ClientBase,
): Promise<{ schedule_id: string; metadata: Record<string, unknown> }[]> {
  const { rows } = await client.query<{ schedule_id: string; metadata: Record<string, unknown> }>(
    `select schedule_id, metadata from audit.events
     where event_type = 'flag_schedule.applied' order by occurred_at`,
  );
  return rows;
}

/** Flags, each with one schedule that is due after `dueIn`, in one statement, so that all are due at one instant. */
export async function insertDue(
  client: pg.ClientBase,
  { count, dueIn }: { count: number; dueIn: string },
): Promise<void> {
  await client.query(
    `with flag as (
       insert into app_public.feature_flags (flag_key, enabled)
       select gen_random_uuid()::text, false from generate_series(1, $1)
       returning id
     )
     insert into app_public.feature_flag_schedules (flag_id, scheduled_at, updates)
     select id, now() + $2::interval, '{"enabled": true}' from flag`,
    [count, dueIn],
  );
}
