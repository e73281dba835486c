import { makeForwarder } from '../../src/audit/delivery/forwarder.ts';
import { startCloudWatch } from '../cloudwatch.ts';
import { spreadOf } from '../measure.ts';
import type { Benchmark, Size } from '../benchmark.ts';
import { queueEvents } from '../trail.ts';

const EVENTS: Record<Size, number> = { smoke: 20_000, usual: 40_000, full: 1_000_000 };
const PARTS = 10;
const MEMORY_EVERY_MS = 200;
const NEVER = new AbortController().signal;
/** A last part that is slower than the first by more than this isn't flat; less is noise on a shared machine. */
const FLAT = 0.75;
const MEMORY_MIB = 200;

const mebibytes = () => process.memoryUsage().rss / 2 ** 20;

export const backlog: Benchmark = {
  name: 'backlog',
  description: 'Does a backlog drain at a flat rate and in constant memory?',
  async run(environment, size) {
    const count = EVENTS[size];
    const database = await environment.makeDatabase();
    const cloudWatch = await startCloudWatch();
    const sink = cloudWatch.makeSink(environment.log);
    const marks: number[] = [];
    let sent = 0;
    const forwarder = makeForwarder({
      pool: database.worker,
      destination: 'bench',
      log: environment.log,
      sink: {
        ...sink,
        async send(events, ...rest) {
          await sink.send(events, ...rest);
          sent = events.at(-1)?.seq ?? sent;
          while (sent >= ((marks.length + 1) * count) / PARTS) marks.push(performance.now());
        },
      },
    });
    try {
      await queueEvents(database.root, count);
      const before = mebibytes();
      const memory = [before];
      const watch = setInterval(() => memory.push(mebibytes()), MEMORY_EVERY_MS);
      const start = performance.now();
      await forwarder.forward({ stopping: NEVER, abort: NEVER });
      clearInterval(watch);
      const rates = marks.map(
        (mark, i) => (1_000 * count) / PARTS / (mark - (marks[i - 1] ?? start)),
      );
      // The first part warms up: code is compiled and connections are opened.
      const [, second = Number.NaN] = rates;
      const flatness = (rates.at(-1) ?? Number.NaN) / second;
      const grown = Math.max(...memory) - before;
      return [
        {
          what: `a backlog of ${count.toLocaleString('en-US')}, each tenth of it`,
          unit: 'events/s',
          value: spreadOf(rates.slice(1)),
          baseline: { what: 'the second tenth', value: spreadOf([second]) },
          target: { text: `last tenth ≥ ${FLAT} of the second`, met: flatness >= FLAT },
        },
        {
          what: 'memory of the forwarder’s process, at the most',
          unit: 'MiB',
          value: spreadOf([Math.max(...memory)]),
          baseline: { what: 'before', value: spreadOf([before]) },
          target: { text: `grown by ≤ ${MEMORY_MIB}`, met: grown <= MEMORY_MIB },
        },
      ];
    } finally {
      await sink.close();
      await cloudWatch.stop();
      await database.drop();
    }
  },
};
