import { expect, test } from 'vitest';
import { actAs, actAsOwner, value, withActors } from '../support/actors.ts';
import { useDatabase } from '../support/database.ts';
import { insertFlag, insertSchedule, one } from '../support/factory.ts';
import { become, sqlStateOf, type ApiRole } from '../support/roles.ts';

const database = useDatabase();

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

test('an admin whose token has no id is named by the e-mail address', async () => {
  await withActors(database, async (client) => {
    const { id } = await insertFlag(client);
    const by = async () => {
      await become(client, 'auditor');
      return value(client, 'select by from app_public.last_flag_change($1)', [id]);
    };
    await become(client, 'admin', { email: 'ann@example.com' });
    await client.query('update app_public.feature_flags set enabled = true where id = $1', [id]);
    expect(await by()).toBe('ann@example.com');
    await become(client, 'admin', { email: 'ann@example.com', userId: 'ann' });
    await client.query('update app_public.feature_flags set enabled = false where id = $1', [id]);
    expect(await by()).toBe('ann');
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
    const between = async (from: string, to: string, zone: string) => {
      const { rows } = await client.query<{ day: string }>(
        `select day from app_public.changes_per_day('production', $1, $2, $3)`,
        [from, to, zone],
      );
      return rows.map(({ day }) => day.slice(-2));
    };
    // Half an hour of difference; no 30 December; a day without midnight.
    expect(await between('2026-04-03T13:00Z', '2026-04-05T13:30Z', 'Australia/Lord_Howe')).toEqual([
      ...['04', '05'],
    ]);
    expect(await between('2011-12-29T12:00Z', '2011-12-31T12:00Z', 'Pacific/Apia')).toEqual([
      ...['29', '31', '01'],
    ]);
    expect(await between('2026-09-05T12:00Z', '2026-09-07T12:00Z', 'America/Santiago')).toEqual([
      ...['05', '06', '07'],
    ]);
    const { rows } = await client.query<{ changes: number }>(
      `select changes from app_public.changes_per_day('production', now() - interval '1 second', clock_timestamp())`,
    );
    expect(one(rows.slice(-1)).changes).toBe(1);
  });
});
