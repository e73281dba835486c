import type pg from 'pg';
import { describe, expect, test } from 'vitest';
import { value } from '../support/actors.ts';
import { cloneDatabase, useDatabase, withClient, withRollback } from '../support/database.ts';
import { insertFlag, insertSchedule, one } from '../support/factory.ts';
import { breakFlag, mendFlag, queuedEvents } from '../support/trail.ts';

const database = useDatabase();

interface Outcome {
  readonly applied: number;
  readonly retried: number;
  readonly failed: number;
  readonly stuck: number;
}

async function apply(client: pg.ClientBase, batch = 100): Promise<Outcome> {
  const { rows } = await client.query<Outcome>(
    'select applied, retried, failed, stuck from app_private.apply_due($1)',
    [batch],
  );
  return one(rows);
}

function outcome(overrides: Partial<Outcome>): Outcome {
  return { applied: 0, retried: 0, failed: 0, stuck: 0, ...overrides };
}

async function flagState(client: pg.ClientBase, id: string): Promise<string> {
  return value(
    client,
    `select enabled || ' ' || rollout_percentage from app_public.feature_flags where id = $1`,
    [id],
  );
}

interface Schedule {
  readonly status: string;
  readonly attempts: number;
  readonly error_message: string | null;
  readonly applied_at: Date | null;
  readonly wait: number | null;
}

/** The schedule, with the seconds from now to its next attempt. */
async function read(client: pg.ClientBase, id: string): Promise<Schedule> {
  const { rows } = await client.query<Schedule>(
    `select status, attempts, error_message, applied_at,
       extract(epoch from next_attempt_at - clock_timestamp())::float8 as wait
     from app_public.feature_flag_schedules where id = $1`,
    [id],
  );
  return one(rows);
}

