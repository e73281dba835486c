import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import autocannon from 'autocannon';
import { signToken } from '../../src/auth/token.ts';
import { makeDataDir, removeDataDir } from '../../test/support/postgres_server.ts';
import { spreadOf } from '../measure.ts';
import { BENCH_SECRET, startHalyard } from '../processes.ts';
import type { HalyardProcess } from '../processes.ts';
import type { Figure, Benchmark, Size } from '../benchmark.ts';
import type { BenchDatabase, Environment } from '../environment.ts';
import { whenSettled } from '../trail.ts';

/** What an hour of a large installation asks of it: a request a second, and 1,000 schedules that come due. */
const HOUR: Record<Size, { readonly requests: number; readonly schedules: number }> = {
  smoke: { requests: 100, schedules: 20 },
  usual: { requests: 3_600, schedules: 1_000 },
  full: { requests: 36_000, schedules: 10_000 },
};
const ROUNDS: Record<Size, number> = { smoke: 1, usual: 2, full: 7 };
const CONNECTIONS = 8;
const TARGET_MIB = 200;
const TARGET_S = { cold: 6, warm: 2 } as const;
const CHECKOUT = fileURLToPath(new URL('../..', import.meta.url));

const LIST = `{"query": "{ auditEvents(first: 20) { nodes { id occurredAt eventType metadata } } }"}`;
/** Flags for which schedules are created, bench-0 and so on. */
const FLAGS = 10;
const FILL = `
  with flags as (
    insert into app_public.feature_flags (flag_key) select 'bench-' || n from generate_series(0, ${FLAGS - 1}) as n
  ), flag as (insert into app_public.feature_flags (flag_key) values ('bench') returning id)
  insert into app_public.feature_flag_schedules (flag_id, scheduled_at, updates)
  select flag.id, now(), jsonb_build_object('rollout_percentage', n % 100)
  from flag cross join generate_series(1, $1::integer) as n`;
export const memoryStart: Benchmark = {
  name: 'memory_start',
  description: 'How much memory do api and worker take, and how long to start?',
  async run(environment, size) {
    const figures = await measureProcesses(environment, size);
    return [...(await measureProduct(size)), ...figures];
  },
};

/** `npm start` on a new folder and then on the same one, in seconds to the addresses that it prints. */
async function measureProduct(size: Size): Promise<Figure[]> {
  const cold: number[] = [];
  const warm: number[] = [];
  for (let round = 0; round < ROUNDS[size]; round++) {
    const dataDir = await makeDataDir();
    try {
      cold.push(await startProduct(dataDir));
      warm.push(await startProduct(dataDir));
    } finally {
      await removeDataDir(dataDir, join(dataDir, 'postgres'));
    }
  }
  const figure = (what: string, seconds: number[], target: number): Figure => {
    const value = spreadOf(seconds);
    const text = `≤ ${target}`;
    return { what, unit: 's', value, target: { text, met: value.median <= target } };
  };
  return [
    figure('npm start to ready, with a new data folder', cold, TARGET_S.cold),
    figure('npm start to ready, again', warm, TARGET_S.warm),
  ];
}

/** Starts and stops it; in seconds from spawning npm to readiness. */
async function startProduct(dataDir: string): Promise<number> {
  const startedAt = performance.now();
  const child = spawn('npm', ['start'], {
    cwd: CHECKOUT,
    env: {
      PATH: process.env.PATH,
      HOME: process.env.HOME,
      PORT: '0',
      HALYARD_DATA_DIR: dataDir,
    },
    // A group of its own, so that the signal reaches what npm runs.
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const closed = once(child, 'close');
  const ready = Promise.withResolvers<number>();
  let text = '';
  const hear = (chunk: Buffer) => {
    text = (text + chunk.toString()).slice(-10_000);
    if (text.includes('Ctrl-C stops everything'))
      ready.resolve((performance.now() - startedAt) / 1_000);
  };
  child.stdout.on('data', hear);
  child.stderr.on('data', hear);
  void closed.then(() => ready.reject(new Error(`npm start ended:\n${text}`)));
  const seconds = await ready.promise;
  process.kill(-(child.pid ?? 0), 'SIGTERM');
  await closed;
  return seconds;
}

/** API and worker, each in a process: their starts, and their memory before and after an hour's load. */
async function measureProcesses(environment: Environment, size: Size): Promise<Figure[]> {
  const database = await environment.makeDatabase();
  const starts: Record<'api' | 'worker', number[]> = { api: [], worker: [] };
  const start = async (command: 'api' | 'worker') => {
    const { authenticatorUrl, workerUrl } = database;
    const started = await startHalyard(command, command === 'api' ? authenticatorUrl : workerUrl);
    starts[command].push(started.startedInMs / 1_000);
    return started;
  };
  try {
    for (let round = 1; round < ROUNDS[size]; round++)
      for (const command of ['api', 'worker'] as const) await (await start(command)).stop();
    const api = await start('api');
    const worker = await start('worker');
    try {
      const before = [await api.memory(), await worker.memory()];
      await load(api, database, size);
      const after = [await api.memory(), await worker.memory()];
      return [...describeStarts(starts), ...describeMemory(before, after)];
    } finally {
      await Promise.all([api.stop(), worker.stop()]);
    }
  } finally {
    await database.drop();
  }
}

/** An hour's requests at once, half of them creations by REST and half lists by GraphQL, and its schedules. */
async function load(api: HalyardProcess, { root }: BenchDatabase, size: Size): Promise<void> {
  const { requests, schedules } = HOUR[size];
  await root.query(FILL, [schedules]);
  const token = signToken({ secret: BENCH_SECRET, role: 'admin', userId: 'alice' });
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
  const create = JSON.stringify({
    scheduled_at: new Date(Date.now() + 86_400_000),
    updates: { enabled: true },
  });
  const result = await autocannon({
    url: api.url,
    connections: CONNECTIONS,
    amount: requests,
    headers,
    // In turn over flags, each of which may have 1,000 pending schedules.
    requests: Array.from({ length: FLAGS }, (_, n): autocannon.Request[] => [
      { method: 'POST', path: `/api/admin/flags/bench-${n}/schedule`, body: create },
      { method: 'POST', path: '/graphql', body: LIST },
    ]).flat(),
  });
  if (result.non2xx > 0 || result.errors > 0)
    throw new Error(`${result.non2xx + result.errors} of ${requests} requests failed.`);
  await whenSettled(root);
}

function describeStarts(starts: Record<'api' | 'worker', number[]>): Figure[] {
  return (['api', 'worker'] as const).map((command) => {
    const value = spreadOf(starts[command]);
    const target = { text: `≤ ${TARGET_S.warm}`, met: value.median <= TARGET_S.warm };
    return { what: `halyard ${command} to ready`, unit: 's', value, target };
  });
}

function describeMemory(before: number[], after: number[]): Figure[] {
  return ['api', 'worker'].map((command, i) => {
    const value = spreadOf([after[i] ?? Number.NaN]);
    return {
      what: `resident memory of ${command} after an hour’s load`,
      unit: 'MiB',
      value,
      baseline: { what: 'idle', value: spreadOf([before[i] ?? Number.NaN]) },
      target: { text: `≤ ${TARGET_MIB}`, met: value.median <= TARGET_MIB },
    };
  });
}
