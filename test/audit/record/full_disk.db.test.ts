import type pg from 'pg';
import { describe, expect, test } from 'vitest';
import { readContents } from '../../support/api.ts';
import { actAsOwner, value, withActors } from '../../support/actors.ts';
import { useDatabase } from '../../support/database.ts';
import { insertFlag, insertSchedule } from '../../support/factory.ts';
import { become, sqlStateOf } from '../../support/roles.ts';
import { deadLetters, queuedEvents } from '../../support/trail.ts';
import { breakInserts, type FaultyTable } from '../../support/trail_faults.ts';

const database = useDatabase();

interface World {
  readonly flag: string;
  readonly pending: string;
  readonly failed: string;
}

/** A flag with a pending schedule and one that failed for good. */
async function makeWorld(client: pg.ClientBase): Promise<World> {
  const { id: flag } = await insertFlag(client, { flag_key: 'search' });
  const { id: pending } = await insertSchedule(client, flag);
  const { id: failed } = await insertSchedule(client, flag);
  await client.query(
    `update app_public.feature_flag_schedules set status = 'failed' where id = $1`,
    [failed],
  );
  return { flag, pending, failed };
}

/** Every kind of change: who makes it, and the statement. */
const CHANGES: Record<string, { by: 'admin' | 'owner'; sql: (world: World) => string }> = {
  'an admin creates a flag': {
    by: 'admin',
    sql: () => `insert into app_public.feature_flags (flag_key) values ('new')`,
  },
  'an admin updates a flag': {
    by: 'admin',
    sql: ({ flag }) =>
      `update app_public.feature_flags set enabled = not enabled where id = '${flag}'`,
  },
  'an admin schedules a change': {
    by: 'admin',
    sql: () =>
      `select app_public.schedule_flag_change('search', 'production', now() + interval '1 hour', '{"enabled": true}')`,
  },
  'an admin cancels a schedule': {
    by: 'admin',
    sql: ({ pending }) => `select app_public.cancel_flag_schedule('${pending}')`,
  },
  'an admin moves a schedule': {
    by: 'admin',
    sql: ({ pending }) =>
      `select app_public.reschedule_flag_change('${pending}', now() + interval '2 hours')`,
  },
  'an admin retries a schedule': {
    by: 'admin',
    sql: ({ failed }) => `select app_public.retry_flag_schedule('${failed}')`,
  },
  'an admin exports the trail': {
    by: 'admin',
    sql: () => `select audit.record_export('csv', '{}')`,
  },
  'a DBA deletes a flag with its schedules': {
    by: 'owner',
    sql: ({ flag }) => `delete from app_public.feature_flags where id = '${flag}'`,
  },
  'a DBA deletes a schedule': {
    by: 'owner',
    sql: ({ pending }) => `delete from app_public.feature_flag_schedules where id = '${pending}'`,
  },
  'a DBA creates a thousand flags at once': {
    by: 'owner',
    sql: () =>
      `insert into app_public.feature_flags (flag_key) select 'bulk-' || n from generate_series(1, 1000) n`,
  },
  'a DBA changes a setting': {
    by: 'owner',
    sql: () => `select app_private.set_setting('retry_base', '7 seconds')`,
  },
};

const SETTINGS = 'select jsonb_agg(s order by s.name)::text from app_private.settings s';

/** Tries a change of the world while these faults are there. Gives its SQLSTATE, and whether anything changed. */
async function tryChange(
  client: pg.ClientBase,
  world: World,
  name: string,
): Promise<{ state: string | null; changed: boolean }> {
  const contents = async () =>
    (await readContents(client)) + (await value<string>(client, SETTINGS));
  const before = await contents();
  const change = CHANGES[name];
  if (change === undefined) throw new Error(`There is no change ${name}.`);
  if (change.by === 'admin') await become(client, 'admin', { userId: 'alice' });
  const state = await sqlStateOf(client, () => client.query(change.sql(world)));
  await actAsOwner(client);
  return { state, changed: before !== (await contents()) };
}

describe.for(Object.keys(CHANGES))('%s', (name) => {
  test('fails and changes nothing when event and dead letter meet a full disk', async () => {
    await withActors(database, async (client) => {
      const world = await makeWorld(client);
      await breakInserts(client, { events: '53100', dead_letters: '53100' });
      expect(await tryChange(client, world, name)).toEqual({ state: '53100', changed: false });
    });
  });

  test('goes through when there is room for the dead letter, and is not lost', async () => {
    await withActors(database, async (client) => {
      const world = await makeWorld(client);
      await breakInserts(client, { events: '53100' });
      expect(await tryChange(client, world, name)).toEqual({ state: null, changed: true });
      const letters = await deadLetters(client);
      expect(letters.length).toBeGreaterThan(0);
      for (const { error_code, content } of letters) {
        expect(error_code).toBe('53100');
        expect(content.events?.length).toBeGreaterThan(0);
      }
    });
  });
});

