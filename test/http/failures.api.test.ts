import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { Registry } from 'prom-client';
import { describe, expect, test } from 'vitest';
import { contentsOf, startTestApi, useApi } from '../support/api.ts';
import type { Answer, TestApi } from '../support/api.ts';
import { useDatabase, withClient } from '../support/database.ts';
import { startTcpProxy } from '../support/tcp_proxy.ts';
import { adminToken, viewerToken } from '../support/tokens.ts';
import { untilWaiting, useImpatientSchedules, whileLocked } from '../support/flag_lock.ts';

const database = useDatabase();
const api = useApi(database);
const token = adminToken();

const newSchedule = useImpatientSchedules(database);

const alarms = (lines: typeof api.lines) => lines.filter(({ level }) => level === 'error');

describe('the database', () => {
  test('busy for too long is a 503 that says so, and nothing is written', async () => {
    const { id, path } = await newSchedule();
    const before = await contentsOf(database);
    await whileLocked(database, id, async () => {
      const answer = await api.call(`DELETE ${path}`, { token });
      expect([answer.status, answer.body.code]).toEqual([503, 'busy']);
      expect(answer.headers.get('retry-after')).toBe('1');
    });
    expect(await contentsOf(database)).toBe(before);
  });

  test('that can’t be reached is a 503, not a 500', async () => {
    const unused = createServer().listen(0, '127.0.0.1');
    await once(unused, 'listening');
    const { port } = unused.address() as AddressInfo;
    await new Promise((resolve) => unused.close(resolve));
    const down = await startTestApi(`postgres://halyard_authenticator@127.0.0.1:${port}/halyard`);
    try {
      const answer = await down.call('GET /api/admin/flags', { token });
      expect([answer.status, answer.body.code]).toEqual([503, 'database_unavailable']);
      expect(answer.text).not.toContain(String(port));
      expect(alarms(down.lines)).toEqual([]);
    } finally {
      await down.close();
    }
  });

  test('whose connection is cut in the middle is a 503, and the next request works', async () => {
    const { id, path } = await newSchedule();
    const url = new URL(database.authenticatorUrl);
    await using proxy = await startTcpProxy({ host: url.hostname, port: Number(url.port) });
    url.hostname = '127.0.0.1';
    url.port = String(proxy.port);
    const cut = await startTestApi(url.href);
    try {
      await whileLocked(database, id, async () => {
        const answer = cut.call(`DELETE ${path}`, { token });
        await untilWaiting(database);
        proxy.refuse();
        const { status, body } = await answer;
        expect([status, body.code]).toEqual([503, 'database_unavailable']);
      });
      proxy.accept();
      expect((await cut.call(`GET ${path}`, { token })).status).toBe(200);
      expect(alarms(cut.lines)).toEqual([]);
    } finally {
      await cut.close();
    }
  });

  test('that falls silent in the middle is a 503, and the next request works', async () => {
    const { id, path } = await newSchedule();
    const url = new URL(database.authenticatorUrl);
    await using proxy = await startTcpProxy({ host: url.hostname, port: Number(url.port) });
    url.hostname = '127.0.0.1';
    url.port = String(proxy.port);
    const silent = await startTestApi(url.href, { maxCheckoutMs: 1_500 });
    try {
      await whileLocked(database, id, async () => {
        const answer = silent.call(`DELETE ${path}`, { token });
        await untilWaiting(database);
        proxy.freeze();
        const { status, body } = await answer;
        expect([status, body.code]).toEqual([503, 'database_unavailable']);
      });
      expect((await silent.call(`GET ${path}`, { token })).status).toBe(200);
      expect(alarms(silent.lines)).toEqual([]);
    } finally {
      await silent.close();
    }
  });

  test('that ends a session is a 503', async () => {
    const { id, path } = await newSchedule();
    await whileLocked(database, id, async () => {
      const answer = api.call(`DELETE ${path}`, { token });
      await untilWaiting(database);
      await withClient(database.rootUrl, (root) =>
        root.query(
          `select pg_terminate_backend(pid) from pg_stat_activity where datname = $1 and application_name = 'halyard-api'`,
          [database.name],
        ),
      );
      const { status, body } = await answer;
      expect([status, body.code]).toEqual([503, 'database_unavailable']);
    });
  });

  test('that breaks in a way nobody foresaw is masked, and logged with the request’s id', async () => {
    const { path } = await newSchedule();
    const breakIt = (sql: string) => withClient(database.ownerUrl, (client) => client.query(sql));
    await breakIt('alter table app_public.feature_flag_schedules rename column attempts to tries');
    try {
      const headers = { 'x-request-id': 'unforeseen-1' };
      const answer = await api.call(`GET ${path}`, { token, headers });
      expect([answer.status, answer.body.code]).toEqual([500, 'internal_error']);
      expect(answer.text).not.toContain('attempts');
      expect(alarms(api.lines)).toMatchObject([
        {
          requestId: answer.body.request_id,
          clientRequestId: 'unforeseen-1',
          err: { code: '42703', message: expect.any(String) as string },
        },
      ]);
    } finally {
      await breakIt(
        'alter table app_public.feature_flag_schedules rename column tries to attempts',
      );
    }
  });
});

