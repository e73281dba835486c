import { once } from 'node:events';
import { connect } from 'node:net';
import type { Client } from 'graphql-ws';
import type pg from 'pg';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { WebSocket } from 'ws';
import { useDatabase, withClient } from '../support/database.ts';
import { insertFlag } from '../support/factory.ts';
import { startGraphql, useGraphql } from '../support/graphql.ts';
import type { TestApi } from '../support/graphql.ts';
import { arrived, useSubscribers } from '../support/subscribers.ts';
import { adminToken, nowInSeconds, refusedTokens, sign, viewerToken } from '../support/tokens.ts';
import { EVENTS, refusalOf } from '../support/audit_subscription.ts';

const database = useDatabase();
const api = useGraphql(database);

const subscribe = useSubscribers(api);
const clients: Client[] = [];
let count = 0;
let key: string;

beforeEach(async () => {
  count += 1;
  key = `subscribed-${count}`;
  await vi.waitFor(() => expect(api().graphql.healthy()).toBe(true), 5_000);
});

afterEach(async () => {
  for (const client of clients.splice(0)) await client.dispose();
});

const asOwner = <T>(work: (client: pg.Client) => Promise<T>) => withClient(database.ownerUrl, work);
const insert = (changes: object = {}) =>
  asOwner((client) => insertFlag(client, { flag_key: key, ...changes }));

