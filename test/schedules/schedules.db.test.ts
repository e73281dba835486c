import { describe, expect, test } from 'vitest';
import { actAsOwner, value, withActors } from '../support/actors.ts';
import { useDatabase, withRollback } from '../support/database.ts';
import { insertFlag, one } from '../support/factory.ts';
import { become, sqlStateOf } from '../support/roles.ts';
import { STATUSES, type Status, insertAs, setStatus } from '../support/schedule_status.ts';

const database = useDatabase();

const ALLOWED = [
  'pending → applied',
  'pending → failed',
  'pending → cancelled',
  'pending → suspended',
  'pending → skipped',
  'suspended → pending',
  'suspended → failed',
  'suspended → cancelled',
  'suspended → skipped',
  'failed → pending',
];

describe('the state machine, for the owner too', () => {
  const all = STATUSES.flatMap((from) => STATUSES.map((to) => [from, to] as const));

  test.for(all)('%s → %s', async ([from, to]) => {
    await withRollback(database, async (client) => {
      const id = await insertAs(client, from);
      const state = await sqlStateOf(client, () => setStatus(client, id, to));
      const allowed = from === to || ALLOWED.includes(`${from} → ${to}`);
      expect(state).toBe(allowed ? null : 'ZF004');
      expect(
        await value(
          client,
          `select status || ' ' || (applied_at is not null) || ' ' || (cancelled_at is not null)
           from app_public.feature_flag_schedules where id = $1`,
          [id],
        ),
      ).toBe(
        `${allowed ? to : from} ${String((allowed ? to : from) === 'applied')} ${String((allowed ? to : from) === 'cancelled')}`,
      );
    });
  });

  test.for<[string, string]>([
    ['done', 'ZF004'],
    ['', 'ZF004'],
  ])('no status is called %j', async ([status, expected]) => {
    await withRollback(database, async (client) => {
      const id = await insertAs(client, 'pending');
      expect(await sqlStateOf(client, () => setStatus(client, id, status))).toBe(expected);
    });
  });

  test('without its trigger, the CHECKs still hold', async () => {
    await withRollback(database, async (client) => {
      const id = await insertAs(client, 'pending');
      await client.query('alter table app_public.feature_flag_schedules disable trigger user');
      for (const status of ['done', 'applied'])
        expect(await sqlStateOf(client, () => setStatus(client, id, status)), status).toBe('23514');
    });
  });
});

describe('what is fixed', () => {
  test.for<[string, string]>([
    ['id', 'gen_random_uuid()'],
    ['flag_id', 'gen_random_uuid()'],
    ['updates', `'{"enabled": false}'`],
    ['expects', `'{"enabled": false}'`],
    ['created_at', `'2001-01-01'`],
  ])('a schedule’s %s', async ([column, expression]) => {
    await withRollback(database, async (client) => {
      const id = await insertAs(client, 'pending');
      const state = await sqlStateOf(client, () =>
        client.query(
          `update app_public.feature_flag_schedules set ${column} = ${expression} where id = $1`,
          [id],
        ),
      );
      expect(state).toBe('ZF010');
    });
  });

  test.for<[string, string]>([
    ['id', 'gen_random_uuid()'],
    ['flag_key', `'other'`],
    ['environment', `'staging'`],
    ['created_at', `'2001-01-01'`],
  ])('a flag’s %s', async ([column, expression]) => {
    await withRollback(database, async (client) => {
      await insertFlag(client);
      const state = await sqlStateOf(client, () =>
        client.query(`update app_public.feature_flags set ${column} = ${expression}`),
      );
      expect(state).toBe('ZF010');
    });
  });

  test.for(['suspended', 'applied', 'failed', 'cancelled', 'skipped'] as const)(
    'the time of one that is %s',
    async (status) => {
      await withRollback(database, async (client) => {
        const id = await insertAs(client, status);
        const state = await sqlStateOf(client, () =>
          client.query(
            `update app_public.feature_flag_schedules set scheduled_at = now() + interval '2 hours' where id = $1`,
            [id],
          ),
        );
        expect(state).toBe('ZF003');
      });
    },
  );

  test.for(['feature_flags', 'feature_flag_schedules'])('%s is not truncated', async (table) => {
    await withRollback(database, async (client) => {
      const state = await sqlStateOf(client, () =>
        client.query(`truncate app_public.${table} cascade`),
      );
      expect(state).toBe('ZF009');
    });
  });
});

