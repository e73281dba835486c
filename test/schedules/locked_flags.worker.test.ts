import type pg from 'pg';
import { expect, onTestFinished, test } from 'vitest';
import { makePool } from '../../src/postgres/pool.ts';
import { makeLockedFlags } from '../../src/schedules/locked_flags.ts';
import { makeStuckSchedules } from '../../src/schedules/stuck.ts';
import { value } from '../support/actors.ts';
import { withClient } from '../support/database.ts';
import { insertDuePlan } from '../support/due_plans.ts';
import { insertFlag, insertSchedule } from '../support/factory.ts';
import { makeTestLog } from '../support/log.ts';
import { startTestWorker, useFreshDatabase } from '../support/worker.ts';

/** Waits until the schedule is applied. @returns seconds after its time, by the database's clock */
async function lateness(client: pg.ClientBase, id: string): Promise<number> {
  const late = () =>
    value<number | null>(
      client,
      `select extract(epoch from applied_at - scheduled_at)::float8
       from app_public.feature_flag_schedules where id = $1`,
      [id],
    );
  await expect.poll(late, { timeout: 25_000 }).not.toBeNull();
  return (await late()) ?? Infinity;
}

/** A storm of changes that goes on for so long has not been got past. */
const STORM_S = 20;

/**
 * Locks the flag in transactions of so long, as changes by many clients do: two sessions always wait for a third, and PostgreSQL
 * serves them in turn. Ends once the schedule is applied, or after STORM_S.
 */
async function storm(url: string, flagId: string, scheduleId: string, ms: number): Promise<void> {
  const change = () =>
    withClient(url, (client) =>
      client.query(`do $$ declare v_end timestamptz := clock_timestamp() + interval '${STORM_S} s'; begin
        while clock_timestamp() < v_end
          and exists (select from app_public.feature_flag_schedules where id = '${scheduleId}' and status = 'pending')
        loop
          perform from app_public.feature_flags where id = '${flagId}' for no key update;
          perform pg_sleep(${ms / 1_000});
          commit;
          -- The next one takes it meanwhile, as between two statements of a client.
          perform pg_sleep(0.005);
        end loop;
      end $$`),
    );
  await Promise.all([change(), change(), change()]);
}

/** Makes so many flags with overdue schedules, and shares them in the holder's transaction. */
async function holdOverdue(client: pg.ClientBase, holder: pg.ClientBase, count: number) {
  await holder.query('begin');
  await client.query('begin');
  const { rows } = await client.query<{ id: string }>(
    `with held as (
       insert into app_public.feature_flags (flag_key) select 'held-' || n from generate_series(1, $1) as n returning id)
     insert into app_public.feature_flag_schedules (flag_id, scheduled_at, updates)
     select id, clock_timestamp() - interval '1 minute', '{"enabled": true}' from held returning flag_id as id`,
    [count],
  );
  await client.query('commit');
  await holder.query('select from app_public.feature_flags where id = any ($1) for share', [
    rows.map(({ id }) => id),
  ]);
}

test.for([
  // One look takes 100 flags.
  { held: 101, ms: 5, what: 'beside more locked flags than one look takes' },
  // Its turn comes after two transactions, which takes longer than an equal share of the time.
  { held: 4, ms: 200, what: 'in long transactions' },
])('a flag that is changed all the time $what is changed by its schedule as well', async (it) => {
  const database = await useFreshDatabase();
  const { log } = makeTestLog();
  const pool = makePool(database.workerUrl, { name: 'halyard test', log });
  onTestFinished(() => pool.end());
  const lockedFlags = makeLockedFlags({
    ...{ pool, log, stuck: makeStuckSchedules() },
    drainedAt: () => performance.now(),
    stopping: new AbortController().signal,
  });
  await withClient(database.ownerUrl, async (client) => {
    await withClient(database.ownerUrl, async (holder) => {
      await holdOverdue(client, holder, it.held);
      const flag = await insertFlag(client);
      const { id } = await insertSchedule(client, flag.id, { dueIn: '0 s' });
      const changes = storm(database.ownerUrl, flag.id, id, it.ms);
      // Only waiting gets past: a batch might find the moment between two of them.
      const isPending = `select status = 'pending' from app_public.feature_flag_schedules where id = $1`;
      while (await value<boolean>(client, isPending, [id])) await lockedFlags.apply();
      expect(await lateness(client, id)).toBeLessThan(STORM_S - 1);
      await changes;
      await holder.query('rollback');
    });
  });
});

test('what stays locked is reported with the session that locks it, makes no other late, and is applied in the end', async () => {
  const database = await useFreshDatabase();
  const { lines } = await startTestWorker(database);
  const said = (message: RegExp) => lines.filter(({ msg }) => message.test(String(msg)));
  await withClient(database.ownerUrl, async (client) => {
    await withClient(database.rootUrl, async (holder) => {
      const [flag, other] = [await insertFlag(client), await insertFlag(client)];
      const locked = await insertSchedule(client, flag.id, { dueIn: '200 ms' });
      const lockedItself = await insertSchedule(client, other.id, { dueIn: '200 ms' });
      const pid = await value<number>(holder, 'select pg_backend_pid()');
      await holder.query('begin');
      await holder.query('select from app_public.feature_flags where id = $1 for share', [flag.id]);
      await holder.query('select from app_public.feature_flag_schedules where id = $1 for update', [
        lockedItself.id,
      ]);
      for (let n = 0; n < 20; n++) {
        const { id } = await insertFlag(client);
        const schedule = await insertSchedule(client, id, { dueIn: '200 ms' });
        expect(await lateness(client, schedule.id)).toBeLessThan(2);
      }
      await expect.poll(() => said(/hold its row/).length, { timeout: 15_000 }).toBe(2);
      for (const line of said(/hold its row/))
        expect(line).toMatchObject({
          level: 'warn',
          blockers: [{ pid, user: 'postgres', application: 'halyard test' }],
        });
      expect(said(/hold its row/).map(({ flag: it }) => (it as { id: string }).id)).toEqual(
        expect.arrayContaining([flag.id, other.id]),
      );
      await holder.query('commit');
      for (const { id } of [locked, lockedItself]) await lateness(client, id);
    });
    await expect.poll(() => said(/no longer locked/).length, { timeout: 10_000 }).toBe(2);
    // Once for each, however often it was tried.
    expect(said(/hold its row/)).toHaveLength(2);
  });
});

test('a release of which another session has a flag locked waits whole, keeps nothing back, and is applied once it is free', async () => {
  const database = await useFreshDatabase();
  await startTestWorker(database);
  await withClient(database.ownerUrl, (client) =>
    withClient(database.ownerUrl, async (holder) => {
      const keys = ['a', 'b', 'c'];
      for (const flag_key of keys) await insertFlag(client, { flag_key });
      await holder.query(
        `begin; select from app_public.feature_flags where flag_key = 'b' for share`,
      );
      const { id } = await insertDuePlan(
        client,
        keys.map((flag_key) => ({
          ...{ flag_key, environment: 'production', updates: { enabled: true } },
        })),
      );
      const other = await insertFlag(client);
      const single = await insertSchedule(client, other.id, { dueIn: '700 ms' });
      expect(await lateness(client, single.id)).toBeLessThan(1);
      const status = () => value(client, 'select status from app_public.plans where id = $1', [id]);
      expect(await status()).toBe('active');
      expect(
        await value(client, `select count(*)::int from app_public.feature_flags where enabled`),
      ).toBe(1);
      await holder.query('rollback');
      await expect.poll(status, { timeout: 5_000 }).toBe('completed');
    }),
  );
});
