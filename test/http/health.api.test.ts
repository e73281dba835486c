import { once } from 'node:events';
import type { AddressInfo } from 'node:net';

import express from 'express';
import { afterEach, describe, expect, test } from 'vitest';

import { makeGraphql } from '../../src/graphql/index.ts';
import { makeHealth } from '../../src/api/health.ts';
import type { HealthOptions } from '../../src/api/health.ts';
import { makeErrorHandler } from '../../src/http/problems.ts';
import { makePool } from '../../src/postgres/pool.ts';
import { callApi, startTestApi, useApi } from '../support/api.ts';
import { useDatabase, withClient } from '../support/database.ts';
import { makeTestLog } from '../support/log.ts';
import { startPooler } from '../support/pooler.ts';
import { startTcpProxy } from '../support/tcp_proxy.ts';

const database = useDatabase();
const api = useApi(database);

/** What is asked of a database that answers and is migrated. */
const ALL_OK = {
  database: 'ok',
  prepared: 'ok',
  migrations: 'ok',
  settings: 'ok',
  writable: 'ok',
  privileges: 'ok',
};

const cleanUps: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).toReversed()) await cleanUp();
});

/** The health routes alone, on a pool of their own, so that what they look at can be chosen. */
async function startHealth(url: string, options: Partial<HealthOptions> = {}) {
  const { log } = makeTestLog();
  const pool = makePool(url, { name: 'halyard-health', log });
  const app = express();
  app.use(makeHealth({ pool, log, draining: () => false, ...options }));
  app.use(makeErrorHandler(log));
  const server = app.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  cleanUps.push(
    () => pool.end(),
    () => new Promise((resolve) => server.close(resolve).closeAllConnections()),
  );
  return { pool, get: (path: string) => callApi(`http://127.0.0.1:${port}`, `GET ${path}`) };
}

const asOwner = (sql: string) => withClient(database.ownerUrl, (client) => client.query(sql));

test('a healthy server is ready, and says no more than that', async () => {
  const health = await api.call('GET /healthz');
  expect([health.status, health.body]).toEqual([200, { status: 'ok' }]);
  const ready = await api.call('GET /readyz');
  expect([ready.status, ready.body]).toEqual([
    200,
    { status: 'ready', checks: ALL_OK, audit_mode: 'lax' },
  ]);
});

test('while a destination is ahead it is ready all the same, and says so', async () => {
  const { get } = await startHealth(database.authenticatorUrl);
  await withClient(database.rootUrl, (client) =>
    client.query(
      `insert into audit.divergences (found_in, destination, incarnation, seal_no, last_seq, head, sealed_at)
       values (1, 'cloudwatch:g', gen_random_uuid(), 5, 50, sha256('other'), now())`,
    ),
  );
  const ready = await get('/readyz');
  expect([ready.status, ready.body]).toEqual([
    200,
    { status: 'ready', checks: ALL_OK, audit_mode: 'lax', trail: 'destination_ahead' },
  ]);
  await asOwner(`select app_private.accept_restore('tried', 'apply')`);
  expect((await get('/readyz')).body).not.toHaveProperty('trail');
});

test('a server says which audit mode holds, and is ready while that can’t be read', async () => {
  const mode = async () => {
    const { status, body } = await api.call('GET /readyz');
    return [status, (body as { audit_mode?: string }).audit_mode];
  };
  await asOwner(`select app_private.set_setting('audit_mode', 'strict')`);
  expect(await mode()).toEqual([200, 'strict']);
  await withClient(database.ownerUrl, async (client) => {
    await client.query('begin; lock table app_private.settings in access exclusive mode');
    expect(await mode()).toEqual([200, undefined]);
    await client.query('rollback');
  });
  await asOwner(`select app_private.set_setting('audit_mode', 'lax')`);
  expect(await mode()).toEqual([200, 'lax']);
});

test('HEAD works, other methods do not', async () => {
  for (const path of ['/healthz', '/readyz']) {
    expect((await api.call(`HEAD ${path}`)).status).toBe(200);
    const post = await api.call(`POST ${path}`);
    expect([post.status, post.body.code, post.headers.get('allow')]).toEqual([
      405,
      'method_not_allowed',
      'GET, HEAD, OPTIONS',
    ]);
  }
});

test('with GraphQL its listener counts too', async () => {
  const both = await startTestApi(database.authenticatorUrl, { makeGraphql });
  cleanUps.push(both.close);
  const ready = await both.call('GET /readyz');
  expect([ready.status, ready.body]).toEqual([
    200,
    { status: 'ready', checks: { ...ALL_OK, listener: 'ok' }, audit_mode: 'lax' },
  ]);
});

