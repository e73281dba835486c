import type pg from 'pg';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';

import type { Claims } from '../../src/auth/claims.ts';
import { DatabaseUnavailableError, makePool } from '../../src/postgres/pool.ts';
import { pgSettings } from '../../src/postgres/request_settings.ts';
import { queryAs, transactionAs } from '../../src/postgres/transaction.ts';
import type { Settings } from '../../src/postgres/request_settings.ts';
import { pipeline } from '../../src/postgres/pipeline.ts';
import type { Statement } from '../../src/postgres/pipeline.ts';
import { useDatabase, withClient } from '../support/database.ts';
import { insertFlag } from '../support/factory.ts';
import { makeTestLog } from '../support/log.ts';

const database = useDatabase();
const ALICE: Claims = {
  userId: 'alice',
  email: 'alice@example.com',
  role: 'admin',
  environments: null,
  expiresAt: null,
};
const settings = (claims: Partial<Claims> = {}) =>
  pgSettings({ ...ALICE, ...claims }, { requestId: 'request-1' });

// Anybody may write it, the login itself too: a statement that runs without its settings leaves a trace.
beforeAll(() =>
  withClient(database.rootUrl, async (client) => {
    await client.query(`
      create schema probe;
      grant usage on schema probe to public;
      create sequence probe.runs;
      grant all on sequence probe.runs to public;
      create table probe.rows (id integer unique deferrable initially deferred, of name default current_user);
      grant all on table probe.rows to public`);
    await insertFlag(client, { flag_key: 'here', environment: 'production' });
    await insertFlag(client, { flag_key: 'there', environment: 'staging' });
  }),
);

const { log, lines } = makeTestLog();
/** Of one connection, as the API's login. */
let pool: pg.Pool;
beforeEach(async () => {
  lines.length = 0;
  pool = makePool(database.authenticatorUrl, { name: 'halyard-test', max: 1, log });
  await withClient(database.rootUrl, (client) =>
    client.query('delete from probe.rows; alter sequence probe.runs restart'),
  );
});
afterEach(() => pool.end());

const ask = <R extends pg.QueryResultRow>(statement: Statement, asked: Settings = settings()) =>
  queryAs<R>(pool, asked, statement);
const backend = async () =>
  (await pool.query<{ pid: number }>('select pg_backend_pid() as pid')).rows[0]?.pid;
/** As an administrator sees it. */
const look = <T>(sql: string) =>
  withClient(database.rootUrl, async (client) => {
    const { rows } = await client.query<{ value: T }>(`select ${sql} as value`);
    return rows[0]?.value;
  });
const hasRun = () => look<boolean>('(select is_called from probe.runs)');

describe('one statement in one pipeline', () => {
  test('is run with its settings, committed, and nothing of them stays', async () => {
    const { rows, rowCount } = await ask({
      text: 'insert into probe.rows (id) values ($1) returning of',
      values: [1],
    });
    expect({ rows, rowCount }).toEqual({ rows: [{ of: 'halyard_admin' }], rowCount: 1 });
    expect(await look('(select count(*)::int from probe.rows)')).toBe(1);
    const { rows: after } = await pool.query(
      `select current_user as role, current_setting('jwt.claims.user_id', true) as "userId"`,
    );
    expect(after).toEqual([{ role: 'halyard_authenticator', userId: '' }]);
  });

  test('that fails gives its own error, changes nothing, and the connection is used again', async () => {
    const before = await backend();
    const failing = ask({
      text: 'with made as (insert into probe.rows (id) values (1) returning id) select id / 0 from made',
    });
    await expect(failing).rejects.toMatchObject({ code: '22012' });
    expect(await look('(select count(*)::int from probe.rows)')).toBe(0);
    expect(await backend()).toBe(before);
    expect(await look(`(select state from pg_stat_activity where pid = ${before ?? 0})`)).toBe(
      'idle',
    );
    expect(lines).toEqual([]);
  });

  test('whose commit fails gives that error', async () => {
    const failing = ask({ text: 'insert into probe.rows (id) values (1), (1)' });
    await expect(failing).rejects.toMatchObject({ code: '23505' });
    expect(await look('(select count(*)::int from probe.rows)')).toBe(0);
  });

  test.each(['halyard_worker', 'no_such_role'])(
    'is not run when the settings fail: %s is no role for the login',
    async (role) => {
      const run: Statement = { name: 'run', text: `select nextval('probe.runs')` };
      await expect(ask(run, { ...settings(), role })).rejects.toThrow(/role/);
      expect(await hasRun()).toBe(false);
      // And was not prepared then, which must not be forgotten.
      expect((await ask(run)).rowCount).toBe(1);
      expect(await hasRun()).toBe(true);
    },
  );

  test('is not run either where the settings are the beginning of a longer transaction', async () => {
    const before = await backend();
    const client = await pool.connect();
    const failing = pipeline(client, [
      { text: 'begin' },
      { text: `select set_config('role', 'halyard_worker', true)` },
      { text: `select nextval('probe.runs')` },
    ]);
    await expect(failing).rejects.toMatchObject({ code: '42501' });
    await client.query('rollback');
    client.release();
    expect(await hasRun()).toBe(false);
    expect(await transactionAs(pool, ALICE, { requestId: '' }, () => backendOf(pool))).toBe(before);
  });

  test('whose connection is lost on the way is a DatabaseUnavailableError, and the next is answered', async () => {
    const before = await backend();
    const failing = ask({
      text: `select set_config('role', 'none', true), pg_terminate_backend(pg_backend_pid())`,
    });
    await expect(failing).rejects.toThrow(DatabaseUnavailableError);
    expect((await ask({ text: 'select 1' })).rowCount).toBe(1);
    expect(await backend()).not.toBe(before);
  });

  test('that leaves a transaction open costs its connection', async () => {
    const before = await backend();
    await ask({ text: 'begin' });
    expect(await backend()).not.toBe(before);
  });

  test('whose answer can’t be read fails, and not the one after it', async () => {
    const types = { getTypeParser: () => () => expect.unreachable() };
    await expect(ask({ text: 'select 1', types } as Statement)).rejects.toThrow();
    expect((await ask({ text: 'select 1 as n' })).rows).toEqual([{ n: 1 }]);
  });
});

