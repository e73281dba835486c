import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { AddressInfo } from 'node:net';

import { Registry } from 'prom-client';
import { beforeAll, describe, expect, test, vi } from 'vitest';

import { contentsOf, inMinutes, startTestApi, useApi } from '../support/api.ts';
import type { Answer, TestApi } from '../support/api.ts';
import { useDatabase, withClient } from '../support/database.ts';
import { insertFlag, insertSchedule, one } from '../support/factory.ts';
import { startTcpProxy } from '../support/tcp_proxy.ts';
import { adminToken, sign, viewerToken } from '../support/tokens.ts';

const database = useDatabase();
const api = useApi(database);
const token = adminToken();

beforeAll(async () => {
  await withClient(database.rootUrl, async (client) => {
    await client.query(
      `alter role halyard_authenticator in database ${database.name} set lock_timeout = '1s'`,
    );
  });
});

const newSchedule = () =>
  withClient(database.ownerUrl, async (client) => {
    const flag = await insertFlag(client);
    const { id } = await insertSchedule(client, flag.id);
    return { ...flag, path: `/api/admin/flags/${flag.flag_key}/schedule/${id}` };
  });

/** Holds the flag, as the worker does while it applies, for the length of `work`. */
async function whileLocked(flagId: string, work: () => Promise<void>) {
  await withClient(database.ownerUrl, async (holder) => {
    await holder.query('begin');
    await holder.query('select from app_public.feature_flags where id = $1 for update', [flagId]);
    await work();
    await holder.query('rollback');
  });
}

/** Resolves once so many backends of that database wait for a lock. */
async function untilWaiting(count = 1): Promise<void> {
  await withClient(database.rootUrl, async (root) => {
    await vi.waitFor(
      async () => {
        const { rows } = await root.query(
          `select from pg_stat_activity where datname = $1 and application_name = 'halyard-api' and wait_event_type = 'Lock'`,
          [database.name],
        );
        expect(rows).toHaveLength(count);
      },
      { timeout: 5_000, interval: 5 },
    );
  });
}

const alarms = (lines: typeof api.lines) => lines.filter(({ level }) => level === 'error');

