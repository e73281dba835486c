import type pg from 'pg';
import { describe, expect, test } from 'vitest';
import { actAsOwner, asWorker, value, withActors } from '../../support/actors.ts';
import { cloneDatabase, useDatabase, withClient } from '../../support/database.ts';
import { insertFlag } from '../../support/factory.ts';
import { become, sqlStateOf } from '../../support/roles.ts';
import { deadLetters, queuedEvents } from '../../support/trail.ts';

const database = useDatabase();

const ALICE = { userId: 'alice', email: 'alice@example.com', requestId: 'request-1' };

const THIS_MONTH = `select to_char(now() at time zone 'UTC', '"audit.events_"YYYY_MM')`;

/** An admin schedules a change of the flag `search` and cancels it. Gives the schedule's id. */
async function scheduleAndCancel(client: pg.ClientBase): Promise<string> {
  await become(client, 'admin', ALICE);
  const id = await value<string>(
    client,
    `select id from app_public.schedule_flag_change('search', 'production', now() + interval '1 hour', '{"enabled": true}')`,
  );
  await client.query('select app_public.cancel_flag_schedule($1)', [id]);
  await actAsOwner(client);
  return id;
}

async function statusOf(client: pg.ClientBase, id: string): Promise<string> {
  return value(client, 'select status from app_public.feature_flag_schedules where id = $1', [id]);
}

const statement = (sql: string) => (client: pg.ClientBase) => client.query(sql);

const FAILURES: Record<string, { code: string; breakIt: (c: pg.ClientBase) => Promise<unknown> }> =
  {
    'the trail is renamed': {
      code: '42P01',
      breakIt: statement('alter table audit.events rename to events_old'),
    },
    'the trail is dropped': {
      code: '42P01',
      breakIt: statement('drop table audit.events cascade'),
    },
    'the trail refuses a row': {
      code: '23514',
      breakIt: statement(`alter table audit.events add check (event_type !~ 'schedule')`),
    },
    'the trail lacks a column': {
      code: '42703',
      breakIt: statement('alter table audit.events drop column request_id cascade'),
    },
    'the month’s partition is missing': {
      code: '23514',
      breakIt: async (client) =>
        client.query(`drop table ${await value<string>(client, THIS_MONTH)}`),
    },
    'the grant is revoked': {
      code: '42501',
      breakIt: statement('revoke insert on audit.events from halyard_owner'),
    },
    'the catalogue of event types is gone': {
      code: '42P01',
      breakIt: statement('alter table audit.event_types rename to types'),
    },
    'the queue is gone': { code: '42P01', breakIt: statement('drop table audit.queue') },
    'a trigger of somebody’s on the trail fails': {
      code: 'P0001',
      breakIt: async (client) => {
        await client.query(
          `create function app_private.tg_test__fail() returns trigger language plpgsql as $$
         begin raise exception 'no'; end $$`,
        );
        await client.query(
          `create trigger _300_fail before insert on audit.events
         for each row execute function app_private.tg_test__fail()`,
        );
      },
    },
  };