describe('not ready', () => {
  const failed = (checks: object, reason = 'database_unavailable') => ({
    status: 'not_ready',
    reason,
    checks,
  });

  test('is a server whose listener has lost its connection', async () => {
    const health = await startHealth(database.authenticatorUrl, {
      listener: { healthy: () => false },
    });
    const answer = await health.get('/readyz');
    expect([answer.status, answer.body]).toEqual([
      503,
      { ...failed({ ...ALL_OK, listener: 'failed' }, 'not_listening'), audit_mode: 'lax' },
    ]);
  });

  test('is a server behind a pooler that forgets prepared statements, and says what to do', async () => {
    await using pooler = await startPooler(database.authenticatorUrl, 'forget');
    const { get } = await startHealth(pooler.through(database.authenticatorUrl));
    const answer = await get('/readyz');
    expect([answer.status, answer.body]).toEqual([
      503,
      {
        ...failed({ database: 'ok', prepared: 'failed' }, 'prepared_statements_lost'),
        detail: expect.stringMatching(/PgBouncer 1\.21 .*max_prepared_statements/) as string,
      },
    ]);
    // In session mode it forgets nothing.
    await using session = await startPooler(database.authenticatorUrl, 'ignore');
    const good = await startHealth(session.through(database.authenticatorUrl));
    expect((await good.get('/readyz')).status).toBe(200);
  });

  test('is a server without a database, which is alive all the same', async () => {
    await using proxy = await startTcpProxy({ host: '127.0.0.1', port: 1 });
    proxy.refuse();
    const health = await startHealth(`postgres://x:secret@127.0.0.1:${proxy.port}/halyard`);
    const answer = await health.get('/readyz');
    expect([answer.status, answer.body]).toEqual([
      503,
      failed({ database: 'failed', migrations: 'failed' }),
    ]);
    expect((await health.get('/healthz')).status).toBe(200);
  });

  test('is a server whose database stopped answering, once the deadline is over', async () => {
    const url = new URL(database.authenticatorUrl);
    await using proxy = await startTcpProxy({ host: url.hostname, port: Number(url.port) });
    url.hostname = '127.0.0.1';
    url.port = String(proxy.port);
    const health = await startHealth(url.href, { deadlineMs: 300 });
    expect((await health.get('/readyz')).status).toBe(200);
    proxy.freeze();
    const answer = await health.get('/readyz');
    expect([answer.status, answer.body]).toEqual([
      503,
      failed({ database: 'failed', migrations: 'failed' }),
    ]);
    // The pool can't end before the connection does.
    proxy.refuse();
  });

  test('is a server whose database misses a migration, and not one that is ahead', async () => {
    await asOwner(
      `update graphile_migrate.migrations set filename = '000000.sql'
       where filename = (select max(filename) from graphile_migrate.migrations)`,
    );
    const behind = await api.call('GET /readyz');
    expect([behind.status, behind.body]).toEqual([
      503,
      { ...failed({ ...ALL_OK, migrations: 'failed' }, 'not_migrated'), audit_mode: 'lax' },
    ]);
    await asOwner(
      `update graphile_migrate.migrations set filename = '999999.sql' where filename = '000000.sql'`,
    );
    expect((await api.call('GET /readyz')).status).toBe(200);
  });

  test('is a server whose database has never been migrated', async () => {
    const health = await startHealth(
      Object.assign(new URL(database.rootUrl), { pathname: '/postgres' }).href,
    );
    const answer = await health.get('/readyz');
    expect([answer.status, answer.body]).toEqual([
      503,
      failed({ database: 'ok', migrations: 'failed' }, 'not_migrated'),
    ]);
  });

  /** What of the checks failed, with a role setting or a grant of this database changed for as long. */
  async function whatFails(change: string, restore: string): Promise<unknown> {
    const asRoot = (sql: string) => withClient(database.rootUrl, (client) => client.query(sql));
    await asRoot(change);
    try {
      const health = await startHealth(database.authenticatorUrl);
      const { status, body } = await health.get('/readyz');
      const { checks, reason } = body as unknown as {
        checks: Record<string, string>;
        reason: string;
      };
      return [status, reason, ...Object.keys(checks).filter((check) => checks[check] !== 'ok')];
    } finally {
      await asRoot(restore);
    }
  }

  test('is a server whose sessions are read only', async () => {
    const role = `alter role halyard_authenticator in database ${database.name}`;
    const fails = whatFails(
      `${role} set default_transaction_read_only = on`,
      `${role} reset default_transaction_read_only`,
    );
    expect(await fails).toEqual([503, 'not_writable', 'writable']);
  });

  test('is a server whose admins may not change flags', async () => {
    const grant = 'update (enabled) on app_public.feature_flags';
    const fails = whatFails(
      `revoke ${grant} from halyard_admin`,
      `grant ${grant} to halyard_admin`,
    );
    expect(await fails).toEqual([503, 'privileges_missing', 'privileges']);
  });

  test('is a login that may not even ask, as after a restore without privileges', async () => {
    const fails = whatFails(
      'revoke usage on schema app_private from halyard_authenticator',
      'grant usage on schema app_private to halyard_authenticator',
    );
    expect(await fails).toEqual([503, 'privileges_missing', 'privileges']);
  });

  test('is a server with sessions that lack a setting, as a pooler between may give', async () => {
    const health = await startHealth(database.authenticatorUrl);
    expect((await health.get('/readyz')).status).toBe(200);
    await health.pool.query('set row_security = off');
    const answer = await health.get('/readyz');
    expect([answer.status, answer.body]).toEqual([
      503,
      { ...failed({ ...ALL_OK, settings: 'failed' }, 'settings_differ'), audit_mode: 'lax' },
    ]);
  });

  test('is a server that is ending', async () => {
    const health = await startHealth(database.authenticatorUrl, { draining: () => true });
    const answer = await health.get('/readyz');
    expect([answer.status, answer.body]).toEqual([
      503,
      { status: 'draining', checks: ALL_OK, audit_mode: 'lax' },
    ]);
    expect((await health.get('/healthz')).status).toBe(200);
  });
});

test('however many ask, the pool is not taken up', async () => {
  const { pool, get } = await startHealth(database.authenticatorUrl);
  const answers = await Promise.all(Array.from({ length: 40 }, () => get('/readyz')));
  expect(answers.every(({ status }) => status === 200)).toBe(true);
  expect(pool.totalCount).toBe(1);
});
