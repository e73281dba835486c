import { readFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { inspect } from 'node:util';
import { Webhook } from 'standardwebhooks';
import { describe, expect, onTestFinished, test } from 'vitest';
import { readRetryAfter } from '../../../src/audit/delivery/sinks/webhook/post.ts';
import { makeEvent, makeEvents } from '../../support/audit_events.ts';
import { startProcess } from '../../support/processes.ts';
import {
  makeTestWebhook,
  SECRET,
  startWebhookServer,
  status,
} from '../../support/webhook_server.ts';

const never = new AbortController().signal;

describe('a post', () => {
  test('is the shipped text, byte for byte, one an event and in order, and the library verifies it', async () => {
    const server = await startWebhookServer();
    const { sink } = makeTestWebhook(server);
    const events = [...makeEvents(3), makeEvent(4, { message: '{"eventType": "ä €", "seq": 4}' })];
    const counts: number[] = [];
    await sink.send(events, never, (count) => counts.push(count));
    expect(server.posted.map(({ body }) => body)).toEqual(events.map(({ message }) => message));
    expect(counts).toEqual([1, 2, 3, 4]);
    expect(server.connections).toBe(1);
    for (const [i, { headers, body }] of server.posted.entries()) {
      const given = headers as Record<string, string>;
      expect(() => new Webhook(SECRET).verify(body, given)).not.toThrow();
      expect(headers['webhook-id']).toBe(events[i]?.eventId);
      expect(() => new Webhook(SECRET).verify(`${body} `, given)).toThrow();
    }
  });

  test('is signed with each secret, so that a receiver may change from one to another', async () => {
    const server = await startWebhookServer();
    const other = Buffer.alloc(24, 9);
    const { sink } = makeTestWebhook(server, { keys: [other, Buffer.alloc(32, 7)] });
    await sink.send([makeEvent(1)], never);
    const { headers, body } = server.posted[0] ?? { headers: {}, body: '' };
    for (const secret of [SECRET, `whsec_${other.toString('base64')}`])
      new Webhook(secret).verify(body, headers as Record<string, string>);
  });

  test('has the credentials of the URL, which no error and no log has', async () => {
    const server = await startWebhookServer();
    const url = new URL(server.url.replace('//', '//user:hunter2@'));
    const { sink, text } = makeTestWebhook(server, { url, attemptMs: 100 });
    const failures: unknown[] = [];
    const send = () =>
      sink.send([makeEvent(1)], never).catch((error: unknown) => failures.push(error));
    for (const answer of [status(401), status(500), () => undefined]) {
      server.answer = answer;
      await send();
    }
    server.answer = status(400);
    for (let i = 0; i < 5; i++) await send();
    const basic = `Basic ${Buffer.from('user:hunter2').toString('base64')}`;
    expect(new Set(server.posted.map(({ headers }) => headers.authorization))).toEqual(
      new Set([basic]),
    );
    expect(failures).toHaveLength(6);
    expect(text() + failures.map((error) => inspect(error)).join('')).not.toMatch(/hunter2|\/hook/);
  });

  test('is taken by the receiver of docs/webhook.md, and refused where another secret signed it', async () => {
    const page = await readFile(new URL('../../../docs/webhook.md', import.meta.url), 'utf8');
    const code = /```js\n(.*?)```/s.exec(page)?.[1] ?? '';
    const receiver = startProcess(
      process.execPath,
      [
        '--input-type=module',
        '--eval',
        code.replace(
          'listen(8080)',
          'listen(0, function () { console.log(`port ${this.address().port}`) })',
        ),
      ],
      { env: { WEBHOOK_SECRET: SECRET } },
    );
    onTestFinished(() => void receiver.end('SIGKILL'));
    const [, port = ''] = await receiver.waitFor(/port (\d+)/);
    const url = new URL(`http://127.0.0.1:${port}/`);
    await makeTestWebhook({ url: url.href }).sink.send([makeEvent(1)], never);
    await receiver.waitFor(/wishlist-gallery/);
    const other = makeTestWebhook({ url: url.href }, { keys: [Buffer.alloc(32, 8)] });
    await expect(other.sink.send([makeEvent(2)], never)).rejects.toThrow('answered 401');
  });

  test('is made of the wanted types only, and of seals where they are named', async () => {
    const server = await startWebhookServer();
    const made = ['flag_schedule.applied', 'audit.sealed', 'audit.missing', 'feature_flag.updated'];
    const events = made.map((type, i) =>
      makeEvent(i + 1, { message: JSON.stringify({ eventType: type }) }),
    );
    const sentFor = async (wanted: readonly string[] | null) => {
      server.posted.length = 0;
      const counts: number[] = [];
      const { sink } = makeTestWebhook(server, { types: wanted });
      await sink.send(events, never, (count) => counts.push(count));
      expect(counts.at(-1)).toBe(4);
      return server.posted.map(({ body }) => (JSON.parse(body) as { eventType: string }).eventType);
    };
    expect(await sentFor(null)).toEqual(made.filter((type) => type !== 'audit.sealed'));
    expect(await sentFor(['feature_flag.updated'])).toEqual(made.slice(2));
    expect(await sentFor(['audit.sealed'])).toEqual(['audit.sealed', 'audit.missing']);
  });
});

describe('an answer', () => {
  test.for([200, 202, 299])('%i confirms', async (code) => {
    const server = await startWebhookServer();
    server.answer = status(code);
    await makeTestWebhook(server).sink.send([makeEvent(1)], never);
  });

  test('whose body is endless, hangs or breaks off confirms by its status', async () => {
    const server = await startWebhookServer();
    const { sink } = makeTestWebhook(server);
    const endings: (typeof server.answer)[] = [
      (response) => response.writeHead(200).end('x'.repeat(1_000_000)),
      (response) => response.writeHead(200).write('and so on'),
      (response, _posted, request) => {
        response.writeHead(200, { 'Content-Length': '100' }).write('half');
        setImmediate(() => request.socket.destroy());
      },
    ];
    for (const answer of endings) {
      server.answer = answer;
      await sink.send([makeEvent(1)], never);
    }
    expect(server.posted).toHaveLength(3);
  });

  test('that comes before the receiver has read all counts, though the connection is cut then', async () => {
    let connections = 0;
    const raw = createServer((socket) => {
      connections += 1;
      socket.on('error', () => undefined);
      socket.once('data', () => {
        socket.pause();
        socket.write('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n', () =>
          // One turn of the loop for the client's read, which is in this process too.
          setImmediate(() => setImmediate(() => socket.resetAndDestroy())),
        );
      });
    });
    await new Promise<void>((resolve) => raw.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => void raw.close());
    const { port } = raw.address() as AddressInfo;
    const { sink } = makeTestWebhook({ url: `http://127.0.0.1:${port}/` });
    await sink.send([makeEvent(1, { message: 'x'.repeat(20_000_000) })], never);
    expect(connections).toBe(1);
  });

  test.for([301, 307, 308])('%i is not followed, and says what to do', async (code) => {
    const server = await startWebhookServer();
    server.answer = status(code, { Location: server.url });
    const { sink } = makeTestWebhook(server);
    await expect(sink.send([makeEvent(1)], never)).rejects.toThrow(/redirects aren't followed/);
    expect(server.posted).toHaveLength(1);
  });

  test.for([408, 425, 429, 500, 503])('%i is tried again, however often', async (code) => {
    const server = await startWebhookServer();
    server.answer = status(code);
    const { sink } = makeTestWebhook(server);
    for (let i = 0; i < 6; i++)
      await expect(sink.send([makeEvent(1)], never)).rejects.toThrow(`answered ${code} to event 1`);
    expect(sink.degraded?.()).toEqual({ skipped: 0 });
  });

  test('with Retry-After says when to ask again', async () => {
    const server = await startWebhookServer();
    server.answer = status(429, { 'Retry-After': '17' });
    const { sink } = makeTestWebhook(server);
    await expect(sink.send([makeEvent(1)], never)).rejects.toMatchObject({ retryInMs: 17_000 });
  });

  test('of 410 ends it at once', async () => {
    const server = await startWebhookServer();
    server.answer = status(410);
    const { sink } = makeTestWebhook(server);
    await expect(sink.send(makeEvents(2), never)).rejects.toMatchObject({
      name: 'DestinationGoneError',
    });
    expect(server.posted).toHaveLength(1);
  });

  test('of another 4xx passes the event over at the fifth time, and what follows arrives', async () => {
    const server = await startWebhookServer();
    server.answer = (response, { body }) =>
      response.writeHead(body.includes('r-2') ? 422 : 204).end();
    const { sink, lines } = makeTestWebhook(server);
    const undeliverable: [number, number][] = [];
    const send = (from: number, counts: number[] = []) =>
      sink.send(
        makeEvents(3).slice(from),
        never,
        (count) => counts.push(count),
        ({ seq }, code) => {
          undeliverable.push([seq, code]);
          return Promise.resolve();
        },
      );
    await expect(send(0)).rejects.toThrow('answered 422 to event 2');
    for (let i = 0; i < 3; i++) await expect(send(1)).rejects.toThrow('answered 422 to event 2');
    expect(undeliverable).toEqual([]);
    const counts: number[] = [];
    await send(1, counts);
    expect([undeliverable, counts]).toEqual([[[2, 422]], [1, 2]]);
    expect(sink.degraded?.()).toEqual({ skipped: 1 });
    const warned = lines.find(({ kind }) => kind === 'skipped');
    expect(warned).toMatchObject({ level: 'warn', status: 422, destination: 'webhook:test' });
    expect(server.posted).toHaveLength(7);
  });

  test('that does not come, or whose connection is cut, fails the attempt', async () => {
    const server = await startWebhookServer();
    const { sink } = makeTestWebhook(server, { attemptMs: 100 });
    server.answer = () => undefined;
    await expect(sink.send([makeEvent(1)], never)).rejects.toThrow('No answer within 100 ms');
    server.answer = (_response, _posted, request) => request.socket.resetAndDestroy();
    await expect(sink.send([makeEvent(1)], never)).rejects.toThrow("can't be reached");
    const stop = new AbortController();
    server.answer = () => stop.abort(new Error('given up'));
    await expect(sink.send([makeEvent(1)], stop.signal)).rejects.toThrow('given up');
  });

  test('that comes over a connection which the receiver closes now and then fails nothing', async () => {
    const server = await startWebhookServer();
    const { sink } = makeTestWebhook(server);
    let cut = true;
    server.answer = (response, _posted, request) => {
      // The second request on a connection: as where the receiver closes it while the request is under way.
      if (server.posted.length === 2 && cut) {
        cut = false;
        request.socket.resetAndDestroy();
      } else response.writeHead(204).end();
    };
    await sink.send(makeEvents(3), never);
    expect(server.posted).toHaveLength(4);
    expect(server.connections).toBe(2);
  });

  test.for<[string | undefined, number | null]>([
    ['120', 120_000],
    ['Thu, 01 Jan 2026 00:01:00 GMT', 60_000],
    ['Wed, 31 Dec 2025 00:00:00 GMT', 0],
    ['soon', null],
    ['-1', 0],
    [undefined, null],
  ])('Retry-After: %s is %s ms', ([text, ms]) => {
    expect(readRetryAfter(text, Date.UTC(2026, 0, 1))).toBe(ms);
  });
});
