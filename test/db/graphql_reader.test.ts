import type pg from 'pg';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';

import type { Hint } from '../../src/api/graphql/changes.ts';
import { makeReader } from '../../src/api/graphql/reader.ts';
import type { Reader } from '../../src/api/graphql/reader.ts';
import type { Claims } from '../../src/auth.ts';
import { makePool, pgSettings } from '../../src/db.ts';
import type { Settings } from '../../src/db.ts';
import { useDatabase, withClient } from '../support/database.ts';
import { makeTestLog } from '../support/log.ts';

const database = useDatabase();
let pool: pg.Pool;
let reader: Reader;

beforeAll(async () => {
  await withClient(database.rootUrl, (client) =>
    client.query(`
      create schema probe;
      grant usage on schema probe to public;
      create sequence probe.runs;
      grant all on sequence probe.runs to public`),
  );
  pool = makePool(database.authenticatorUrl, { name: 'halyard-test', log: makeTestLog().log });
});
afterAll(() => pool.end());
beforeEach(() => {
  reader = makeReader(pool);
});

const subscriber = (claims: Partial<Claims> = {}): Settings =>
  pgSettings(
    { userId: 'alice', email: null, role: 'admin', environments: null, expiresAt: null, ...claims },
    'request-1',
  );
const hint = (): Hint => ({ events: [], schedules: [], truncated: false });
/** Another number each time that the database is asked. */
const ask = async (settings: Settings, argument = 'a') => {
  const statement = {
    text: `select nextval('probe.runs')::int as n, $1::text`,
    values: [argument],
  };
  const { rows } = await reader.query(settings, statement);
  return (rows as { n: number }[])[0]?.n;
};

test('who has the same rights shares what the same hint is answered with', async () => {
  const [alice, bob] = [subscriber(), subscriber({ userId: 'bob', email: 'bob@example.com' })];
  const same = hint();
  for (const settings of [alice, bob]) reader.follow(settings, same);
  const [first, second] = await Promise.all([ask(alice), ask(bob)]);
  expect(second).toBe(first);
  expect(await ask(bob)).toBe(first);
  expect(await ask(bob, 'b')).not.toBe(first);
});

test.each<Partial<Claims>>([
  { role: 'viewer' },
  { environments: ['production'] },
  { environments: [] },
])('who has others does not: %o', async (claims) => {
  const [alice, other] = [subscriber(), subscriber(claims)];
  const same = hint();
  for (const settings of [alice, other]) reader.follow(settings, same);
  expect(await ask(other)).not.toBe(await ask(alice));
});

test('another hint is answered anew, and so is what follows none', async () => {
  const [alice, bob] = [subscriber(), subscriber()];
  reader.follow(alice, hint());
  reader.follow(bob, hint());
  const seen = [await ask(alice), await ask(bob)];
  reader.follow(alice, hint());
  seen.push(await ask(alice));
  reader.follow(alice, null);
  seen.push(await ask(alice), await ask(alice));
  expect(new Set(seen).size).toBe(5);
});

test('no policy looks at more than the role and the environments', async () => {
  await withClient(database.ownerUrl, async (client) => {
    const { rows } = await client.query(`
      select schemaname, tablename, policyname
      from pg_policies
      where concat(qual, with_check) ~ 'user_id|claim_email|claims[.]email|request_id|session_user'`);
    expect(rows).toEqual([]);
    const { rows: policies } = await client.query(
      `select from pg_policies where qual ~ 'claim_role|claims[.]role'`,
    );
    expect(policies.length).toBeGreaterThan(4);
  });
});
