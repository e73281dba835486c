import type pg from 'pg';
import { describe, expect, test } from 'vitest';
import { actAsOwner, withActors } from '../support/actors.ts';
import { useDatabase } from '../support/database.ts';
import { insertFlag, insertSchedule, one } from '../support/factory.ts';
import { become, sqlStateOf } from '../support/roles.ts';

const database = useDatabase();

interface Schedule {
  readonly id: string;
  readonly status: string;
  readonly created_by: string | null;
  readonly cancelled_by: string | null;
  readonly cancelled_at: Date | null;
  readonly cancel_reason: string | null;
  readonly applied_at: Date | null;
  readonly attempts: number;
  readonly error_message: string | null;
  readonly revision: string;
}

async function read(client: pg.ClientBase, id: string): Promise<Schedule> {
  const { rows } = await client.query<Schedule>(
    'select * from app_public.feature_flag_schedules where id = $1',
    [id],
  );
  return one(rows);
}

async function cancel(client: pg.ClientBase, id: string, reason?: string): Promise<Schedule> {
  const { rows } = await client.query<Schedule>(
    'select * from app_public.cancel_flag_schedule($1, $2)',
    [id, reason],
  );
  return one(rows);
}

/** Values that a client would like to have in the columns that aren't its own. */
const FORGED: Record<string, string> = {
  id: `'00000000-0000-4000-8000-000000000000'`,
  status: `'applied'`,
  applied_at: 'now()',
  error_message: `'forged'`,
  attempts: '7',
  next_attempt_at: 'now()',
  created_at: `'2001-01-01'`,
  updated_at: `'2001-01-01'`,
  revision: '7',
  created_by: `'mallory'`,
  cancelled_by: `'mallory'`,
  cancelled_at: 'now()',
  cancel_reason: `'forged'`,
};

describe('SQL as halyard_admin', () => {
  test.for(Object.entries(FORGED))('inserts no %s', async ([column, forged]) => {
    await withActors(database, async (client) => {
      const flag = await insertFlag(client);
      await become(client, 'admin', { userId: 'alice' });
      const state = await sqlStateOf(client, () =>
        client.query(
          `insert into app_public.feature_flag_schedules (flag_id, scheduled_at, updates, ${column})
           values ($1, now() + interval '1 hour', '{"enabled": true}', ${forged})`,
          [flag.id],
        ),
      );
      expect(state).toBe('42501');
      await actAsOwner(client);
      expect((await client.query('select from app_public.feature_flag_schedules')).rowCount).toBe(
        0,
      );
    });
  });

  test.for(Object.entries({ ...FORGED, scheduled_at: 'now()', updates: `'{"enabled": false}'` }))(
    'updates no %s',
    async ([column, forged]) => {
      await withActors(database, async (client) => {
        const { id } = await insertSchedule(client, (await insertFlag(client)).id);
        const before = await read(client, id);
        await become(client, 'admin', { userId: 'alice' });
        const state = await sqlStateOf(client, () =>
          client.query(
            `update app_public.feature_flag_schedules set ${column} = ${forged} where id = $1`,
            [id],
          ),
        );
        expect(state).toBe('42501');
        await actAsOwner(client);
        expect(await read(client, id)).toEqual(before);
      });
    },
  );

  test.for(['delete from', 'truncate'])('%s is refused', async (verb) => {
    await withActors(database, async (client) => {
      await become(client, 'admin', { userId: 'alice' });
      const state = await sqlStateOf(client, () =>
        client.query(`${verb} app_public.feature_flag_schedules`),
      );
      expect(state).toBe('42501');
    });
  });

  test.for(['id', 'flag_key', 'environment', 'created_at', 'updated_at', 'revision'])(
    'a flag’s %s is not its to change',
    async (column) => {
      await withActors(database, async (client) => {
        await insertFlag(client);
        await become(client, 'admin');
        const state = await sqlStateOf(client, () =>
          client.query(`update app_public.feature_flags set ${column} = default`),
        );
        expect(state).toBe('42501');
      });
    },
  );
});

