import { createHash } from 'node:crypto';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { CloudWatchLogsClient } from '@aws-sdk/client-cloudwatch-logs';
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import type { AuditEvent } from '../../../src/audit/delivery/sink.ts';
import { makeEvent, makeEvents } from '../../support/audit_events.ts';
import {
  GROUP,
  STREAM,
  makeSinkFromEnvironment,
  makeTestSink,
} from '../../support/cloudwatch_sink.ts';
import { makeCloudWatchServer } from '../../support/cloudwatch_server.ts';
import type { CloudWatchServer } from '../../support/cloudwatch_server.ts';

const DAY_MS = 24 * 3_600_000;
const ERROR = 50;
const never = new AbortController().signal;

let server: CloudWatchServer;

beforeEach(async () => {
  server = await makeCloudWatchServer();
  server.createStream(GROUP, STREAM);
});

afterEach(() => server.close());

const messages = () => server.stored(GROUP, STREAM).map(({ message }) => message);
const operations = () => server.calls.map(({ operation, outcome }) => `${operation} ${outcome}`);

describe('an event that the service refuses', () => {
  test('is found, replaced by a stub in its place, and reported; the rest arrives untouched', async () => {
    const { sink, lines } = makeTestSink(server);
    const events = makeEvents(9);
    const poison = makeEvent(6, {
      message: '{"eventType": "feature_flag.created", "poison": true}',
    });
    server.refuse((message) => message.includes('poison'));
    await sink.send(events.with(5, poison), never);
    const expected = events.map(({ message }) => message);
    expect(messages().toSpliced(5, 1)).toEqual(expected.toSpliced(5, 1));
    expect(JSON.parse(messages()[5] ?? '')).toMatchObject({
      eventType: 'feature_flag.created',
      seq: 6,
      truncated: true,
      reason: 'refused',
      sha256: createHash('sha256').update(poison.message).digest('hex'),
    });
    expect(lines.filter(({ level }) => level === ERROR)).toMatchObject([
      { seq: 6, eventId: poison.eventId },
    ]);
    expect(sink.degraded().stubbed).toBe(1);
  });

  test('an empty message, which the service never takes, blocks nothing', async () => {
    await makeTestSink(server).sink.send(
      [makeEvent(1), makeEvent(2, { message: '' }), makeEvent(3)],
      never,
    );
    expect(messages().map((message) => (JSON.parse(message) as { seq: number }).seq)).toEqual([
      1, 2, 3,
    ]);
  });

  test('a service that refuses everything makes the send fail soon, with nothing reported as replaced', async () => {
    const { sink, lines } = makeTestSink(server);
    server.refuse(() => true);
    await expect(sink.send(makeEvents(1_000), never)).rejects.toMatchObject({
      cause: { name: 'InvalidParameterException' },
    });
    expect(server.calls.length).toBeLessThan(15);
    expect(lines).toEqual([]);
  });
});

test('a request that is too long for whoever stands before the service goes in halves', async () => {
  server.failNext('oversize', 2);
  const events = makeEvents(8);
  await makeTestSink(server).sink.send(events, never);
  expect(server.calls.map((call) => call.events.length)).toEqual([8, 4, 2, 2, 4]);
  expect(messages()).toEqual(events.map(({ message }) => message));
});

