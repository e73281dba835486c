import { once } from 'node:events';
import { connect } from 'node:net';

import type { Client } from 'graphql-ws';
import type pg from 'pg';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { WebSocket } from 'ws';

import { withDatabase } from '../../src/postgres/setup.ts';
import { useDatabase, withClient } from '../support/database.ts';
import { insertFlag, insertSchedule } from '../support/factory.ts';
import { startGraphql, useGraphql } from '../support/graphql.ts';
import type { TestApi } from '../support/graphql.ts';
import { arrived, useSubscribers } from '../support/subscribers.ts';
import type { Message } from '../support/subscribers.ts';
import {
  adminToken,
  auditorToken,
  nowInSeconds,
  refusedTokens,
  sign,
  viewerToken,
} from '../support/tokens.ts';

const database = useDatabase();
const api = useGraphql(database);

const EVENTS = `subscription ($key: String, $environment: String) {
  auditEventsAdded(flagKey: $key, environment: $environment) {
    truncated
    events { eventType flagKey environment adminUserId metadata }
  }
}`;
const SCHEDULES = `subscription ($key: String, $environment: String) {
  flagSchedulesChanged(flagKey: $key, environment: $environment) {
    truncated
    schedules { id status createdBy cancelledBy updates { enabled } flag { flagKey } }
  }
}`;

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

/** The code of a subscription that isn't granted. */
async function refusalOf(
  token: string,
  query: string,
  variables = {},
): Promise<string | undefined> {
  const { messages, ended } = await subscribe(token, query, variables);
  const end = await ended;
  const errors = Array.isArray(end) ? (end as Message['errors']) : messages[0]?.errors;
  return errors?.[0]?.extensions?.code;
}

const asOwner = <T>(work: (client: pg.Client) => Promise<T>) => withClient(database.ownerUrl, work);
const insert = (changes: object = {}) =>
  asOwner((client) => insertFlag(client, { flag_key: key, ...changes }));

const FLOOD = 20_000;

/** What any login may do: notifies a payload for each g from 1 to FLOOD. */
const flood = (payload: string) =>
  asOwner((client) =>
    client.query(
      `select count(pg_notify('halyard_audit', ${payload})) from generate_series(1, ${FLOOD}) as g`,
    ),
  );

describe('auditEventsAdded', () => {
  it('brings what is added, to admins and auditors', async () => {
    const admin = await subscribe(adminToken(), EVENTS, { key });
    const auditor = await subscribe(auditorToken(), EVENTS, { key });
    await insert();
    for (const { messages } of [admin, auditor]) {
      await arrived(messages, 1);
      expect(messages[0]?.data?.auditEventsAdded).toMatchObject({
        truncated: false,
        events: [{ eventType: 'feature_flag.created', flagKey: key, metadata: { flagKey: key } }],
      });
    }
  });

  it('goes on for longer than a query may take', async () => {
    const hurried = await startGraphql(database, { executionMs: 1 });
    try {
      await vi.waitFor(() => expect(hurried.graphql.healthy()).toBe(true), 5_000);
      const { messages } = await subscribe(adminToken(), EVENTS, { key }, { to: hurried });
      await insert();
      await arrived(messages, 1);
      expect(messages[0]).toMatchObject({
        data: { auditEventsAdded: { events: [{ flagKey: key }] } },
      });
      expect(messages[0]).not.toHaveProperty('errors');
    } finally {
      await hurried.close();
    }
  });

  it('sends nothing of what the token’s environments, or the arguments, leave out', async () => {
    const production = await subscribe(adminToken({ environments: ['production'] }), EVENTS);
    const staging = await subscribe(adminToken({ environments: ['staging'] }), EVENTS);
    const none = await subscribe(auditorToken({ environments: [] }), EVENTS);
    const other = await subscribe(adminToken(), EVENTS, { key: 'another' });
    const narrowed = await subscribe(adminToken(), EVENTS, { environment: 'staging' });
    await insert();
    await insert({ environment: 'staging' });
    await arrived(production.messages, 1);
    await arrived(staging.messages, 1);
    await arrived(narrowed.messages, 1);
    for (const { messages } of [staging, narrowed])
      expect(messages[0]?.data?.auditEventsAdded?.events).toMatchObject([
        { environment: 'staging' },
      ]);
    expect(production.messages[0]?.data?.auditEventsAdded?.events).toMatchObject([
      { environment: 'production' },
    ]);
    expect([none.messages, other.messages]).toEqual([[], []]);
  });

  it('is forbidden to viewers, at once', async () => {
    expect(await refusalOf(viewerToken(), EVENTS)).toBe('forbidden');
  });

  const insertMany = (many: number) =>
    asOwner((client) =>
      client.query(
        `insert into app_public.feature_flags (flag_key) select $1 || '-' || n from generate_series(1, $2::int) n`,
        [key, many],
      ),
    );

  it('brings more than one notification has room for', async () => {
    const { messages } = await subscribe(adminToken(), EVENTS);
    await insertMany(120);
    const added = () => messages.map(({ data }) => data?.auditEventsAdded);
    await expect.poll(() => added().flatMap((each) => each?.events)).toHaveLength(120);
    expect(added().filter((each) => each?.truncated)).toEqual([]);
  });

  it('says when there is more than it brings', async () => {
    const { messages } = await subscribe(adminToken(), EVENTS);
    await insertMany(700);
    const last = () => messages.at(-1)?.data?.auditEventsAdded;
    await expect.poll(() => last()?.truncated).toBe(true);
    expect(last()?.events.length).toBeGreaterThan(400);
  });

  it('ends as soon as the listener loses the database, and works again after', async () => {
    const { messages, ended } = await subscribe(adminToken(), EVENTS, { key });
    await withClient(withDatabase(database.rootUrl, 'postgres'), async (root) => {
      await root.query(`alter database ${database.name} allow_connections false`);
      try {
        await root.query(
          `select pg_terminate_backend(pid) from pg_stat_activity
           where application_name = 'halyard-api-listener' and datname = $1`,
          [database.name],
        );
        // In the midst of the outage: a client would take silence for no news.
        await ended;
        expect(messages.at(-1)?.errors?.[0]?.extensions?.code).toBe('database_unavailable');
        expect(await refusalOf(adminToken(), EVENTS)).toBe('database_unavailable');
      } finally {
        await root.query(`alter database ${database.name} allow_connections true`);
      }
    });
    await vi.waitFor(() => expect(api().graphql.healthy()).toBe(true), 5_000);
    const again = await subscribe(adminToken(), EVENTS, { key });
    await insert();
    await arrived(again.messages, 1);
  });

  it('passes over notifications that are none, and counts them in one line of the log', async () => {
    const { messages } = await subscribe(adminToken(), EVENTS, { key });
    const logged = api().lines.length;
    await flood(
      `(array['', 'null', '[]', '{"events": ["x"]}', '7', repeat('[', 7000)])[1 + g % 6] || g`,
    );
    await insert();
    await arrived(messages, 1);
    expect(await api().codeOf('{ nothing }')).toBe('invalid_query');
    const lines = api()
      .lines.slice(logged)
      .filter(({ level }) => level !== 'debug');
    expect(lines).toMatchObject([{ level: 'warn', channel: 'halyard_audit', count: 1 }]);
    await expect.poll(() => api().graphql.load.ignored).toBeGreaterThanOrEqual(FLOOD);
  });

  it('sends what was read of rows only, however many notifications are made up', async () => {
    const all = await subscribe(adminToken(), EVENTS);
    const one = await subscribe(adminToken(), EVENTS, { key });
    const schedules = await subscribe(viewerToken(), SCHEDULES);
    const logged = api().logText().length;
    await flood(`json_build_object('events', json_build_array(gen_random_uuid()),
      'schedules', json_build_array(gen_random_uuid()), 'truncated', true)::text`);
    const flag = await insert();
    await asOwner((client) => insertSchedule(client, flag.id));
    for (const { messages } of [all, one])
      await expect
        .poll(() => messages.flatMap(({ data }) => data?.auditEventsAdded?.events))
        .toMatchObject([
          { eventType: 'feature_flag.created', flagKey: key },
          { eventType: 'flag_schedule.created', flagKey: key },
        ]);
    await expect
      .poll(() => schedules.messages.flatMap(({ data }) => data?.flagSchedulesChanged?.schedules))
      .toMatchObject([{ flag: { flagKey: key } }]);
    const texts = [all, one, schedules].map(({ messages }) => JSON.stringify(messages));
    expect(texts.filter((text) => text.includes('"truncated":true'))).toEqual([]);
    expect(api().logText().length - logged).toBeLessThan(100_000);
  });
});

