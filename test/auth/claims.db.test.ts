import { describe, expect, test } from 'vitest';
import { actAsOwner, value, withActors } from '../support/actors.ts';
import { useDatabase, withClient } from '../support/database.ts';
import { sqlStateOf } from '../support/roles.ts';

const database = useDatabase();

const READERS = ['user_id', 'email', 'role', 'environments'];

describe('unknown claims are null', () => {
  test('in a session that never set them', async () => {
    await withClient(database.ownerUrl, async (client) => {
      for (const reader of READERS)
        expect(await value(client, `select app_private.claim_${reader}()`), reader).toBeNull();
      expect(await value(client, 'select app_private.request_id()')).toBeNull();
    });
  });

  test('in a session that set them for an earlier transaction, where they read as empty', async () => {
    await withClient(database.ownerUrl, async (client) => {
      for (const reader of READERS) {
        await client.query('begin');
        await client.query(`select set_config($1, '["x"]', true)`, [`jwt.claims.${reader}`]);
        await client.query('commit');
        expect(await value(client, `select current_setting('jwt.claims.${reader}')`)).toBe('');
        expect(await value(client, `select app_private.claim_${reader}()`), reader).toBeNull();
      }
    });
  });
});

describe('environments', () => {
  const read = (text: string) =>
    withActors(database, async (client) => {
      await actAsOwner(client);
      await client.query(`select set_config('jwt.claims.environments', $1, true)`, [text]);
      return value<string[] | null>(client, 'select app_private.claim_environments()');
    });

  test('are a JSON array of names', async () => {
    expect(await read('["staging", "test"]')).toEqual(['staging', 'test']);
  });

  test('an empty array is none, and not all', async () => {
    expect(await read('[]')).toEqual([]);
  });

  test.for(['staging', '{"staging": true}', '"staging"', 'null', '["staging"', '{staging}', '7'])(
    'anything else is an error: %s',
    async (text) => {
      const state = await withActors(database, (client) =>
        sqlStateOf(client, async () => {
          await client.query(`select set_config('jwt.claims.environments', $1, true)`, [text]);
          await client.query('select app_private.claim_environments()');
        }),
      );
      expect(state).toMatch(/^22/);
    },
  );
});