describe('a broken trail fails no operation, and the dead letters hold the events', () => {
  test.for(Object.entries(FAILURES))('%s', async ([, { code, breakIt }]) => {
    await withActors(database, async (client) => {
      await insertFlag(client, { flag_key: 'search' });
      await breakIt(client);
      const id = await scheduleAndCancel(client);
      expect(await statusOf(client, id)).toBe('cancelled');

      const letters = await deadLetters(client);
      expect(letters.map(({ error_code }) => error_code)).toEqual([code, code]);
      const events = letters.flatMap(({ content }) => content.events ?? []);
      expect(events.map(({ event_type }) => event_type)).toEqual([
        'flag_schedule.created',
        'flag_schedule.cancelled',
      ]);
      for (const event of events) {
        expect(event).toMatchObject({
          schedule_id: id,
          flag_key: 'search',
          environment: 'production',
          admin_user_id: 'alice',
          admin_email: 'alice@example.com',
          request_id: 'request-1',
          actor_kind: 'admin',
        });
        expect(event).toMatchObject({ metadata: { flagKey: 'search', adminUserId: 'alice' } });
      }
    });
  });

  test.for(['events', 'event_types'])(
    'somebody holds a lock on audit.%s for longer than lock_timeout',
    async (table) => {
      await withClient(database.ownerUrl, async (holder) => {
        await holder.query('begin');
        await holder.query(`lock table audit.${table} in access exclusive mode`);
        await withActors(database, async (client) => {
          await client.query(`set local lock_timeout = '20ms'`);
          await insertFlag(client, { flag_key: 'search' });
          const id = await scheduleAndCancel(client);
          expect(await statusOf(client, id)).toBe('cancelled');
          const codes = (await deadLetters(client)).map(({ error_code }) => error_code);
          expect(codes).toEqual(['55P03', '55P03', '55P03']);
        });
        await holder.query('rollback');
      });
    },
  );

  test('events that can’t even be made: the letter holds the rows before and after, and who acted', async () => {
    await withActors(database, async (client) => {
      await insertFlag(client, { flag_key: 'search' });
      await client.query(
        'drop function app_private.make_event(uuid, timestamptz, text, uuid, text, text, uuid, bigint, jsonb) cascade',
      );
      const id = await scheduleAndCancel(client);
      const [created, cancelled] = await deadLetters(client);
      expect(created?.content).toMatchObject({
        table: 'feature_flag_schedules',
        operation: 'INSERT',
        events: null,
        rows: [{ id, status: 'pending', created_by: 'alice' }],
        oldRows: null,
      });
      expect(cancelled?.content).toMatchObject({
        operation: 'UPDATE',
        rows: [{ id, status: 'cancelled', cancelled_by: 'alice' }],
        oldRows: [{ id, status: 'pending' }],
        context: {
          userId: 'alice',
          email: 'alice@example.com',
          role: 'admin',
          requestId: 'request-1',
          applicationName: 'halyard test',
        },
      });
    });
  });

  test.for<[string, ...string[]]>([
    ['42P01', 'alter table audit.incarnations rename to incarnations_old'],
    [
      'P0002',
      'alter table audit.incarnations rename to incarnations_old',
      'create table audit.incarnations (like audit.incarnations_old)',
    ],
  ])('no incarnation can be read (%s): the letter holds the rows', async ([code, ...breakIt]) => {
    await withActors(database, async (client) => {
      await insertFlag(client, { flag_key: 'search' });
      for (const sql of breakIt) await client.query(sql);
      const id = await scheduleAndCancel(client);
      expect(await statusOf(client, id)).toBe('cancelled');
      const letters = await deadLetters(client);
      expect(letters).toMatchObject([
        { error_code: code, content: { events: null, rows: [{ id, status: 'pending' }] } },
        { error_code: code, content: { events: null, rows: [{ id, status: 'cancelled' }] } },
      ]);
    });
  });

  test('applying goes on too', async () => {
    await withActors(database, async (client) => {
      const flag = await insertFlag(client);
      await client.query(
        `insert into app_public.feature_flag_schedules (flag_id, scheduled_at, updates)
         values ($1, now() - interval '1 second', '{"enabled": true}')`,
        [flag.id],
      );
      await client.query('drop table audit.events cascade');
      await client.query('drop table audit.divergences cascade');
      expect(await value(client, 'select overdue_for > 0 from app_private.next_due()')).toBe(true);
      await asWorker(client, () => client.query('select * from app_private.apply_due()'));
      expect(await value(client, 'select enabled from app_public.feature_flags')).toBe(true);
      const types = (await deadLetters(client)).map(({ content }) => content.events?.[0]);
      expect(types).toMatchObject([
        { event_type: 'feature_flag.updated', actor_kind: 'system' },
        { event_type: 'flag_schedule.applied', actor_kind: 'system' },
      ]);
    });
  });

  test('the dead letters broken too: the server’s log holds the whole event, and a warning says so', async () => {
    await withActors(database, async (client) => {
      const notices: { severity: string | undefined; message: string }[] = [];
      client.on('notice', ({ severity, message }) =>
        notices.push({ severity, message: message ?? '' }),
      );
      await insertFlag(client, { flag_key: 'search' });
      await client.query('drop table audit.events, audit.dead_letters cascade');
      await client.query('set local client_min_messages = log');
      const id = await scheduleAndCancel(client);
      expect(await statusOf(client, id)).toBe('cancelled');
      expect(notices.filter(({ severity }) => severity === 'WARNING')).toHaveLength(2);
      const logged = notices.filter(({ severity }) => severity === 'LOG');
      expect(logged).toHaveLength(2);
      expect(logged[1]?.message).toContain('flag_schedule.cancelled');
      expect(logged[1]?.message).toContain(id);
      expect(logged[1]?.message).toContain('alice@example.com');
    });
  });

  test('each failure warns, so that the API’s log tells', async () => {
    await withActors(database, async (client) => {
      const warnings: string[] = [];
      client.on('notice', ({ severity }) => warnings.push(severity ?? ''));
      await client.query('drop table audit.events cascade');
      await insertFlag(client);
      expect(warnings).toEqual(['NOTICE', 'WARNING']);
    });
  });
});

