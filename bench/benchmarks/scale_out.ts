import { signToken } from '../../src/auth/token.ts';
import type { SchedulesAnswer, SchedulesOptions, SchedulesTask } from '../load/schedules.ts';
import { startLoad } from '../load.ts';
import type { Spread } from '../measure.ts';
import { inTurns, spreadOf } from '../measure.ts';
import { BENCH_SECRET, startHalyard } from '../processes.ts';
import type { Benchmark, Size } from '../benchmark.ts';
import type { BenchDatabase, Environment } from '../environment.ts';

/** How many APIs, and as many workers, for how long, and how often. */
const SIZES: Record<Size, { each: number; seconds: number; rounds: number }> = {
  smoke: { each: 2, seconds: 0.5, rounds: 1 },
  usual: { each: 4, seconds: 1.2, rounds: 2 },
  full: { each: 4, seconds: 10, rounds: 5 },
};
const CONNECTIONS = 8;
/** Enough that no request is answered after the time it is to schedule for, which would be refused. */
const DUE_IN_MS = 1_500;
const FLAGS = Array.from({ length: 200 }, (_, n) => `flag-${n}`);
/** More processes share the same two processors: what they may lose by standing in each other's variant. */
const TARGET = 0.8;
const SETTLE_MS = 60_000;

/** A database of its own with its processes, and what was measured there. */
interface Site {
  /** Creates schedules, and waits until all of them are applied and delivered. Gives creates per second. */
  run(seconds: number): Promise<number>;
  /** Of each run: schedules applied per second, from the first creation to the last application. */
  readonly applied: number[];
  readonly lateness: number[];
  stop(): Promise<void>;
}

async function openSite(environment: Environment, each: number): Promise<Site> {
  const database = await environment.makeDatabase();
  const started = await Promise.all(
    Array.from({ length: each }, () => [
      startHalyard('api', database.authenticatorUrl),
      startHalyard('worker', database.workerUrl),
    ]).flat(),
  );
  const urls = started.map(({ url }) => url).filter((url) => url !== '');
  await database.root.query(
    'insert into app_public.feature_flags (flag_key) select unnest($1::text[])',
    [FLAGS],
  );
  const token = signToken({ secret: BENCH_SECRET, role: 'admin', userId: 'alice' });
  const options: SchedulesOptions = {
    ...{ urls, token, flags: FLAGS, connections: CONNECTIONS, dueInMs: DUE_IN_MS },
  };
  const load = await startLoad<SchedulesTask, SchedulesAnswer>('schedules', options);
  const applied: number[] = [];
  const lateness: number[] = [];
  return {
    applied,
    lateness,
    async run(seconds) {
      const from = await now(database);
      const answers = await load.run({ seconds });
      if (answers.refused > 0) throw new Error(`${answers.refused} requests were refused.`);
      const outcome = await settled(database, from);
      if (outcome.schedules < answers.created)
        throw new Error(`${answers.created} were answered 2xx, ${outcome.schedules} are there.`);
      applied.push(outcome.schedules / outcome.seconds);
      lateness.push(outcome.latenessMs);
      return answers.perSecond;
    },
    async stop() {
      await load.stop();
      await Promise.all(started.map((process) => process.stop()));
      await database.drop();
    },
  };
}

async function now({ root }: BenchDatabase): Promise<Date> {
  const { rows } = await root.query<{ now: Date }>('select clock_timestamp() as now');
  return rows[0]?.now ?? new Date();
}

interface Outcome {
  readonly schedules: number;
  readonly seconds: number;
  /** p99. */
  readonly latenessMs: number;
}

/** What is left to do of the schedules created since then, and whether each has exactly its two events. */
const STATE = `
  with schedule as (
    select s.id, s.status, s.created_at, s.applied_at from app_public.feature_flag_schedules s where s.created_at >= $1
  ), told as (
    select e.schedule_id,
      count(*) filter (where e.event_type = 'flag_schedule.created') as created,
      count(*) filter (where e.event_type = 'flag_schedule.applied') as applied,
      max((e.metadata ->> 'latenessMs')::float8) as lateness
    from audit.events e where e.occurred_at >= $1 and e.schedule_id is not null and e.event_type like 'flag_schedule.%'
    group by e.schedule_id
  )
  select
    count(*)::int as schedules,
    count(*) filter (where s.status = 'pending')::int as pending,
    ((select count(*) from audit.queue) + (select coalesce(max(l.seq), 0) from audit.ledger l) - app_private.audit_cursor('stdout'))::int as undelivered,
    count(*) filter (where s.status <> 'applied' or t.created is distinct from 1 or t.applied is distinct from 1)::int as wrong,
    extract(epoch from max(s.applied_at) - min(s.created_at))::float8 as seconds,
    percentile_disc(0.99) within group (order by t.lateness) as "latenessMs"
  from schedule s left join told t on t.schedule_id = s.id`;

/** @throws Error when something is still to be done after a minute, or a schedule was not applied, or told, exactly once */
async function settled({ root }: BenchDatabase, from: Date): Promise<Outcome> {
  const deadline = performance.now() + SETTLE_MS;
  for (;;) {
    const { rows } = await root.query<
      Outcome & { pending: number; undelivered: number; wrong: number }
    >(STATE, [from]);
    const state = rows[0];
    if (state?.pending === 0 && state.undelivered === 0) {
      if (state.wrong === 0) return state;
      throw new Error(`${state.wrong} schedules were not applied, or not told of, exactly once.`);
    }
    if (performance.now() > deadline) throw new Error(`Not settled: ${JSON.stringify(state)}.`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

export const scaleOut: Benchmark = {
  name: 'scale_out',
  description:
    'Do several API and worker processes on one database get in each other’s variant, and is each schedule still applied once?',
  async run(environment, size) {
    const { each, seconds, rounds } = SIZES[size];
    const several = await openSite(environment, each);
    const single = await openSite(environment, 1);
    try {
      const creates = await inTurns(
        rounds,
        (part) => several.run(seconds * part),
        (part) => single.run(seconds * part),
      );
      const counted = (figures: readonly number[]): Spread => spreadOf(figures.slice(-rounds));
      const value = spreadOf(creates.a);
      const base = spreadOf(creates.b);
      const baseline = (of: Spread) => ({ what: '1 API and 1 worker', value: of });
      const met = value.median >= TARGET * base.median;
      return [
        {
          what: `created by REST, ${each} APIs and ${each} workers, ${CONNECTIONS} connections`,
          unit: 'requests/s',
          value,
          baseline: baseline(base),
          target: { text: `≥ ${TARGET} on the same processors`, met },
        },
        {
          what: 'applied meanwhile, each exactly once, with its events delivered',
          unit: 'schedules/s',
          value: counted(several.applied),
          baseline: baseline(counted(single.applied)),
        },
        {
          what: 'applied after its time, p99',
          unit: 'ms',
          value: counted(several.lateness),
          baseline: baseline(counted(single.lateness)),
        },
      ];
    } finally {
      await Promise.all([several.stop(), single.stop()]);
    }
  },
};
