import { verifyTrail } from '../../src/audit/verification/verify.ts';
import { inTurns, spreadOf, timed } from '../measure.ts';
import type { Benchmark, Size } from '../benchmark.ts';
import { analyze, queueEvents, sealAll } from '../trail.ts';

const EVENTS: Record<Size, number> = { smoke: 2_000, usual: 60_000, full: 1_000_000 };
const TARGET = 50_000;

/** The least that verifying must do: read every event in order of seq and hash it. */
const HASH_ONLY = `
  select count(sha256(convert_to(e.payload, 'UTF8')))
  from audit.ledger l
  join audit.events e on e.id = l.event_id and e.occurred_at = l.occurred_at`;

export const verifying: Benchmark = {
  name: 'verifying',
  description: 'How fast is the whole trail verified?',
  async run(environment, size) {
    const count = EVENTS[size];
    const database = await environment.makeDatabase();
    try {
      await queueEvents(database.root, count);
      await sealAll(database.worker);
      await analyze(database.root, 'audit.events, audit.ledger, audit.seals', 'vacuum');
      const perSecond = (ms: number) => (1_000 * count) / ms;
      const figures = await inTurns(
        size === 'smoke' ? 1 : 2,
        async () => {
          const ms = await timed(async () => {
            const { problems } = await verifyTrail(database.root, { from: 1, to: null });
            if (problems.length > 0)
              throw new Error(`The trail is not ok: ${JSON.stringify(problems)}`);
          });
          return perSecond(ms);
        },
        async () => perSecond(await timed(() => database.root.query(HASH_ONLY))),
      );
      const value = spreadOf(figures.a);
      return [
        {
          what: `audit verify of ${count.toLocaleString('en-US')} events`,
          unit: 'events/s',
          value,
          baseline: { what: 'reading and hashing alone', value: spreadOf(figures.b) },
          target: { text: `≥ ${TARGET.toLocaleString('en-US')}`, met: value.median >= TARGET },
        },
      ];
    } finally {
      await database.drop();
    }
  },
};
