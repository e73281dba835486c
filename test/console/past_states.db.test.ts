import type pg from 'pg';
import { describe, expect, test } from 'vitest';
import { actAs, actAsOwner, value, withActors } from '../support/actors.ts';
import { useDatabase } from '../support/database.ts';
import { insertFlag, insertSchedule, one } from '../support/factory.ts';
import { retain } from '../support/old_trail.ts';
import { writeTrail } from '../support/retention.ts';
import { become, sqlStateOf, type ApiRole } from '../support/roles.ts';

const database = useDatabase();

interface State {
  readonly enabled: boolean;
  readonly rollout_percentage: number;
  readonly certain: boolean;
  readonly sources: Readonly<Record<string, Record<string, string>>>;
}

/** What is said of one flag; undefined when it isn't there. */
async function stateOf(
  client: pg.ClientBase,
  key: string,
  at = 'clock_timestamp()',
): Promise<State | undefined> {
  const { rows } = await client.query<State>(
    `select s.enabled, s.rollout_percentage, s.certain, s.sources
     from app_public.flag_state_at('production', ${at}) s where s.flag_key = $1`,
    [key],
  );
  return rows[0];
}

const now = (client: pg.ClientBase) => value<string>(client, 'select clock_timestamp()::text');

describe('the past', () => {
  test('a flag is in it from its creation until its deletion', async () => {
    await withActors(database, async (client) => {
      const before = await now(client);
      const { id } = await insertFlag(client, { flag_key: 'short-lived', enabled: true });
      const created = await now(client);
      await client.query(`update app_public.feature_flags set description = 'a' where id = $1`, [
        id,
      ]);
      await client.query('delete from app_public.feature_flags where id = $1', [id]);
      const states = [before, created, await now(client)].map((at) => `'${at}'`);
      expect(await stateOf(client, 'short-lived', states[0])).toBeUndefined();
      expect(await stateOf(client, 'short-lived', states[1])).toMatchObject({
        ...{ enabled: true, rollout_percentage: 100, certain: true },
        sources: { event: { id: expect.any(String) as string } },
      });
      expect(await stateOf(client, 'short-lived', states[2])).toBeUndefined();
      const { rows } = await client.query(
        `select enabled, was_enabled, deleted from app_public.flag_changes('production', $1, clock_timestamp())`,
        [before],
      );
      // The description is no state.
      expect(rows).toEqual([
        { enabled: true, was_enabled: null, deleted: false },
        { enabled: false, was_enabled: true, deleted: true },
      ]);
    });
  });

  test('a flag whose first events the trail lacks was what the next one says, or is what its row says', async () => {
    await withActors(database, async (client) => {
      const update = 'update app_public.feature_flags set enabled = true where flag_key = $1';
      await client.query('alter table app_public.feature_flags disable trigger _900_audit_insert');
      const flag = await insertFlag(client, { flag_key: 'old' });
      await insertFlag(client, { flag_key: 'silent', rollout_percentage: 7 });
      const before = `'${await now(client)}'`;
      await client.query(update, [flag.flag_key]);
      expect(await stateOf(client, 'old', before)).toMatchObject({
        ...{ enabled: false, certain: true },
        sources: { event: { is_after: true } },
      });
      expect(await stateOf(client, 'old')).toMatchObject({ enabled: true });
      expect(await stateOf(client, 'silent')).toEqual({
        ...{ enabled: false, rollout_percentage: 7, certain: true, sources: {} },
      });
      expect(await stateOf(client, 'silent', `now() - interval '1 day'`)).toBeUndefined();
    });
  });

  test('a time from before the purge is refused with the horizon, and no other', async () => {
    await withActors(database, async (client) => {
      const months = await writeTrail(client);
      await retain(client, '10 months');
      const horizon = `${months[2] ?? ''}T00:00:00Z`;
      const day = (sign: string) => `timestamptz '${horizon}' ${sign} interval '1 day'`;
      const ask = (at: string) => () => stateOf(client, 'any', at);
      expect(await sqlStateOf(client, ask(day('+')))).toBeNull();
      expect(await sqlStateOf(client, ask(day('-')))).toBe('ZF026');
      for (const call of ['flag_changes', 'changes_per_day'])
        expect(
          await sqlStateOf(client, () =>
            client.query(`select app_public.${call}('production', ${day('-')}, ${day('+')})`),
          ),
        ).toBe('ZF026');
      await expect(stateOf(client, 'any', day('-'))).rejects.toThrow(
        `The audit trail was purged up to ${months[2] ?? ''}T00:00:00.000000Z: ask for a time from then on.`,
      );
    });
  });
});

