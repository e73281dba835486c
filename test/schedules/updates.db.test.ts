import { describe, expect, test } from 'vitest';
import { SCHEDULABLE_FIELDS } from '../../src/flags/fields.ts';
import { value, withActors } from '../support/actors.ts';
import { useDatabase } from '../support/database.ts';
import { insertFlag } from '../support/factory.ts';
import { become, sqlStateOf } from '../support/roles.ts';

const database = useDatabase();

const VALID = [
  '{"enabled": true}',
  '{"enabled": false}',
  '{"rollout_percentage": 0}',
  '{"rollout_percentage": 100}',
  '{"rollout_percentage": -0}',
  '{"rollout_percentage": 1e2}',
  '{"enabled": true, "rollout_percentage": 50}',
  '{"enabled": false, "enabled": true}',
];

const INVALID = [
  'null',
  'true',
  '7',
  '"enabled"',
  '[]',
  '["enabled"]',
  '{}',
  '{"description": "x"}',
  '{"enabled": true, "flag_key": "x"}',
  '{"Enabled": true}',
  '{"": true}',
  '{"enabled": null}',
  '{"enabled": "true"}',
  '{"enabled": 1}',
  '{"enabled": {}}',
  '{"rollout_percentage": null}',
  '{"rollout_percentage": -1}',
  '{"rollout_percentage": 101}',
  '{"rollout_percentage": 12.5}',
  '{"rollout_percentage": 50.0}',
  '{"rollout_percentage": 1e-1}',
  '{"rollout_percentage": "50"}',
  '{"rollout_percentage": ""}',
  '{"rollout_percentage": true}',
  '{"rollout_percentage": []}',
  '{"rollout_percentage": 2147483648}',
  '{"rollout_percentage": 99999999999999999999999999}',
  '{"rollout_percentage": 1e400}',
  '{"rollout_percentage": 1e-400}',
  '{"enabled": true, "rollout_percentage": 101}',
];

/** A value of each field that schedules may change, other than the one that a new flag has. A new field has one here. */
const CHANGES: Readonly<Record<string, unknown>> = { enabled: true, rollout_percentage: 41 };

test('every field that a schedule may change has a value here', () => {
  expect(
    Object.keys(CHANGES).toSorted(),
    'add a valid value of the field to CHANGES, and its borders to VALID and INVALID',
  ).toEqual(SCHEDULABLE_FIELDS.map(([column]) => column).toSorted());
});

test.for(Object.entries(CHANGES))('%s reaches the flag, and is audited', async ([column, to]) => {
  await withActors(database, async (client) => {
    const { id } = await insertFlag(client);
    const read = (expression: string) =>
      value<unknown>(client, `select ${expression} from app_public.feature_flags f where id = $1`, [
        id,
      ]);
    const revision = Number(await read('revision'));
    const updates = JSON.stringify({ [column]: to });
    expect(
      await value(client, 'select app_private.updates_problem($1::jsonb)', [updates]),
    ).toBeNull();
    await client.query('select app_private.patch_flags(array[$1::uuid], array[$2::jsonb])', [
      id,
      updates,
    ]);
    const sets = 'fields.sql: app_private.patch_flags() must set the column';
    expect(await read(`to_jsonb(f) -> '${column}'`), sets).toEqual(to);
    const audits = 'fields.sql: app_private.flag_state() must have the column';
    expect(Number(await read('revision')), audits).toBe(revision + 1);
  });
});

const INSERT = `insert into app_public.feature_flag_schedules (flag_id, scheduled_at, updates)
  values ($1, now() + interval '1 hour', $2::jsonb)`;

test('the rule itself', async () => {
  await withActors(database, async (client) => {
    const problem = (text: string) =>
      value<string | null>(client, 'select app_private.updates_problem($1::jsonb)', [text]);
    for (const text of VALID) expect.soft(await problem(text), text).toBeNull();
    for (const text of INVALID) expect.soft(await problem(text), text).toMatch(/^[a-z]/);
    expect(await value(client, 'select app_private.updates_problem(null)')).not.toBeNull();
  });
});

describe('an insert', () => {
  test('with valid updates is kept', async () => {
    await withActors(database, async (client) => {
      const { id } = await insertFlag(client);
      for (const text of VALID)
        expect
          .soft(await sqlStateOf(client, () => client.query(INSERT, [id, text])), text)
          .toBeNull();
    });
  });

  test('with invalid updates is refused, to an admin and to the owner', async () => {
    await withActors(database, async (client) => {
      const { id } = await insertFlag(client);
      for (const text of INVALID)
        expect
          .soft(await sqlStateOf(client, () => client.query(INSERT, [id, text])), text)
          .toBe('ZF007');
      await become(client, 'admin');
      for (const text of INVALID)
        expect
          .soft(await sqlStateOf(client, () => client.query(INSERT, [id, text])), text)
          .toBe('ZF007');
    });
  });

  test('is refused by the CHECK too, when no trigger looks', async () => {
    await withActors(database, async (client) => {
      const { id } = await insertFlag(client);
      await client.query('alter table app_public.feature_flag_schedules disable trigger user');
      for (const text of INVALID)
        expect
          .soft(await sqlStateOf(client, () => client.query(INSERT, [id, text])), text)
          .toBe('23514');
    });
  });
});

describe('schedule_flag_change', () => {
  const call = (updates: string | null) =>
    withActors(database, async (client) => {
      const { flag_key } = await insertFlag(client);
      await become(client, 'admin');
      let stored: unknown = null;
      const state = await sqlStateOf(client, async () => {
        stored = await value(
          client,
          `select updates from app_public.schedule_flag_change($1, 'production', now() + interval '1 hour', $2)`,
          [flag_key, updates],
        );
      });
      return { state, stored };
    });

  test.for<[string, object]>([
    ['{"enabled": true}', { enabled: true }],
    ['{"enabled": false, "rollout_percentage": 0}', { enabled: false, rollout_percentage: 0 }],
    ['{"rollout_percentage": 1e2}', { rollout_percentage: 100 }],
  ])('stores %s as it is given', async ([updates, stored]) => {
    expect(await call(updates)).toEqual({ state: null, stored });
  });

  test.for([
    ...[null, 'null', '{}', '[]', '{"enabled": null}', '{"rollout_percentage": -1}'],
    ...['{"enabled": true, "rollout_percentage": 101}', '{"rollout_percentage": 2147483647}'],
    ...['{"enabled": true, "other": 1}', '{"rollout_percentage": 1.5}'],
  ])('refuses %s', async (updates) => {
    expect(await call(updates)).toEqual({ state: 'ZF007', stored: null });
  });
});