describe('SQL as the owner', () => {
  test('what an insert says of stamps is overridden', async () => {
    await withActors(database, async (client) => {
      const flag = await insertFlag(client);
      const columns = Object.entries(FORGED).filter(([name]) => name !== 'status' && name !== 'id');
      const { rows } = await client.query<Schedule>(
        `insert into app_public.feature_flag_schedules
           (flag_id, scheduled_at, updates, ${columns.map(([name]) => name).join(', ')})
         values ($1, now() + interval '1 hour', '{"enabled": true}', ${columns.map(([, text]) => text).join(', ')})
         returning *, created_at = now() and updated_at = now() as stamped`,
        [flag.id],
      );
      expect(one(rows)).toMatchObject({
        created_by: null,
        cancelled_by: null,
        cancelled_at: null,
        cancel_reason: null,
        applied_at: null,
        attempts: 0,
        error_message: null,
        next_attempt_at: null,
        revision: '1',
        stamped: true,
      });
    });
  });

  test('a schedule starts as nothing but pending', async () => {
    await withActors(database, async (client) => {
      const flag = await insertFlag(client);
      for (const status of ['suspended', 'applied', 'failed', 'cancelled', 'skipped', 'done']) {
        const state = await sqlStateOf(client, () =>
          client.query(
            `insert into app_public.feature_flag_schedules (flag_id, scheduled_at, updates, status)
             values ($1, now(), '{"enabled": true}', $2)`,
            [flag.id, status],
          ),
        );
        expect(state, status).toBe('ZF004');
      }
    });
  });

  test('what an update says of stamps is overridden', async () => {
    await withActors(database, async (client) => {
      const flag = await insertFlag(client);
      await become(client, 'admin', { userId: 'alice' });
      const { rows } = await client.query<{ id: string }>(
        `select * from app_public.schedule_flag_change($1, 'production', now() + interval '1 hour', '{"enabled": true}')`,
        [flag.flag_key],
      );
      const { id } = one(rows);
      await actAsOwner(client);
      await client.query(
        `update app_public.feature_flag_schedules
         set created_by = 'mallory', cancelled_by = 'mallory', cancelled_at = now(), cancel_reason = 'forged',
           applied_at = now(), updated_at = '2001-01-01', revision = 70
         where id = $1`,
        [id],
      );
      const row = await read(client, id);
      expect(row).toMatchObject({
        created_by: 'alice',
        cancelled_by: null,
        cancelled_at: null,
        cancel_reason: null,
        applied_at: null,
        // Nothing changed that the trail tells of.
        revision: '1',
      });
    });
  });
});

describe('who did it', () => {
  async function schedule(client: pg.ClientBase, claims: { userId?: string }): Promise<Schedule> {
    const flag = await insertFlag(client);
    await become(client, 'admin', claims);
    const { rows } = await client.query<Schedule>(
      `select * from app_public.schedule_flag_change($1, 'production', now() + interval '1 hour', '{"rollout_percentage": 50}')`,
      [flag.flag_key],
    );
    return one(rows);
  }

  test('one admin creates, another cancels: both are kept', async () => {
    await withActors(database, async (client) => {
      const { id, created_by } = await schedule(client, { userId: 'alice' });
      expect(created_by).toBe('alice');
      await become(client, 'admin', { userId: 'bob' });
      const cancelled = await cancel(client, id, '  no longer wanted ');
      expect(cancelled).toMatchObject({
        status: 'cancelled',
        created_by: 'alice',
        cancelled_by: 'bob',
        cancel_reason: 'no longer wanted',
      });
      expect(cancelled.cancelled_at).toBeInstanceOf(Date);
    });
  });

  test('a plain insert by an admin is stamped as well', async () => {
    await withActors(database, async (client) => {
      const flag = await insertFlag(client);
      await become(client, 'admin', { userId: 'alice' });
      const { id } = await insertSchedule(client, flag.id);
      expect((await read(client, id)).created_by).toBe('alice');
    });
  });

  test('an admin without a user id works, and leaves no name', async () => {
    await withActors(database, async (client) => {
      const { id, created_by } = await schedule(client, {});
      expect(created_by).toBeNull();
      const cancelled = await cancel(client, id);
      expect(cancelled).toMatchObject({ cancelled_by: null, cancel_reason: null });
      expect(cancelled.cancelled_at).toBeInstanceOf(Date);
    });
  });

  test('names of 255 characters are kept, longer ones are unknown and no half a name', async () => {
    await withActors(database, async (client) => {
      expect((await schedule(client, { userId: 'é'.repeat(255) })).created_by).toHaveLength(255);
      await actAsOwner(client);
      expect((await schedule(client, { userId: 'e'.repeat(256) })).created_by).toBeNull();
    });
  });
});
