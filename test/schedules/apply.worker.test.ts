import { describe, expect, test } from 'vitest';
import { withClient } from '../support/database.ts';
import type { TestDatabase } from '../support/database.ts';
import { insertDuePlan } from '../support/due_plans.ts';
import { insertFlag, insertSchedule, one } from '../support/factory.ts';
import {
  appliedEvents,
  countByStatus,
  insertDue,
  spawnWorker,
  startTestWorker,
  useFreshDatabase,
} from '../support/worker.ts';

describe('a running worker', () => {
  test('applies a schedule when it is due, and tells so in the trail', async () => {
    const database = await useFreshDatabase();
    await startTestWorker(database);
    await withClient(database.ownerUrl, async (client) => {
      const flag = await insertFlag(client, { enabled: false, rollout_percentage: 10 });
      const { id } = await insertSchedule(client, flag.id, {
        dueIn: '700 ms',
        updates: { enabled: true, rollout_percentage: 55 },
      });
      await expect
        .poll(() => countByStatus(client), { timeout: 10_000 })
        .toStrictEqual({ applied: 1 });

      const event = one(await appliedEvents(client));
      expect(event.schedule_id).toBe(id);
      expect(event.metadata).toMatchObject({
        scheduleId: id,
        flagKey: flag.flag_key,
        flagState: { enabled: true, rolloutPercentage: 55 },
      });
      // Never before its time.
      expect(event.metadata.latenessMs).toBeGreaterThanOrEqual(0);
    });
  });

  test('applies all that is due at one instant, once each, and the last of a flag wins', async () => {
    const database = await useFreshDatabase();
    await startTestWorker(database);
    await withClient(database.ownerUrl, async (client) => {
      const flag = await insertFlag(client);
      await client.query('begin');
      await insertDue(client, { count: 100, dueIn: '700 ms' });
      for (const rollout of [1, 2, 3, 4, 5])
        await insertSchedule(client, flag.id, {
          dueIn: `${700 + rollout} ms`,
          updates: { rollout_percentage: rollout },
        });
      await client.query('commit');
      await expect
        .poll(() => countByStatus(client), { timeout: 10_000 })
        .toStrictEqual({ applied: 105 });

      const events = await appliedEvents(client);
      expect(new Set(events.map(({ schedule_id }) => schedule_id)).size).toBe(105);
      expect(events).toHaveLength(105);
      for (const { metadata } of events)
        expect(metadata).toMatchObject({
          flagState: { enabled: expect.any(Boolean) as boolean },
          latenessMs: expect.any(Number) as number,
        });
      const { rows } = await client.query<{ rollout_percentage: number }>(
        'select rollout_percentage from app_public.feature_flags where id = $1',
        [flag.id],
      );
      expect(one(rows).rollout_percentage).toBe(5);
    });
  });

  test('suspends what is stopped or conflicts, says so in its log, and applies it once it is resumed', async () => {
    const database = await useFreshDatabase();
    const { lines } = await startTestWorker(database);
    await withClient(database.ownerUrl, async (client) => {
      const { flag_key, environment } = await insertFlag(client, { environment: 'staging' });
      const { id } = await insertFlag(client);
      await client.query(`select from app_private.stop_environment('production', 'Incident')`);
      await insertSchedule(client, id, { dueIn: '200 ms' });
      await insertDuePlan(
        client,
        [
          {
            ...{ flag_key, environment, on_conflict: 'suspend' as const },
            ...{ updates: { enabled: true }, expects: { rollout_percentage: 7 } },
          },
        ],
        { dueIn: '200 ms' },
      );
      await expect
        .poll(() => countByStatus(client), { timeout: 10_000 })
        .toStrictEqual({ suspended: 2 });
      const messages = () => lines.map(({ level, msg }) => `${String(level)} ${String(msg)}`);
      await expect
        .poll(messages, { timeout: 5_000 })
        .toEqual(
          expect.arrayContaining([
            'warn schedules are suspended for conflicts: see flag_schedule.suspended in the audit trail',
            'info schedules are suspended: their environment is stopped',
          ]),
        );
      await client.query(
        `select from app_private.resume_environment('production', 'apply', 'Over')`,
      );
      await expect
        .poll(() => countByStatus(client), { timeout: 10_000 })
        .toStrictEqual({ applied: 1, suspended: 1 });
    });
  });

  test('retries what fails, gives it up in the end, and applies everything else', async () => {
    const database = await useFreshDatabase();
    await withClient(database.ownerUrl, (owner) =>
      owner.query(`select app_private.set_setting('retry_base', '50 ms')`),
    );
    const { lines } = await startTestWorker(database);
    await withClient(database.ownerUrl, async (client) => {
      const broken = await insertFlag(client, { flag_key: 'broken' });
      await refuseChanges(client);
      await insertSchedule(client, broken.id, { dueIn: '200 ms', max_attempts: 3 });
      await insertDue(client, { count: 20, dueIn: '200 ms' });
      await expect
        .poll(() => countByStatus(client), { timeout: 15_000 })
        .toStrictEqual({ applied: 20, failed: 1 });

      const { rows } = await client.query<{ level: string; metadata: object }>(
        `select level, metadata from audit.events where event_type = 'flag_schedule.failed'`,
      );
      expect(one(rows)).toMatchObject({ level: 'error', metadata: { attempts: 3 } });
      await expect
        .poll(() => lines.filter(({ level }) => level === 'error'))
        .toMatchObject([{ failed: 1 }]);
    });
  });
});

describe('several workers', () => {
  test('apply each schedule exactly once', async () => {
    const database = await useFreshDatabase();
    await startTestWorker(database);
    await startTestWorker(database);
    await expectEachOnce(database, 500);
  });

  test('in processes of their own apply each schedule exactly once', async () => {
    const database = await useFreshDatabase();
    await Promise.all([spawnWorker(database), spawnWorker(database)]);
    await expectEachOnce(database, 500);
  });
});

async function expectEachOnce(database: TestDatabase, count: number): Promise<void> {
  await withClient(database.ownerUrl, async (client) => {
    await insertDue(client, { count, dueIn: '500 ms' });
    await expect
      .poll(() => countByStatus(client), { timeout: 20_000 })
      .toStrictEqual({ applied: count });
    const events = await appliedEvents(client);
    expect(events).toHaveLength(count);
    expect(new Set(events.map(({ schedule_id }) => schedule_id)).size).toBe(count);
  });
}

/** From now on no schedule can change the flag whose key is `broken`. */
async function refuseChanges(client: Parameters<typeof insertFlag>[0]): Promise<void> {
  await client.query(`
    create function app_private.refuse() returns trigger language plpgsql
      as $$ begin raise exception 'refused by the test'; end $$;
    create trigger refuse before update on app_public.feature_flags
      for each row when (old.flag_key = 'broken') execute function app_private.refuse()`);
}
