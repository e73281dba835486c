import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { makeService } from '../../src/graphql/pg_service.ts';
import { makeReader } from '../../src/graphql/live/reader.ts';
import { DatabaseUnavailableError, makePool } from '../../src/postgres/pool.ts';
import { pgSettings } from '../../src/postgres/request_settings.ts';
import { useDatabase, withClient } from '../support/database.ts';
import { makeTestLog } from '../support/log.ts';

const database = useDatabase();
const settings = {
  ...pgSettings(
    { userId: 'alice', email: null, role: 'admin', environments: null, expiresAt: null },
    { requestId: 'request-1' },
  ),
};
const insert = (key: string) => ({
  text: 'insert into app_public.feature_flags (flag_key) values ($1) returning flag_key',
  values: [key],
  arrayMode: true,
});
const count = (key: string) =>
  withClient(database.ownerUrl, async (client) => {
    const { rows } = await client.query<{ n: number }>(
      `select count(*)::int as n from audit.events where flag_key = $1 and admin_user_id = 'alice'`,
      [key],
    );
    return rows[0]?.n;
  });

let pool: pg.Pool;
beforeAll(() => {
  pool = makePool(database.authenticatorUrl, {
    name: 'halyard-test',
    max: 2,
    log: makeTestLog().log,
  });
});
afterAll(() => pool.end());

// What PostGraphile calls.
const connect = () => {
  const service = makeService(pool, makeReader(pool), undefined);
  return service.adaptor.createWithPgClient(service.adaptorSettings);
};

test('each query is a transaction with the settings', async () => {
  const withPgClient = await connect();
  const work = withPgClient(settings, async (client) => {
    const { rows } = await client.query(insert('first'));
    expect(rows).toEqual([['first']]);
    throw new RangeError('of the work');
  });
  await expect(work).rejects.toThrow(RangeError);
  expect(await count('first')).toBe(1);
});

test('a transaction is one for all its queries: kept, or rolled back', async () => {
  const withPgClient = await connect();
  const work = (key: string, error?: Error) =>
    withPgClient(settings, (client) =>
      client.withTransaction(async (transaction) => {
        await transaction.query(insert(key));
        await transaction.query(insert(`${key}-too`));
        if (error !== undefined) throw error;
      }),
    );
  await work('kept');
  expect([await count('kept'), await count('kept-too')]).toEqual([1, 1]);
  await expect(work('undone', new RangeError('of the work'))).rejects.toThrow(RangeError);
  expect([await count('undone'), await count('undone-too')]).toEqual([0, 0]);
});

test('a connection that is lost is a DatabaseUnavailableError, in a transaction too', async () => {
  const withPgClient = await connect();
  const end = {
    text: `select set_config('role', 'none', true), pg_terminate_backend(pg_backend_pid())`,
  };
  await expect(withPgClient(settings, (client) => client.query(end))).rejects.toThrow(
    DatabaseUnavailableError,
  );
  const inTransaction = withPgClient(settings, (client) =>
    client.withTransaction((transaction) => transaction.query(end)),
  );
  await expect(inTransaction).rejects.toThrow(DatabaseUnavailableError);
});

test('what is refused has the database’s own error', async () => {
  const withPgClient = await connect();
  const refused = withPgClient({ ...settings, role: 'halyard_viewer' }, (client) =>
    client.query(insert('refused')),
  );
  await expect(refused).rejects.toThrow(pg.DatabaseError);
  await expect(refused).rejects.toMatchObject({ code: '42501' });
  expect(await count('refused')).toBe(0);
});
