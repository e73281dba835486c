import type pg from 'pg';
import { describe, expect, test } from 'vitest';
import { value } from '../support/actors.ts';
import { cloneDatabase, useDatabase, withClient, withRollback } from '../support/database.ts';
import { insertFlag, insertSchedule, one } from '../support/factory.ts';
import { breakFlag, queuedEvents } from '../support/trail.ts';
import { apply, outcome, flagState, read } from '../support/apply_due.ts';

const database = useDatabase();

describe('what is due', () => {
  test('is applied, and nothing else', async () => {
    await withRollback(database, async (client) => {
      const [due, later, cancelled] = [
        await insertFlag(client),
        await insertFlag(client),
        await insertFlag(client),
      ];
      const { id } = await insertSchedule(client, due.id, { dueIn: '-1 second' });
      await insertSchedule(client, later.id, { dueIn: '1 minute' });
      const gone = await insertSchedule(client, cancelled.id, { dueIn: '-1 second' });
      await client.query(
        `update app_public.feature_flag_schedules set status = 'cancelled' where id = $1`,
        [gone.id],
      );

      expect(await apply(client)).toEqual(outcome({ applied: 1 }));
      expect(await flagState(client, due.id)).toBe('true 100');
      expect(await flagState(client, later.id)).toBe('false 100');
      expect(await flagState(client, cancelled.id)).toBe('false 100');
      const schedule = await read(client, id);
      expect(schedule).toMatchObject({ status: 'applied', attempts: 1, wait: null });
      expect(schedule.applied_at).toBeInstanceOf(Date);
      expect(await apply(client)).toEqual(outcome({}));
    });
  });

  test('of one flag is applied in order of time, whatever the order of making: the last wins', async () => {
    await withRollback(database, async (client) => {
      const flag = await insertFlag(client);
      for (const [dueIn, rollout_percentage] of [
        ['-1 second', 5],
        ['-5 seconds', 1],
        ['-2 seconds', 4],
        ['-4 seconds', 2],
        ['-3 seconds', 3],
      ] as const)
        await insertSchedule(client, flag.id, { dueIn, updates: { rollout_percentage } });

      expect(await apply(client)).toEqual(outcome({ applied: 5 }));
      expect(await flagState(client, flag.id)).toBe('false 5');
      const states = (await queuedEvents(client))
        .filter(({ event_type }) => event_type === 'flag_schedule.applied')
        .map(({ metadata }) => metadata.flagState);
      expect(states).toMatchObject(
        [1, 2, 3, 4, 5].map((rolloutPercentage) => ({ enabled: false, rolloutPercentage })),
      );
    });
  });

  test('comes in batches, the earliest first', async () => {
    await withRollback(database, async (client) => {
      for (let i = 0; i < 5; i++) {
        const flag = await insertFlag(client, { flag_key: `batch-${i}` });
        await insertSchedule(client, flag.id, { dueIn: `-${10 - i} seconds` });
      }
      expect(await apply(client, 2)).toEqual(outcome({ applied: 2 }));
      expect(
        await value(
          client,
          `select array_agg(flag_key::text order by flag_key) from app_public.feature_flags where enabled`,
        ),
      ).toEqual(['batch-0', 'batch-1']);
      expect(await apply(client, 2)).toEqual(outcome({ applied: 2 }));
      expect(await apply(client, 2)).toEqual(outcome({ applied: 1 }));
    });
  });

  test('of a flag that another transaction holds is left for later', async () => {
    const own = await cloneDatabase();
    try {
      await withClient(own.ownerUrl, async (client) => {
        const flag = await insertFlag(client);
        await insertSchedule(client, flag.id, { dueIn: '-1 second' });
        await withClient(own.ownerUrl, async (other) => {
          await other.query('begin');
          await other.query('select from app_public.feature_flags for update');
          expect(await apply(client)).toEqual(outcome({}));
          await other.query('rollback');
        });
        expect(await apply(client)).toEqual(outcome({ applied: 1 }));
      });
    } finally {
      await own.drop();
    }
  });
});

describe('next_due', () => {
  const read = async (client: pg.ClientBase) => {
    const { rows } = await client.query<{ overdue_for: number | null; due_in: number | null }>(
      'select * from app_private.next_due()',
    );
    return one(rows);
  };

  test('tells the latest that is overdue and the earliest that isn’t, apart', async () => {
    await withRollback(database, async (client) => {
      expect(await read(client)).toEqual({ overdue_for: null, due_in: null });
      const flag = await insertFlag(client);
      await insertSchedule(client, flag.id, { dueIn: '2 hours' });
      await insertSchedule(client, flag.id, { dueIn: '1 hour' });
      const ahead = await read(client);
      expect(ahead.overdue_for).toBeNull();
      expect(ahead.due_in).toBeLessThanOrEqual(3_600_000);
      expect(ahead.due_in).toBeGreaterThan(3_590_000);
      await insertSchedule(client, flag.id, { dueIn: '-1 hour' });
      await insertSchedule(client, flag.id, { dueIn: '-1 minute' });
      const overdue = await read(client);
      expect(overdue.overdue_for).toBeGreaterThanOrEqual(60_000);
      expect(overdue.overdue_for).toBeLessThan(70_000);
      expect(overdue.due_in).toBeGreaterThan(3_590_000);
      await apply(client);
      expect((await read(client)).overdue_for).toBeNull();
    });
  });

  test('looks at the next attempt of what has failed', async () => {
    await withRollback(database, async (client) => {
      const flag = await insertFlag(client, { flag_key: 'broken' });
      await insertSchedule(client, flag.id, { dueIn: '-1 minute' });
      await breakFlag(client, 'broken');
      await apply(client);
      const { overdue_for, due_in } = await read(client);
      expect(overdue_for).toBeNull();
      expect(due_in).toBeGreaterThan(0);
      expect(due_in).toBeLessThanOrEqual(30_000);
    });
  });
});

test('the worker’s login applies, and can do no more than that', async () => {
  await withClient(database.workerUrl, async (client) => {
    expect(await apply(client)).toEqual(outcome({}));
    await expect(client.query('select from app_public.feature_flags')).rejects.toMatchObject({
      code: '42501',
    });
  });
});
