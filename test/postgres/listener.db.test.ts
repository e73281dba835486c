import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { queryObjects } from 'node:v8';

import pg from 'pg';
import { afterAll, beforeAll, expect, inject, test } from 'vitest';

import { makeListener } from '../../src/postgres/listener.ts';
import type { ListenerOptions } from '../../src/postgres/listener.ts';
import { makeTestLog } from '../support/log.ts';
import { startTcpProxy } from '../support/tcp_proxy.ts';

const DEADLINE = { timeout: 8_000, interval: 20 };
const NAME = `halyard-listener-test-${process.pid}`;
const CHANNEL = 'A "quoted" channel';

let admin: pg.Client;
beforeAll(async () => {
  admin = new pg.Client(inject('rootUrl'));
  await admin.connect();
});
afterAll(() => admin.end());

const notify = (payload: string) => admin.query('select pg_notify($1, $2)', [CHANNEL, payload]);
async function backends(): Promise<number[]> {
  const { rows } = await admin.query<{ pid: number }>(
    'select pid from pg_stat_activity where application_name = $1',
    [NAME],
  );
  return rows.map(({ pid }) => pid);
}
const terminate = async () =>
  admin.query('select pg_terminate_backend(pid) from unnest($1::int[]) pid', [await backends()]);

/** A listener that records what it hears and how often it caught up. */
function makeRecorder(overrides: Partial<ListenerOptions> = {}) {
  const heard: string[] = [];
  const { log, lines } = makeTestLog();
  let catchUps = 0;
  const listener = makeListener({
    url: inject('rootUrl'),
    channel: CHANNEL,
    name: NAME,
    onNotification: (payload) => heard.push(payload) > 0,
    onConnect() {
      catchUps += 1;
    },
    log,
    heartbeat: { everyMs: 50, deadlineMs: 1_000 },
    ...overrides,
  });
  const hears = async (payload: string) => {
    await notify(payload);
    await expect.poll(() => heard, DEADLINE).toContain(payload);
  };
  return {
    ...listener,
    heard,
    lines,
    hears,
    catchUps: () => catchUps,
    levels: () => lines.map(({ level }) => level),
    [Symbol.asyncDispose]: () => listener.close(),
  };
}

test('hears what is notified after start, and catches up once', async () => {
  await using listener = makeRecorder();
  expect(listener.healthy()).toBe(false);
  await listener.start();
  expect(listener.healthy()).toBe(true);
  await listener.hears('one');
  await notify('');
  await listener.hears('two');
  expect(listener.heard).toEqual(['one', '', 'two']);
  expect(listener.catchUps()).toBe(1);
  expect(listener.levels()).toEqual(['info']);
});

test('LISTEN is active before the catch-up read, so that nothing falls between', async () => {
  await using listener = makeRecorder({
    onConnect: async () => {
      await notify('between');
    },
  });
  await listener.start();
  await expect.poll(() => listener.heard, DEADLINE).toEqual(['between']);
});

test('comes back and catches up after its connection is terminated', async () => {
  await using listener = makeRecorder();
  await listener.start();
  await terminate();
  await expect.poll(() => listener.catchUps(), DEADLINE).toBe(2);
  await expect.poll(() => listener.healthy(), DEADLINE).toBe(true);
  await listener.hears('back');
  expect(listener.levels()).toEqual(['info', 'warn', 'info']);
});

test('notices a connection on which nothing passes any more', async () => {
  const { hostname, port, ...url } = parts(inject('rootUrl'));
  await using proxy = await startTcpProxy({ host: hostname, port });
  await using listener = makeRecorder({ url: url.through(proxy.port) });
  await listener.start();
  proxy.freeze();
  await expect.poll(() => listener.catchUps(), DEADLINE).toBe(2);
  expect(proxy.connections()).toBeGreaterThan(1);
  await listener.hears('thawed');
});

test('a connection that stands for long gathers no memory', async () => {
  await using listener = makeRecorder({ heartbeat: { everyMs: 1, deadlineMs: 1_000 } });
  await listener.start();
  const seen = new Set<string>();
  const heartbeats = (count: number) =>
    expect
      .poll(
        async () => {
          const { rows } = await admin.query<{ at: string }>(
            'select query_start::text as at from pg_stat_activity where application_name = $1',
            [NAME],
          );
          return seen.add(rows[0]?.at ?? '').size;
        },
        { timeout: 15_000, interval: 1 },
      )
      .toBeGreaterThan(count);
  await heartbeats(20);
  const before = queryObjects(Promise, { format: 'count' });
  await heartbeats(320);
  // Each heartbeat would leave two races behind.
  expect(queryObjects(Promise, { format: 'count' }) - before).toBeLessThan(300);
});

