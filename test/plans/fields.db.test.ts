import { globSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import type pg from 'pg';
import { beforeAll, describe, expect, test } from 'vitest';
import { asWorker, value, withActors } from '../support/actors.ts';
import { names } from '../support/catalog.ts';
import { useDatabase, withClient, withRollback } from '../support/database.ts';
import { insertFlag, insertSchedule, one } from '../support/factory.ts';
import { asAdmin, changeOf, createPlan, planOf, rowsOf, stepsOf } from '../support/plans.ts';

const shipped = useDatabase();
const FIELDS = new URL('../../migrations/fixtures/flags/fields.sql', import.meta.url);

/** What knows plans, and must know no field of a flag. */
const FILES = globSync([
  'migrations/fixtures/{plans,schedules,environments}/**/*.sql',
  'src/{plans,environments}/**/*.ts',
  'src/graphql/schema/*plan*.ts',
  'src/cli/plans/**/*.ts',
]);

test('no file of plans names a field of flags', async () => {
  expect(FILES.length).toBeGreaterThan(20);
  const naming = await Promise.all(
    FILES.map(async (file) => ({ file, text: await readFile(file, 'utf8') })),
  );
  const field = /\b(enabled|rollout_?percentage)\b/i;
  expect(naming.filter(({ text }) => field.test(text)).map(({ file }) => file)).toEqual([]);
});

test('what a schedule may change is what flag_values() gives, and flag_state_values() of an event', async () => {
  await withRollback(shipped, async (client) => {
    const problem = await value<string>(
      client,
      `select app_private.updates_problem('{"none": 1}')`,
    );
    const values = await names(
      client,
      'select jsonb_object_keys(app_private.flag_values(null::app_public.feature_flags)) as name',
    );
    expect(values.toSorted()).toEqual(
      problem
        .replace(/^updates may have only: /, '')
        .split(', ')
        .toSorted(),
    );
  });
});

/** What CONTRIBUTING.md asks for a field that schedules may change, done for one: in SQL, a column and these lines. */
const EDITS: readonly [from: string, to: string][] = [
  [
    `'description', (flag).description)`,
    `'description', (flag).description, 'maxUsers', (flag).max_users)`,
  ],
  [
    `'rollout_percentage', (flag).rollout_percentage)`,
    `'rollout_percentage', (flag).rollout_percentage, 'max_users', (flag).max_users)`,
  ],
  [
    `'rollout_percentage', state -> 'rolloutPercentage')`,
    `'rollout_percentage', state -> 'rolloutPercentage', 'max_users', state -> 'maxUsers')`,
  ],
  [`'{enabled,rollout_percentage}'`, `'{enabled,rollout_percentage,max_users}'`],
  [
    '  end if;\n  return null;',
    `  elsif jsonb_typeof(updates -> 'max_users') <> 'number' then\n    return 'max_users must be a number';\n  end if;\n  return null;`,
  ],
  [
    `::integer, f.rollout_percentage)`,
    `::integer, f.rollout_percentage),\n    max_users = coalesce((c.updates ->> 'max_users')::integer, f.max_users)`,
  ],
  ['update (enabled, ', 'update (max_users, enabled, '],
];

describe('a new field, added by CONTRIBUTING’s list,', () => {
  const database = useDatabase();
  const users = (max_users: number) => ({ max_users });

  beforeAll(async () => {
    let sql = await readFile(FIELDS, 'utf8');
    for (const [from, to] of EDITS) {
      expect(sql).toContain(from);
      sql = sql.replace(from, to);
    }
    await withClient(database.ownerUrl, async (client) => {
      await client.query(
        'alter table app_public.feature_flags add column max_users integer not null default 100',
      );
      await client.query(sql);
    });
  });

  const apply = (client: pg.ClientBase) =>
    asWorker(client, () => client.query('select app_private.apply_due()'));
  const usersOf = (client: pg.ClientBase, id: string) =>
    value<number>(client, 'select max_users from app_public.feature_flags where id = $1', [id]);
  const call = <T>(client: pg.ClientBase, sql: string, parameters: unknown[]) =>
    asAdmin(client, () => value<T>(client, sql, parameters));

  test('is planned, guarded, applied, foreseen as a conflict and taken back', async () => {
    await withActors(database, async (client) => {
      const flag = await insertFlag(client);
      const guarded = (updates: object, expects: object) =>
        changeOf(flag, { updates, expects, on_conflict: 'suspend' });
      const make = (updates: object, expects: object) =>
        asAdmin(client, () => createPlan(client, [guarded(updates, expects)], { dueIn: null }));
      const first = await make(users(5), users(100));
      const second = await make(users(7), users(100));
      expect(
        await call(
          client,
          `select jsonb_agg(c.field || ' ' || c.expected || ' ' || c.found) from app_public.plan_conflicts($1) as c`,
          [second.id],
        ),
      ).toEqual(['max_users 100 5']);
      await apply(client);
      expect(await usersOf(client, flag.id)).toBe(5);
      expect(one(await rowsOf(client, second.id))).toMatchObject({
        status: 'suspended',
        suspended_details: { expected: users(100), found: users(5) },
      });
      await call(client, 'select id from app_public.revert_plan($1)', [first.id]);
      expect(await usersOf(client, flag.id)).toBe(100);
    });
  });

  test('is tried, changed now, and taken back by what the trail has of it', async () => {
    await withActors(database, async (client) => {
      const flag = await insertFlag(client);
      const steps = stepsOf(changeOf(flag, { updates: users(9) }));
      const expected = [
        expect.objectContaining({
          before: expect.objectContaining(users(100)) as object,
          after: expect.objectContaining(users(9)) as object,
        }),
      ];
      expect(
        await call(client, 'select d.changes from app_public.dry_run_plan($1, $2) as d', [
          'T',
          steps,
        ]),
      ).toEqual(expected);
      const change = `select c.changes from app_public.change_flags(($1::jsonb) #> '{0,changes}') as c`;
      expect(await call(client, change, [steps])).toEqual(expected);

      const { id } = await insertSchedule(client, flag.id, { dueIn: '-1 ms', updates: users(12) });
      await apply(client);
      const reverted = await call<string>(client, 'select id from app_public.revert_schedule($1)', [
        id,
      ]);
      expect(await usersOf(client, flag.id)).toBe(9);
      expect((await planOf(client, reverted)).content.steps).toMatchObject([
        { changes: [{ updates: users(9), expects: users(12) }] },
      ]);
    });
  });
});
