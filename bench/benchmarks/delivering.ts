import { makeForwarder } from '../../src/audit/delivery/forwarder.ts';
import type { AuditEvent, Sink } from '../../src/audit/delivery/sink.ts';
import { makeNumbering } from '../../src/audit/delivery/sequencer.ts';
import { advanceCursor, queryOf, readPage } from '../../src/audit/delivery/outbox.ts';
import { LEASE_MS, withLease } from '../../src/postgres/lease.ts';
import { startCloudWatch } from '../cloudwatch.ts';
import { inTurns, spreadOf, timed } from '../measure.ts';
import type { Benchmark, Size } from '../benchmark.ts';
import type { BenchDatabase } from '../environment.ts';
import { queueEvents } from '../trail.ts';

const EVENTS: Record<Size, number> = { smoke: 2_000, usual: 15_000, full: 100_000 };
/** Of what the sink alone does. */
const TARGET = 0.7;
const PAGE = 1_000;
const NEVER = new AbortController().signal;

/** What the sink was given, to give it to a sink alone afterwards. */
function recording(sink: Sink): { sink: Sink; sends: AuditEvent[][] } {
  const sends: AuditEvent[][] = [];
  return {
    sends,
    sink: {
      ...sink,
      send(events, ...rest) {
        sends.push([...events]);
        return sink.send(events, ...rest);
      },
    },
  };
}

/** Numbers and seals all that is queued, and takes what it sealed, as a forwarder does. */
async function takeAll({ worker }: BenchDatabase): Promise<void> {
  const numbering = makeNumbering();
  numbering.begin();
  while ((await numbering.next(queryOf(worker))).numbered === 'more');
}

/** Reads the whole trail page by page and moves a cursor of its own, as a forwarder does that has fallen behind, but sends nothing. */
async function readAll({ worker }: BenchDatabase): Promise<void> {
  await withLease(worker, 'forward.reader', LEASE_MS, async (lease) => {
    for (;;) {
      const { from, events } = await readPage(lease.query, 'reader', PAGE);
      const last = events.at(-1);
      if (last === undefined) return;
      await advanceCursor(lease, 'reader', from, last.seq);
    }
  });
}

export const delivering: Benchmark = {
  name: 'delivering',
  description: 'How fast do queued events reach CloudWatch: numbered, sealed, sent, confirmed?',
  async run(environment, size) {
    const count = EVENTS[size];
    const perSecond = (ms: number) => (1_000 * count) / ms;
    const database = await environment.makeDatabase();
    const cloudWatch = await startCloudWatch();
    const sink = cloudWatch.makeSink(environment.log);
    const recorder = recording(sink);
    const forwarder = makeForwarder({
      pool: database.worker,
      sink: recorder.sink,
      destination: 'bench',
      log: environment.log,
    });
    try {
      const figures = await inTurns(
        size === 'smoke' ? 1 : 2,
        async () => {
          await queueEvents(database.root, count);
          recorder.sends.length = 0;
          return perSecond(await timed(() => forwarder.forward({ stopping: NEVER, abort: NEVER })));
        },
        async () =>
          perSecond(
            await timed(async () => {
              for (const events of recorder.sends) await sink.send(events, NEVER);
            }),
          ),
      );
      // The parts: what the rest of the time goes into.
      const rounds = size === 'smoke' ? 1 : 2;
      await readAll(database);
      const parts = await inTurns(
        rounds,
        async () => {
          await queueEvents(database.root, count);
          return perSecond(await timed(() => takeAll(database)));
        },
        async () => perSecond(await timed(() => readAll(database))),
      );
      const value = spreadOf(figures.a);
      const sinkAlone = spreadOf(figures.b);
      const baseline = { what: 'the sink alone, the same batches', value: sinkAlone };
      return [
        {
          what: 'from the queue to a confirmed put, one forwarder',
          unit: 'events/s',
          value,
          baseline,
          target: { text: `≥ ${TARGET}`, met: value.median >= TARGET * sinkAlone.median },
        },
        {
          what: 'of it numbering and sealing alone, with what was sealed',
          unit: 'events/s',
          value: spreadOf(parts.a),
          baseline,
        },
        {
          what: 'what it has fallen behind of: reading pages and moving the cursor alone',
          unit: 'events/s',
          value: spreadOf(parts.b),
          baseline,
        },
      ];
    } finally {
      await sink.close();
      await cloudWatch.stop();
      await database.drop();
    }
  },
};
