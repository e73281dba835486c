import { once } from 'node:events';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { loadConfig } from '../../src/config/config.ts';
import { makeSecrets } from '../../src/console/secrets.ts';
import { makeSessions } from '../../src/console/sessions.ts';
import { makeGraphql } from '../../src/graphql/index.ts';
import { makePool } from '../../src/postgres/pool.ts';
import { value } from '../support/actors.ts';
import { startTestApi, type TestApi } from '../support/api.ts';
import { Browser } from '../support/browser.ts';
import { useDatabase, withClient } from '../support/database.ts';
import { makeTestLog } from '../support/log.ts';
import { adminToken, nowInSeconds, sign, TEST_SECRET, viewerToken } from '../support/tokens.ts';

const database = useDatabase();
let api: TestApi;

beforeAll(async () => {
  api = await startTestApi(database.authenticatorUrl, { makeGraphql });
});
afterAll(() => api.close());

const stranger = (url = api.url) => new Browser(url);

/** A browser that is signed in as alice, an admin. */
async function signedIn(token = adminToken(), url = api.url): Promise<Browser> {
  const browser = stranger(url);
  const answer = await browser.visit('POST /console/session', { json: { token }, byPage: true });
  expect([answer.status, answer.text.includes(token)]).toEqual([201, false]);
  return browser;
}

