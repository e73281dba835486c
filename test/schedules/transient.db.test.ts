import type pg from 'pg';
import { describe, expect, test } from 'vitest';
import { value } from '../support/actors.ts';
import { useDatabase, withRollback } from '../support/database.ts';
import { insertFlag, insertSchedule, one } from '../support/factory.ts';
import { mendFlag, queuedEvents } from '../support/trail.ts';

const database = useDatabase();

async function apply(client: pg.ClientBase): Promise<object> {
  const { rows } = await client.query<object>(
    'select applied, retried, failed, stuck, untried from app_private.apply_due()',
  );
  return one(rows);
}

const NOTHING = { applied: 0, retried: 0, failed: 0, stuck: 0, untried: 0 };

/** Every change of flags whose key begins with `broken` fails with this SQLSTATE. */
async function failWith(client: pg.ClientBase, code: string): Promise<void> {
  await client.query(`
    create or replace function app_private.tg_test__fail() returns trigger language plpgsql as $$
      begin raise exception 'failed with ${code}' using errcode = '${code}'; end $$;
    create or replace trigger _050_fail before update on app_public.feature_flags
      for each row when (old.flag_key ~ '^broken') execute function app_private.tg_test__fail()`);
}

interface Schedule {
  readonly status: string;
  readonly attempts: number;
  readonly error_message: string | null;
  readonly wait: number | null;
}

