import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { brotliCompressSync, gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadConfig } from '../../src/config/config.ts';
import { startApi } from '../../src/api/server.ts';
import { makeGraphql } from '../../src/graphql/index.ts';
import { startTestApi, type TestApi } from '../support/api.ts';
import { Browser } from '../support/browser.ts';
import { useDatabase } from '../support/database.ts';
import { makeTestLog } from '../support/log.ts';
import { adminToken, TEST_SECRET } from '../support/tokens.ts';

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
    'GET /console/assets/index-a1.js%00',
    'GET /console/assets/..%5Cindex.html',
    'GET /console/assets/x.constructor',
    `GET /console/assets/${'x'.repeat(300)}.js`,
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
    async ({ url, enterUrl }) => {
      const there = new Browser(url);
      expect((await there.visit('GET /console/')).text).toBe(HTML);
      const link = enterUrl(adminToken());
      for (const time of [1, 2])
        expect([time, (await there.visit(`GET ${link}`)).headers.location]).toEqual([
          time,
          '/console/sign-in?reason=unavailable',
        ]);
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

test.each([
  ['0.0.0.0', '127.0.0.1'],
  ['127.0.0.1', '127.0.0.1'],
])('an API that listens at %s has its link at %s, where a browser keeps the cookie', (HOST, host) =>
  withApi({ HOST }, async ({ enterUrl }) => {
    const link = enterUrl(adminToken());
    expect(new URL(link).hostname).toBe(host);
    const browser = new Browser(link);
    expect((await browser.visit(`GET ${link}`)).status).toBe(303);
    expect([...browser.cookies.keys()]).toEqual(['halyard-dev']);
  }),
);

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
