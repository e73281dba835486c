import { makeForwarder } from '../../src/audit/forwarder.ts';
import type { AuditEvent, Sink } from '../../src/audit/sink.ts';
import { startCloudWatch } from '../cloudwatch.ts';
import { inTurns, spreadOf, timed } from '../measure.ts';
import type { Question, Size } from '../question.ts';
import { queueEvents } from '../trail.ts';

const EVENTS: Record<Size, number> = { smoke: 2_000, usual: 30_000, full: 100_000 };
const REACH = 10_000;
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

export const delivering: Question = {
  name: 'delivering',
  asks: 'How fast do queued events reach CloudWatch: numbered, sealed, sent, confirmed?',
  async run(stand, size) {
    const count = EVENTS[size];
    const perSecond = (ms: number) => (1_000 * count) / ms;
    const database = await stand.makeDatabase();
    const cloudWatch = await startCloudWatch();
    const sink = cloudWatch.makeSink(stand.log);
    const recorder = recording(sink);
    const forwarder = makeForwarder({
      pool: database.worker,
      sink: recorder.sink,
      destination: 'bench',
      log: stand.log,
    });
    try {
      const figures = await inTurns(
        size === 'smoke' ? 1 : 4,
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
      const value = spreadOf(figures.a);
      return [
        {
          what: 'from the queue to a confirmed put, one forwarder',
          unit: 'events/s',
          value,
          baseline: { what: 'the sink alone, the same batches', value: spreadOf(figures.b) },
          reach: { text: `≥ ${REACH.toLocaleString('en-US')}`, met: value.median >= REACH },
        },
      ];
    } finally {
      await sink.close();
      await cloudWatch.stop();
      await database.drop();
    }
  },
};