async function read(client: pg.ClientBase, id: string): Promise<Schedule> {
  const { rows } = await client.query<Schedule>(
    `select status, attempts, error_message,
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

describe('an error that passes by itself', () => {
  test.for([
    '08006',
    '40001',
    '40P01',
    '53100',
    '53200',
    '55P03',
    '57014',
    '57P01',
    '58030',
    'XX000',
  ])('uses no attempt up: %s', async (code) => {
    await withRollback(database, async (client) => {
      const flag = await insertFlag(client, { flag_key: 'broken' });
      const { id } = await insertSchedule(client, flag.id, { dueIn: '-1 second' });
      await failWith(client, code);
      for (let n = 0; n < 5; n++) {
        expect(await apply(client)).toEqual({ ...NOTHING, retried: 1 });
        const schedule = await read(client, id);
        expect(schedule).toMatchObject({
          status: 'pending',
          attempts: 0,
          error_message: `failed with ${code}`,
        });
        expect(schedule.wait).toBeGreaterThan(0);
        expect(schedule.wait).toBeLessThanOrEqual(1);
        expect(await apply(client)).toEqual(NOTHING);
        await makeDue(client, id);
      }
      await mendFlag(client);
      expect(await apply(client)).toEqual({ ...NOTHING, applied: 1 });
      expect(await read(client, id)).toMatchObject({
        status: 'applied',
        attempts: 1,
        error_message: null,
      });
      const types = (await queuedEvents(client)).map(({ event_type }) => event_type);
      expect(types).not.toContain('flag_schedule.failed');
    });
  });

  test('among real ones leaves their count as it is', async () => {
    await withRollback(database, async (client) => {
      const flag = await insertFlag(client, { flag_key: 'broken' });
      const { id } = await insertSchedule(client, flag.id, { dueIn: '-1 second' });
      const statuses: string[] = [];
      for (const code of ['P0001', '40001', '53100', 'P0001', '55P03', '23514']) {
        await failWith(client, code);
        await apply(client);
        const { status, attempts } = await read(client, id);
        statuses.push(`${status} ${attempts}`);
        if (status === 'pending') await makeDue(client, id);
      }
      expect(statuses).toEqual([
        'pending 1',
        'pending 1',
        'pending 1',
        'pending 2',
        'pending 2',
        'failed 3',
      ]);
    });
  });

  test('of a few among many is found, and the others are applied', async () => {
    await withRollback(database, async (client) => {
      for (let n = 0; n < 33; n++) {
        const { id } = await insertFlag(client, {
          flag_key: [3, 4, 30].includes(n) ? `broken-${n}` : `sound-${n}`,
        });
        await insertSchedule(client, id, { dueIn: '-1 second' });
      }
      await failWith(client, '40001');
      expect(await apply(client)).toEqual({ ...NOTHING, applied: 30, retried: 3 });
    });
  });

  test('is waited out about as long again as it has lasted, half a minute at most', async () => {
    await withRollback(database, async (client) => {
      for (const [waited, least, most] of [
        [null, 0.5, 1],
        [0.1, 0.5, 1],
        [1, 1, 2],
        [10, 10, 20],
        [3_600, 15, 30],
      ] as const) {
        const { rows } = await client.query<{ least: number; most: number }>(
          `select min(w)::float8 as least, max(w)::float8 as most
           from (
             select extract(epoch from app_private.postponement(jsonb_populate_record(
               null::app_public.feature_flag_schedules,
               jsonb_build_object('updated_at', now(), 'next_attempt_at', now() + $1 * interval '1 s')))) as w
             from generate_series(1, 200)
           ) as waits`,
          [waited],
        );
        expect(one(rows).least).toBeGreaterThanOrEqual(least - 0.001);
        expect(one(rows).most).toBeLessThanOrEqual(most + 0.001);
        expect(one(rows).most - one(rows).least).toBeGreaterThan((most - least) / 2);
      }
    });
  });
});

test('a real error fails a schedule after three attempts, over about a minute', async () => {
  await withRollback(database, async (client) => {
    const flag = await insertFlag(client, { flag_key: 'broken' });
    const { id } = await insertSchedule(client, flag.id, { dueIn: '-1 second' });
    await failWith(client, '23514');
    const waits: number[] = [];
    for (let n = 0; n < 2; n++) {
      expect(await apply(client)).toEqual({ ...NOTHING, retried: 1 });
      waits.push((await read(client, id)).wait ?? 0);
      await makeDue(client, id);
    }
    expect(await apply(client)).toEqual({ ...NOTHING, failed: 1 });
    expect(await read(client, id)).toMatchObject({ status: 'failed', attempts: 3, wait: null });
    const [first = 0, second = 0] = waits;
    expect(first).toBeGreaterThan(14);
    expect(first).toBeLessThanOrEqual(30);
    expect(second).toBeGreaterThan(29);
    expect(second).toBeLessThanOrEqual(60);
  });
});

test('in strict mode a schedule waits until the trail can be written, and then is applied', async () => {
  await withRollback(database, async (client) => {
    const flag = await insertFlag(client);
    const { id } = await insertSchedule(client, flag.id, { dueIn: '-1 second', max_attempts: 1 });
    await client.query(`select app_private.set_setting('audit_mode', 'strict')`);
    await client.query('alter table audit.queue rename to elsewhere');
    for (let n = 0; n < 3; n++) {
      expect(await apply(client)).toEqual({ ...NOTHING, retried: 1 });
      expect(await read(client, id)).toMatchObject({ status: 'pending', attempts: 0 });
      await makeDue(client, id);
    }
    await client.query('alter table audit.elsewhere rename to queue');
    expect(await apply(client)).toEqual({ ...NOTHING, applied: 1 });
    expect(
      await value(client, 'select enabled from app_public.feature_flags where id = $1', [flag.id]),
    ).toBe(true);
  });
});

test('a schedule that is to be skipped is left as it is', async () => {
  await withRollback(database, async (client) => {
    const [one_, two] = [await insertFlag(client), await insertFlag(client)];
    const skipped = await insertSchedule(client, one_.id, { dueIn: '-1 second' });
    await insertSchedule(client, two.id, { dueIn: '-1 second' });
    const overdue = () =>
      value(
        client,
        `select array_agg(flag_id::text) from app_private.overdue_flags(0, array[$1]::uuid[])`,
        [skipped.id],
      );
    expect(await overdue()).toEqual([two.id]);
    await client.query('select app_private.apply_due(500, array[$1]::uuid[])', [skipped.id]);
    await client.query('select app_private.apply_flag($1, 100, array[$2]::uuid[])', [
      one_.id,
      skipped.id,
    ]);
    expect(await read(client, skipped.id)).toMatchObject({ status: 'pending', attempts: 0 });
    expect(await overdue()).toBeNull();
    await client.query('select app_private.apply_flag($1, 100)', [one_.id]);
    expect(await read(client, skipped.id)).toMatchObject({ status: 'applied' });
  });
});

test('flags that were waited for hide no others behind them', async () => {
  await withRollback(database, async (client) => {
    const waited = await insertFlag(client);
    for (let n = 0; n < 2; n++) await insertSchedule(client, waited.id, { dueIn: '-1 minute' });
    await client.query(
      `with flags as (
         insert into app_public.feature_flags (flag_key) select 'many-' || n from generate_series(1, 100) as n returning id)
       insert into app_public.feature_flag_schedules (flag_id, scheduled_at, updates)
       select id, clock_timestamp() - interval '1 second', '{"enabled": true}' from flags`,
    );
    const overdue = (...flags: string[]) =>
      value<string[]>(
        client,
        `select array_agg(flag_id::text) from app_private.overdue_flags(0, '{}', $1)`,
        [flags],
      );
    expect(await overdue()).toHaveLength(100);
    const all = await overdue(waited.id);
    expect(all).toHaveLength(101);
    expect(new Set(all).size).toBe(101);
    expect(all[0]).toBe(waited.id);
    const { id } = await insertFlag(client);
    expect(await overdue(id)).toEqual(await overdue());
  });
});