async function makeDue(client: pg.ClientBase, id: string): Promise<void> {
  await client.query(
    'update app_public.feature_flag_schedules set next_attempt_at = now() where id = $1',
    [id],
  );
}

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
      expect(states).toEqual(
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

describe('a schedule whose change fails', () => {
  test('stops no other, and is tried again', async () => {
    await withRollback(database, async (client) => {
      const broken = await insertFlag(client, { flag_key: 'broken' });
      const sound = await insertFlag(client);
      const { id } = await insertSchedule(client, broken.id, { dueIn: '-2 seconds' });
      await insertSchedule(client, sound.id, { dueIn: '-1 second' });
      await breakFlag(client, 'broken');

      expect(await apply(client)).toEqual(outcome({ applied: 1, retried: 1 }));
      expect(await flagState(client, sound.id)).toBe('true 100');
      expect(await flagState(client, broken.id)).toBe('false 100');
      const schedule = await read(client, id);
      expect(schedule).toMatchObject({
        status: 'pending',
        attempts: 1,
        error_message: 'the flag is broken',
      });
      expect(schedule.wait).toBeGreaterThan(0);
      expect(schedule.wait).toBeLessThanOrEqual(30);
      expect(await apply(client)).toEqual(outcome({}));
    });
  });

  test('fails for good after max_attempts, with one event at level error', async () => {
    await withRollback(database, async (client) => {
      const flag = await insertFlag(client, { flag_key: 'broken' });
      const { id } = await insertSchedule(client, flag.id, { dueIn: '-1 second', max_attempts: 3 });
      await breakFlag(client, 'broken');
      expect(await apply(client)).toEqual(outcome({ retried: 1 }));
      await makeDue(client, id);
      expect(await apply(client)).toEqual(outcome({ retried: 1 }));
      await makeDue(client, id);
      expect(await apply(client)).toEqual(outcome({ failed: 1 }));

      expect(await read(client, id)).toEqual({
        status: 'failed',
        attempts: 3,
        error_message: 'the flag is broken',
        applied_at: null,
        wait: null,
      });
      const events = (await queuedEvents(client)).filter(
        (event) => event.event_type !== 'feature_flag.created',
      );
      expect(events.map(({ event_type, level }) => `${event_type} ${level}`)).toEqual([
        'flag_schedule.created info',
        'flag_schedule.failed error',
      ]);
    });
  });

  test.for([0, 1])('has no second attempt with max_attempts %i', async (max_attempts) => {
    await withRollback(database, async (client) => {
      const flag = await insertFlag(client, { flag_key: 'broken' });
      const { id } = await insertSchedule(client, flag.id, { dueIn: '-1 second', max_attempts });
      await breakFlag(client, 'broken');
      expect(await apply(client)).toEqual(outcome({ failed: 1 }));
      expect(await read(client, id)).toMatchObject({ status: 'failed', attempts: 1 });
    });
  });

  test('and succeeds later, leaves alone what later schedules have set meanwhile, key by key', async () => {
    await withRollback(database, async (client) => {
      const flag = await insertFlag(client, { flag_key: 'broken' });
      const early = await insertSchedule(client, flag.id, {
        dueIn: '-10 seconds',
        updates: { enabled: true, rollout_percentage: 10 },
      });
      await breakFlag(client, 'broken');
      expect(await apply(client)).toEqual(outcome({ retried: 1 }));
      await mendFlag(client);
      await insertSchedule(client, flag.id, { dueIn: '-5 seconds', updates: { enabled: false } });
      expect(await apply(client)).toEqual(outcome({ applied: 1 }));

      await makeDue(client, early.id);
      expect(await apply(client)).toEqual(outcome({ applied: 1 }));
      expect(await flagState(client, flag.id)).toBe('false 10');
      expect(await read(client, early.id)).toMatchObject({
        status: 'applied',
        attempts: 2,
        error_message: null,
      });
    });
  });

  test('and is retried by an admin after that, counts as a decision of now', async () => {
    await withRollback(database, async (client) => {
      const flag = await insertFlag(client, { flag_key: 'broken' });
      const early = await insertSchedule(client, flag.id, {
        dueIn: '-10 seconds',
        max_attempts: 1,
      });
      await breakFlag(client, 'broken');
      await apply(client);
      await mendFlag(client);
      await insertSchedule(client, flag.id, { dueIn: '-5 seconds', updates: { enabled: false } });
      await apply(client);

      await client.query(`select set_config('jwt.claims.role', 'admin', true)`);
      await client.query('select app_public.retry_flag_schedule($1)', [early.id]);
      expect(await apply(client)).toEqual(outcome({ applied: 1 }));
      expect(await flagState(client, flag.id)).toBe('true 100');
    });
  });

  test('and can’t even be marked, stays due and stops no other', async () => {
    await withRollback(database, async (client) => {
      const flag = await insertFlag(client);
      const { id } = await insertSchedule(client, flag.id, { dueIn: '-2 seconds' });
      const sound = await insertFlag(client);
      await insertSchedule(client, sound.id, { dueIn: '-1 second' });
      await client.query(
        `create function app_private.tg_test__fail() returns trigger language plpgsql as $$
         begin raise exception 'no'; end $$`,
      );
      await client.query(
        `create trigger _050_fail before update on app_public.feature_flag_schedules
         for each row when (old.id = '${id}') execute function app_private.tg_test__fail()`,
      );
      expect(await apply(client)).toEqual(outcome({ applied: 1, stuck: 1 }));
      expect(await flagState(client, flag.id)).toBe('false 100');
      expect(await read(client, id)).toMatchObject({ status: 'pending', attempts: 0 });
      await client.query('drop trigger _050_fail on app_public.feature_flag_schedules');
      expect(await apply(client)).toEqual(outcome({ applied: 1 }));
    });
  });
});

describe('the wait before another attempt', () => {
  test.for([
    [1, 30],
    [2, 60],
    [3, 120],
    [7, 1920],
    [8, 3600],
    [1000, 3600],
  ])('after attempt %i is half to all of %i s', async ([attempts, seconds = 0]) => {
    await withRollback(database, async (client) => {
      const { rows } = await client.query<{ least: number; greatest: number }>(
        `select min(w)::float8 as least, max(w)::float8 as greatest
         from (
           select extract(epoch from app_private.retry_delay($1)) as w from generate_series(1, 300)
         ) as samples`,
        [attempts],
      );
      const { least, greatest } = one(rows);
      expect(least).toBeGreaterThanOrEqual(seconds / 2 - 0.001);
      expect(greatest).toBeLessThanOrEqual(seconds + 0.001);
      expect(greatest - least).toBeGreaterThan(seconds / 4);
    });
  });

  test('begins with the setting retry_base', async () => {
    await withRollback(database, async (client) => {
      await client.query(`select app_private.set_setting('retry_base', '10 ms')`);
      const wait = await value<number>(
        client,
        'select extract(epoch from app_private.retry_delay(1))::float8',
      );
      expect(wait).toBeGreaterThanOrEqual(0.005);
      expect(wait).toBeLessThanOrEqual(0.01);
    });
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
