import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { brotliCompressSync, gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { loadConfig } from '../../src/config/config.ts';
import { startApi } from '../../src/api/server.ts';
import { makeGraphql } from '../../src/graphql/index.ts';
import { startTestApi, type TestApi } from '../support/api.ts';
import { Browser } from '../support/browser.ts';
import { useDatabase, withClient } from '../support/database.ts';
import { makeTestLog } from '../support/log.ts';
import { adminToken, nowInSeconds, sign, TEST_SECRET, viewerToken } from '../support/tokens.ts';

const database = useDatabase();
const HTML = '<!doctype html><title>Halyard</title>';
const SCRIPT = 'console.log("halyard");'.repeat(50);
let folder: string;
let api: TestApi;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'halyard-console-'));
  await mkdir(join(folder, 'assets'));
  await writeFile(join(folder, 'index.html'), HTML);
  await writeFile(join(folder, 'assets/index-a1.js'), SCRIPT);
  await writeFile(join(folder, 'assets/index-a1.js.br'), brotliCompressSync(SCRIPT));
  await writeFile(join(folder, 'assets/index-a1.js.gz'), gzipSync(SCRIPT));
  await writeFile(join(folder, 'assets/mark-b2.svg'), '<svg/>');
  api = await startTestApi(database.authenticatorUrl, { makeGraphql, consoleFolder: folder });
});
afterAll(async () => {
  await api.close();
  await rm(folder, { recursive: true });
});

const stranger = () => new Browser(api.url);

/** The product with other settings, on this database, for a test. */
async function withApi(
  env: Record<string, string>,
  work: (other: Awaited<ReturnType<typeof startApi>>, logText: () => string) => Promise<void>,
  options: { folder?: string; databaseUrl?: string } = {},
): Promise<void> {
  const { log, text } = makeTestLog();
  const other = await startApi({
    config: loadConfig({ NODE_ENV: 'test', PORT: '0', JWT_SECRET: TEST_SECRET, ...env }, 'api'),
    databaseUrl: options.databaseUrl ?? database.authenticatorUrl,
    log,
    consoleFolder: options.folder ?? folder,
  });
  try {
    await work(other, text);
  } finally {
    await other.close();
  }
}

/** A browser that is signed in as alice, an admin. */
async function signedIn(token = adminToken()): Promise<Browser> {
  const browser = stranger();
  const answer = await browser.visit('POST /console/session', { json: { token }, byPage: true });
  expect([answer.status, answer.text.includes(token)]).toEqual([201, false]);
  return browser;
}

describe('files', () => {
  test('each address of a page is the page, with a policy, uncached', async () => {
    for (const path of [
      '/console',
      '/console/',
      '/console/flags/production/a.b',
      '/console/x?y=1',
    ]) {
      const { status, headers, text } = await stranger().visit(`GET ${path}`);
      expect([path, status, text]).toEqual([path, 200, HTML]);
      expect(headers).toMatchObject({
        'content-type': 'text/html; charset=utf-8',
        'cache-control': 'no-store',
        'x-content-type-options': 'nosniff',
        'referrer-policy': 'no-referrer',
        'content-security-policy':
          "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'",
      });
    }
    const root = await stranger().visit('GET /');
    expect([root.status, root.headers.location]).toEqual([302, '/console/']);
  });

  test('assets are for good, and as short as the client takes them', async () => {
    const get = (encoding: string) =>
      stranger().visit('GET /console/assets/index-a1.js', {
        headers: { 'accept-encoding': encoding },
      });
    const plain = await get('identity');
    expect([plain.status, plain.text]).toEqual([200, SCRIPT]);
    expect(plain.headers).toMatchObject({
      'content-type': 'text/javascript; charset=utf-8',
      'cache-control': 'public, max-age=31536000, immutable',
      vary: 'Accept-Encoding',
    });
    expect((await get('gzip, deflate, br')).headers['content-encoding']).toBe('br');
    expect((await get('gzip')).headers['content-encoding']).toBe('gzip');
    const raw = await fetch(`${api.url}/console/assets/index-a1.js`, {
      headers: { 'accept-encoding': 'br' },
    });
    expect(await raw.text()).toBe(SCRIPT);
    expect((await stranger().visit('GET /console/assets/mark-b2.svg')).text).toBe('<svg/>');
  });

  test.each([
    'GET /console/assets/gone-c3.js',
    'GET /console/assets/',
    'GET /console/assets/x/index-a1.js',
    'GET /console/assets/..%2Findex.html',
    'GET /console/assets/index-a1.js.br',
    'POST /console/flags',
    'PUT /console/',
    'GET /consoles',
  ])('%s is not there', async (target) => {
    const { status, body } = await stranger().visit(target);
    expect([status, body.code]).toEqual([404, 'not_found']);
  });

  test('HEAD has no body', async () => {
    const { status, text } = await stranger().visit('HEAD /console/timeline');
    expect([status, text]).toEqual([200, '']);
  });
});

test('without a build the page says the one command, and the API goes on', async () => {
  const nothing = join(folder, 'nothing');
  await withApi(
    {},
    async ({ url }) => {
      const { status, headers, text } = await new Browser(url).visit('GET /console/flags');
      expect([status, text.includes('npm run prepare')]).toEqual([503, true]);
      expect(headers['content-security-policy']).toBe("default-src 'none'; frame-ancestors 'none'");
      expect((await new Browser(url).visit('GET /console/assets/index-a1.js')).status).toBe(404);
      expect((await new Browser(url).visit('GET /readyz')).status).toBe(200);
    },
    { folder: nothing },
  );
});

