import { once } from 'node:events';
import { Agent, get } from 'node:http';
import type { IncomingMessage } from 'node:http';
import { connect } from 'node:net';

import { afterEach, describe, expect, test, vi } from 'vitest';

import { startApi } from '../../src/api/server.ts';
import { loadConfig } from '../../src/config/config.ts';
import { startTestApi } from '../support/api.ts';
import type { TestApi } from '../support/api.ts';
import { useDatabase, withClient } from '../support/database.ts';
import { insertFlag, insertSchedule } from '../support/factory.ts';
import { makeTestLog } from '../support/log.ts';
import { adminToken, TEST_SECRET } from '../support/tokens.ts';

const database = useDatabase();
const token = adminToken();

let api: TestApi | undefined;
afterEach(async () => {
  await api?.close();
  api = undefined;
});

async function start(drainMs?: number): Promise<TestApi> {
  api = await startTestApi(database.authenticatorUrl, drainMs === undefined ? {} : { drainMs });
  return api;
}

/** Backends of the API's pool, and how many of them wait for a lock. */
async function backends(): Promise<{ all: number; waiting: number }> {
  return withClient(database.rootUrl, async (client) => {
    const { rows } = await client.query<{ all: number; waiting: number }>(
      `select count(*)::int as all, count(*) filter (where wait_event_type = 'Lock')::int as waiting
       from pg_stat_activity where datname = $1 and application_name = 'halyard-api'`,
      [database.name],
    );
    return rows[0] ?? { all: 0, waiting: 0 };
  });
}

/** Runs `work` while a cancellation hangs on a lock, which `release` lets go. */
async function whileHanging(
  server: TestApi,
  work: (hanging: ReturnType<TestApi['call']>, release: () => Promise<void>) => Promise<void>,
) {
  await withClient(database.ownerUrl, async (holder) => {
    const flag = await insertFlag(holder);
    const { id } = await insertSchedule(holder, flag.id);
    await holder.query('begin');
    await holder.query('select from app_public.feature_flags where id = $1 for update', [flag.id]);
    const hanging = server.call(`DELETE /api/admin/flags/${flag.flag_key}/schedule/${id}`, {
      token,
    });
    hanging.catch(() => undefined);
    await vi.waitFor(async () => expect((await backends()).waiting).toBe(1), { timeout: 5_000 });
    await work(hanging, async () => {
      await holder.query('rollback');
    });
  });
}

/** Whether somebody accepts connections there. */
function accepts(url: string): Promise<boolean> {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  return new Promise((resolve) => {
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

describe('ending', () => {
  test('finishes what is in flight, and accepts nothing new', async () => {
    const server = await start();
    await whileHanging(server, async (hanging, release) => {
      const closed = server.close();
      await vi.waitFor(async () => expect(await accepts(server.url)).toBe(false), {
        timeout: 10_000,
      });
      await release();
      const answer = await hanging;
      expect([answer.status, answer.body.status]).toEqual([200, 'cancelled']);
      expect(answer.headers.get('connection')).toBe('close');
      await closed;
    });
    await vi.waitFor(async () => expect((await backends()).all).toBe(0), { timeout: 10_000 });
  });

  test('cuts off what does not finish in time', async () => {
    const server = await start(50);
    await whileHanging(server, async (hanging, release) => {
      const closed = server.close();
      await expect(hanging).rejects.toThrow();
      await release();
      await closed;
    });
    expect(server.lines).toContainEqual(expect.objectContaining({ level: 'warn', requests: 1 }));
  });

  test('closes connections that are idle', async () => {
    const server = await start();
    const agent = new Agent({ keepAlive: true });
    const response = await new Promise<IncomingMessage>((resolve) =>
      get(`${server.url}/healthz`, { agent }, resolve),
    );
    const ended = new Promise((resolve) => response.socket.once('close', resolve));
    response.resume();
    await new Promise((resolve) => response.once('end', resolve));
    await server.close();
    await ended;
    agent.destroy();
  });

  test('may be asked for twice', async () => {
    const server = await start();
    await Promise.all([server.close(), server.close()]);
    await server.close();
  });
});

describe('connections that do nothing', () => {
  /** A connection that sends this, and whether it is closed. */
  function open(text: string) {
    const { hostname, port } = new URL(api?.url ?? '');
    const socket = connect(Number(port), hostname, () => socket.write(text));
    const state = { socket, isClosed: false, received: '' };
    socket.on('error', () => undefined);
    socket.on('data', (data) => (state.received += String(data)));
    socket.once('close', () => (state.isClosed = true));
    return state;
  }

  const HEAD = 'POST /api/admin/flags HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n';

  test.each([
    ['send nothing', ''],
    ['send a part of a head', HEAD],
    ['send a part of a body, without a token', `${HEAD}Content-Length: 60000\r\n\r\n{"flag_key`],
    [
      'send a part of a body, with a token',
      `${HEAD}Authorization: Bearer ${token}\r\nContent-Length: 60000\r\n\r\n{"flag_key`,
    ],
    ['have been answered', 'GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n'],
  ])('that %s make room for others, the oldest first', async (_name, text) => {
    api = await startTestApi(database.authenticatorUrl, { maxConnections: 4 });
    const all: ReturnType<typeof open>[] = [];
    for (let n = 0; n < 8; n += 1) {
      const state = open(text);
      all.push(state);
      // One after the other, or it isn't known which is the oldest.
      await once(state.socket, 'connect');
      if (/^GET|60000/.test(text) && !text.includes('Bearer'))
        await expect.poll(() => state.received).toContain('HTTP/1.1');
      await expect
        .poll(() => all.filter(({ isClosed }) => isClosed).length)
        .toBe(Math.max(0, n - 3));
    }
    expect(all.map(({ isClosed }) => isClosed)).toEqual(all.map((_state, n) => n < 4));
    for (let n = 0; n < 6; n += 1) expect((await api.call('GET /healthz')).status).toBe(200);
    for (const { socket } of all) socket.destroy();
  });

  test('take no place of a request that is being answered', async () => {
    api = await startTestApi(database.authenticatorUrl, { maxConnections: 3 });
    await whileHanging(api, async (hanging, release) => {
      const all = [open(''), open(''), open(''), open(''), open('')];
      await expect.poll(() => all.filter(({ isClosed }) => isClosed).length).toBe(3);
      await release();
      expect((await hanging).status).toBe(200);
      for (const { socket } of all) socket.destroy();
    });
  });
});

test('an address that is taken stops the start, and leaves nothing behind', async () => {
  const { url } = await start();
  const env = { NODE_ENV: 'test', PORT: new URL(url).port, JWT_SECRET: TEST_SECRET };
  const second = startApi({
    config: loadConfig(env, 'api'),
    databaseUrl: database.authenticatorUrl,
    log: makeTestLog().log,
  });
  await expect(second).rejects.toMatchObject({
    name: 'ConfigError',
    problems: [expect.stringContaining('EADDRINUSE')],
  });
});
