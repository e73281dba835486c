import type pg from 'pg';
import { describe, expect, onTestFinished, test } from 'vitest';
import { actAs, actAsOwner, value, withActors } from '../support/actors.ts';
import { cloneDatabase, useDatabase, withClient } from '../support/database.ts';
import { insertFlag } from '../support/factory.ts';
import { sqlStateOf } from '../support/roles.ts';

const database = useDatabase();

const set = (client: pg.ClientBase, name: string, text: string | null) =>
  client.query('select app_private.set_setting($1, $2)', [name, text]);

const settingOf = (client: pg.ClientBase, name: string) =>
  value<string>(client, 'select app_private.setting($1)', [name]);

async function events(client: pg.ClientBase): Promise<object[]> {
  const { rows } = await client.query<object>(
    `select actor_kind, database_user, revision, metadata from audit.events
     where event_type = 'setting.changed' order by occurred_at`,
  );
  return rows;
}

/** An audit.events that can't be written. */
const breakTrail = (client: pg.ClientBase) =>
  client.query('alter table audit.events rename to events_elsewhere');

test('a migrated database has every setting at its default, and no event says so', async () => {
  await withActors(database, async (client) => {
    const { rows } = await client.query(
      'select name, value, revision from app_private.settings order by name',
    );
    expect(rows).toEqual([
      { name: 'audit_mode', value: 'lax', revision: '0' },
      { name: 'audit_retention', value: '', revision: '0' },
      { name: 'pending_per_flag', value: '1000', revision: '0' },
      { name: 'retry_base', value: '30 seconds', revision: '0' },
      { name: 'schedule_retention', value: '', revision: '0' },
    ]);
    expect(await events(client)).toEqual([]);
  });
});

test('the defaults keep their own rules', async () => {
  await withActors(database, async (client) => {
    const { rows } = await client.query(
      `select d.name from app_private.setting_definitions() d
       where app_private.setting_problem(d.name, d.default_value) is not null`,
    );
    expect(rows).toEqual([]);
  });
});

describe('values', () => {
  test.for<[string, string]>([
    ['audit_mode', 'strict'],
    ['audit_retention', '24 months'],
    ['audit_retention', '1 year'],
    ['audit_retention', ''],
    ['pending_per_flag', '1'],
    ['retry_base', '50ms'],
    ['retry_base', '1 hour'],
    ['schedule_retention', 'applied=90'],
    ['schedule_retention', 'cancelled=30, applied=90'],
    ['schedule_retention', ''],
  ])('%s may be %j', async ([name, text]) => {
    await withActors(database, async (client) => {
      await set(client, name, ` ${text} `);
      expect(await settingOf(client, name)).toBe(text);
    });
  });

  test.for<[string, string | null]>([
    ['audit_mode', 'Strict'],
    ['audit_mode', ''],
    ['audit_mode', null],
    ['audit_retention', '30 days'],
    ['audit_retention', '0 months'],
    ['audit_retention', '1.5 years'],
    ['pending_per_flag', '0'],
    ['pending_per_flag', '1e3'],
    ['pending_per_flag', '1000000'],
    ['retry_base', '0 seconds'],
    ['retry_base', '-1 second'],
    ['retry_base', '61 minutes'],
    ['retry_base', '1 day'],
    ['retry_base', 'soon'],
    ['retry_base', ''],
    ['schedule_retention', 'on'],
    ['schedule_retention', 'failed=30'],
    ['schedule_retention', 'applied=0'],
    ['schedule_retention', 'applied=90,'],
    ['schedule_retention', 'applied=90,applied=30'],
  ])('%s may not be %j', async ([name, text]) => {
    await withActors(database, async (client) => {
      const before = await settingOf(client, name);
      await client.query('savepoint before');
      await expect(set(client, name, text)).rejects.toMatchObject({
        code: '22023',
        message: expect.stringMatching(new RegExp(`^${name} must be .*\\.$`)) as string,
      });
      await client.query('rollback to before');
      expect(await settingOf(client, name)).toBe(before);
      expect(await events(client)).toEqual([]);
    });
  });

  test('an unknown name is refused with those that there are', async () => {
    await withActors(database, async (client) => {
      await expect(set(client, 'audit', 'strict')).rejects.toMatchObject({
        code: '22023',
        message:
          'There is no setting audit: the settings are audit_mode, audit_retention, pending_per_flag, retry_base, schedule_retention.',
      });
    });
  });

  test('plain SQL meets the same rules, and can neither add, rename nor take away a setting', async () => {
    await withActors(database, async (client) => {
      for (const [statement, code] of [
        [`update app_private.settings set value = 'x' where name = 'audit_mode'`, '22023'],
        [`update app_private.settings set name = 'x' where name = 'audit_mode'`, 'ZF010'],
        [`insert into app_private.settings values ('x', 'y')`, '22023'],
        ['delete from app_private.settings', 'ZF009'],
        ['truncate app_private.settings', 'ZF009'],
      ] as const)
        expect(await sqlStateOf(client, () => client.query(statement)), statement).toBe(code);
      expect(await value(client, 'select count(*)::int from app_private.settings')).toBe(5);
    });
  });
});