describe('which want of resources makes a change fail', () => {
  test.for<[FaultyTable, string, FaultyTable, string, string | null]>([
    ['events', '58030', 'dead_letters', '58030', '53000'],
    ['events', '53200', 'dead_letters', '58030', '53000'],
    ['events', '58030', 'dead_letters', '53100', '53100'],
    // The log may lie on the disk that is full, and the change can be tried again.
    ['events', '53100', 'dead_letters', 'P0001', '53100'],
    ['events', 'P0001', 'dead_letters', '53100', '53100'],
    ['events', 'P0001', 'dead_letters', 'P0001', null],
    ['events', '42501', 'dead_letters', '55P03', null],
    // A quota of the file system, a damaged page.
    ['events', 'XX000', 'dead_letters', 'XX000', '53000'],
    ['events', 'P0001', 'dead_letters', 'XX001', '53000'],
    ['events', 'XX000', 'dead_letters', 'P0001', '53000'],
    // A file system that is read only.
    ['events', '42501', 'dead_letters', '42501', '53000'],
    ['events', '42501', 'dead_letters', 'P0001', null],
  ])('%s with %s, %s with %s', async ([table, sqlState, other, otherState, expected]) => {
    await withActors(database, async (client) => {
      const world = await makeWorld(client);
      await breakInserts(client, { [table]: sqlState, [other]: otherState });
      const { state, changed } = await tryChange(client, world, 'an admin updates a flag');
      expect({ state, changed }).toEqual({ state: expected, changed: expected === null });
    });
  });

  test.for<[string, string]>([
    ['a missing privilege', 'revoke insert on audit.dead_letters from halyard_owner'],
    [
      'a policy',
      'alter table audit.dead_letters enable row level security, force row level security',
    ],
  ])('%s for the dead letter is none', async ([, sql]) => {
    await withActors(database, async (client) => {
      const world = await makeWorld(client);
      await breakInserts(client, { events: '42501' });
      await client.query(sql);
      const { state, changed } = await tryChange(client, world, 'an admin updates a flag');
      expect({ state, changed }).toEqual({ state: null, changed: true });
    });
  });

  test('dead letters that can’t be written matter only when one is needed', async () => {
    await withActors(database, async (client) => {
      const world = await makeWorld(client);
      await breakInserts(client, { dead_letters: '53100' });
      const before = (await queuedEvents(client)).length;
      const { state } = await tryChange(client, world, 'an admin updates a flag');
      expect(state).toBe(null);
      expect(await queuedEvents(client)).toHaveLength(before + 1);
    });
  });

  test.for([
    ['53100', '53100'],
    ['58030', '53000'],
    ['XX000', '53000'],
    ['P0001', 'ZF011'],
  ] as const)('in strict mode an event that fails with %s gives %s', async ([fault, expected]) => {
    await withActors(database, async (client) => {
      const world = await makeWorld(client);
      await client.query(`set local halyard.audit_mode = 'strict'`);
      await breakInserts(client, { events: fault });
      const result = await tryChange(client, world, 'an admin updates a flag');
      expect(result).toEqual({ state: expected, changed: false });
    });
  });
});

test('what is due waits on a full disk, and is applied when there is room', async () => {
  await withActors(database, async (client) => {
    const { id: flag } = await insertFlag(client);
    const { id } = await insertSchedule(client, flag, { dueIn: '-1 second' });
    const applied = `select enabled, status from app_public.feature_flags f
      join app_public.feature_flag_schedules s on s.flag_id = f.id where s.id = '${id}'`;
    const apply = async () => {
      await client.query('update app_public.feature_flag_schedules set next_attempt_at = now()');
      await client.query('select * from app_private.apply_due()');
      return (await client.query(applied)).rows as unknown[];
    };
    await breakInserts(client, { events: '53100', dead_letters: '53100' });
    expect(await apply()).toEqual([{ enabled: false, status: 'pending' }]);
    await client.query('drop function app_private.tg_test__fault() cascade');
    expect(await apply()).toEqual([{ enabled: true, status: 'applied' }]);
  });
});
