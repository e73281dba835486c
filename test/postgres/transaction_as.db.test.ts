import pg from 'pg';
import { afterAll, afterEach, beforeEach, describe, expect, inject, test } from 'vitest';

import type { Claims } from '../../src/auth/claims.ts';
import { DatabaseUnavailableError, makePool } from '../../src/postgres/pool.ts';
import { NoRoleError, pgSettings } from '../../src/postgres/request_settings.ts';
import { transactionAs } from '../../src/postgres/transaction.ts';
import { makeTestLog } from '../support/log.ts';

const ALICE: Claims = {
  userId: 'alice',
  email: 'alice@example.com',
  role: 'admin',
  environments: ['staging', 'a "quoted" one'],
  expiresAt: null,
};
const NOBODY: Claims = {
  userId: null,
  email: null,
  role: 'viewer',
  environments: null,
  expiresAt: null,
};

/** Every setting as the transaction sees it. */
async function readSettings(client: pg.ClientBase): Promise<Record<string, string>> {
  const names = Object.keys(pgSettings(ALICE, { requestId: '' }));
  const { rows } = await client.query<{ name: string; value: string }>(
    'select name, coalesce(current_setting(name, true), $2) as value from unnest($1::text[]) name',
    [names, ''],
  );
  return Object.fromEntries(rows.map(({ name, value }) => [name, value]));
}

describe('pgSettings', () => {
  test('writes every claim', () => {
    expect(pgSettings(ALICE, { requestId: 'request-1' })).toMatchObject({
      role: 'halyard_admin',
      'jwt.claims.user_id': 'alice',
      'jwt.claims.email': 'alice@example.com',
      'jwt.claims.role': 'admin',
      'jwt.claims.environments': String.raw`["staging","a \"quoted\" one"]`,
      'halyard.request_id': 'request-1',
      'halyard.client_request_id': '',
    });
  });

  test('writes what is unknown as empty, and no environments as an empty list', () => {
    expect(pgSettings(NOBODY, { requestId: '' })).toMatchObject({
      role: 'halyard_viewer',
      'jwt.claims.user_id': '',
      'jwt.claims.email': '',
      'jwt.claims.environments': '',
    });
    expect(pgSettings({ ...NOBODY, environments: [] }, { requestId: '' })).toMatchObject({
      'jwt.claims.environments': '[]',
    });
  });
});