describe('connections', () => {
  const change = (path: string, user: string, to: TestApi = api) =>
    to.call(`DELETE ${path}`, { token: adminToken({ userId: user }) });
  const codes = (answers: readonly Answer[]) => new Set(answers.map(({ body }) => body.code));

  test('are all but two for a user who asks for any number, and others are answered meanwhile', async () => {
    const { id, path } = await newSchedule();
    await whileLocked(database, id, async () => {
      let answered = 0;
      const slow = Array.from({ length: 30 }, () =>
        change(path, 'alice').finally(() => (answered += 1)),
      );
      await untilWaiting(database, 8);
      // Within the second for which the locks are waited for.
      for (const user of ['bob', 'carol'])
        expect(
          (await api.call(`GET ${path}`, { token: viewerToken({ userId: user }) })).status,
        ).toBe(200);
      expect(answered).toBe(0);
      expect((await api.call('GET /readyz')).status).toBe(200);
      expect(codes(await Promise.all(slow))).toEqual(new Set(['busy']));
    });
  });

  test('are never all in use by users, so that the API stays ready', async () => {
    const { id, path } = await newSchedule();
    await whileLocked(database, id, async () => {
      let answered = 0;
      const slow = ['alice', 'bob'].flatMap((user) =>
        Array.from({ length: 12 }, () => change(path, user).finally(() => (answered += 1))),
      );
      await untilWaiting(database, 9);
      // Within the second for which the locks are waited for.
      expect((await api.call('GET /readyz')).status).toBe(200);
      expect(answered).toBe(0);
      await Promise.all(slow);
    });
  });

  test('are waited for by so many requests of a user, and the next is refused', async () => {
    const { id, path } = await newSchedule();
    const before = await contentsOf(database);
    const limited = await startTestApi(database.authenticatorUrl, { env: { QUEUE_PER_USER: '2' } });
    try {
      await whileLocked(database, id, async () => {
        const slow = Array.from({ length: 11 }, () => change(path, 'alice', limited));
        const refused = await Promise.race(slow);
        expect([refused.status, refused.body.code]).toEqual([429, 'too_many_requests']);
        expect(refused.headers.get('retry-after')).toBe('1');
        expect(refused.headers.get('content-type')).toMatch('application/problem+json');
        const bob = { token: viewerToken({ userId: 'bob' }) };
        expect((await limited.call(`GET ${path}`, bob)).status).toBe(200);
        const others = (await Promise.all(slow)).map(({ body }) => body.code);
        expect(others.filter((code) => code === 'busy')).toHaveLength(10);
      });
    } finally {
      await limited.close();
    }
    expect(await contentsOf(database)).toBe(before);
  });

  test('are not waited for any longer by a client that goes away', async () => {
    const { id, path } = await newSchedule();
    const registry = new Registry();
    const watched = await startTestApi(database.authenticatorUrl, { registry });
    const waiting = async () =>
      (await registry.getSingleMetric('halyard_api_pool_waiting')?.get())?.values[0]?.value;
    try {
      await whileLocked(database, id, async () => {
        const slow = Array.from({ length: 8 }, () => change(path, 'alice', watched));
        await untilWaiting(database, 8);
        const leaving = new AbortController();
        const gone = fetch(watched.url + path, {
          method: 'DELETE',
          headers: { authorization: `Bearer ${token}` },
          signal: leaving.signal,
        });
        await expect.poll(waiting).toBe(1);
        leaving.abort();
        await expect(gone).rejects.toThrow();
        await expect.poll(waiting).toBe(0);
        await Promise.all(slow);
      });
      expect(alarms(watched.lines)).toEqual([]);
    } finally {
      await watched.close();
    }
  });
});
