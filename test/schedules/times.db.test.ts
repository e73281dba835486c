import { describe, expect, test } from 'vitest';
import { withActors } from '../support/actors.ts';
import { useDatabase, withRollback } from '../support/database.ts';
import { insertFlag } from '../support/factory.ts';
import { become, sqlStateOf } from '../support/roles.ts';
import { insertAs } from '../support/schedule_status.ts';

const database = useDatabase();

const TIMES: [string, string | null][] = [
  [`now() + interval '1 second'`, null],
  [`timestamptz '9999-12-31 23:59:59.999999+00'`, null],
  [`now() - interval '1 microsecond'`, 'ZF005'],
  ['now()', 'ZF005'],
  [`timestamptz '1970-01-01 00:00:00+00'`, 'ZF005'],
  [`timestamptz '4713-01-01 00:00:00+00 BC'`, 'ZF005'],
  [`timestamptz '10000-01-01 00:00:00+00'`, 'ZF006'],
  [`timestamptz '294276-12-31 00:00:00+00'`, 'ZF006'],
  [`timestamptz 'infinity'`, 'ZF006'],
  [`timestamptz '-infinity'`, 'ZF006'],
  ['null::timestamptz', 'ZF006'],
];

describe('the time, for an admin', () => {
  test.for(TIMES)('scheduling for %s', async ([time, expected]) => {
    await withActors(database, async (client) => {
      const { flag_key } = await insertFlag(client);
      await become(client, 'admin');
      const state = await sqlStateOf(client, () =>
        client.query(
          `select app_public.schedule_flag_change($1, 'production', ${time}, '{"enabled": true}')`,
          [flag_key],
        ),
      );
      expect(state).toBe(expected);
    });
  });

  test.for(TIMES)('moving to %s', async ([time, expected]) => {
    await withActors(database, async (client) => {
      const id = await insertAs(client, 'pending');
      await become(client, 'admin');
      const state = await sqlStateOf(client, () =>
        client.query(`select app_public.reschedule_flag_change($1, ${time})`, [id]),
      );
      expect(state).toBe(expected);
    });
  });

  test.for(TIMES)('a plain insert with %s', async ([time, expected]) => {
    await withActors(database, async (client) => {
      const { id } = await insertFlag(client);
      await become(client, 'admin');
      const state = await sqlStateOf(client, () =>
        client.query(
          `insert into app_public.feature_flag_schedules (flag_id, scheduled_at, updates)
           values ($1, ${time}, '{"enabled": true}')`,
          [id],
        ),
      );
      expect(state).toBe(expected);
    });
  });

  test('a DBA may insert what is due already, but nothing beyond the year 9999', async () => {
    await withRollback(database, async (client) => {
      const { id } = await insertFlag(client);
      const insert = (time: string) =>
        sqlStateOf(client, () =>
          client.query(
            `insert into app_public.feature_flag_schedules (flag_id, scheduled_at, updates)
             values ($1, ${time}, '{"enabled": true}')`,
            [id],
          ),
        );
      expect(await insert(`now() - interval '1 day'`)).toBeNull();
      expect(await insert(`'infinity'`)).toBe('23514');
      expect(await insert(`'10000-01-01 00:00:00+00'`)).toBe('23514');
    });
  });
});
