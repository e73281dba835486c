import { beforeEach, expect, onTestFinished, test } from 'vitest';
import { makeForwarder } from '../../src/audit/delivery/forwarder.ts';
import type { Forwarder } from '../../src/audit/delivery/forwarder.ts';
import { makePool } from '../../src/postgres/pool.ts';
import { sleep } from '../../src/lib/wait.ts';
import { value } from '../support/actors.ts';
import { withClient } from '../support/database.ts';
import type { TestDatabase } from '../support/database.ts';
import { makeTestLog } from '../support/log.ts';
import { startTcpProxy } from '../support/tcp_proxy.ts';
import { insertDue, makeMemorySink, useFreshDatabase } from '../support/worker.ts';
import type { MemorySink } from '../support/worker.ts';

const LEASE_MS = 1_000;
const never = new AbortController().signal;
const signals = { stopping: never, abort: never };

let database: TestDatabase;

beforeEach(async () => {
  database = await useFreshDatabase();
  await withClient(database.ownerUrl, (client) => insertDue(client, { count: 5, dueIn: '1 day' }));
});

/** A forwarder with a pool of its own, as another process has it. */
function makeTestForwarder(url = database.workerUrl): { forwarder: Forwarder; sink: MemorySink } {
  const { log } = makeTestLog();
  const pool = makePool(url, { name: 'halyard test', log });
  onTestFinished(() => pool.end());
  const sink = makeMemorySink();
  const forwarder = makeForwarder({
    pool,
    sink,
    destination: 'memory',
    log,
    leaseMs: LEASE_MS,
  });
  return { forwarder, sink };
}

/** A send that ends when it is given up. */
async function hang(_events: unknown, signal: AbortSignal): Promise<void> {
  await sleep(30_000, signal);
  signal.throwIfAborted();
}

test('a forwarder whose send takes long keeps its place', async () => {
  const slow = makeTestForwarder();
  const other = makeTestForwarder();
  slow.sink.trouble = () => sleep(3 * LEASE_MS, never);
  const running = slow.forwarder.forward(signals);
  await expect.poll(() => slow.sink.sends.length).toBe(1);
  await sleep(2 * LEASE_MS, never);
  expect(await other.forwarder.forward(signals)).toBe('busy');
  expect(await running).toBe('done');
  expect(await other.forwarder.forward(signals)).toBe('done');
  expect(other.sink.taken).toStrictEqual([]);
});

test('a forwarder whose network falls silent gives up its send, and another takes its place meanwhile', async () => {
  const url = new URL(database.workerUrl);
  const proxy = await startTcpProxy({ host: url.hostname, port: Number(url.port) });
  onTestFinished(() => proxy[Symbol.asyncDispose]());
  url.port = String(proxy.port);
  const cut = makeTestForwarder(url.href);
  const other = makeTestForwarder();
  cut.sink.trouble = hang;
  const running = cut.forwarder.forward(signals);
  const failed = expect(running).rejects.toThrow();
  await expect.poll(() => cut.sink.sends.length).toBe(1);
  proxy.freeze();
  await expect.poll(() => other.forwarder.forward(signals), { timeout: 4 * LEASE_MS }).toBe('done');
  await failed;
  expect(other.sink.taken).not.toHaveLength(0);

  cut.sink.trouble = null;
  expect(await cut.forwarder.forward(signals)).toBe('done');
  expect(cut.sink.taken).toStrictEqual([]);
});

test('a connection that fell silent while it rested is noticed within the lease', async () => {
  const url = new URL(database.workerUrl);
  const proxy = await startTcpProxy({ host: url.hostname, port: Number(url.port) });
  onTestFinished(() => proxy[Symbol.asyncDispose]());
  url.port = String(proxy.port);
  const { forwarder } = makeTestForwarder(url.href);
  expect(await forwarder.forward(signals)).toBe('done');
  proxy.freeze();
  const began = performance.now();
  await expect(forwarder.forward(signals)).rejects.toThrow();
  expect(performance.now() - began).toBeLessThan(3 * LEASE_MS);
  expect(await forwarder.forward(signals)).toBe('done');
});

test('a session that rests in the pool behind a run is not ended', async () => {
  const { log, lines } = makeTestLog();
  const pool = makePool(database.workerUrl, { name: 'halyard test', max: 1, log });
  onTestFinished(() => pool.end());
  const forwarder = makeForwarder({
    pool,
    sink: makeMemorySink(),
    destination: 'memory',
    log,
    leaseMs: LEASE_MS,
  });
  const pid = async () =>
    (await pool.query<{ pid: number }>('select pg_backend_pid() as pid')).rows[0]?.pid;
  expect(await forwarder.forward(signals)).toBe('done');
  const before = await pid();
  await sleep(2 * LEASE_MS, never);
  expect(await pid()).toBe(before);
  expect(lines.filter(({ level }) => level === 'warn')).toStrictEqual([]);
});

test('a lease that has ended is not renewed, though no other holder has taken it', async () => {
  await withClient(database.workerUrl, async (client) => {
    const take = () =>
      value<string | null>(client, `select app_private.take_lease('forward.x', 'me', 100)::text`);
    const token = await take();
    expect(token).not.toBeNull();
    const isRenewed = () =>
      value<boolean>(client, `select app_private.renew_lease('forward.x', ${token}, 100)`);
    expect(await isRenewed()).toBe(true);
    expect(await take()).toBeNull();
    await client.query('select pg_sleep(0.2)');
    expect(await isRenewed()).toBe(false);
    expect(Number(await take())).toBeGreaterThan(Number(token));
  });
});
