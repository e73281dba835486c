import { inTurns, spreadOf, timed } from '../measure.ts';
import type { Benchmark, Size } from '../benchmark.ts';
import { makeFlags } from '../schedule_table.ts';

const ROWS: Record<Size, number> = { smoke: 500, usual: 10_000, full: 100_000 };
const ROUNDS: Record<Size, number> = { smoke: 1, usual: 3, full: 5 };
const FLAGS = 1_000;
const TARGET = 0.35;

/** The same columns, checks by type alone, and indexes, without what is Halyard's: triggers, row-level security, CHECKs. */
const BARE = `
  create schema bench;
  create table bench.schedules (like app_public.feature_flag_schedules including defaults including indexes);
  alter table bench.schedules add foreign key (flag_id) references app_public.feature_flags (id) on delete cascade;`;

const insertInto = (table: string) => `
  insert into ${table} (flag_id, scheduled_at, updates)
  select ($1::uuid[])[1 + n % cardinality($1)], now() + n * interval '1 minute', '{"enabled": true}'
  from generate_series(1, $2::integer) as n`;

export const bulk: Benchmark = {
  name: 'bulk',
  description: 'How fast is one statement that creates many schedules?',
  async run(environment, size) {
    const database = await environment.makeDatabase();
    try {
      const { root } = database;
      await root.query(BARE);
      const flagIds = await makeFlags(database, 'bulk', FLAGS);
      const count = ROWS[size];
      const rate = (table: string) => async () => {
        const ms = await timed(() => root.query(insertInto(table), [flagIds, count]));
        return (1_000 * count) / ms;
      };
      const { a, b } = await inTurns(
        ROUNDS[size],
        rate('app_public.feature_flag_schedules'),
        rate('bench.schedules'),
      );
      const value = spreadOf(a);
      const baseline = spreadOf(b);
      return [
        {
          what: `${count.toLocaleString('en-US')} schedules in one statement, with stamps and events`,
          unit: 'rows/s',
          value,
          baseline: { what: 'a bare table with the same indexes', value: baseline },
          target: { text: `≥ ${TARGET}`, met: value.median >= TARGET * baseline.median },
        },
      ];
    } finally {
      await database.drop();
    }
  },
};
