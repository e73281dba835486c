import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { WebSocketServer, type WebSocket } from 'ws';
import { stubBrowser } from './browser.ts';

const document = { hidden: false, addEventListener: () => undefined };
vi.stubGlobal('document', document);
stubBrowser();

const { liveness, startLive, stopLive } = await import('../../../console/src/data/live.ts');
const { changed, changes } = await import('../../../console/src/data/changes.ts');
const { now } = await import('../../../console/src/data/clock.ts');

/** A server of graphql-transport-ws, whose subscriptions bring nothing. */
const server = new WebSocketServer({ port: 0, host: '127.0.0.1' });
await once(server, 'listening');
const followed: { readonly socket: WebSocket; readonly id: string }[] = [];
server.on('connection', (socket) => {
  socket.on('message', (data: Buffer) => {
    const { type, id = '' } = JSON.parse(data.toString()) as { type: string; id?: string };
    if (type === 'connection_init') socket.send(JSON.stringify({ type: 'connection_ack' }));
    if (type === 'subscribe') followed.push({ socket, id });
  });
});

const kind = () => liveness.value.kind;

describe('what is said to be live', () => {
  beforeAll(() => {
    const { port } = server.address() as AddressInfo;
    Object.assign(location, { host: `127.0.0.1:${port}`, protocol: 'http:' });
    startLive();
  });
  afterAll(() => {
    stopLive();
    server.close();
    vi.unstubAllGlobals();
  });

  test('is connected', async () => {
    await expect.poll(() => followed.length).toBe(3);
    await expect.poll(kind).toBe('live');
  });

  test('asks for nothing in a hidden tab, and once it is looked at', async () => {
    await expect.poll(() => changes.value, { timeout: 10_000 }).toBe(1);
    document.hidden = true;
    changed();
    now.value += 1_000;
    expect(changes.value).toBe(1);
    document.hidden = false;
    now.value += 1_000;
    await expect.poll(() => changes.value, { timeout: 10_000 }).toBe(2);
  });

  test('is followed: a subscription that the server ends is not, until it stands again', async () => {
    const [first] = followed;
    first?.socket.send(JSON.stringify({ type: 'complete', id: first.id }));
    await expect.poll(kind).toBe('lost');
    await expect.poll(() => followed.length).toBe(4);
    await expect.poll(kind, { timeout: 10_000 }).toBe('live');
  });

  test('is what answers: after a sleep the connection is made again', async () => {
    const before = followed.length;
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 3_600_000 });
    now.value += 3_600_000;
    await expect.poll(kind).toBe('lost');
    vi.useRealTimers();
    await expect.poll(() => followed.length, { timeout: 10_000 }).toBe(before + 3);
    await expect.poll(kind).toBe('live');
  });
});
