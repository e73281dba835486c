import { run } from 'graphile-worker';
import { pino } from 'pino';
import { workerLogger } from '../src/worker/logger.ts';

/** graphile-worker with its own settings, and a task that writes down how late it is. */
const [, , connectionString = ''] = process.argv;
const runner = await run({
  connectionString,
  noHandleSignals: true,
  logger: workerLogger(pino({ level: 'warn' }, pino.destination(2))),
  taskList: {
    bench_late: async (_payload, { job, withPgClient }) => {
      await withPgClient((client) =>
        client.query(
          `insert into bench.late values (extract(epoch from clock_timestamp() - $1::timestamptz) * 1000)`,
          [job.run_at],
        ),
      );
    },
  },
});
process.once('disconnect', () => void runner.stop().then(() => process.exit()));
process.send?.('ready');