describe('a session', () => {
  test('stands for its token in requests of the page and on its WebSocket, and nowhere else is a token', async () => {
    const browser = await signedIn();
    expect(browser.attributes.get('halyard-dev')).toMatch(
      /^Max-Age=\d+; Path=\/; Expires=[^;]+; HttpOnly; SameSite=Lax$/,
    );
    const created = await browser.visit('POST /api/admin/flags', {
      json: { flag_key: 'by-session' },
      byPage: true,
    });
    expect(created.status).toBe(201);
    const query = { query: '{ featureFlags(first: 1) { totalCount } }' };
    const answer = await browser.visit('POST /graphql', { json: query, byPage: true });
    expect([answer.status, answer.body.errors]).toEqual([200, undefined]);
    expect(await acknowledged({ cookie: browser.cookie, origin: api.url })).toBe('connection_ack');

    const state = await browser.visit('GET /console/session');
    expect(state.body).toEqual({
      ...{ signed_in: true, expires_at: expect.any(String) as string },
      ...{ sign_in: { oidc: null, token: true }, version: '0.1.0' },
    });
    const all = `select string_agg(s::text, '') from app_private.console_sessions s`;
    const rows = await withClient(database.ownerUrl, (client) => value<string>(client, all));
    expect(rows).not.toContain('eyJ');
    expect(api.logText()).not.toContain(browser.cookies.get('halyard-dev'));
  });

  test('is not for a script of another site, a form, or a request without the page’s header', async () => {
    const browser = await signedIn();
    const before = await browser.visit('GET /api/admin/flags', { byPage: true });
    const json = { flag_key: 'forged' };
    const mark = { 'x-halyard-console': '1' };
    const others: Record<string, string>[] = [
      {},
      { 'sec-fetch-site': 'same-origin' },
      { 'sec-fetch-site': 'cross-site', ...mark },
      // Another port of this machine.
      { 'sec-fetch-site': 'same-site', ...mark, origin: 'http://127.0.0.1:1' },
      { 'sec-fetch-site': 'none', ...mark },
      { origin: 'https://elsewhere.example', ...mark },
      { origin: 'null', ...mark },
      { origin: api.url },
      mark,
    ];
    for (const headers of others) {
      for (const target of ['POST /api/admin/flags', 'POST /graphql'])
        expect([headers, (await browser.visit(target, { json, headers })).status]).toEqual([
          headers,
          401,
        ]);
      for (const target of ['POST /console/session', 'DELETE /console/session'])
        expect([headers, (await browser.visit(target, { json, headers })).status]).toEqual([
          headers,
          403,
        ]);
    }
    const host = '192.0.2.1:3000';
    const remote = await stranger().visit('POST /console/session', {
      ...{ json, headers: { host, origin: `http://${host}`, ...mark } },
    });
    expect([remote.status, remote.text.includes('use https')]).toEqual([403, true]);
    const form = { 'content-type': 'application/x-www-form-urlencoded', origin: api.url };
    expect((await browser.visit('POST /api/admin/flags', { headers: form })).status).toBe(401);
    const preflight = await browser.visit('OPTIONS /graphql', {
      headers: {
        origin: 'https://elsewhere.example',
        'access-control-request-headers': 'x-halyard-console',
      },
    });
    expect(
      Object.keys(preflight.headers).filter((name) => name.startsWith('access-control')),
    ).toEqual([]);
    const after = await browser.visit('GET /api/admin/flags', { byPage: true });
    expect(after.text).toBe(before.text);
    // Browsers that don't send Sec-Fetch-Site.
    const older = await browser.visit('GET /api/admin/flags', {
      headers: { origin: api.url, ...mark },
    });
    expect(older.status).toBe(200);
  });

  test('is not for a WebSocket of another site, nor for one that doesn’t say its site', async () => {
    const { cookie } = await signedIn();
    expect(await acknowledged({ cookie, origin: 'https://elsewhere.example' })).toBe(403);
    expect(await acknowledged({ cookie, origin: 'http://127.0.0.1:1' })).toBe(403);
    expect(await acknowledged({ cookie })).toBe(4401);
    expect(await acknowledged({ origin: api.url })).toBe(4401);
  });

  test('gives way to a token that the request brings, also a bad one', async () => {
    const browser = await signedIn();
    const send = (token: string) =>
      browser.visit('POST /api/admin/flags', {
        ...{ json: { flag_key: 'x' }, byPage: true, headers: { authorization: `Bearer ${token}` } },
      });
    expect((await send(viewerToken())).status).toBe(403);
    expect((await send('nonsense')).status).toBe(401);
  });

  test('ends at once, everywhere, when its user signs out', async () => {
    const browser = await signedIn();
    const copy = { headers: { cookie: browser.cookie }, byPage: true };
    const socket = { cookie: browser.cookie, origin: api.url };
    const opened = await connect(socket);
    const ended = once(opened, 'close');
    const out = await browser.visit('DELETE /console/session', { byPage: true });
    expect([out.status, out.body, browser.cookie]).toEqual([200, { end_session_url: null }, '']);
    expect((await ended)[0]).toBe(4401);
    const answer = await stranger().visit('GET /api/admin/flags', copy);
    expect([answer.status, answer.body.code]).toEqual([401, 'token_expired']);
    expect(await acknowledged(socket)).toBe(4401);
    const { body } = await stranger().visit('GET /console/session', copy);
    expect(body).toMatchObject({ signed_in: false, reason: 'ended' });
    const state = await browser.visit('GET /console/session');
    expect(state.body).toMatchObject({ signed_in: false, reason: null });
  });

  test('ends with its token', async () => {
    const browser = await signedIn(adminToken({ exp: nowInSeconds() + 1 }));
    await expect
      .poll(async () => (await browser.visit('GET /console/session')).body)
      .toMatchObject({ signed_in: false, reason: 'ended' });
    const answer = await browser.visit('GET /api/admin/flags', { byPage: true });
    expect([answer.status, answer.body.code]).toEqual([401, 'token_expired']);
  });

  test('isn’t one by a cookie that was made up or changed, which costs no query', async () => {
    const browser = await signedIn();
    const good = browser.cookies.get('halyard-dev') ?? '';
    const changed = `${good.startsWith('A') ? 'B' : 'A'}${good.slice(1)}`;
    for (const cookie of ['', 'x', changed, good.slice(0, -4), `${good}AAAA`]) {
      const headers = { cookie: `halyard-dev=${cookie}` };
      const { status, body } = await stranger().visit('GET /api/admin/flags', {
        headers,
        byPage: true,
      });
      expect([cookie, status, body.code]).toEqual([cookie, 401, 'token_missing']);
    }
    const headers = { cookie: `__Host-halyard=${good}` };
    expect((await stranger().visit('GET /api/admin/flags', { headers, byPage: true })).status).toBe(
      401,
    );
  });

  test('isn’t made of a token that the API refuses, or that names no role', async () => {
    for (const token of [
      'nonsense',
      sign({ role: 'boss' }),
      adminToken({ exp: nowInSeconds() - 60 }),
    ]) {
      const browser = stranger();
      const { status } = await browser.visit('POST /console/session', {
        json: { token },
        byPage: true,
      });
      expect([status, browser.cookie]).toEqual([401, '']);
    }
  });
});