describe('the connection', () => {
  const SUBPROTOCOL = 'graphql-transport-ws';

  /** Opens a socket by hand, sends, and gives the code and reason with which it is closed. */
  async function closeOf(
    send: readonly string[],
    options: ConstructorParameters<typeof WebSocket>[2] = {},
    to: TestApi = api(),
  ): Promise<[number, string]> {
    const socket = new WebSocket(to.url.replace('http', 'ws'), SUBPROTOCOL, options);
    return new Promise((resolve, reject) => {
      socket.on('open', () => send.forEach((text) => socket.send(text)));
      socket.on('error', reject);
      socket.on('close', (code, reason) => resolve([code, reason.toString()]));
    });
  }
  const init = (payload?: object) => JSON.stringify({ type: 'connection_init', payload });
  const bearer = (token: string) => init({ authorization: `Bearer ${token}` });

  it('needs a token', async () => {
    expect(await closeOf([init()])).toEqual([4401, 'token_missing']);
    expect(await closeOf([init({ authorization: 'nonsense' })])).toEqual([4401, 'token_missing']);
    expect(await closeOf([bearer(sign({ userId: 'nobody' }))])).toEqual([4403, 'role_missing']);
    const subscription = { type: 'subscribe', id: '1', payload: { query: EVENTS } };
    expect((await closeOf([JSON.stringify(subscription)]))[0]).toBe(4401);
  });

  it.each(Object.entries(refusedTokens()))('refuses a token %s', async (_name, { token, code }) => {
    // One that a header can't carry is as good as none.
    const expected = /^[\x21-\x7e]+$/.test(token) ? code : 'token_missing';
    expect(await closeOf([bearer(token)])).toEqual([4401, expected]);
  });

  it('takes the token of the upgrade’s header too', async () => {
    const closed = closeOf([init(), 'no message'], {
      headers: { authorization: `Bearer ${adminToken()}` },
    });
    expect((await closed)[0]).toBe(4400);
  });

  it('ends with the token', async () => {
    const token = adminToken({ exp: nowInSeconds() + 1 });
    expect(await closeOf([bearer(token)])).toEqual([4401, 'token_expired']);
  });

  it('stands when the token is good for longer than a timer reaches', async () => {
    const warnings: Error[] = [];
    const warned = (warning: Error) => warnings.push(warning);
    process.on('warning', warned);
    const token = adminToken({ exp: nowInSeconds() + 100 * 365 * 86_400 });
    const { messages } = await subscribe(token, EVENTS, { key });
    await insert();
    await arrived(messages, 1);
    process.off('warning', warned);
    // Node warns of a delay that overflows, and fires at once.
    expect(warnings).toEqual([]);
  });

  it('is for subscriptions only, and of valid documents', async () => {
    expect(await refusalOf(subscribe, adminToken(), '{ featureFlags { nodes { id } } }')).toBe(
      'invalid_query',
    );
    expect(await refusalOf(subscribe, adminToken(), 'subscription { nothing }')).toBe(
      'invalid_query',
    );
    expect(await refusalOf(subscribe, adminToken(), EVENTS, { key: 7 })).toBe('invalid_value');
    expect(await refusalOf(subscribe, adminToken(), EVENTS.padEnd(4_001))).toBe('invalid_query');
  });

  it('is not for scripts of other sites, other paths or other protocols', async () => {
    await expect(closeOf([], { origin: 'https://evil.example' })).rejects.toThrow('403');
    await expect(closeOf([], { origin: 'null' })).rejects.toThrow('403');
    const { host } = new URL(api().url);
    expect((await closeOf([init()], { origin: `http://${host}` }))[0]).toBe(4401);
    const elsewhere = new WebSocket(`ws://${host}/elsewhere`, SUBPROTOCOL);
    await expect(new Promise((_, reject) => elsewhere.on('error', reject))).rejects.toThrow('404');
    const other = new WebSocket(`ws://${host}/graphql`, 'graphql-ws');
    await expect(new Promise((_, reject) => other.on('error', reject))).rejects.toThrow();
  });

  it('refuses messages of more than 100 kB', async () => {
    expect((await closeOf([init({ a: 'x'.repeat(100_001) })]))[0]).toBe(1009);
  });

  it('ends when the client asks on and on, and reads no answer', async () => {
    const socket = new WebSocket(api().url.replace('http', 'ws'), 'graphql-transport-ws');
    await once(socket, 'open');
    socket.on('error', () => undefined);
    socket.pause();
    try {
      const ping = JSON.stringify({ type: 'ping', payload: { a: 'x'.repeat(60_000) } });
      for (let sent = 0; sent < 600; sent += 1) socket.send(ping, () => undefined);
      await vi.waitFor(() => expect(api().graphql.load.silent).toBe(0), 4_000);
    } finally {
      socket.terminate();
    }
  });

  it('that is closed ends also when the client does not answer', async () => {
    const { hostname, port, host } = new URL(api().url);
    const stream = connect(Number(port), hostname);
    stream.write(
      [
        'GET /graphql HTTP/1.1',
        `Host: ${host}`,
        'Connection: Upgrade',
        'Upgrade: websocket',
        'Sec-WebSocket-Version: 13',
        'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
        `Sec-WebSocket-Protocol: ${SUBPROTOCOL}`,
        '\r\n',
      ].join('\r\n'),
    );
    try {
      await once(stream, 'data');
      expect(api().graphql.load.silent).toBe(1);
      // A text of one character, masked with zeros: no message of the protocol.
      stream.write(Buffer.of(0x81, 0x81, 0, 0, 0, 0, 0x78));
      await vi.waitFor(() => expect(api().graphql.load.silent).toBe(0), 4_000);
    } finally {
      stream.destroy();
    }
  });

  it.for<[number, number]>([
    [256, 0],
    [257, 1],
  ])('takes a subscription with an id of %i characters: %i errors', async ([length, refusals]) => {
    const client = api().socket(adminToken(), { generateID: () => 'x'.repeat(length) });
    clients.push(client);
    const errors: unknown[] = [];
    const ignore = () => undefined;
    client.subscribe(
      { query: EVENTS },
      { next: ignore, error: (error) => errors.push(error), complete: ignore },
    );
    await vi.waitFor(() => {
      expect(errors).toHaveLength(refusals);
      expect(api().graphql.load.subscriptions).toBe(1 - refusals);
    }, 5_000);
  });

  it('carries 20 subscriptions at most', async () => {
    const client = api().socket(adminToken());
    clients.push(client);
    const errors: unknown[] = [];
    const ignore = () => undefined;
    for (let n = 0; n < 21; n++)
      client.subscribe(
        { query: EVENTS },
        { next: ignore, error: (error) => errors.push(error), complete: ignore },
      );
    await vi.waitFor(() => expect(errors).toHaveLength(1), 5_000);
    expect(errors).toMatchObject([[{ extensions: { code: 'invalid_query' } }]]);
    await vi.waitFor(() => expect(api().graphql.load.subscriptions).toBe(20), 5_000);
  });

  /** A socket whose token is verified: the code and reason with which it is closed then, or null. */
  async function verified(to: TestApi, token: string) {
    const socket = new WebSocket(to.url.replace('http', 'ws'), SUBPROTOCOL);
    socket.on('error', () => undefined);
    await once(socket, 'open');
    socket.send(bearer(token));
    const refusal = await Promise.race([
      once(socket, 'close').then(([code, reason]) => [code, String(reason)] as const),
      once(socket, 'message').then(() => null),
    ]);
    return { socket, refusal };
  }

  it('is refused beyond the limit, and asked to go away at the end', async () => {
    const small = await startGraphql(database, { maxSockets: 1 });
    // Of two that get in before either has sent its token, one is asked to try again.
    const both = await Promise.all([verified(small, adminToken()), verified(small, viewerToken())]);
    const refused = both.filter(({ refusal }) => refusal !== null);
    expect(refused).toMatchObject([{ refusal: [1013, 'too_many_sockets'] }]);
    await expect(closeOf([], {}, small)).rejects.toThrow('503');
    const socket = both.find(({ refusal }) => refusal === null)?.socket;
    const closed = new Promise((resolve) => socket?.on('close', resolve));
    await small.close();
    expect(await closed).toBe(1001);
  });

  it('has no place of others’ before its token is verified', async () => {
    const small = await startGraphql(database, { maxSockets: 2, maxSilent: 3 });
    try {
      const closed: Promise<number>[] = [];
      for (let n = 0; n < 5; n += 1) {
        const socket = new WebSocket(small.url.replace('http', 'ws'), SUBPROTOCOL);
        closed.push(once(socket, 'close').then(([code]) => code as number));
        await once(socket, 'open');
      }
      expect(small.graphql.load).toMatchObject({ sockets: 0, silent: 3 });
      // The oldest made room, and so does another one now.
      expect(await Promise.all(closed.slice(0, 2))).toEqual([1006, 1006]);
      expect((await verified(small, adminToken())).refusal).toBe(null);
      expect(await closed[2]).toBe(1006);
      expect(small.graphql.load).toMatchObject({ sockets: 1, silent: 2 });
      // Cut after two seconds, or three when it doesn't answer.
      expect(await Promise.all(closed.slice(3))).toEqual([4408, 4408]);
      await expect.poll(() => small.graphql.load.silent).toBe(0);
    } finally {
      await small.close();
    }
  });

  it('is one of as many as a user may have, and so is a subscription', async () => {
    const small = await startGraphql(database, {
      env: { SOCKETS_PER_USER: '2', SUBSCRIPTIONS_PER_USER: '3' },
    });
    try {
      await vi.waitFor(() => expect(small.graphql.healthy()).toBe(true), 5_000);
      const [alice, bob] = [adminToken(), adminToken({ userId: 'bob' })];
      const first = await verified(small, alice);
      const second = await verified(small, alice);
      expect((await verified(small, alice)).refusal).toEqual([4429, 'too_many_sockets']);
      expect((await verified(small, bob)).refusal).toBe(null);

      const answers: { id: string; type: string; payload?: unknown }[] = [];
      for (const { socket } of [first, second])
        socket.on('message', (data: Buffer) => answers.push(JSON.parse(String(data)) as never));
      const begin = (socket: WebSocket, id: string) => {
        socket.send(JSON.stringify({ type: 'subscribe', id, payload: { query: EVENTS } }));
      };
      for (const id of ['1', '2']) begin(first.socket, id);
      for (const id of ['3', '4']) begin(second.socket, id);
      const refusals = () => answers.filter(({ type }) => type === 'next');
      await expect.poll(refusals).toHaveLength(1);
      expect(refusals()).toMatchObject([
        { payload: { errors: [{ extensions: { code: 'too_many_subscriptions' } }] } },
      ]);
      const full = { sockets: 3, silent: 0, subscriptions: 3 };
      await expect.poll(() => small.graphql.load).toMatchObject(full);

      // What ends makes room: a subscription, and a socket with all of its own.
      first.socket.send(JSON.stringify({ type: 'complete', id: '1' }));
      await expect.poll(() => small.graphql.load.subscriptions).toBe(2);
      begin(first.socket, '5');
      await expect.poll(() => small.graphql.load).toMatchObject(full);
      first.socket.close();
      await expect.poll(() => small.graphql.load.sockets).toBe(2);
      const third = await verified(small, alice);
      expect(third.refusal).toBe(null);
      begin(third.socket, '6');
      await expect.poll(() => small.graphql.load.subscriptions).toBeGreaterThanOrEqual(2);
      expect(refusals()).toHaveLength(1);
    } finally {
      await small.close();
    }
  });
});
