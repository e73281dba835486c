import type pg from 'pg';
import { expect, test } from 'vitest';
import { value } from '../support/actors.ts';
import { withClient } from '../support/database.ts';
import { insertFlag, insertSchedule } from '../support/factory.ts';
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
  await expect.poll(late, { timeout: 20_000 }).not.toBeNull();
  return (await late()) ?? Infinity;
}

/** Changes the flag without a pause, one session of several always waiting for the others, until the signal is raised. */
async function storm(url: string, flagId: string, ended: AbortSignal): Promise<void> {
  const change = () =>
    withClient(url, async (client) => {
      for (let n = 0; !ended.aborted; n++) {
        await client.query('begin');
        await client.query(
          'update app_public.feature_flags set rollout_percentage = $2 where id = $1',
          [flagId, n % 100],
        );
        await client.query('select pg_sleep(0.1)');
        await client.query('commit');
      }
    });
  await Promise.all([change(), change(), change()]);
}

test('a flag that is changed all the time is changed by its schedule as well, beside many that stay locked', async () => {
  const database = await useFreshDatabase();
  await startTestWorker(database);
  await withClient(database.ownerUrl, async (client) => {
    const flag = await insertFlag(client);
    const ended = new AbortController();
    const changes = storm(database.ownerUrl, flag.id, ended.signal);
    await withClient(database.ownerUrl, async (holder) => {
      await holder.query('begin');
      for (let n = 0; n < 25; n++) {
        const { id } = await insertFlag(client);
        await insertSchedule(client, id, { dueIn: '200 ms' });
        await holder.query('select from app_public.feature_flags where id = $1 for share', [id]);
      }
      const { id } = await insertSchedule(client, flag.id, { dueIn: '2 s' });
      expect(await lateness(client, id)).toBeLessThan(15);
      await holder.query('rollback');
    });
    ended.abort();
    await changes;
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