describe('flagSchedulesChanged', () => {
  it('brings schedules as they change, to admins and viewers, with both names', async () => {
    const admin = await subscribe(adminToken(), SCHEDULES, { key });
    const viewer = await subscribe(viewerToken(), SCHEDULES, { key, environment: 'production' });
    const flag = await insert();
    const { id } = await asOwner((client) => insertSchedule(client, flag.id));
    await arrived(admin.messages, 1);
    await api().data(
      `mutation { cancelFlagSchedule(input: { id: "${id}" }) { clientMutationId } }`,
    );
    for (const { messages } of [admin, viewer]) {
      await arrived(messages, 2);
      expect(messages.map(({ data }) => data?.flagSchedulesChanged?.schedules)).toMatchObject([
        [{ id, status: 'pending', cancelledBy: null, updates: { enabled: true } }],
        [
          {
            id,
            status: 'cancelled',
            createdBy: null,
            cancelledBy: 'alice',
            flag: { flagKey: key },
          },
        ],
      ]);
    }
  });

  it.each([
    'subscription { flagSchedulesChanged(environment: "prodction") { schedules { id } } }',
    'subscription { auditEventsAdded(environment: "prodction") { events { id } } }',
  ])('refuses an environment that there isn’t: %s', async (query) => {
    expect(await refusalOf(adminToken(), query)).toBe('environment_not_found');
  });

  it('sends nothing of other environments, and is for auditors too', async () => {
    const staging = await subscribe(viewerToken({ environments: ['staging'] }), SCHEDULES);
    const production = await subscribe(viewerToken(), SCHEDULES);
    const auditor = await subscribe(auditorToken(), SCHEDULES);
    const flag = await insert();
    await asOwner((client) => insertSchedule(client, flag.id));
    await arrived(production.messages, 1);
    await arrived(auditor.messages, 1);
    expect(staging.messages).toEqual([]);
  });
});

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
    expect(await refusalOf(adminToken(), '{ featureFlags { nodes { id } } }')).toBe(
      'invalid_query',
    );
    expect(await refusalOf(adminToken(), 'subscription { nothing }')).toBe('invalid_query');
    expect(await refusalOf(adminToken(), EVENTS, { key: 7 })).toBe('invalid_value');
    expect(await refusalOf(adminToken(), EVENTS.padEnd(4_001))).toBe('invalid_query');
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