describe('the future', () => {
  const IN_AN_HOUR = `clock_timestamp() + interval '1 hour'`;
  const upcoming = async (client: pg.ClientBase, from = `now() - interval '1 hour'`) => {
    const { rows } = await client.query<{ schedule_id: string; at: Date; enabled: boolean }>(
      `select schedule_id, at, enabled, status from app_public.upcoming_changes('production', ${from}, now() + interval '1 day')`,
    );
    return rows;
  };

  test('what is overdue comes now and isn’t certain; what waits comes with its next attempt', async () => {
    await withActors(database, async (client) => {
      const { id, flag_key } = await insertFlag(client);
      const overdue = await insertSchedule(client, id, { dueIn: '-1 hour' });
      expect(await stateOf(client, flag_key, IN_AN_HOUR)).toMatchObject({
        ...{ enabled: true, certain: false },
        sources: { enabled: { schedule_id: overdue.id } },
      });
      const [next] = await upcoming(client);
      expect(next?.schedule_id).toBe(overdue.id);
      expect((next?.at.getTime() ?? 0) - overdue.scheduled_at.getTime()).toBeGreaterThan(3_599_000);
      expect(await upcoming(client, `clock_timestamp() + interval '1 minute'`)).toEqual([]);

      await client.query(
        `update app_public.feature_flag_schedules set next_attempt_at = now() + interval '2 hours' where id = $1`,
        [overdue.id],
      );
      const later = await insertSchedule(client, id, {
        dueIn: '1 hour',
        updates: { enabled: false },
      });
      // The later time decides, also when the earlier one is applied behind it.
      expect(await upcoming(client)).toMatchObject([
        { schedule_id: later.id, enabled: false },
        { schedule_id: overdue.id, enabled: false },
      ]);
      expect(await stateOf(client, flag_key, IN_AN_HOUR)).toMatchObject({
        ...{ enabled: false, certain: false },
        sources: { enabled: { schedule_id: later.id } },
      });
    });
  });

  test('what is held until a person decides changes nothing', async () => {
    await withActors(database, async (client) => {
      const { id, flag_key } = await insertFlag(client);
      await insertSchedule(client, id, { dueIn: '-1 hour' });
      await client.query(`
        create or replace function app_private.held_schedules(out scheduled_until timestamptz, out created_until timestamptz)
        language sql stable as $$ select timestamptz 'infinity', timestamptz 'infinity' $$`);
      expect(await upcoming(client)).toEqual([]);
      expect(await stateOf(client, flag_key, IN_AN_HOUR)).toMatchObject({
        ...{ enabled: false, certain: false, sources: {} },
      });
    });
  });
});

const SPAN = `now() - interval '1 day', now() + interval '1 day'`;
const CALLS = [
  `flag_state_at($1, clock_timestamp())`,
  `flag_state_at($1, now() + interval '1 day')`,
  `upcoming_changes($1, ${SPAN})`,
  `flag_changes($1, ${SPAN})`,
  `schedules_between($1, ${SPAN})`,
];

test('every role reads the environments that its token reaches, and no others', async () => {
  await withActors(database, async (client) => {
    const flag = await insertFlag(client, { environment: 'staging' });
    await insertSchedule(client, flag.id);
    const count = async (call: string, environment: string) =>
      client
        .query(`select from app_public.${call}`, [environment])
        .then(({ rowCount }) => rowCount);
    for (const role of ['admin', 'viewer', 'auditor'] satisfies ApiRole[]) {
      await become(client, role, { environments: ['staging'] });
      for (const call of CALLS) {
        expect(await count(call, 'staging'), `${role}: ${call}`).toBe(1);
        expect(await sqlStateOf(client, () => count(call, 'production'))).toBe('ZF014');
        expect(await sqlStateOf(client, () => count(call, 'nowhere'))).toBe('ZF014');
      }
      const lastChange = 'select count(*)::int from app_public.last_flag_change($1)';
      expect(await value(client, lastChange, [flag.id])).toBe(1);
      await become(client, role, { environments: ['production'] });
      expect(await value(client, lastChange, [flag.id])).toBe(0);
      await actAsOwner(client);
    }
  });
});