describe('what has arrived of a send that fails', () => {
  async function sendAndCount(events: AuditEvent[]): Promise<number> {
    let count = 0;
    const sending = makeTestSink(server).sink.send(events, never, (arrived) => (count = arrived));
    await expect(sending).rejects.toThrow();
    return count;
  }

  test('is told, by whole batches', async () => {
    server.failNext({ reject: {} });
    server.failNext('denied');
    const now = Date.now();
    const days = [3, 3, 3, 1, 1];
    expect(
      await sendAndCount(days.map((day, i) => makeEvent(i + 1, { at: now - day * DAY_MS }))),
    ).toBe(3);
  });

  test('is told of halves, while a poison event is being looked for', async () => {
    server.failNext('oversize');
    server.failNext({ reject: {} });
    server.failNext('denied');
    expect(await sendAndCount(makeEvents(8))).toBe(4);
  });

  test('is nothing of a batch whose rejected part failed, though the rest is stored', async () => {
    server.failNext({ reject: { tooOldLogEventEndIndex: 2 } });
    server.failNext('denied');
    expect(await sendAndCount(makeEvents(8))).toBe(0);
    expect(messages()).toHaveLength(6);
  });

  test('is nothing of a batch whose rejected part is refused, until all halves of that are stored', async () => {
    server.failNext({ reject: { tooOldLogEventEndIndex: 4 } });
    server.failNext('oversize');
    const counts: number[] = [];
    const { sink } = makeTestSink(server);
    await sink.send(makeEvents(8), never, (count) => counts.push(count));
    expect(counts).toEqual([8]);

    server.failNext({ reject: { tooOldLogEventEndIndex: 4 } });
    server.failNext('oversize');
    server.failNext({ reject: {} }, 2);
    server.failNext('denied');
    expect(await sendAndCount(makeEvents(8))).toBe(0);
  });
});

describe('trouble', () => {
  test.each(['throttle', 'unavailable'] as const)('the SDK gets over %s', async (failure) => {
    server.failNext(failure, 2);
    await makeTestSink(server).sink.send(makeEvents(3), never);
    expect(server.calls).toHaveLength(3);
    expect(messages()).toHaveLength(3);
  });

  test('an answer lost after storing means that the batch arrives twice, in order', async () => {
    server.failNext('reset');
    const events = makeEvents(3);
    await makeTestSink(server).sink.send(events, never);
    const once = events.map(({ message }) => message);
    expect(messages()).toEqual([...once, ...once]);
  });

  test('trouble that lasts makes the send fail with the cause; sending again delivers', async () => {
    server.failNext('unavailable', 5);
    const { sink } = makeTestSink(server);
    const events = makeEvents(3);
    await expect(sink.send(events, never)).rejects.toMatchObject({
      cause: { name: 'ServiceUnavailableException' },
    });
    expect(server.calls).toHaveLength(5);
    await sink.send(events, never);
    expect(messages()).toEqual(events.map(({ message }) => message));
  });

  test('a stream deleted between the batches of a send is created again', async () => {
    const { sink } = makeTestSink(server);
    const now = Date.now();
    const events = [3, 1].map((days, i) => makeEvent(i + 1, { at: now - days * DAY_MS }));
    await sink.send(events, never, () => {
      if (server.calls.length === 1) server.deleteGroup(GROUP);
    });
    expect(operations()).toEqual([
      'PutLogEvents ok',
      'PutLogEvents ResourceNotFoundException',
      'CreateLogStream ResourceNotFoundException',
      'CreateLogGroup ok',
      'CreateLogStream ok',
      'PutLogEvents ok',
    ]);
    expect(messages()).toEqual([events[1]?.message]);
  });

  test('a connection that is never made is given up', async () => {
    const silent = await startSilentServer();
    const sink = makeSinkFromEnvironment({ ...server, url: silent }, { connectionTimeoutMs: 100 });
    const began = performance.now();
    await expect(sink.send([makeEvent(1)], never)).rejects.toMatchObject({
      cause: { name: 'TimeoutError' },
    });
    expect(performance.now() - began).toBeLessThan(8_000);
  });

  test('a batch that fails keeps those behind it from being sent', async () => {
    const { sink } = makeTestSink(server);
    server.failNext({ reject: {} });
    server.failNext('denied');
    const now = Date.now();
    const events = [3, 2, 1].map((days, i) => makeEvent(i + 1, { at: now - days * 1.5 * DAY_MS }));
    await expect(sink.send(events, never)).rejects.toMatchObject({
      cause: { name: 'AccessDeniedException' },
    });
    expect(messages()).toEqual([events[0]?.message]);
  });

  test('a server that takes the request and never answers is given up and tried again', async () => {
    server.failNext('hang');
    await makeSinkFromEnvironment(server, { requestTimeoutMs: 100 }).send([makeEvent(1)], never);
    expect(operations()).toEqual(['PutLogEvents hang', 'PutLogEvents ok']);
  });

  test('a server that never answers makes the send fail', async () => {
    server.failNext('hang', 5);
    await expect(
      makeSinkFromEnvironment(server, { requestTimeoutMs: 50 }).send([makeEvent(1)], never),
    ).rejects.toMatchObject({ cause: { name: 'TimeoutError' } });
  });

  test('an answer that never ends is given up and tried again', async () => {
    server.failNext('drip');
    await makeSinkFromEnvironment(server, { requestTimeoutMs: 100 }).send([makeEvent(1)], never);
    expect(operations()).toEqual(['PutLogEvents drip', 'PutLogEvents ok']);
  });

  test('nobody listening makes the send fail with the cause', async () => {
    const port = await freePort();
    vi.stubEnv('AWS_REGION', 'eu-west-1');
    const sink = makeSinkFromEnvironment(server);
    vi.stubEnv('AWS_ENDPOINT_URL_CLOUDWATCH_LOGS', `http://127.0.0.1:${port}`);
    await expect(sink.send([makeEvent(1)], never)).rejects.toMatchObject({
      cause: { code: 'ECONNREFUSED' },
    });
  });
});