describe('transactionAs', () => {
  const { log, lines } = makeTestLog();
  let pool: pg.Pool;

  beforeEach(() => {
    lines.length = 0;
    pool = makePool(inject('rootUrl'), { name: 'halyard-test', max: 1, log });
  });
  afterEach(() => pool.end());

  const backend = async () =>
    (await pool.query<{ pid: number }>('select pg_backend_pid() as pid')).rows[0]?.pid;

  test('sets everything for the transaction, and nothing after it', async () => {
    const before = await backend();
    const inside = await transactionAs(pool, ALICE, { requestId: 'request-1' }, readSettings);
    expect(pgSettings(ALICE, { requestId: 'request-1' })).toMatchObject(inside);
    const after = await transactionAs(pool, NOBODY, { requestId: '' }, readSettings);
    expect(pgSettings(NOBODY, { requestId: '' })).toMatchObject(after);
    const client = await pool.connect();
    const [role, ...others] = Object.values(await readSettings(client));
    expect([role, others.filter((setting) => setting !== '')]).toEqual(['none', []]);
    client.release();
    expect(await backend()).toBe(before);
  });

  test('shows its name in pg_stat_activity', async () => {
    const { rows } = await pool.query('show application_name');
    expect(rows).toEqual([{ application_name: 'halyard-test' }]);
  });

  test('without a role takes no connection', async () => {
    await expect(
      transactionAs(pool, { ...ALICE, role: null }, { requestId: '' }, () => Promise.resolve()),
    ).rejects.toThrow(NoRoleError);
    expect(pool.totalCount).toBe(0);
  });

  describe('a transaction', () => {
    const table = `public.with_claims_${process.pid}`;
    const insert = `insert into ${table} default values`;
    const count = async () =>
      (await pool.query<{ n: number }>(`select count(*)::int as n from ${table}`)).rows[0]?.n;

    beforeEach(async () => {
      await pool.query(`
        drop table if exists ${table};
        create table ${table} (id int generated always as identity);
        grant select, insert on ${table} to halyard_admin`);
    });
    afterAll(async () => {
      const client = new pg.Client(inject('rootUrl'));
      await client.connect();
      await client.query(`drop table if exists ${table}`);
      await client.end();
    });

    test('is committed when the work succeeds', async () => {
      expect(
        await transactionAs(pool, ALICE, { requestId: '' }, (c) => c.query(insert)),
      ).toMatchObject({
        rowCount: 1,
      });
      expect(await count()).toBe(1);
    });

    test('is rolled back when the work fails, and the connection is kept', async () => {
      const before = await backend();
      const work = transactionAs(pool, ALICE, { requestId: '' }, async (client) => {
        await client.query(insert);
        throw new RangeError('of the work');
      });
      await expect(work).rejects.toThrow(RangeError);
      expect(await count()).toBe(0);
      expect(await backend()).toBe(before);
    });

    test('is an error when the work hid the failure of a query', async () => {
      const work = transactionAs(pool, ALICE, { requestId: '' }, async (client) => {
        await client.query(insert);
        await client.query('select 1 / 0').catch(() => undefined);
      });
      await expect(work).rejects.toThrow();
      expect(await count()).toBe(0);
    });

    test('that fails at commit gives that error and no warning about the rollback', async () => {
      await pool.query(`alter table ${table} add unique (id) deferrable initially deferred`);
      const work = transactionAs(pool, ALICE, { requestId: '' }, (client) =>
        client.query(`insert into ${table} overriding system value values (1), (1)`),
      );
      await expect(work).rejects.toMatchObject({ code: '23505' });
      expect(await count()).toBe(0);
      expect(lines).toEqual([]);
    });

    test('whose connection dies fails, the pool replaces it, and the log has a warning', async () => {
      const before = await backend();
      const work = transactionAs(pool, ALICE, { requestId: '' }, async (client) => {
        await client.query('reset role');
        await client.query('select pg_terminate_backend(pg_backend_pid())');
      });
      await expect(work).rejects.toThrow();
      expect(await backend()).not.toBe(before);
      expect(lines.map(({ level }) => level)).toContain('warn');
    });
  });

  test('an idle connection that dies is a warning and no crash', async () => {
    const pid = await backend();
    const other = new pg.Client(inject('rootUrl'));
    await other.connect();
    await other.query('select pg_terminate_backend($1)', [pid]);
    await other.end();
    await expect.poll(() => lines.length, { timeout: 5_000 }).toBe(1);
    expect(lines[0]).toMatchObject({ level: 'warn', err: { code: '57P01' } });
    expect(await backend()).not.toBe(pid);
  });

  test('an absent server is a DatabaseUnavailableError', async () => {
    const nowhere = makePool('postgres://127.0.0.1:1/none', { name: 'halyard-test', log });
    const work = transactionAs(nowhere, ALICE, { requestId: '' }, () => Promise.resolve());
    await expect(work).rejects.toThrow(DatabaseUnavailableError);
    await nowhere.end();
  });

  test('warnings of the database are logged, without the rows they quote; notices are not', async () => {
    await pool.query(`do $$ begin
      raise notice 'a notice';
      raise warning 'terminating connection because of crash of another server process' using errcode = '57P02';
      raise warning 'the audit trail is broken' using errcode = 'HL999', detail = 'row of alice';
    end $$`);
    // That the connection ends is an outage.
    const warnings = lines.filter(({ level }) => level === 'warn');
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toMatchObject({
      msg: 'the audit trail is broken',
      code: 'HL999',
    });
    expect(JSON.stringify(lines)).not.toContain('alice');
  });
});
