import type pg from 'pg';
import { describe, expect, test } from 'vitest';
import { actAs, actAsOwner, value, withActors } from '../support/actors.ts';
import { useDatabase } from '../support/database.ts';
import { insertFlag, insertSchedule } from '../support/factory.ts';
import { stepsOf } from '../support/plans.ts';
import { become, sqlStateOf, type ApiRole } from '../support/roles.ts';

const database = useDatabase();

const TABLES = [
  'app_public.feature_flags',
  'app_public.feature_flag_schedules',
  'app_public.plans',
  'audit.events',
  'audit.ledger',
  'audit.dead_letters',
];

interface World {
  readonly production: { readonly flag: string; readonly schedule: string };
  readonly staging: { readonly flag: string; readonly schedule: string };
}

/** The flag `search` in production and in staging, a schedule each, a plan of staging and one of both, and a row in every table of the trail. */
async function makeWorld(client: pg.ClientBase): Promise<World> {
  const make = async (environment: string) => {
    const flag = await insertFlag(client, { flag_key: 'search', environment });
    return { flag: flag.id, schedule: (await insertSchedule(client, flag.id)).id };
  };
  const world = { production: await make('production'), staging: await make('staging') };
  const changes = ['staging', 'production'].map((environment) => ({
    ...{ flag_key: 'search', environment, updates: { enabled: true } },
  }));
  for (const some of [changes.slice(0, 1), changes])
    await client.query(
      `select app_private.insert_plan('Release', app_private.plan_content($1, now() + interval '1 hour'), null)`,
      [stepsOf(...some)],
    );
  await client.query('select app_private.seal_batch(1000, 0)');
  await client.query(
    `insert into audit.dead_letters (content, error_code, error_message) values ('{}', 'XX000', 'test')`,
  );
  return world;
}

/** How many rows of each table the connection sees; null where it may not look. */
async function countRows(client: pg.ClientBase): Promise<(number | null)[]> {
  const counts = [];
  for (const table of TABLES) {
    let count: number | null = null;
    await sqlStateOf(client, async () => {
      count = await value<number>(client, `select count(*)::int from ${table}`);
    });
    counts.push(count);
  }
  return counts;
}

async function setClaim(client: pg.ClientBase, name: string, text: string): Promise<void> {
  await client.query('select set_config($1, $2, true)', [`jwt.claims.${name}`, text]);
}

describe('what each role sees', () => {
  const everything = [2, 5, 2, 9, 9, 1];
  const seen = (prepare: (client: pg.ClientBase) => Promise<void>) =>
    withActors(database, async (client) => {
      await makeWorld(client);
      await prepare(client);
      const counts = await countRows(client);
      // The owner's look proves that a 0 is a policy's doing and not an empty table's.
      await actAsOwner(client);
      expect(await countRows(client)).toEqual(everything);
      return counts;
    });

  test.for<[ApiRole, readonly string[] | undefined, (number | null)[]]>([
    ['admin', undefined, [2, 5, 2, 9, 9, null]],
    ['admin', ['staging'], [1, 3, 1, 5, 5, null]],
    // Not the event of the plan of both, which has no environment.
    ['admin', ['staging', 'production'], [2, 5, 2, 8, 8, null]],
    ['admin', ['nowhere'], [0, 0, 0, 0, 0, null]],
    ['admin', [], [0, 0, 0, 0, 0, null]],
    ['viewer', undefined, [2, 5, null, null, null, null]],
    ['viewer', ['staging'], [1, 3, null, null, null, null]],
    ['viewer', [], [0, 0, null, null, null, null]],
    ['auditor', undefined, [2, 5, 2, 9, 9, 1]],
    ['auditor', ['staging'], [1, 3, 1, 5, 5, 0]],
    ['auditor', [], [0, 0, 0, 0, 0, 0]],
  ])('%s with environments %j', async ([role, environments, expected]) => {
    const counts = await seen((client) =>
      become(client, role, environments === undefined ? {} : { environments }),
    );
    expect(counts).toEqual(expected);
  });

  test.for<[string, (number | null)[]]>([
    ['halyard_admin', [0, 0, 0, 0, 0, null]],
    ['halyard_viewer', [0, 0, null, null, null, null]],
    // A DBA at a prompt has no token: there the role is the permission.
    ['halyard_auditor', [2, 5, 2, 9, 9, 1]],
    ['halyard_worker', [null, null, null, null, null, null]],
    ['halyard_authenticator', [null, null, null, null, null, null]],
  ])('%s without claims', async ([role, expected]) => {
    expect(await seen((client) => actAs(client, role))).toEqual(expected);
  });

  test.for<[ApiRole, string, (number | null)[]]>([
    ['admin', 'viewer', [0, 0, 0, 0, 0, null]],
    ['admin', 'ADMIN', [0, 0, 0, 0, 0, null]],
    ['viewer', 'admin', [0, 0, null, null, null, null]],
    ['auditor', 'viewer', [0, 0, 0, 0, 0, 0]],
    ['auditor', 'admin', [0, 0, 0, 0, 0, 0]],
  ])('role halyard_%s with a token that says %s', async ([role, claim, expected]) => {
    const counts = await seen(async (client) => {
      await become(client, role);
      await setClaim(client, 'role', claim);
    });
    expect(counts).toEqual(expected);
  });

  test.for<ApiRole>(['admin', 'viewer', 'auditor'])(
    'halyard_%s with malformed environments sees nothing but an error',
    async (role) => {
      const counts = await seen(async (client) => {
        await become(client, role);
        await setClaim(client, 'environments', 'staging');
      });
      expect(counts).toEqual([null, null, null, null, null, null]);
    },
  );
});