describe('a prepared statement', () => {
  const flags: Statement = {
    name: 'flags',
    text: 'select flag_key from app_public.feature_flags order by flag_key',
  };
  const see = async (claims: Partial<Claims>) =>
    (await ask<{ flag_key: string }>(flags, settings(claims))).rows.map((row) => row.flag_key);

  test('obeys row-level security for whoever runs it, in any order', async () => {
    // Often enough that PostgreSQL would keep one plan for all.
    for (let i = 0; i < 8; i++) {
      expect(await see({})).toEqual(['here', 'there']);
      expect(await see({ environments: ['staging'] })).toEqual(['there']);
      expect(await see({ role: 'viewer', environments: [] })).toEqual([]);
      expect(await see({ role: 'viewer' })).toEqual(['here', 'there']);
      expect(await see({ role: 'auditor', environments: ['staging'] })).toEqual(['there']);
    }
    const { rows } = await pool.query<{ name: string }>(
      `select name from pg_prepared_statements where name like '%flags' order by name`,
    );
    expect(rows.map(({ name }) => name)).toEqual([
      'halyard_admin:flags',
      'halyard_auditor:flags',
      'halyard_viewer:flags',
    ]);
  });

  test('works again after its text or its values were refused', async () => {
    const late: Statement = { name: 'late', text: 'select $1::integer as n from probe.late' };
    await expect(ask({ ...late, values: [1] })).rejects.toMatchObject({ code: '42P01' });
    await withClient(database.rootUrl, (client) =>
      client.query('create table probe.late (); grant select on probe.late to public'),
    );
    await expect(ask({ ...late, values: ['one'] })).rejects.toMatchObject({ code: '22P02' });
    expect((await ask({ ...late, values: [1] })).rows).toEqual([]);
  });

  test('is closed when forty others have been used since, and prepared again when it is wanted', async () => {
    const statement = (n: number): Statement => ({ name: `n${n}`, text: `select ${n} as n` });
    for (let n = 0; n < 60; n++) await ask(statement(n));
    const { rows } = await pool.query<{ name: string }>('select name from pg_prepared_statements');
    expect(rows).toHaveLength(40);
    expect(rows).not.toContainEqual({ name: 'halyard_admin:n0' });
    expect(rows).toContainEqual({ name: 'halyard_admin:n59' });
    expect((await ask(statement(0))).rows).toEqual([{ n: 0 }]);
  });
});

async function backendOf(of: pg.Pool): Promise<number | undefined> {
  expect(of.totalCount).toBe(1);
  return look<number>(
    `(select pid from pg_stat_activity where application_name = 'halyard-test' and datname = current_database())`,
  );
}

test('a statement that a migration overtakes, so that its plan is stale, is run again', async () => {
  const schedule = () =>
    ask<{ id: string }>({
      text: `select id from app_public.schedule_flag_change('here', null, now() + interval '1 day', '{"enabled": true}')`,
    });
  await schedule();
  await withClient(database.ownerUrl, async (client) => {
    const count = async () =>
      (await client.query('select from app_public.feature_flag_schedules')).rowCount ?? 0;
    const before = await count();
    await client.query('begin');
    await client.query('lock table app_public.feature_flag_schedules in access exclusive mode');
    const asked = schedule();
    asked.catch(() => undefined);
    await expect
      .poll(async () => {
        const { rowCount } = await client.query(
          `select from pg_locks where relation = 'app_public.feature_flag_schedules'::regclass and not granted`,
        );
        return rowCount;
      })
      .toBe(1);
    await client.query('alter table app_public.feature_flag_schedules add column added text');
    await client.query('commit');
    expect((await asked).rows).toHaveLength(1);
    expect(await count()).toBe(before + 1);
  });
});