test('a login that is granted the viewers’ role gets neither who nor why, also when it claims another role', async () => {
  await withActors(database, async (client) => {
    const { id } = await insertFlag(client);
    await actAs(client, 'none');
    await client.query('create role a_viewer; grant halyard_viewer to a_viewer');
    await client.query('set local session authorization a_viewer');
    const read = (role: string) =>
      sqlStateOf(client, async () => {
        await client.query(`select set_config('jwt.claims.role', $1, true)`, [role]);
        const { rows } = await client.query(
          `select by, reason from app_public.last_flag_change($1)`,
          [id],
        );
        expect(rows).toEqual([{ by: null, reason: null }]);
      });
    expect([
      await read('viewer'),
      await read('auditor'),
      await read('admin'),
      await read(''),
    ]).toEqual([null, '42501', '42501', '42501']);
  });
});

test.for<[call: string, state: string, message: string]>([
  [`flag_state_at('production', null)`, '22008', 'at must be a time.'],
  [`flag_state_at('production', 'infinity')`, '22008', 'at must be a time.'],
  [`flag_state_at(null, now())`, 'ZF014', `There is no environment ''.`],
  [`upcoming_changes('production', now(), now())`, '22008', 'to must be after from.'],
  [
    `upcoming_changes('production', now(), now() + interval '401 days')`,
    '22008',
    'from and to may be 400 days apart at most.',
  ],
  [`upcoming_changes('production', ${SPAN}, 10001)`, '22003', 'first must be from 0 to 10000.'],
  [`upcoming_changes('production', ${SPAN}, -1)`, '22003', 'first must be from 0 to 10000.'],
  [`flag_changes('production', ${SPAN}, 'no-such')`, 'ZF001', `There is no flag 'no-such' in`],
  [`schedules_between('production', ${SPAN}, 'no-such')`, 'ZF001', `There is no flag 'no-such' in`],
  ...['Zurich1', 'Europe/Zürich', 'Mars/Base', '+02:00', '', '2 hours'].map(
    (zone): [string, string, string] => [
      `changes_per_day('production', ${SPAN}, '${zone}')`,
      '22009',
      `zone must be the name of a time zone, such as Europe/Zurich, not '${zone}'.`,
    ],
  ),
])('%s is refused', async ([call, state, message]) => {
  await withActors(database, async (client) => {
    const ask = () => client.query(`select app_public.${call}`);
    expect(await sqlStateOf(client, ask)).toBe(state);
    await expect(ask()).rejects.toThrow(message);
  });
});

test('the days are those of the zone, all of the span, also where the clock is changed', async () => {
  await withActors(database, async (client) => {
    const { id } = await insertFlag(client);
    // 23:30 in New York, the day before in Zurich's terms.
    await client.query(
      `insert into app_public.feature_flag_schedules (flag_id, scheduled_at, updates)
       values ($1, '2090-03-26T03:30:00Z', '{"enabled": true}')`,
      [id],
    );
    const days = async (zone: string) => {
      const { rows } = await client.query<{ day: string; pending: number }>(
        `select day, pending from app_public.changes_per_day('production', '2090-03-25T12:00:00Z', '2090-03-27T00:00:00Z', $1)`,
        [zone],
      );
      return rows.map(({ day, pending }) => `${day} ${pending}`);
    };
    expect(await days('America/New_York')).toEqual(['2090-03-25 1', '2090-03-26 0']);
    expect(await days('Europe/Zurich')).toEqual(['2090-03-25 0', '2090-03-26 1', '2090-03-27 0']);
    for (const zone of ['UTC', 'Etc/GMT-14', 'EST5EDT', 'Antarctica/Troll'])
      expect((await days(zone)).length, zone).toBeGreaterThan(1);
    const { rows } = await client.query<{ changes: number }>(
      `select changes from app_public.changes_per_day('production', now() - interval '1 second', clock_timestamp())`,
    );
    expect(one(rows.slice(-1)).changes).toBe(1);
  });
});