test('keeps trying while the server is away', async () => {
  const { hostname, port, ...url } = parts(inject('rootUrl'));
  await using proxy = await startTcpProxy({ host: hostname, port });
  proxy.refuse();
  await using listener = makeRecorder({ url: url.through(proxy.port) });
  const started = listener.start();
  await expect.poll(() => listener.levels(), DEADLINE).toEqual(['warn', 'debug', 'debug']);
  expect(listener.healthy()).toBe(false);
  proxy.accept();
  await started;
  expect(listener.healthy()).toBe(true);
});

test('stays away no longer than two seconds after an outage of any length', async () => {
  await using listener = makeRecorder({ url: 'postgres://127.0.0.1:1/none' });
  void listener.start();
  const pauses = () => listener.lines.map(({ retryInMs }) => Number(retryInMs));
  await expect.poll(() => pauses().length, DEADLINE).toBeGreaterThan(6);
  expect(Math.max(...pauses())).toBeLessThanOrEqual(2_000);
  expect(Math.max(...pauses())).toBeGreaterThanOrEqual(1_000);
});

test('is not healthy until the catch-up read succeeds, which is tried again', async () => {
  let attempts = 0;
  await using listener = makeRecorder({
    onConnect: () => {
      attempts += 1;
      return attempts < 3 ? Promise.reject(new Error('of the catch-up read')) : Promise.resolve();
    },
  });
  await listener.start();
  expect(attempts).toBe(3);
  expect(listener.levels()).toEqual(['warn', 'debug', 'info']);
});

test('a handler that fails is logged once and disturbs nothing', async () => {
  const heard: string[] = [];
  await using listener = makeRecorder({
    onNotification(payload) {
      heard.push(payload);
      if (payload !== 'three') throw new Error('of the handler');
      return true;
    },
  });
  await listener.start();
  for (const payload of ['one', 'two', 'three']) await notify(payload);
  await expect.poll(() => listener.levels(), DEADLINE).toEqual(['info', 'warn', 'debug', 'info']);
  expect(heard).toEqual(['one', 'two', 'three']);
  expect(listener.healthy()).toBe(true);
  expect(listener.catchUps()).toBe(1);
});

test('what is ignored is counted, in one line of the log until it is closed', async () => {
  const listener = makeRecorder({ onNotification: (payload) => payload === 'ours' });
  await listener.start();
  for (const payload of ['noise 1', 'ours', 'noise 2', 'noise 3']) await notify(payload);
  await expect.poll(listener.ignored, DEADLINE).toBe(3);
  await listener.close();
  const lines = listener.lines.filter(({ level }) => level === 'warn');
  expect(lines).toMatchObject([
    { channel: CHANNEL, count: 1 },
    { channel: CHANNEL, count: 2 },
  ]);
});

test('close ends the connection, for good, and may be repeated', async () => {
  const listener = makeRecorder();
  await listener.start();
  await Promise.all([listener.close(), listener.close()]);
  expect(listener.healthy()).toBe(false);
  await expect.poll(backends, DEADLINE).toEqual([]);
  await listener.close();
  expect(listener.levels()).toEqual(['info']);
});

test('close before start is final as well', async () => {
  const listener = makeRecorder();
  await listener.close();
  await listener.start();
  expect(listener.healthy()).toBe(false);
  expect(listener.catchUps()).toBe(0);
});

test('close is prompt during back-off, and start resolves', async () => {
  const listener = makeRecorder({ url: 'postgres://127.0.0.1:1/none' });
  const started = listener.start();
  const pause = () => Number(listener.lines.at(-1)?.retryInMs ?? 0);
  await expect.poll(pause, DEADLINE).toBeGreaterThan(600);
  const halfway = delay(pause() / 2, 'halfway to the next attempt');
  const closed = listener.close().then(() => 'closed');
  expect(await Promise.race([halfway, closed])).toBe('closed');
  await started;
});

test('close is prompt while a server says nothing, and while the catch-up read hangs', async () => {
  const mute = createServer(() => undefined).listen(0, '127.0.0.1');
  await new Promise((resolve) => mute.once('listening', resolve));
  const { port } = mute.address() as AddressInfo;
  const connected = new Promise((resolve) => mute.once('connection', resolve));
  const waiting = makeRecorder({ url: `postgres://127.0.0.1:${port}/none` });
  void waiting.start();
  await connected;
  await waiting.close();
  await new Promise((resolve) => mute.close(resolve));

  const reached = Promise.withResolvers<undefined>();
  const hanging = makeRecorder({
    onConnect: () => {
      reached.resolve(undefined);
      return new Promise(() => undefined);
    },
  });
  void hanging.start();
  await reached.promise;
  await hanging.close();
});

/** Where a server listens, and its URL by way of another port on loopback. */
function parts(url: string) {
  const { hostname, port } = new URL(url);
  return {
    hostname,
    port: Number(port),
    through(otherPort: number): string {
      const changed = new URL(url);
      changed.hostname = '127.0.0.1';
      changed.port = String(otherPort);
      return changed.href;
    },
  };
}
