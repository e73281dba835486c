import type pg from 'pg';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';

import { makeReader, authorizationScope } from '../../src/graphql/live/reader.ts';
import type { Reader } from '../../src/graphql/live/reader.ts';
import type { Claims } from '../../src/auth/claims.ts';
import { makePool } from '../../src/postgres/pool.ts';
import type { Settings } from '../../src/postgres/request_settings.ts';
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
  authorizationScope({
    ...{ userId: 'alice', email: null, role: 'admin', environments: null, expiresAt: null },
    ...claims,
  });
const look = () => ({});
/** Another number each time that the database is asked. */
const ask = async (settings: Settings, argument = 'a') => {
  const statement = {
    text: `select nextval('probe.runs')::int as n, $1::text`,
    values: [argument],
  };
  const { rows } = await reader.query(settings, statement);
  return (rows as { n: number }[])[0]?.n;
};

test('who has the same rights shares the answers for the same look', async () => {
  const [alice, bob] = [subscriber(), subscriber({ userId: 'bob', email: 'bob@example.com' })];
  const same = look();
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
  const same = look();
  for (const settings of [alice, other]) reader.follow(settings, same);
  expect(await ask(other)).not.toBe(await ask(alice));
});

test('another hint is answered anew, and so is what follows none', async () => {
  const [alice, bob, none] = [subscriber(), subscriber(), subscriber()];
  reader.follow(alice, look());
  reader.follow(bob, look());
  const seen = [await ask(alice), await ask(bob)];
  reader.follow(alice, look());
  seen.push(await ask(alice), await ask(none), await ask(none));
  expect(new Set(seen).size).toBe(5);
});

/** What says who the reader is, apart from what they may do. An event's admin_user_id is of who made it. */
const IDENTITY = '(?<!admin_)user_id|claim_email|claims[.]email|request_id|session_user';

test('no policy looks at more than the role and the environments', async () => {
  await withClient(database.ownerUrl, async (client) => {
    const { rows } = await client.query(
      `select schemaname, tablename, policyname from pg_policies where concat(qual, with_check) ~ $1`,
      [IDENTITY],
    );
    expect(rows).toEqual([]);
    const { rows: policies } = await client.query(
      `select from pg_policies where qual ~ 'claim_role|claims[.]role'`,
    );
    expect(policies.length).toBeGreaterThan(4);
  });
});

test('nor does any function that reads what GraphQL shows, or that a policy calls', async () => {
  await withClient(database.ownerUrl, async (client) => {
    const { rows } = await client.query<{ name: string; knowsWho: boolean }>(
      `select p.proname as name, pg_get_functiondef(p.oid) ~ $1 as "knowsWho"
       from pg_proc p
       where p.prokind = 'f' and p.provolatile <> 'v'
         and (p.pronamespace in ('app_public'::regnamespace, 'audit'::regnamespace)
           or exists (
             select from pg_depend d
             where d.refobjid = p.oid and d.refclassid = 'pg_proc'::regclass and d.classid = 'pg_policy'::regclass))
       order by name`,
      [IDENTITY],
    );
    expect(rows.filter(({ knowsWho }) => knowsWho)).toEqual([]);
    // Those of both kinds, or the question has lost its sense.
    const names = rows.map(({ name }) => name);
    expect(names).toEqual(expect.arrayContaining(['claim_environments', 'claim_role', 'last_seq']));
  });
});

test('what is followed is read with the rights alone', () => {
  const bob = { userId: 'bob', email: 'bob@example.com' };
  expect(subscriber({ ...bob, environments: ['staging'] })).toMatchObject({
    role: 'halyard_admin',
    'jwt.claims.role': 'admin',
    'jwt.claims.environments': '["staging"]',
    'jwt.claims.user_id': '',
    'jwt.claims.email': '',
    'halyard.request_id': '',
    'halyard.client_request_id': '',
    'halyard.reason': '',
  });
});