describe('the database', () => {
  test('busy for too long is a 503 that says so, and nothing is written', async () => {
    const { id, path } = await newSchedule();
    const before = await contentsOf(database);
    await whileLocked(id, async () => {
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
      await whileLocked(id, async () => {
        const answer = cut.call(`DELETE ${path}`, { token });
        await untilWaiting();
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
      await whileLocked(id, async () => {
        const answer = silent.call(`DELETE ${path}`, { token });
        await untilWaiting();
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
    await whileLocked(id, async () => {
      const answer = api.call(`DELETE ${path}`, { token });
      await untilWaiting();
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
    await whileLocked(id, async () => {
      let answered = 0;
      const slow = Array.from({ length: 30 }, () =>
        change(path, 'alice').finally(() => (answered += 1)),
      );
      await untilWaiting(8);
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
    await whileLocked(id, async () => {
      let answered = 0;
      const slow = ['alice', 'bob'].flatMap((user) =>
        Array.from({ length: 12 }, () => change(path, user).finally(() => (answered += 1))),
      );
      await untilWaiting(9);
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
      await whileLocked(id, async () => {
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
      await whileLocked(id, async () => {
        const slow = Array.from({ length: 8 }, () => change(path, 'alice', watched));
        await untilWaiting(8);
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

describe('the request’s id', () => {
  test('is the API’s own; the client’s stands beside it in the log and the trail', async () => {
    const { flag_key } = await newSchedule();
    const clientRequestId = 'from the client: "1.2"}';
    const answer = await api.call(`POST /api/admin/flags/${flag_key}/schedule`, {
      token,
      json: { scheduled_at: inMinutes(60), updates: { enabled: true } },
      headers: { 'x-request-id': clientRequestId },
    });
    const requestId = answer.headers.get('x-request-id') ?? '';
    expect(requestId).toMatch(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
    const { rows } = await withClient(database.ownerUrl, (client) =>
      client.query<Record<string, string>>('select * from audit.events where request_id = $1', [
        requestId,
      ]),
    );
    expect(rows).toMatchObject([
      {
        event_type: 'flag_schedule.created',
        admin_user_id: 'alice',
        client_request_id: clientRequestId,
      },
    ]);
    expect(rows[0]?.payload).toContain(
      `"requestId": "${requestId}", "clientRequestId": ${JSON.stringify(clientRequestId)}, "actorKind"`,
    );
    await vi.waitFor(
      () =>
        expect(api.lines).toContainEqual(
          expect.objectContaining({ requestId, clientRequestId, method: 'POST', status: 201 }),
        ),
      { timeout: 10_000 },
    );
  });

  test.each([
    ['is missing', undefined],
    ['is empty', ''],
    ['is too long', 'x'.repeat(129)],
    ['is not printable', 'caf\u00e9'],
  ])('that %s at the client leaves nothing', async (_, sent) => {
    const { path } = await newSchedule();
    const headers = sent === undefined ? {} : { 'x-request-id': sent };
    const answer = await api.call(`DELETE ${path}`, { token, headers });
    const id = answer.headers.get('x-request-id') ?? '';
    const { rows } = await withClient(database.ownerUrl, (client) =>
      client.query(
        'select event_type, client_request_id, payload from audit.events where request_id = $1',
        [id],
      ),
    );
    expect(one(rows)).toMatchObject({
      event_type: 'flag_schedule.cancelled',
      client_request_id: null,
      payload: expect.not.stringContaining('clientRequestId') as string,
    });
  });

  test('is told with every error', async () => {
    for (const target of ['GET /api/admin/flags', 'GET /nothing']) {
      const { body, headers } = await api.call(target);
      expect(body.request_id).toBe(headers.get('x-request-id'));
    }
  });
});

describe('the log', () => {
  test('has a line for each request, with neither token nor query', async () => {
    await api.call('GET /api/admin/flags?environment=sesame&access_token=hidden', {
      token,
      headers: { cookie: 'c=hidden', 'x-request-id': 'logged-1' },
    });
    await vi.waitFor(
      () =>
        expect(api.lines).toContainEqual(
          expect.objectContaining({
            level: 'info',
            clientRequestId: 'logged-1',
            method: 'GET',
            path: '/api/admin/flags',
            status: 400,
          }),
        ),
      { timeout: 10_000 },
    );
    const line = JSON.stringify(
      api.lines.filter(({ clientRequestId }) => clientRequestId === 'logged-1'),
    );
    for (const secret of [token, 'hidden', 'sesame', 'headers'])
      expect(line.includes(secret)).toBe(false);
    expect(api.logText().includes(token)).toBe(false);
  });

  test('has no token that stands in an address', async () => {
    await api.call(`GET /api/admin/${token}`, { token, headers: { 'x-request-id': 'logged-2' } });
    await vi.waitFor(() =>
      expect(api.lines).toContainEqual(
        expect.objectContaining({ clientRequestId: 'logged-2', path: '/api/admin/[Redacted]' }),
      ),
    );
    expect(api.logText().includes(token)).toBe(false);
  });

  test.for([
    ['dots', (text: string) => text.replaceAll('.', '%2e')],
    ['dots, twice', (text: string) => text.replaceAll('.', '%252E')],
    ['its first letter', (text: string) => text.replace('e', '%65')],
  ] as const)('has no token whose %s are percent-encoded', async ([, encode], { task }) => {
    const headers = { 'x-request-id': task.id };
    await api.call(`GET /api/admin/${encode(token)}`, { token, headers });
    await vi.waitFor(() =>
      expect(api.lines).toContainEqual(
        expect.objectContaining({ clientRequestId: task.id, path: '/api/admin/[Redacted]' }),
      ),
    );
    expect(api.logText().includes(token.split('.')[2] ?? token)).toBe(false);
  });

  test('has the beginning of a long address only, and no token that stands where it is cut', async () => {
    const long = `/api/admin/${'x'.repeat(470)}/${sign({ role: 'admin', text: 'y'.repeat(9_000) })}`;
    const headers = { 'x-request-id': 'logged-3' };
    expect((await api.call(`GET ${long}`, { headers })).status).toBe(401);
    await vi.waitFor(() =>
      expect(api.lines).toContainEqual(
        expect.objectContaining({
          clientRequestId: 'logged-3',
          path: `/api/admin/${'x'.repeat(470)}/[Redacted]`,
        }),
      ),
    );
    const path = `/api/${'x'.repeat(15_000)}`;
    await api.call(`GET ${path}`, { headers: { 'x-request-id': 'logged-4' } });
    await vi.waitFor(() =>
      expect(api.lines).toContainEqual(
        expect.objectContaining({ clientRequestId: 'logged-4', path: `${path.slice(0, 500)}…` }),
      ),
    );
  });

  test('is not alarmed by a client that goes away in the middle of its body', async () => {
    const before = await contentsOf(database);
    const { hostname, port } = new URL(api.url);
    const socket = connect(Number(port), hostname);
    socket.on('error', () => undefined);
    socket.write(
      `POST /api/admin/flags HTTP/1.1\r\nHost: x\r\nX-Request-Id: gone-1\r\nAuthorization: Bearer ${token}\r\n` +
        'Content-Type: application/json\r\nContent-Length: 500\r\n\r\n{"flag_key":',
      () => socket.resetAndDestroy(),
    );
    await vi.waitFor(
      () =>
        expect(api.lines).toContainEqual(
          expect.objectContaining({ clientRequestId: 'gone-1', status: null }),
        ),
      { timeout: 10_000 },
    );
    const lines = api.lines.filter(({ clientRequestId }) => clientRequestId === 'gone-1');
    expect(lines.every(({ level }) => level === 'info' || level === 'debug')).toBe(true);
    expect(await contentsOf(database)).toBe(before);
  });

  test('is not alarmed by a client that goes away before the answer', async () => {
    const { id, path, flag_key } = await newSchedule();
    const gone = new AbortController();
    await whileLocked(id, async () => {
      const answer = fetch(api.url + path, {
        method: 'DELETE',
        headers: { authorization: `Bearer ${token}`, 'x-request-id': 'gone-2' },
        signal: gone.signal,
      });
      await untilWaiting();
      gone.abort();
      await expect(answer).rejects.toThrow();
      await vi.waitFor(
        () =>
          expect(api.lines).toContainEqual(
            expect.objectContaining({ clientRequestId: 'gone-2', status: null }),
          ),
        { timeout: 10_000 },
      );
    });
    // The server still serves.
    const { status } = await api.call(`GET /api/admin/flags/${flag_key}`, { token: viewerToken() });
    expect(status).toBe(200);
    expect(
      api.lines.filter(({ requestId, level }) => requestId === 'gone-2' && level === 'error'),
    ).toEqual([]);
  });
});

describe('the head of an answer', () => {
  test('fits an API', async () => {
    const { headers } = await api.call('GET /api/admin/flags', { token });
    expect(Object.fromEntries(headers)).toMatchObject({
      'content-type': 'application/json; charset=utf-8',
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
    });
    expect(headers.has('x-powered-by')).toBe(false);
    expect(headers.has('etag')).toBe(false);
  });
});

/** The first line of the answer to bytes that no client library sends. */
async function sendRaw(bytes: string): Promise<string> {
  const { hostname, port } = new URL(api.url);
  const socket = connect(Number(port), hostname);
  socket.write(bytes);
  let answer = '';
  for await (const chunk of socket) answer += String(chunk);
  return answer.split('\r\n', 1)[0] ?? '';
}

test.each([
  [
    'an address that is none',
    'GET http://[ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n',
    /^HTTP\/1.1 40[04] /,
  ],
  [
    'a whole address',
    'GET http://x/nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n',
    /^HTTP\/1.1 404 /,
  ],
  ['an asterisk', 'OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n', /^HTTP\/1.1 404 /],
  ['no HTTP', 'nonsense\r\n\r\n', /^HTTP\/1.1 400 /],
  [
    'a head of 20 kB',
    `GET / HTTP/1.1\r\nHost: x\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`,
    /^HTTP\/1.1 431 /,
  ],
])('%s gets a 4xx', async (_, bytes, answer) => {
  expect(await sendRaw(bytes)).toMatch(answer);
});
