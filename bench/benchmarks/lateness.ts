import type pg from 'pg';
import type { PollerOptions, PollerTask } from '../load/poller.ts';
import type { WriterOptions, WriterTask } from '../load/writer.ts';
import { startLoad } from '../load.ts';
import { percentile, spreadOf } from '../measure.ts';
import { startHalyard } from '../processes.ts';
import type { Figure, Benchmark, Size } from '../benchmark.ts';
import { makeRandom } from '../../test/support/chaos/random.ts';
import type { BenchDatabase } from '../environment.ts';

const SCHEDULES: Record<Size, number> = { smoke: 10, usual: 300, full: 3_000 };
/** Over which they come due, after a lead in which they are created. */
const SPAN_MS: Record<Size, number> = { smoke: 1_000, usual: 6_400, full: 120_000 };
const LEAD_MS = 1_000;
const SEED = 11;
const WRITES_PER_SECOND = 100;
const TARGET = { idle: { p50: 10, p99: 50 }, loaded: { p50: null, p99: 150 } } as const;

/** The schedules of $1 flags at the instants $2, in milliseconds from now on. */
const CREATE = `
  with flags as (
    insert into app_public.feature_flags (flag_key)
    select $1 || '-' || n from generate_series(1, cardinality($2::float8[])) as n
    returning id, flag_key
  )
  insert into app_public.feature_flag_schedules (flag_id, scheduled_at, updates)
  select f.id, now() + i.ms * interval '1 ms', '{"enabled": true}'
  from unnest($2::float8[]) with ordinality as i (ms, n)
  join flags f on f.flag_key = $1 || '-' || i.n`;

const LATENESS = `
  select extract(epoch from s.applied_at - s.scheduled_at) * 1000 as late
  from app_public.feature_flag_schedules s
  join app_public.feature_flags f on f.id = s.flag_id
  where f.flag_key like $1 || '-%' and s.status = 'applied'`;

export const lateness: Benchmark = {
  name: 'lateness',
  description: 'How late are schedules applied, by the database’s clock?',
  async run(environment, size) {
    const database = await environment.makeDatabase();
    try {
      const polled = await pollLate(database, size);
      const worker = await startHalyard('worker', database.workerUrl);
      try {
        const idle = await applyLate(database, 'idle', size);
        const loaded = await underLoad(database, size, () => applyLate(database, 'loaded', size));
        return [...describe('idle', idle, polled), ...describe('loaded', loaded, polled)];
      } finally {
        await worker.stop();
      }
    } finally {
      await database.drop();
    }
  },
};

/** Milliseconds from now on. @param part of the schedules, and of the time */
function instants(size: Size, part = 1): number[] {
  const random = makeRandom(SEED);
  const count = Math.ceil(SCHEDULES[size] * part);
  return Array.from({ length: count }, () => LEAD_MS + random.next() * SPAN_MS[size] * part);
}

/** How late each was applied, in milliseconds. */
async function applyLate({ root }: BenchDatabase, name: string, size: Size): Promise<number[]> {
  const due = instants(size);
  await root.query(CREATE, [name, due]);
  return whenApplied(root, name, due.length, LEAD_MS + SPAN_MS[size]);
}

/** The baseline: a job for each instant, taken when graphile-worker polls. */
async function pollLate({ workerUrl }: BenchDatabase, size: Size): Promise<number[]> {
  const options: PollerOptions = { databaseUrl: workerUrl };
  const poller = await startLoad<PollerTask, number[]>('poller', options);
  try {
    // A third of them, over a third of the time: several polls all the same.
    return await poller.run({ dueInMs: instants(size, 1 / 3) });
  } finally {
    await poller.stop();
  }
}

/** Another process creates schedules meanwhile. */
async function underLoad<T>(
  { rootUrl }: BenchDatabase,
  size: Size,
  work: () => Promise<T>,
): Promise<T> {
  const options: WriterOptions = { databaseUrl: rootUrl };
  const writer = await startLoad<WriterTask, number>('writer', options);
  try {
    const task = { perSecond: WRITES_PER_SECOND, seconds: (LEAD_MS + SPAN_MS[size]) / 1_000 };
    const [answer] = await Promise.all([work(), writer.run(task)]);
    return answer;
  } finally {
    await writer.stop();
  }
}

/** Looks seldom, so as not to be a load itself. */
async function whenApplied(
  root: pg.Pool,
  name: string,
  count: number,
  ms: number,
): Promise<number[]> {
  const deadline = performance.now() + ms + 30_000;
  await pause(ms);
  for (;;) {
    const { rows } = await root.query<{ late: string }>(LATENESS, [name]);
    if (rows.length >= count) return rows.map(({ late }) => Number(late));
    if (performance.now() > deadline)
      throw new Error(`Only ${rows.length} of ${count} were applied.`);
    await pause(200);
  }
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

function describe(load: 'idle' | 'loaded', late: number[], polled: number[]): Figure[] {
  const name = load === 'idle' ? 'idle' : `with ${WRITES_PER_SECOND} creations/s`;
  return ([50, 99, 100] as const).map((p) => {
    const value = percentile(late, p);
    const target = p === 50 ? TARGET[load].p50 : p === 99 ? TARGET[load].p99 : null;
    return {
      what: `${name}, ${p === 100 ? 'the latest' : `p${p}`} of ${late.length}`,
      unit: 'ms',
      value: spreadOf([value]),
      baseline: {
        what: `graphile-worker’s poll, ${polled.length} jobs`,
        value: spreadOf([percentile(polled, p)]),
      },
      ...(target !== null && { target: { text: `≤ ${target}`, met: value <= target } }),
    };
  });
}