describe('giving up', () => {
  test.each(['hang', 'drip'] as const)(
    'an abort ends a send that waits for %s, with its reason',
    async (failure) => {
      server.failNext(failure, 5);
      const reason = new Error('shutting down');
      const abort = new AbortController();
      const sending = makeTestSink(server).sink.send([makeEvent(1)], abort.signal);
      await expect.poll(() => server.calls.length).toBe(1);
      abort.abort(reason);
      await expect(sending).rejects.toBe(reason);
      expect(server.calls).toHaveLength(1);
    },
  );

  test('an abort ends the wait for credentials that never come', async () => {
    const client = new CloudWatchLogsClient({
      endpoint: server.url,
      region: 'eu-north-1',
      credentials: () => new Promise(() => undefined),
    });
    const abort = new AbortController();
    const sending = makeTestSink(server, { client }).sink.send([makeEvent(1)], abort.signal);
    abort.abort('now');
    await expect(sending).rejects.toBe('now');
  });

  test('a signal aborted before sends nothing', async () => {
    await expect(
      makeTestSink(server).sink.send([makeEvent(1)], AbortSignal.abort('before')),
    ).rejects.toBe('before');
    expect(server.calls).toEqual([]);
  });

  test('close ends a send, and later ones at once', async () => {
    server.failNext('hang');
    const { sink } = makeTestSink(server);
    const sending = sink.send([makeEvent(1)], never);
    await expect.poll(() => server.calls.length).toBe(1);
    await sink.close();
    await expect(sending).rejects.toThrow();
    await expect(sink.send([makeEvent(1)], never)).rejects.toThrow();
    expect(server.calls).toHaveLength(1);
  });
});

/** The address of a server that takes no more connections: its process is frozen, and its queue full. */
async function startSilentServer(): Promise<string> {
  const child = spawn(
    process.execPath,
    [
      '-e',
      `const server = require('node:net').createServer();
       server.listen({ port: 0, host: '127.0.0.1', backlog: 1 }, () => console.log(server.address().port));`,
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  onTestFinished(() => void child.kill('SIGKILL'));
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  const port = Number(line);
  child.kill('SIGSTOP');
  for (;;) {
    const filler = connect({ host: '127.0.0.1', port });
    filler.on('error', () => undefined);
    onTestFinished(() => void filler.destroy());
    const connected = once(filler, 'connect', { signal: AbortSignal.timeout(500) });
    if (!(await connected.then(() => true).catch(() => false))) break;
  }
  return `http://127.0.0.1:${port}`;
}

async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((resolve) => probe.listen(0, '127.0.0.1', resolve));
  const { port } = probe.address() as AddressInfo;
  await new Promise((resolve) => probe.close(resolve));
  return port;
}
