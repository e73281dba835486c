import { run } from 'graphile-worker';
import { makePool } from '../../src/postgres/pool.ts';
import { pino } from 'pino';
import { workerLogger } from '../../src/jobs/logger.ts';
import { serve } from './serve.ts';

/** graphile-worker with a job for each schedule: what applying would be without a set of them at a time. */
export interface JobsOptions {
  /** Of who may change the flags. */
  readonly databaseUrl: string;
  /** Jobs at a time. */
  readonly concurrency: number;
}

export interface JobsTask {
  readonly jobs: number;
}

/** The same changes, with the same triggers and events. */
const APPLY = `
  with changed as (
    update app_public.feature_flags set enabled = not enabled where id = $1
  )
  update app_public.feature_flag_schedules set status = 'applied' where id = $2`;

interface Payload {
  readonly flagId: string;
  readonly scheduleId: string;
}

/** One task: takes all jobs that there are, and answers with the jobs done a second. */
serve(({ databaseUrl, concurrency }: JobsOptions) => {
  const log = pino({ level: 'warn' }, pino.destination(2));
  const pool = makePool(databaseUrl, { name: 'halyard bench', max: concurrency + 4, log });
  return Promise.resolve(async ({ jobs }: JobsTask): Promise<number> => {
    const all = Promise.withResolvers<undefined>();
    let done = 0;
    const startedAt = performance.now();
    const runner = await run({
      pgPool: pool,
      concurrency,
      logger: workerLogger(log),
      noHandleSignals: true,
      taskList: {
        bench_apply: async (payload, helpers) => {
          const { flagId, scheduleId } = payload as Payload;
          await helpers.query(APPLY, [flagId, scheduleId]);
          if (++done === jobs) all.resolve(undefined);
        },
      },
    });
    await all.promise;
    const seconds = (performance.now() - startedAt) / 1_000;
    await runner.stop();
    return jobs / seconds;
  });
});
