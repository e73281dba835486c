import type { InsertOptions, InsertTask } from '../load/inserts.ts';
import { startLoad } from '../load.ts';
import type { Answered } from '../load.ts';
import { spreadOf, takeTurns } from '../measure.ts';
import type { Spread } from '../measure.ts';
import type { Figure, Benchmark, Size } from '../benchmark.ts';
import { makeFlags, PARTS, switchTo } from '../schedule_table.ts';
import type { Part } from '../schedule_table.ts';

const SECONDS: Record<Size, number> = { smoke: 0.3, usual: 0.7, full: 5 };
const ROUNDS: Record<Size, number> = { smoke: 1, usual: 3, full: 8 };
const CONNECTIONS = 8;
const FLAGS = 300;
const SEED = 41;
/** Of the transactions a second without the audit. */
const AUDIT_COST = 0.2;

const WHAT: Record<Part, string> = {
  bare: 'the bare insert: checks, indexes, foreign key',
  stamps: '+ stamps and state machine',
  rls: '+ row-level security',
  audit: '+ audit: event, queue, dead-letter guard',
  notify: '+ NOTIFY: all of it',
};

export const costs: Benchmark = {
  name: 'costs',
  description:
    'What do stamps, row-level security, audit and NOTIFY cost an insert of one schedule?',
  async run(environment, size) {
    const database = await environment.makeDatabase();
    const flagIds = await makeFlags(database, 'costs', FLAGS);
    const { rootUrl, authenticatorUrl } = database;
    const options: InsertOptions = { rootUrl, authenticatorUrl, flagIds };
    const load = await startLoad<InsertTask, Answered>('inserts', options);
    let seed = SEED;
    const insert = (part: Part) => async (time: number) => {
      await switchTo(database, part);
      const as = part === 'bare' || part === 'stamps' ? 'owner' : 'admin';
      const seconds = SECONDS[size] * time;
      const task = { as, connections: CONNECTIONS, seconds, seed: seed++ } as const;
      return (await load.run(task)).perSecond;
    };
    try {
      return describe(await takeTurns(ROUNDS[size], PARTS.map(insert)));
    } finally {
      await load.stop();
      await database.drop();
    }
  },
};

/** Each part beside the one before it, so that the ratio tells what it costs. */
function describe(rates: readonly (readonly number[])[]): Figure[] {
  const spreads = new Map<Part, Spread>(PARTS.map((part, i) => [part, spreadOf(rates[i] ?? [])]));
  return PARTS.map((part, i) => {
    const value = spreads.get(part) ?? spreadOf([]);
    const before = PARTS[i - 1];
    const baseline = before && spreads.get(before);
    return {
      what: WHAT[part],
      unit: 'tps',
      value,
      ...(before && baseline && { baseline: { what: `without it`, value: baseline } }),
      ...(part === 'audit' &&
        baseline && {
          target: {
            text: `costs ≤ ${100 * AUDIT_COST} %`,
            met: value.median >= (1 - AUDIT_COST) * baseline.median,
          },
        }),
    };
  });
}
