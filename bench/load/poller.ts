import { run } from 'graphile-worker';
import { pino } from 'pino';
import { makePool } from '../../src/postgres/pool.ts';
import { workerLogger } from '../../src/jobs/logger.ts';
import { serve } from './serve.ts';

/** graphile-worker with its own settings, which takes a job when it polls. */
export interface PollerOptions {
  /** The worker's. */
  readonly databaseUrl: string;
}

/** Adds a job for each instant, in milliseconds from now on. */
export interface PollerTask {
  readonly dueInMs: readonly number[];
}

const ADD = `
  select count(graphile_worker.add_job('bench_late', '{}', run_at => now() + ms * interval '1 ms'))
  from unnest($1::float8[]) as ms`;
/** By the database's clock. */
const LATE = 'select extract(epoch from clock_timestamp() - $1::timestamptz)::float8 * 1000 as ms';

serve(async ({ databaseUrl }: PollerOptions) => {
  const log = pino({ level: 'warn' }, pino.destination(2));
  const pool = makePool(databaseUrl, { name: 'halyard bench poller', log });
  const late: number[] = [];
  let onJob: () => void = () => undefined;
  await run({
    connectionString: databaseUrl,
    noHandleSignals: true,
    logger: workerLogger(log),
    taskList: {
      bench_late: async (_payload, { job, withPgClient }) => {
        const { rows } = await withPgClient((client) =>
          client.query<{ ms: number }>(LATE, [job.run_at]),
        );
        late.push(rows[0]?.ms ?? Number.NaN);
        onJob();
      },
    },
  });

  /** Answers with how late each was taken, in milliseconds, when all are done. */
  return async ({ dueInMs }: PollerTask): Promise<number[]> => {
    const all = Promise.withResolvers<undefined>();
    late.length = 0;
    onJob = () => {
      if (late.length === dueInMs.length) all.resolve(undefined);
    };
    await pool.query(ADD, [dueInMs]);
    await all.promise;
    return late;
  };
});