test('while the database is away the page is there, and a session counts until its end', async () => {
  const browser = await signedIn();
  const databaseUrl = 'postgres://nobody@127.0.0.1:1/nothing';
  await withApi(
    {},
    async ({ url }) => {
      const there = new Browser(url);
      expect((await there.visit('GET /console/')).text).toBe(HTML);
      expect((await there.visit('GET /console/session')).body.signed_in).toBe(false);
      const headers = { cookie: browser.cookie };
      const state = await there.visit('GET /console/session', { headers });
      expect([state.status, state.body.signed_in]).toEqual([200, true]);
      const asked = await there.visit('GET /api/admin/flags', { headers, byPage: true });
      expect([asked.status, asked.body.code]).toEqual([503, 'database_unavailable']);
    },
    { databaseUrl },
  );
});

test('in production no token is pasted, and the cookie is one that only https has', async () => {
  const env = { NODE_ENV: 'production', AUTH_DATABASE_URL: database.authenticatorUrl };
  await withApi(env, async ({ url }) => {
    const browser = new Browser(url);
    const call = { json: { token: adminToken() }, byPage: true };
    expect((await browser.visit('POST /console/session', call)).status).toBe(404);
    const state = await browser.visit('GET /console/session', {
      headers: { cookie: 'halyard-dev=x' },
    });
    expect(state.body).toMatchObject({ signed_in: false, sign_in: { oidc: null, token: false } });
  });
  await withApi({ CONSOLE_URL: 'https://flags.example.com' }, async ({ url, enterUrl }) => {
    const browser = new Browser(url);
    const call = { json: { token: adminToken() }, byPage: true };
    expect((await browser.visit('POST /console/session', call)).status).toBe(201);
    expect(browser.attributes.get('__Host-halyard')).toMatch(
      /; Path=\/; Expires=[^;]+; HttpOnly; Secure; SameSite=Lax$/,
    );
    expect((await browser.visit('GET /api/admin/flags', { byPage: true })).status).toBe(200);
    expect(enterUrl(adminToken())).toMatch(/^https:\/\/flags\.example\.com\/console\/enter\?code=/);
  });
});

test('a link signs in once; looking at it doesn’t use it up', async () => {
  await withApi({}, async ({ url, enterUrl }, logText) => {
    const link = enterUrl(adminToken());
    expect(link.startsWith(`${url}/console/enter?code=`)).toBe(true);
    const browser = new Browser(url);
    for (const [target, headers] of [
      [`HEAD ${link}`, {}],
      [`GET ${link}`, { 'sec-fetch-mode': 'no-cors' }],
      [`GET ${link}`, { 'sec-fetch-mode': 'navigate', 'sec-purpose': 'prefetch;prerender' }],
    ] as const)
      expect([target, (await browser.visit(target, { headers })).status, browser.cookie]).toEqual([
        target,
        503,
        '',
      ]);
    const entered = await browser.visit(`GET ${link}`, {
      headers: { 'sec-fetch-mode': 'navigate' },
    });
    expect([entered.status, entered.headers.location]).toEqual([303, '/console/']);
    expect((await browser.visit('GET /console/session')).body.signed_in).toBe(true);
    for (const other of [
      link,
      `${url}/console/enter?code=guessed`,
      `${url}/console/enter?code=a&code=b`,
      `${url}/console/enter`,
    ]) {
      const late = new Browser(url);
      const { status, headers } = await late.visit(`GET ${other}`);
      expect([status, headers.location, late.cookie]).toEqual([
        303,
        '/console/sign-in?reason=link_used',
        '',
      ]);
    }
    expect(logText()).not.toContain(new URL(link).searchParams.get('code'));
  });
});

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
    const { rows } = await withClient(database.ownerUrl, (client) =>
      client.query<{ all: string }>(
        'select string_agg(s::text, $1) as all from app_private.console_sessions s',
        [''],
      ),
    );
    expect(rows[0]?.all).not.toContain('eyJ');
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
    const state = await stranger().visit('GET /console/session', copy);
    expect(state.body).toMatchObject({ signed_in: false, reason: 'ended' });
    expect((await browser.visit('GET /console/session')).body).toMatchObject({
      ...{ signed_in: false, reason: null },
    });
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
    // Plain http to this machine has a cookie of its own.
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

function open(headers: Record<string, string>): WebSocket {
  const url = `${api.url.replace('http', 'ws')}/graphql`;
  const socket = new WebSocket(url, 'graphql-transport-ws', { headers });
  socket.once('open', () => socket.send('{"type":"connection_init"}'));
  return socket.on('error', () => undefined);
}

/** A WebSocket that was acknowledged. */
async function connect(headers: Record<string, string>): Promise<WebSocket> {
  const socket = open(headers);
  await once(socket, 'message');
  return socket;
}

/** Opens a WebSocket and begins. @returns what comes first: a message's type, a close code or the status of a refusal */
function acknowledged(headers: Record<string, string>): Promise<string | number> {
  const socket = open(headers);
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