describe('strict mode: no audit, no change', () => {
  test('set for a transaction', async () => {
    await withActors(database, async (client) => {
      await insertFlag(client, { flag_key: 'search' });
      await client.query('drop table audit.events cascade');
      await client.query(`set local halyard.audit_mode = 'strict'`);
      expect(await sqlStateOf(client, () => scheduleAndCancel(client))).toBe('ZF011');
      await actAsOwner(client);
      const count = 'select count(*)::int from app_public.feature_flag_schedules';
      expect(await value(client, count)).toBe(0);
      expect(await deadLetters(client)).toEqual([]);
    });
  });

  test('a sound trail lets changes through', async () => {
    await withActors(database, async (client) => {
      await client.query(`set local halyard.audit_mode = 'strict'`);
      await insertFlag(client, { flag_key: 'search' });
      await scheduleAndCancel(client);
      expect(await queuedEvents(client)).toHaveLength(3);
    });
  });

  test('set for the database by its owner, and no session gets out of it', async () => {
    const own = await cloneDatabase();
    try {
      await withClient(own.ownerUrl, async (client) => {
        await client.query(`select app_private.set_setting('audit_mode', 'strict')`);
        await client.query('drop table audit.events cascade');
      });
      for (const mode of ['strict', 'lax', ''])
        await withClient(own.ownerUrl, async (client) => {
          if (mode !== 'strict') await client.query(`set halyard.audit_mode = '${mode}'`);
          await expect(insertFlag(client)).rejects.toMatchObject({ code: 'ZF011' });
        });
    } finally {
      await own.drop();
    }
  });

  test('a due schedule waits until it can be told', async () => {
    await withActors(database, async (client) => {
      const flag = await insertFlag(client);
      await client.query(
        `insert into app_public.feature_flag_schedules (flag_id, scheduled_at, updates)
         values ($1, now() - interval '1 second', '{"enabled": true}')`,
        [flag.id],
      );
      await client.query('alter table audit.events rename to events_old');
      await client.query(`set local halyard.audit_mode = 'strict'`);
      const apply = 'select * from app_private.apply_due()';
      expect((await client.query(apply)).rows).toMatchObject([{ applied: 0, failed: 0 }]);
      expect(await value(client, 'select enabled from app_public.feature_flags')).toBe(false);
      await client.query('alter table audit.events_old rename to events');
      await client.query('update app_public.feature_flag_schedules set next_attempt_at = now()');
      expect((await client.query(apply)).rows).toMatchObject([{ applied: 1 }]);
    });
  });
});