describe('the trail', () => {
  test('has each change, as the system’s, with the login', async () => {
    await withClient(database.ownerUrl, async (client) => {
      await client.query('begin');
      await client.query(
        `select set_config('jwt.claims.role', 'admin', true), set_config('jwt.claims.user_id', 'eve', true)`,
      );
      await set(client, 'pending_per_flag', '20');
      await client.query(
        `update app_private.settings set value = '30', revision = 7 where name = 'pending_per_flag'`,
      );
      const common = { actor_kind: 'system', database_user: 'halyard_owner' };
      expect(await events(client)).toEqual([
        {
          ...common,
          revision: '1',
          metadata: { name: 'pending_per_flag', before: '1000', after: '20' },
        },
        {
          ...common,
          revision: '2',
          metadata: { name: 'pending_per_flag', before: '20', after: '30' },
        },
      ]);
      expect(await value(client, 'select count(*)::int from audit.queue')).toBe(2);
      await client.query('rollback');
      expect(await events(client)).toEqual([]);
    });
  });

  test('has nothing of a value that stays, which keeps its revision', async () => {
    await withActors(database, async (client) => {
      await set(client, 'audit_mode', 'lax');
      expect(await events(client)).toEqual([]);
      expect(
        await value(client, `select revision from app_private.settings where name = 'audit_mode'`),
      ).toBe('0');
    });
  });

  test('that is broken leaves a dead letter with the whole event', async () => {
    await withActors(database, async (client) => {
      await breakTrail(client);
      await set(client, 'pending_per_flag', '20');
      expect(await settingOf(client, 'pending_per_flag')).toBe('20');
      const { rows } = await client.query(
        'select error_code, content -> $1 -> 0 -> $2 as metadata from audit.dead_letters',
        ['events', 'metadata'],
      );
      const metadata = { name: 'pending_per_flag', before: '1000', after: '20' };
      expect(rows).toEqual([{ error_code: '42P01', metadata }]);
    });
  });

  test('is written under session_replication_role = replica too', async () => {
    await withActors(database, async (client) => {
      await client.query(
        `select set_config('role', 'none', true), set_config('session_replication_role', 'replica', true)`,
      );
      await client.query(
        `update app_private.settings set value = '20' where name = 'pending_per_flag'`,
      );
      expect(await events(client)).toHaveLength(1);
    });
  });
});

describe('strict mode', () => {
  const isStrict = (client: pg.ClientBase) =>
    value<boolean>(client, 'select app_private.audit_is_strict()');

  test('is the setting’s or the session’s, and no session gets out of the setting’s', async () => {
    await withActors(database, async (client) => {
      expect(await isStrict(client)).toBe(false);
      await client.query(`set local halyard.audit_mode = 'strict'`);
      expect(await isStrict(client)).toBe(true);
      await client.query(`set local halyard.audit_mode = 'lax'`);
      expect(await isStrict(client)).toBe(false);
      await set(client, 'audit_mode', 'strict');
      for (const mode of ['lax', '']) {
        await client.query(`set local halyard.audit_mode = '${mode}'`);
        expect(await isStrict(client)).toBe(true);
      }
    });
  });

  test('is the session’s alone when the table is gone, and changes go on', async () => {
    await withActors(database, async (client) => {
      await set(client, 'audit_mode', 'strict');
      await client.query('drop table app_private.settings cascade');
      await breakTrail(client);
      await insertFlag(client);
      await client.query(`set local halyard.audit_mode = 'strict'`);
      expect(await sqlStateOf(client, () => insertFlag(client))).toBe('ZF011');
    });
  });

  test('isn’t known while somebody holds the table’s lock, and then a change without event fails', async () => {
    const own = await cloneDatabase();
    try {
      await withClient(own.ownerUrl, (holder) =>
        withClient(own.ownerUrl, async (client) => {
          await set(client, 'audit_mode', 'strict');
          await breakTrail(client);
          await holder.query('begin; lock table app_private.settings in access exclusive mode');
          await client.query(`set lock_timeout = '100ms'`);
          await expect(insertFlag(client)).rejects.toMatchObject({ code: '55P03' });
          await holder.query('rollback');
          expect(await value(client, 'select count(*)::int from app_public.feature_flags')).toBe(0);
        }),
      );
    } finally {
      await own.drop();
    }
  });

  test('can be left while the trail is broken, and not entered', async () => {
    await withActors(database, async (client) => {
      await set(client, 'audit_mode', 'strict');
      await breakTrail(client);
      await set(client, 'audit_mode', 'lax');
      await insertFlag(client);
      expect(await sqlStateOf(client, () => set(client, 'audit_mode', 'strict'))).toBe('ZF011');
    });
  });
});

test('the worker and the API read settings by their functions only', async () => {
  await withActors(database, async (client) => {
    for (const role of ['halyard_authenticator', 'halyard_admin', 'halyard_worker']) {
      await actAs(client, role);
      for (const statement of [
        `select app_private.setting('audit_mode')`,
        `select app_private.set_setting('audit_mode', 'lax')`,
        'select from app_private.settings',
      ])
        expect(await sqlStateOf(client, () => client.query(statement)), role).toBe('42501');
    }
    await actAsOwner(client);
    expect(await settingOf(client, 'audit_mode')).toBe('lax');
  });
});

test('a copy of the database keeps them', async () => {
  const one = await cloneDatabase();
  onTestFinished(() => one.drop());
  await withClient(one.ownerUrl, (client) => set(client, 'audit_mode', 'strict'));
  const copy = await cloneDatabase(one.name);
  onTestFinished(() => copy.drop());
  await withClient(copy.ownerUrl, async (client) => {
    expect(await settingOf(client, 'audit_mode')).toBe('strict');
  });
});
