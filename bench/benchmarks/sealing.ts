import type pg from 'pg';
import { inTurns, spreadOf, timed } from '../measure.ts';
import type { Benchmark, Size } from '../benchmark.ts';
import { queueEvents, sealAll } from '../trail.ts';

const EVENTS: Record<Size, number> = { smoke: 2_000, usual: 15_000, full: 100_000 };
const TARGET_US = 15;

/** The same work without hashes and seals: take a batch from a queue, give it the next numbers. */
const NUMBER_ONLY = `
  with taken as (
    delete from bench.queue q
    where q.id <= (select max(b.id) from (select n.id from bench.queue n order by n.id limit 1000) as b)
    returning q.id, q.event_id, q.occurred_at
  )
  insert into bench.ledger (seq, event_id, occurred_at)
  select (select coalesce(max(l.seq), 0) from bench.ledger l) + row_number() over (order by t.id), t.event_id, t.occurred_at
  from taken t`;

const TABLES = `
  create schema bench;
  create table bench.queue (id bigint generated always as identity primary key, event_id uuid not null, occurred_at timestamptz not null);
  create table bench.ledger (
    seq bigint primary key, event_id uuid not null unique, occurred_at timestamptz not null, sequenced_at timestamptz not null default now());`;

async function numberAll(root: pg.Pool, count: number): Promise<number> {
  await root.query(
    `insert into bench.queue (event_id, occurred_at) select gen_random_uuid(), now() from generate_series(1, $1)`,
    [count],
  );
  await root.query('analyze bench.queue');
  return timed(async () => {
    for (;;) {
      const { rowCount } = await root.query({ name: 'number', text: NUMBER_ONLY });
      if (rowCount === 0) return;
    }
  });
}

export const sealing: Benchmark = {
  name: 'sealing',
  description: 'What does it cost to number and seal an event?',
  async run(environment, size) {
    const count = EVENTS[size];
    const database = await environment.makeDatabase();
    try {
      await database.root.query(TABLES);
      const perEvent = (ms: number) => (1_000 * ms) / count;
      const figures = await inTurns(
        size === 'smoke' ? 1 : 3,
        async () => {
          await queueEvents(database.root, count);
          return perEvent(await timed(() => sealAll(database.worker)));
        },
        async () => perEvent(await numberAll(database.root, count)),
      );
      const value = spreadOf(figures.a);
      const baseline = { what: 'numbering alone', value: spreadOf(figures.b) };
      const sealing = spreadOf(figures.a.map((total, i) => total - (figures.b[i] ?? 0)));
      return [
        {
          what: 'number, hash and seal, batches of 1,000, committed',
          unit: 'µs/event',
          value,
          baseline,
        },
        {
          what: 'of it hashing and sealing',
          unit: 'µs/event',
          value: sealing,
          baseline,
          target: { text: `≤ ${TARGET_US}`, met: sealing.median <= TARGET_US },
        },
      ];
    } finally {
      await database.drop();
    }
  },
};
