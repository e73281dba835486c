import type pg from 'pg';
import { expect, test } from 'vitest';
import { value } from '../support/actors.ts';
import { withClient } from '../support/database.ts';
import { insertFlag, insertSchedule } from '../support/factory.ts';
import {
  countByStatus,
  parseShipped,
  startTestWorker,
  useFreshDatabase,
  type MemorySink,
} from '../support/worker.ts';

const SCHEDULES = 25;
const soon = { timeout: 15_000 };

/** How many connections of a pool wait for a lock of graphile-worker's. */
function waiting(client: pg.ClientBase, pool: string): Promise<number> {
  return value(
    client,
    `select count(*)::int from pg_stat_activity
     where datname = current_database() and application_name = $1 and wait_event_type = 'Lock'
       and query like '%graphile_worker%'`,
    [pool],
  );
}

function deliveries(sink: MemorySink): number {
  const events = sink.taken.map(({ message }) => parseShipped(message));
  return events.filter(({ eventType }) => eventType === 'flag_schedule.applied').length;
}

// As a stranger's LOCK TABLE or VACUUM FULL, and as CREATE INDEX.
test.each(['access exclusive', 'share'])(
  'schedules are applied and events delivered while the jobs are locked in %s mode',
  async (mode) => {
    const database = await useFreshDatabase();
    const { worker, sink } = await startTestWorker(database);
    await withClient(database.rootUrl, async (holder) => {
      await holder.query(`begin; lock table graphile_worker._private_jobs in ${mode} mode`);
      await withClient(database.rootUrl, async (client) => {
        // What asks for jobs waits on connections of its own, up to as many as there are tasks at a time.
        await expect.poll(() => waiting(client, 'halyard worker jobs'), soon).toBeGreaterThan(0);
        // So many that one comes due before the timer has fired often for the one before.
        for (let n = 0; n < SCHEDULES; n++) {
          const flag = await insertFlag(client);
          await insertSchedule(client, flag.id, { dueIn: `${500 + 120 * n} ms` });
        }
        const most = { waiting: 0 };
        const statuses = async () => {
          most.waiting = Math.max(most.waiting, await waiting(client, 'halyard worker'));
          return countByStatus(client);
        };
        await expect.poll(statuses, soon).toStrictEqual({ applied: SCHEDULES });
        await expect.poll(() => deliveries(sink), soon).toBe(SCHEDULES);
        // The timer's request for a job, and the one of the delivery.
        expect(most.waiting).toBeLessThanOrEqual(2);
        const latest = await value<number>(
          client,
          `select max(extract(epoch from applied_at - scheduled_at))::float8 from app_public.feature_flag_schedules`,
        );
        expect(latest).toBeLessThan(2);
      });
      await holder.query('rollback');
    });
    await expect.poll(() => worker.healthy(), { timeout: 20_000 }).toBe(true);
  },
);
