import type { AuditEvent } from '../../src/audit/delivery/sink.ts';
import { loadConfig } from '../../src/config/config.ts';
import { startWorker } from '../../src/worker/runner.ts';
import { startCloudWatch } from '../cloudwatch.ts';
import { percentile, spreadOf, timed } from '../measure.ts';
import type { Benchmark, Size } from '../benchmark.ts';

const SECONDS: Record<Size, number> = { smoke: 1, usual: 5, full: 60 };
const PER_SECOND = 100;
const TARGET_MS = 500;
const WARM_UP = 100;
const NEVER = new AbortController().signal;
const LONE: AuditEvent = { seq: 1, eventId: '', occurredAt: new Date(), message: '{}' };

export const delay: Benchmark = {
  name: 'delay',
  description: 'How long after its writing has an event been delivered, at 100 events/s?',
  async run(environment, size) {
    const database = await environment.makeDatabase();
    const cloudWatch = await startCloudWatch();
    const sink = cloudWatch.makeSink(environment.log);
    const delays: number[] = [];
    const config = loadConfig({ NODE_ENV: 'test' }, 'worker');
    const worker = await startWorker({
      config,
      databaseUrl: database.workerUrl,
      log: environment.log,
      destinations: [
        {
          destination: 'stdout',
          sink: {
            ...sink,
            async send(events, ...rest) {
              await sink.send(events, ...rest);
              // Both clocks are this machine's.
              const now = Date.now();
              for (const { message, occurredAt } of events)
                if (!message.includes('"audit.sealed"')) delays.push(now - occurredAt.getTime());
            },
          },
        },
      ],
    });
    const alone: number[] = [];
    try {
      const total = WARM_UP + SECONDS[size] * PER_SECOND;
      const start = performance.now();
      for (let i = 0; i < total; i++) {
        const wait = start + (1_000 * i) / PER_SECOND - performance.now();
        if (wait > 1) await new Promise((resolve) => setTimeout(resolve, wait));
        await database.root.query(
          `insert into app_public.feature_flags (flag_key) values ('flag-' || $1::int)`,
          [i],
        );
      }
      while (delays.length < total) await new Promise((resolve) => setTimeout(resolve, 50));
      for (let i = 0; i < WARM_UP; i++) alone.push(await timed(() => sink.send([LONE], NEVER)));
    } finally {
      await worker.stop();
      await sink.close();
      await cloudWatch.stop();
      await database.drop();
    }
    const counted = delays.slice(WARM_UP);
    const p99 = percentile(counted, 99);
    return [50, 99, 100].map((p) => ({
      what: `event to confirmed put, ${p === 100 ? 'the slowest' : `p${p}`} of ${counted.length}`,
      unit: 'ms',
      value: spreadOf([percentile(counted, p)]),
      baseline: { what: 'one put by the sink alone', value: spreadOf([percentile(alone, p)]) },
      ...(p === 99 && { target: { text: `≤ ${TARGET_MS}`, met: p99 <= TARGET_MS } }),
    }));
  },
};
