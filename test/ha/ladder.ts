import { expect } from 'vitest';
import { withClient } from '../support/database.ts';
import type { TestDatabase } from '../support/database.ts';
import { insertFlag, insertSchedule } from '../support/factory.ts';
import type { Outage } from './outage.ts';

/** Schedules of one flag, one of which comes due each second. */
export interface Ladder {
  /** Waits until all have been applied. */
  applied(): Promise<void>;
  /** How they were applied, around an outage. */
  report(outage: Outage): Promise<LadderReport>;
}

export interface LadderReport {
  /** Schedules that came due in the outage. */
  readonly due: number;
  /** Seconds from the first change that succeeded again until the last of those was applied; below 0 if it was before. */
  readonly lastAfter: number;
  /** Seconds by which one that came due later was late at most. */
  readonly laterLate: number;
}

interface Step {
  readonly scheduled: number;
  readonly applied: number;
}

/** Makes them, for so many seconds from now on. */
export async function layLadder(database: TestDatabase, seconds: number): Promise<Ladder> {
  const flagId = await withClient(database.rootUrl, async (client) => {
    await client.query('set role halyard_owner');
    const { id } = await insertFlag(client);
    for (let i = 1; i <= seconds; i++)
      await insertSchedule(client, id, {
        dueIn: `${i} seconds`,
        updates: { rollout_percentage: i },
      });
    return id;
  });

  async function read<T>(columns: string, condition: string): Promise<T[]> {
    return withClient(database.rootUrl, async (client) => {
      const { rows } = await client.query(
        `select ${columns} from app_public.feature_flag_schedules where flag_id = $1 and ${condition}`,
        [flagId],
      );
      return rows as T[];
    });
  }

  return {
    async applied() {
      await expect
        .poll(async () => (await read('id', `status = 'pending'`)).length, {
          timeout: (seconds + 60) * 1_000,
          interval: 500,
        })
        .toBe(0);
    },
    async report({ from, to }) {
      const steps = await read<Step>(
        `1000 * extract(epoch from scheduled_at)::float8 as scheduled,
         1000 * extract(epoch from applied_at)::float8 as applied`,
        `status = 'applied'`,
      );
      expect(steps).toHaveLength(seconds);
      const due = steps.filter(({ scheduled }) => scheduled > from && scheduled < to);
      const later = steps.filter(({ scheduled }) => scheduled >= to);
      return {
        due: due.length,
        lastAfter: (Math.max(...due.map(({ applied }) => applied)) - to) / 1_000,
        laterLate: Math.max(...later.map((step) => step.applied - step.scheduled)) / 1_000,
      };
    },
  };
}
