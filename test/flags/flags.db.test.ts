import { describe, expect, test } from 'vitest';
import { useDatabase, withRollback } from '../support/database.ts';
import { insertFlag } from '../support/factory.ts';
import { sqlStateOf } from '../support/roles.ts';

const database = useDatabase();

describe('flags', () => {
  test.for<[string, string | null]>([
    ['a', null],
    ['A1.b_c-d', null],
    ['x'.repeat(100), null],
    ['x'.repeat(101), '22001'],
    ['', '23514'],
    ['-a', '23514'],
    ['a/b', '23514'],
    ['a b', '23514'],
    ['a%20b', '23514'],
    ['a\n', '23514'],
    ['é', '23514'],
    ['🚀', '23514'],
  ])('the key %j', async ([key, expected]) => {
    await withRollback(database, async (client) => {
      expect(await sqlStateOf(client, () => insertFlag(client, { flag_key: key }))).toBe(expected);
      const environment = key.slice(0, 20);
      if (key.length <= 20)
        expect(
          await sqlStateOf(client, () =>
            client.query('insert into app_public.environments (name) values ($1)', [environment]),
          ),
        ).toBe(expected);
    });
  });

  test.for<[number, string | null]>([
    [-1, '23514'],
    [0, null],
    [100, null],
    [101, '23514'],
  ])('a rollout of %i', async ([rollout_percentage, expected]) => {
    await withRollback(database, async (client) => {
      expect(await sqlStateOf(client, () => insertFlag(client, { rollout_percentage }))).toBe(
        expected,
      );
    });
  });

  test('a key is there once an environment', async () => {
    await withRollback(database, async (client) => {
      await insertFlag(client, { flag_key: 'twice' });
      expect(await sqlStateOf(client, () => insertFlag(client, { flag_key: 'twice' }))).toBe(
        '23505',
      );
      const staging = () => insertFlag(client, { flag_key: 'twice', environment: 'staging' });
      expect(await sqlStateOf(client, staging)).toBeNull();
    });
  });
});
