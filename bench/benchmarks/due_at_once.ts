import type pg from 'pg';
import type { JobsOptions, JobsTask } from '../load/jobs.ts';
import { startLoad } from '../load.ts';
import { inTurns, spreadOf } from '../measure.ts';
import { startHalyard } from '../processes.ts';
import type { Benchmark, Size } from '../benchmark.ts';
import { makeFlags } from '../schedule_table.ts';
import type { BenchDatabase } from '../environment.ts';
import { whenSettled } from '../trail.ts';

const SCHEDULES: Record<Size, number> = { smoke: 300, usual: 10_000, full: 100_000 };
const ROUNDS: Record<Size, number> = { smoke: 1, usual: 2, full: 3 };
/** Enough that starting and ending count for little. */
const JOBS: Record<Size, number> = { smoke: 100, usual: 500, full: 10_000 };
const JOBS_AT_A_TIME = 8;
const TARGET = { perSecond: 8_000, ratio: 10 };
/** Until the schedules are created and everything is at rest. */
const LEAD_MS = 1_500;
const DEADLINE_MS = 60_000;

export const dueAtOnce: Benchmark = {
  name: 'due_at_once',
  description: 'How fast are schedules applied that are due at one instant?',
  async run(environment, size) {
    const database = await environment.makeDatabase();
    const worker = await startHalyard('worker', database.workerUrl);
    const options: JobsOptions = { databaseUrl: database.rootUrl, concurrency: JOBS_AT_A_TIME };
    const jobLoad = await startLoad<JobsTask, number>('jobs', options);
    const seconds: number[] = [];
    let round = 0;
    try {
      await makeFlags(database, 'due', SCHEDULES[size]);
      const figures = await inTurns(
        ROUNDS[size],
        async () => {
          const took = await applyAll(database, ++round, SCHEDULES[size]);
          seconds.push(took);
          return SCHEDULES[size] / took;
        },
        async (part) => {
          const jobs = JOBS[size] * part;
          await addJobs(database, `job-${round}`, jobs);
          return jobLoad.run({ jobs });
        },
      );
      const value = spreadOf(figures.a);
      const jobs = spreadOf(figures.b);
      const baseline = { what: 'a graphile-worker job for each, the same changes', value: jobs };
      const count = SCHEDULES[size].toLocaleString('en-US');
      return [
        {
          what: `${count} due at one instant, one worker`,
          unit: 'schedules/s',
          value,
          baseline,
          target: {
            text: `≥ ${TARGET.perSecond.toLocaleString('en-US')}/s and ≥ ${TARGET.ratio} × the baseline`,
            met: value.median >= TARGET.perSecond && value.median >= TARGET.ratio * jobs.median,
          },
        },
        {
          what: 'the last of them is applied after',
          unit: 's',
          // A round that warmed up doesn’t count.
          value: spreadOf(seconds.slice(-ROUNDS[size])),
        },
      ];
    } finally {
      await jobLoad.stop();
      await worker.stop();
      await database.drop();
    }
  },
};

/**
 * Schedules of as many flags for one instant, each of which changes its flag, and waits until all are applied, and their events
 * out of the way of what comes next.
 *
 * @returns seconds from the instant until everybody can see the last one
 * @throws Error when one of them hasn't got its events
 */
async function applyAll({ root }: BenchDatabase, round: number, count: number): Promise<number> {
  await whenSettled(root);
  const { rows } = await root.query<{ created: Date; due: number; last: string }>(
    `with created as (
       insert into app_public.feature_flag_schedules (flag_id, scheduled_at, updates)
       select f.id, at.due, jsonb_build_object('enabled', true, 'rollout_percentage', $2::integer)
       from app_public.feature_flags f, (select clock_timestamp() + $1 * interval '1 ms' as due) as at
       where f.flag_key like 'due-%'
       returning scheduled_at, id
     )
     select now() as created, extract(epoch from scheduled_at)::float8 as due, id as last
     from created order by id desc limit 1`,
    [LEAD_MS + count / 10, round],
  );
  const [batch] = rows;
  if (batch === undefined) throw new Error('No schedules were created.');
  await root.query('analyze app_public.feature_flags, app_public.feature_flag_schedules');
  const applied = await whenApplied(root, batch.last);
  await checkEvents(root, batch.created, count);
  await whenSettled(root);
  return applied - batch.due;
}

/**
 * By the database's clock, in seconds since 1970.
 *
 * @param last the last in the order of applying: while it waits, nothing else is looked at, which would take the processors
 *   from the work
 */
async function whenApplied(root: pg.Pool, last: string): Promise<number> {
  const startedAt = performance.now();
  for (;;) {
    const { rows } = await root.query<{ now: number; pending: boolean }>({
      name: 'pending',
      text: `select
               extract(epoch from clock_timestamp())::float8 as now,
               case s.status when 'pending' then true else exists (
                 select from app_public.feature_flag_schedules o where o.status = 'pending') end as pending
             from app_public.feature_flag_schedules s
             where s.id = $1`,
      values: [last],
    });
    if (rows[0]?.pending === false) return rows[0].now;
    if (performance.now() - startedAt > DEADLINE_MS)
      throw new Error('Not all were applied in time.');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

async function checkEvents(root: pg.Pool, since: Date, count: number): Promise<void> {
  const { rows } = await root.query<{ applied: number; updated: number; letters: number }>(
    `select
       count(*) filter (where e.event_type = 'flag_schedule.applied')::integer as applied,
       count(*) filter (where e.event_type = 'feature_flag.updated' and e.schedule_id is not null)::integer as updated,
       (select count(*) from audit.dead_letters)::integer as letters
     from audit.events e
     where e.flag_key like 'due-%' and e.occurred_at >= $1`,
    [since],
  );
  const [found] = rows;
  if (found?.applied !== count || found.updated !== count || found.letters !== 0)
    throw new Error(
      `Not every one of ${count} has its events: ${JSON.stringify(found)}. This is a defect.`,
    );
}

/** A schedule and a job each, for the same changes. */
async function addJobs(database: BenchDatabase, prefix: string, count: number): Promise<void> {
  await makeFlags(database, prefix, count);
  // Far ahead, so that they are the jobs' alone; pending ones of the same table, as before.
  await database.root.query(
    `with created as (
       insert into app_public.feature_flag_schedules (flag_id, scheduled_at, updates)
       select f.id, now() + interval '1 year', '{"enabled": true}'
       from app_public.feature_flags f where f.flag_key like $1 || '-%'
       returning id, flag_id
     )
     select count(graphile_worker.add_job(
       'bench_apply', json_build_object('flagId', c.flag_id, 'scheduleId', c.id))) from created c`,
    [prefix],
  );
}
