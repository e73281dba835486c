import { connect } from 'node:net';
import { describe, expect, test, vi } from 'vitest';
import { contentsOf, inMinutes, useApi } from '../support/api.ts';
import { useDatabase, withClient } from '../support/database.ts';
import { one } from '../support/factory.ts';
import { adminToken, sign, viewerToken } from '../support/tokens.ts';
import { untilWaiting, useImpatientSchedules, whileLocked } from '../support/flag_lock.ts';

const database = useDatabase();
const api = useApi(database);
const token = adminToken();

const newSchedule = useImpatientSchedules(database);

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
    await whileLocked(database, id, async () => {
      const answer = fetch(api.url + path, {
        method: 'DELETE',
        headers: { authorization: `Bearer ${token}`, 'x-request-id': 'gone-2' },
        signal: gone.signal,
      });
      await untilWaiting(database);
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
