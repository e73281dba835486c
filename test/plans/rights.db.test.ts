import type pg from 'pg';
import { describe, expect, test } from 'vitest';
import { actAs, actAsOwner, value, withActors } from '../support/actors.ts';
import { useDatabase } from '../support/database.ts';
import { changeOf, makePlan, stepsOf } from '../support/plans.ts';
import { become, sqlStateOf } from '../support/roles.ts';

const database = useDatabase();

type World = Awaited<ReturnType<typeof makePlan>>;

/** What a session does to a plan of production and staging: the SQLSTATE, and whether anything was changed. */
async function attempt(
  prepare: (client: pg.ClientBase) => Promise<void>,
  statement: string,
  parameters: (world: World) => unknown[],
): Promise<{ state: string | null; changed: boolean }> {
  return withActors(database, async (client) => {
    const world = await makePlan(client);
    const snapshot = () =>
      value<string>(
        client,
        `select md5(string_agg(t, '' order by t)) from (
           select p::text from app_public.plans p union all
           select s::text from app_public.feature_flag_schedules s union all
           select e.id::text from audit.events e
         ) as rows (t)`,
      );
    const before = await snapshot();
    await prepare(client);
    const state = await sqlStateOf(client, () => client.query(statement, parameters(world)));
    await actAsOwner(client);
    return { state, changed: before !== (await snapshot()) };
  });
}

const admin = (environments: string[]) => (client: pg.ClientBase) =>
  become(client, 'admin', { userId: 'sam', environments });

const id = ({ plan }: World) => [plan.id];
const steps = ({ production, staging }: World) => [
  stepsOf(changeOf(production), changeOf(staging)),
];

/** Each command, and with what it is refused to an admin who reaches staging alone. */
const COMMANDS: [string, (world: World) => unknown[], string][] = [
  ['select app_public.edit_plan($1)', id, 'ZF018'],
  ['select app_public.cancel_plan($1)', id, 'ZF018'],
  ['select app_public.retry_plan($1)', id, 'ZF018'],
  [`select app_public.create_plan('More', $1, now() + interval '1 hour')`, steps, 'ZF014'],
];

describe('an admin of some of a plan’s environments', () => {
  test.for(COMMANDS)(
    'is refused %s, as if there were no such thing',
    async ([sql, given, state]) => {
      expect(await attempt(admin(['staging']), sql, given)).toEqual({ state, changed: false });
      expect(await attempt(admin([]), sql, given)).toEqual({ state, changed: false });
    },
  );

  test('names no flag that the token doesn’t reach in an edit of another plan', async () => {
    const found = await attempt(
      async (client) => {
        const key = await value<string>(
          client,
          `select flag_key from app_public.feature_flags where environment = 'staging' limit 1`,
        );
        await admin(['staging'])(client);
        await client.query(`select app_public.create_plan('Own', $1, now() + interval '1 hour')`, [
          stepsOf({ flag_key: key, environment: 'staging', updates: { enabled: true } }),
        ]);
      },
      `select app_public.edit_plan((select p.id from app_public.plans p), steps => $1)`,
      steps,
    );
    expect(found.state).toBe('ZF014');
  });
});

test('an admin of all of a plan’s environments edits and cancels it', async () => {
  for (const sql of [`select app_public.edit_plan($1, 'Other')`, COMMANDS[1]?.[0] ?? ''])
    expect(await attempt(admin(['production', 'staging', 'other']), sql, id)).toEqual({
      state: null,
      changed: true,
    });
});

describe('who isn’t an admin changes no plan', () => {
  const OTHERS: [string, (client: pg.ClientBase) => Promise<void>][] = [
    ['a viewer', (client) => become(client, 'viewer')],
    ['an auditor', (client) => become(client, 'auditor')],
    ['the role of an admin without its claim', (client) => actAs(client, 'halyard_admin')],
    ['a worker', (client) => actAs(client, 'halyard_worker')],
  ];

  test.for(OTHERS)('%s', async ([, prepare]) => {
    for (const [sql, given] of COMMANDS)
      expect(await attempt(prepare, sql, given)).toEqual({ state: '42501', changed: false });
  });

  test('an admin writes to no row past the functions', async () => {
    for (const sql of [
      `update app_public.plans set title = 'x'`,
      'delete from app_public.plans',
      `insert into app_public.plans (title) values ('x')`,
      `insert into app_public.feature_flag_schedules (plan_id) values (gen_random_uuid())`,
      `select app_private.end_point(gen_random_uuid(), 'applied')`,
      `select app_private.insert_plan('x', '{}', null)`,
      'lock table app_private.apply_gates in row share mode',
    ])
      expect(
        await attempt(
          (client) => become(client, 'admin'),
          sql,
          () => [],
        ),
      ).toEqual({
        ...{ state: '42501', changed: false },
      });
  });
});

test('hints of what happened lately name the plans of the environments that a token reaches', async () => {
  await withActors(database, async (client) => {
    const { plan } = await makePlan(client);
    const recent = 'select array(select distinct p from app_private.recent_plan_ids(100) as p)';
    for (const [environments, expected] of [
      [['production', 'staging'], [plan.id]],
      [['other'], []],
      [[], []],
    ]) {
      await become(client, 'admin', { environments: environments ?? [] });
      expect(await value(client, recent)).toEqual(expected);
    }
    await become(client, 'auditor');
    expect(await value(client, recent)).toEqual([plan.id]);
  });
});