describe('functions and statuses', () => {
  const cancel = 'select app_public.cancel_flag_schedule($1)';
  const move = `select app_public.reschedule_flag_change($1, now() + interval '3 hours')`;
  const retry = 'select app_public.retry_flag_schedule($1)';

  test.for<[Status, string, string | null]>([
    ['pending', cancel, null],
    ['applied', cancel, 'ZF003'],
    ['failed', cancel, 'ZF003'],
    ['cancelled', cancel, 'ZF003'],
    ['pending', move, null],
    ['applied', move, 'ZF003'],
    ['failed', move, 'ZF003'],
    ['cancelled', move, 'ZF003'],
    ['pending', retry, 'ZF008'],
    ['applied', retry, 'ZF008'],
    ['failed', retry, null],
    ['cancelled', retry, 'ZF008'],
  ])('one that is %s: %s', async ([status, call, expected]) => {
    await withActors(database, async (client) => {
      const id = await insertAs(client, status);
      await become(client, 'admin', { userId: 'alice' });
      expect(await sqlStateOf(client, () => client.query(call, [id]))).toBe(expected);
    });
  });

  test.for([cancel, move, retry])('one that doesn’t exist, and null: %s', async (call) => {
    await withActors(database, async (client) => {
      await become(client, 'admin');
      const unknown = '00000000-0000-4000-8000-000000000000';
      expect(await sqlStateOf(client, () => client.query(call, [unknown]))).toBe('ZF002');
      expect(await sqlStateOf(client, () => client.query(call, [null]))).toBe('ZF002');
    });
  });

  test('no such flag', async () => {
    await withActors(database, async (client) => {
      await become(client, 'admin');
      for (const key of [`'none'`, 'null', `''`, `'%'`, `''' or true --'`]) {
        const state = await sqlStateOf(client, () =>
          client.query(
            `select app_public.schedule_flag_change(${key}, null, now() + interval '1 hour', '{"enabled": true}')`,
          ),
        );
        expect(state, key).toBe('ZF001');
      }
    });
  });

  test('a reason has 500 characters at most, and a blank one is none', async () => {
    await withActors(database, async (client) => {
      const id = await insertAs(client, 'pending');
      await become(client, 'admin');
      const call = 'select cancel_reason from app_public.cancel_flag_schedule($1, $2)';
      const state = await sqlStateOf(client, () => client.query(call, [id, 'x'.repeat(501)]));
      expect(state).toBe('23514');
      expect(await value(client, call, [id, '  '])).toBeNull();
    });
  });

  test('moving a schedule gives it all its attempts again', async () => {
    await withActors(database, async (client) => {
      const id = await insertAs(client, 'pending');
      await client.query(
        `update app_public.feature_flag_schedules
         set attempts = 2, error_message = 'x', next_attempt_at = now() where id = $1`,
        [id],
      );
      await become(client, 'admin');
      const { rows } = await client.query<object>(
        `select attempts, error_message, next_attempt_at, scheduled_at = now() + interval '5 hours' as moved
         from app_public.reschedule_flag_change($1, now() + interval '5 hours')`,
        [id],
      );
      expect(rows).toEqual([
        { attempts: 0, error_message: null, next_attempt_at: null, moved: true },
      ]);
    });
  });

  test('a retry is due now', async () => {
    await withActors(database, async (client) => {
      const id = await insertAs(client, 'failed');
      await become(client, 'admin');
      const { rows } = await client.query<{ status: string; attempts: number; due: boolean }>(
        `select status, attempts, scheduled_at between now() and clock_timestamp() as due
         from app_public.retry_flag_schedule($1)`,
        [id],
      );
      expect(one(rows)).toEqual({ status: 'pending', attempts: 0, due: true });
      await actAsOwner(client);
      expect(
        await value<number>(client, 'select overdue_for from app_private.next_due()'),
      ).toBeGreaterThanOrEqual(0);
    });
  });
});