describe('an admin of staging', () => {
  const probe = (statement: string, parameters: (world: World) => unknown[] = () => []) =>
    withActors(database, async (client) => {
      const world = await makeWorld(client);
      const snapshot = () =>
        value<string>(
          client,
          `select md5(string_agg(t, '' order by t)) from (
             select f::text from app_public.feature_flags f union all
             select s::text from app_public.feature_flag_schedules s
           ) as rows (t)`,
        );
      const before = await snapshot();
      await become(client, 'admin', { environments: ['staging'], userId: 'sam' });
      let rows: number | null = null;
      const state = await sqlStateOf(client, async () => {
        rows = (await client.query(statement, parameters(world))).rowCount;
      });
      await actAsOwner(client);
      return { state, rows, changed: before !== (await snapshot()) };
    });

  test('updates no flag of production', async () => {
    expect(
      await probe('update app_public.feature_flags set enabled = true where id = $1', (w) => [
        w.production.flag,
      ]),
    ).toEqual({ state: null, rows: 0, changed: false });
  });

  test('updates a flag of staging', async () => {
    expect(
      await probe('update app_public.feature_flags set enabled = true where id = $1', (w) => [
        w.staging.flag,
      ]),
    ).toEqual({ state: null, rows: 1, changed: true });
  });

  test.for<[string, string, (world: World) => unknown[], string]>([
    [
      'inserts no flag into production, and learns not whether it exists',
      `insert into app_public.feature_flags (flag_key, environment) values ('search', 'production')`,
      () => [],
      '42501',
    ],
    [
      'inserts no schedule for a flag of production',
      `insert into app_public.feature_flag_schedules (flag_id, scheduled_at, updates)
       values ($1, now() + interval '1 hour', '{"enabled": true}')`,
      (w) => [w.production.flag],
      '42501',
    ],
    [
      'schedules nothing in production',
      `select app_public.schedule_flag_change('search', 'production', now() + interval '1 hour', '{"enabled": true}')`,
      () => [],
      'ZF014',
    ],
    [
      'schedules nothing in the default environment',
      `select app_public.schedule_flag_change('search', null, now() + interval '1 hour', '{"enabled": true}')`,
      () => [],
      'ZF014',
    ],
    [
      'cancels nothing of production',
      'select app_public.cancel_flag_schedule($1)',
      (w) => [w.production.schedule],
      'ZF002',
    ],
    [
      'moves nothing of production',
      `select app_public.reschedule_flag_change($1, now() + interval '2 hours')`,
      (w) => [w.production.schedule],
      'ZF002',
    ],
    [
      'retries nothing of production',
      'select app_public.retry_flag_schedule($1)',
      (w) => [w.production.schedule],
      'ZF002',
    ],
  ])('%s', async ([, statement, parameters, state]) => {
    expect(await probe(statement, parameters)).toEqual({ state, rows: null, changed: false });
  });

  test('cancels what is of staging', async () => {
    expect(
      await probe('select app_public.cancel_flag_schedule($1)', (w) => [w.staging.schedule]),
    ).toEqual({ state: null, rows: 1, changed: true });
  });
});

describe('whoever isn’t an admin', () => {
  const CALLS = [
    `select app_public.schedule_flag_change('search', 'staging', now() + interval '1 hour', '{"enabled": true}')`,
    `select app_public.cancel_flag_schedule((select id from ids))`,
    `select app_public.reschedule_flag_change((select id from ids), now() + interval '1 hour')`,
    `select app_public.retry_flag_schedule((select id from ids))`,
    `insert into app_public.feature_flags (flag_key) values ('new')`,
    `update app_public.feature_flags set enabled = true`,
  ];

  const states = (prepare: (client: pg.ClientBase) => Promise<void>) =>
    withActors(database, async (client) => {
      const world = await makeWorld(client);
      await prepare(client);
      const found = [];
      for (const call of CALLS)
        found.push(
          await sqlStateOf(client, () =>
            client.query(call.replace('(select id from ids)', `'${world.staging.schedule}'`)),
          ),
        );
      return found;
    });

  test.for<ApiRole>(['viewer', 'auditor'])('%s calls and writes nothing', async (role) => {
    expect(await states((client) => become(client, role))).toEqual(CALLS.map(() => '42501'));
  });

  test('the role of an admin without its claim changes nothing', async () => {
    // Row-level security hides the flags from the update, which changes no row.
    const expected = ['42501', '42501', '42501', '42501', '42501', null];
    expect(await states((client) => actAs(client, 'halyard_admin'))).toEqual(expected);
    expect(
      await states(async (client) => {
        await become(client, 'admin');
        await setClaim(client, 'role', 'viewer');
      }),
    ).toEqual(expected);
  });

  test('malformed environments make every call an error', async () => {
    const found = await states(async (client) => {
      await become(client, 'admin');
      await setClaim(client, 'environments', '{"staging": 1}');
    });
    for (const state of found) expect(state).toMatch(/^22/);
  });
});
