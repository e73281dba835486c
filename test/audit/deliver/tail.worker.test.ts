import { afterEach, beforeEach, expect, test } from 'vitest';
import { NotReadableError } from '../../../src/audit/delivery/sink.ts';
import { makeEvent } from '../../support/audit_events.ts';
import { makeCloudWatchServer } from '../../support/cloudwatch_server.ts';
import type { CloudWatchServer } from '../../support/cloudwatch_server.ts';
import { GROUP, makeTestSink, STREAM } from '../../support/cloudwatch_sink.ts';

const TRAIL = '11111111-1111-4111-8111-111111111111';
const OTHER_TRAIL = '22222222-2222-4222-8222-222222222222';
const HASH = 'ab'.repeat(32);
const never = new AbortController().signal;
const NOW = Date.now();

let server: CloudWatchServer;
beforeEach(async () => {
  server = await makeCloudWatchServer();
});
afterEach(() => server.close());

/** An audit.sealed record; sealed so many seconds ago. */
function sealed(seal: number, { ago = 0, trail = TRAIL } = {}): string {
  const numbers = `"seal": ${seal}, "trail": "${trail}", "incarnation": "${TRAIL}", "firstSeq": 1, "lastSeq": ${seal}`;
  return (
    `{"eventType": "audit.sealed", "timestamp": "${new Date(NOW - ago * 1_000).toISOString()}", "eventId": "e", ` +
    `"metadata": {${numbers}, "root": "${HASH}", "previousHead": "${HASH}", "head": "${HASH}"}}`
  );
}

/** Puts messages into a stream, as events of `ago` seconds before now. */
async function store(messages: readonly string[], logStream = STREAM, ago = 0): Promise<void> {
  const { sink } = makeTestSink(server, { logStream });
  const at = NOW - ago * 1_000;
  await sink.send(
    messages.map((message, i) => makeEvent(i + 1, { message, at })),
    never,
  );
}

/** The newest seal that it finds. */
const newest = async (trail = TRAIL) => (await readTail(trail))?.seals[0]?.seal ?? null;
const readTail = (trail = TRAIL) => makeTestSink(server).sink.readTail?.(trail, never);
const asked = () =>
  server.calls
    .map(({ operation }) => operation)
    .filter((operation) => !/^(Put|Create)/.test(operation));

test('is none without a group, a stream, or a seal', async () => {
  expect(await newest()).toBeNull();
  server.createStream(GROUP, STREAM);
  expect(await newest()).toBeNull();
  await store([makeEvent(1).message]);
  expect(await newest()).toBeNull();
});

test('is the one with the highest number, in any stream, and in any order of arrival', async () => {
  await store([sealed(7, { ago: 50 }), sealed(6, { ago: 60 })], 'host-2', 50);
  await store([sealed(9, { ago: 30 })], 'host-3', 30);
  await store([sealed(8, { ago: 40 })], 'host-4', 40);
  expect(await newest()).toBe(9);
});

test('is of the trail that is asked for', async () => {
  await store([sealed(3, { ago: 9 }), sealed(90, { trail: OTHER_TRAIL })]);
  expect(await newest()).toBe(3);
  expect(await newest(OTHER_TRAIL)).toBe(90);
});

test('is found behind pages of other records, a bounded number of them', async () => {
  const large = 'x'.repeat(200_000);
  const others = (count: number) => Array.from({ length: count }, () => `{"note": "${large}"}`);
  await store([sealed(3), ...others(12)]);
  expect(await newest()).toBe(3);
  await store(others(30));
  const before = asked().length;
  expect(await newest()).toBeNull();
  expect(asked().length - before).toBe(6);
  // A look that was cut short is no answer.
  expect((await readTail())?.unsure).toContain('hold no seal');
});

test('is found behind empty pages, which are not the end of a stream', async () => {
  await server.close();
  server = await makeCloudWatchServer({ empty: 7 });
  await store([sealed(3)]);
  const tail = await readTail();
  expect(tail?.seals).toMatchObject([{ seal: 3 }]);
  expect(tail?.unsure).toBeUndefined();
});

test('is looked for in the ten streams with the last events, and in its own', async () => {
  for (let i = 0; i < 12; i++)
    await store([sealed(i, { ago: 100 - i })], `host-${i + 10}`, 100 - i);
  await store([sealed(70, { ago: 3_000 })], STREAM, 3_000);
  expect(await newest()).toBe(70);
  expect(asked()).toHaveLength(12);
});

test('is asked for again after throttling, and refused with what to allow', async () => {
  await store([sealed(3)]);
  server.failNext('throttle', 2, 'DescribeLogStreams');
  server.failNext('unavailable', 1, 'GetLogEvents');
  expect(await newest()).toBe(3);
  server.failNext('denied', 1, 'GetLogEvents');
  const refusal = makeTestSink(server).sink.readTail?.(TRAIL, never);
  await expect(refusal).rejects.toThrow(NotReadableError);
  await expect(refusal).rejects.toThrow('allow logs:DescribeLogStreams and logs:GetLogEvents');
});

test('stops being asked for when it is given up', async () => {
  server.failNext('hang', 1, 'DescribeLogStreams');
  const stop = new AbortController();
  const asking = makeTestSink(server).sink.readTail?.(TRAIL, stop.signal);
  await expect.poll(asked).toHaveLength(1);
  stop.abort(new Error('enough'));
  await expect(asking).rejects.toThrow('enough');
});