describe('a session that others have a hand in', () => {
  const KEY = Buffer.alloc(32, 7).toString('base64');
  const state = async (url: string, cookie: string) =>
    (await stranger(url).visit('GET /console/session', { headers: { cookie } })).body;
  const started = (env: Record<string, string>) =>
    startTestApi(database.authenticatorUrl, { env: { SESSION_KEY: KEY, ...env } });

  test('counts at each API of its key, until that takes the token no more', async () => {
    const apis = [
      await started({}),
      await started({}),
      await started({ JWT_SECRET: TEST_SECRET.replace(/^./, '_') }),
      await started({ JWT_ROLE_MAP: 'boss=admin' }),
      await started({ SESSION_KEY: Buffer.alloc(32, 8).toString('base64') }),
    ];
    try {
      const { cookie } = await signedIn(adminToken(), apis[0]?.url);
      const states = await Promise.all(apis.map(({ url }) => state(url, cookie)));
      const ended = { signed_in: false, reason: 'ended' };
      expect(states).toMatchObject([{ signed_in: true }, { signed_in: true }, ended, ended, ended]);
      expect(apis[2]?.logText()).not.toContain('"level":"warn"');
    } finally {
      for (const { close } of apis) await close();
    }
  });

  test('is found beside another cookie of the name', async () => {
    const { cookie } = await signedIn();
    for (const both of [`halyard-dev=x; ${cookie}`, `${cookie}; halyard-dev=x`])
      expect(await state(api.url, both)).toMatchObject({ signed_in: true });
  });

  test('keeps no other waiting for a connection', async () => {
    const [busy, other] = [await signedIn(), await signedIn()];
    const ask = (browser: Browser) => browser.visit('GET /api/admin/flags', { byPage: true });
    await withClient(database.ownerUrl, async (owner) => {
      const waiting = `select count(*)::int from pg_locks where not granted and relation = 'app_private.console_sessions'::regclass`;
      await owner.query('begin; lock table app_private.console_sessions');
      const asked = Array.from({ length: 20 }, () => ask(busy));
      await expect.poll(() => value<number>(owner, waiting)).toBe(8);
      asked.push(ask(other));
      await expect.poll(() => value<number>(owner, waiting)).toBe(9);
      await owner.query('rollback');
      expect(new Set((await Promise.all(asked)).map(({ status }) => status))).toEqual(
        new Set([200]),
      );
    });
  });
});

describe('the WebSocket of a session', () => {
  test('ends with the session where the token is good for longer', async () => {
    const config = loadConfig({ NODE_ENV: 'test', JWT_SECRET: TEST_SECRET }, 'api');
    const pool = makePool(database.authenticatorUrl, {
      name: 'halyard-test',
      log: makeTestLog().log,
    });
    try {
      const cookie = await makeSessions(pool, makeSecrets(config)).create({
        ...{ token: sign({ role: 'viewer', userId: 'vera' }), idToken: null },
        expiresAt: new Date(Date.now() + 2_000),
      });
      const opened = await connect({ cookie: `halyard-dev=${cookie}`, origin: api.url });
      const [code, reason] = (await once(opened, 'close')) as [number, Buffer];
      expect([code, reason.toString()]).toEqual([4401, 'token_expired']);
    } finally {
      await pool.end();
    }
  });

  test('gives way to a token that the client brings, also to what is none', async () => {
    const { cookie } = await signedIn();
    const headers = { cookie, origin: api.url };
    for (const authorization of ['nonsense', '', 7])
      expect(await acknowledged(headers, { authorization })).toBe(4401);
    expect(await acknowledged(headers, {})).toBe('connection_ack');
  });
});

function open(headers: Record<string, string>, payload?: object): WebSocket {
  const url = `${api.url.replace('http', 'ws')}/graphql`;
  const socket = new WebSocket(url, 'graphql-transport-ws', { headers });
  socket.once('open', () => socket.send(JSON.stringify({ type: 'connection_init', payload })));
  return socket.on('error', () => undefined);
}

async function connect(headers: Record<string, string>): Promise<WebSocket> {
  const socket = open(headers);
  await once(socket, 'message');
  return socket;
}

/** Opens a WebSocket and begins. @returns what comes first: a message's type, a close code or the status of a refusal */
function acknowledged(headers: Record<string, string>, payload?: object): Promise<string | number> {
  const socket = open(headers, payload);
  return new Promise((resolve) => {
    socket.once('message', (data: Buffer) => {
      resolve((JSON.parse(data.toString()) as { type: string }).type);
      socket.close();
    });
    socket.once('close', resolve);
    socket.once('unexpected-response', (_request, response) => {
      resolve(response.statusCode ?? 0);
      response.destroy();
    });
  });
}
