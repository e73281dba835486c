import type pg from 'pg';
import { describe, expect, test } from 'vitest';
import { actAsOwner, value, withActors } from '../../support/actors.ts';
import { useDatabase } from '../../support/database.ts';
import { insertFlag } from '../../support/factory.ts';
import { become, sqlStateOf } from '../../support/roles.ts';
import { ALICE, eventsOf, makeSchedule, apply } from '../../support/recorded_events.ts';

const database = useDatabase();

describe('why, and who asked for it', () => {
  const REASONS = { ...ALICE, reason: 'launch day' };

  test('a flag’s change has the reason of the request; without one there is no key', async () => {
    const events = await eventsOf(
      database,
      () => Promise.resolve(),
      async (client) => {
        await become(client, 'admin', REASONS);
        await client.query(`insert into app_public.feature_flags (flag_key) values ('search')`);
        await client.query(`update app_public.feature_flags set enabled = true`);
        await become(client, 'admin', ALICE);
        await client.query(`update app_public.feature_flags set enabled = false`);
        await actAsOwner(client);
        // Of another login it is no reason, but what the session says.
        await client.query(`select set_config('halyard.reason', 'because', true)`);
        await client.query('delete from app_public.feature_flags');
      },
    );
    expect(events.map(({ metadata }) => metadata.reason)).toEqual([
      'launch day',
      'launch day',
      undefined,
      undefined,
    ]);
    expect(events[2]?.metadata).not.toHaveProperty('reason');
    expect(events[3]?.metadata.claimed).toEqual({ reason: 'because' });
  });

  test('a schedule has its own, until a move or a retry has another; what it does says who asked last, and why', async () => {
    let schedule = { id: '' };
    const row = (client: pg.ClientBase) =>
      value<object>(
        client,
        `select jsonb_build_object('by', requested_by, 'why', reason, 'made', created_by) from app_public.feature_flag_schedules`,
      );
    const rows: object[] = [];
    const events = await eventsOf(
      database,
      (client) => insertFlag(client, { flag_key: 'search' }),
      async (client) => {
        const as = async (userId: string, reason: string, sql: string) => {
          await become(client, 'admin', { userId, reason });
          const id = await value<string>(client, sql, reason === '' ? [] : [reason]);
          await actAsOwner(client);
          rows.push(await row(client));
          return id;
        };
        const id = await as(
          'alice',
          'launch day',
          `select id from app_public.schedule_flag_change('search', null, now() + interval '1 hour', '{"enabled": true}', '  ' || $1 || chr(10))`,
        );
        schedule = { id };
        const move = `app_public.reschedule_flag_change('${id}', clock_timestamp() + interval '1 hour'`;
        await as('bob', '', `select id from ${move})`);
        await as('carol', 'launch day', `select id from ${move}, $1)`);
        await client.query(
          `update app_public.feature_flag_schedules set status = 'failed', error_message = 'broken'`,
        );
        await as(
          'dora',
          'it works now',
          `select id from app_public.retry_flag_schedule('${id}', $1)`,
        );
        await apply(client);
      },
    );
    expect(rows).toEqual([
      { by: 'alice', why: 'launch day', made: 'alice' },
      { by: 'bob', why: 'launch day', made: 'alice' },
      { by: 'carol', why: 'launch day', made: 'alice' },
      { by: 'dora', why: 'it works now', made: 'alice' },
    ]);
    expect(events.map(({ event_type, metadata }) => [event_type, metadata.reason])).toEqual([
      ['flag_schedule.created', 'launch day'],
      ['flag_schedule.rescheduled', undefined],
      ['flag_schedule.rescheduled', 'launch day'],
      ['flag_schedule.failed', undefined],
      ['flag_schedule.retried', 'it works now'],
      ['feature_flag.updated', 'it works now'],
      ['flag_schedule.applied', undefined],
    ]);
    expect(events[4]?.metadata).toMatchObject({
      before: { reason: 'launch day' },
      after: { reason: 'it works now' },
    });
    expect(events[5]?.schedule_id).toBe(schedule.id);
    expect(events[5]?.metadata).toMatchObject({ requestedBy: 'dora' });
  });

  test.for([
    ['a'.repeat(501), '23514'],
    ['two\nlines', '23514'],
    ['🎉'.repeat(500), null],
  ])('a reason of %j is judged by the database too', async ([reason, code]) => {
    await withActors(database, async (client) => {
      await insertFlag(client, { flag_key: 'search' });
      await become(client, 'admin', ALICE);
      const schedule = () =>
        client.query(
          `select app_public.schedule_flag_change('search', null, now() + interval '1 hour', '{"enabled": true}', $1)`,
          [reason],
        );
      expect(await sqlStateOf(client, schedule)).toBe(code);
    });
  });

  test('the reason of a schedule that has ended stands', async () => {
    await withActors(database, async (client) => {
      const { id } = await makeSchedule(client);
      const set = (changes: string) =>
        sqlStateOf(client, () =>
          client.query(`update app_public.feature_flag_schedules set ${changes} where id = $1`, [
            id,
          ]),
        );
      expect(await set(`reason = 'x', requested_by = 'eve'`)).toBeNull();
      expect(await set(`reason = 'y', status = 'applied'`)).toBe('ZF003');
      expect(await set(`status = 'cancelled'`)).toBeNull();
      expect(await set(`reason = 'y'`)).toBe('ZF003');
      const { rows } = await client.query(
        'select reason, requested_by from app_public.feature_flag_schedules where id = $1',
        [id],
      );
      expect(rows).toEqual([{ reason: 'x', requested_by: null }]);
    });
  });
});
