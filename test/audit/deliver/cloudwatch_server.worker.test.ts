import { FilterLogEventsCommand, PutLogEventsCommand } from '@aws-sdk/client-cloudwatch-logs';
import type { FilterLogEventsCommandInput, InputLogEvent } from '@aws-sdk/client-cloudwatch-logs';
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { makeCloudWatchServer } from '../../support/cloudwatch_server.ts';
import type { CloudWatchServer } from '../../support/cloudwatch_server.ts';
import { GROUP, STREAM, makeTestClient } from '../../support/cloudwatch_sink.ts';

// The sink's tests prove something only as far as this server refuses what the service refuses.

const HOUR_MS = 3_600_000;
let server: CloudWatchServer;

beforeEach(async () => {
  server = await makeCloudWatchServer();
  server.createStream(GROUP, STREAM);
});

afterEach(() => server.close());

async function put(logEvents: InputLogEvent[], logStreamName = STREAM) {
  const client = makeTestClient(server);
  onTestFinished(() => client.destroy());
  const answer = await client.send(
    new PutLogEventsCommand({ logGroupName: GROUP, logStreamName, logEvents }),
  );
  return answer.rejectedLogEventsInfo;
}

/** One event for each time, in hours from now. */
function at(...hours: number[]): InputLogEvent[] {
  const now = Date.now();
  return hours.map((hour) => ({ timestamp: Math.round(now + hour * HOUR_MS), message: `${hour}` }));
}

const refusal = { name: 'InvalidParameterException' };

test.each([
  ['no event', () => []],
  ['10,001 events', () => at(...Array.from({ length: 10_001 }, () => 0))],
  [
    'a message too large',
    () => [{ timestamp: Date.now(), message: 'é'.repeat((1_048_576 - 24) / 2) }],
  ],
  [
    'messages too large together',
    () => [0, 1].map(() => ({ timestamp: Date.now(), message: 'x'.repeat(524_288) })),
  ],
  ['an empty message', () => [{ timestamp: Date.now(), message: '' }]],
  ['no order in time', () => at(0, -0.1)],
  ['a span of more than a day', () => at(-25, 0)],
])('refuses %s', async (_what, events) => {
  await expect(put(events())).rejects.toMatchObject(refusal);
  expect(server.stored(GROUP, STREAM)).toEqual([]);
});

test('takes the most that the limits allow', async () => {
  await put(at(-23.999, 0));
  await put([{ timestamp: Date.now(), message: 'é'.repeat((1_048_576 - 26) / 2) }]);
  await put(at(...Array.from({ length: 10_000 }, () => 0)));
  expect(server.stored(GROUP, STREAM)).toHaveLength(10_003);
});

test('rejects single events inside an answer of 200 and stores the others', async () => {
  expect(await put(at(-15 * 24, -14.5 * 24, 0, 1.9, 2.1, 3))).toEqual({
    tooOldLogEventEndIndex: 2,
    tooNewLogEventStartIndex: 4,
  });
  server.createStream(GROUP, STREAM, { retentionDays: 1 });
  expect(await put(at(-26, -10))).toEqual({ expiredLogEventEndIndex: 1 });
  expect(server.stored(GROUP, STREAM).map(({ message }) => message)).toEqual(['-10']);
});

test('knows only streams that were created, and names that the service allows', async () => {
  await expect(put(at(0), 'other')).rejects.toMatchObject({ name: 'ResourceNotFoundException' });
  await expect(put(at(0), 'a:b')).rejects.toMatchObject(refusal);
});

describe('FilterLogEvents', () => {
  async function filter(input: Partial<FilterLogEventsCommandInput>, of = server) {
    const client = makeTestClient(of);
    onTestFinished(() => client.destroy());
    return client.send(new FilterLogEventsCommand({ logGroupName: GROUP, ...input }));
  }

  const kinds = (...names: string[]) =>
    names.map((kind, i) => ({
      timestamp: Date.now() - 1_000 + i,
      message: JSON.stringify({ kind, i }),
    }));

  test('finds by a key of the message, with the stream, both times and an id', async () => {
    await put([...kinds('a', 'b', 'a'), { timestamp: Date.now(), message: 'kind a' }]);
    const { events, nextToken } = await filter({ filterPattern: '{ $.kind = "a" }' });
    expect(events).toEqual(
      [0, 2].map((i) => ({
        logStreamName: STREAM,
        ...server.stored(GROUP, STREAM)[i],
        ingestionTime: expect.any(Number) as number,
        eventId: expect.stringMatching(/./) as string,
      })),
    );
    expect(nextToken).toBeUndefined();
  });

  test('keeps to the times, both ends included', async () => {
    const events = kinds('a', 'a', 'a', 'a');
    await put(events);
    const [, startTime, endTime] = events.map(({ timestamp }) => timestamp);
    const found = await filter({ startTime, endTime });
    expect(found.events?.map(({ message }) => message)).toEqual(
      [1, 2].map((i) => events[i]?.message),
    );
  });

  test('gives a page and a token for the next one, which may be empty', async () => {
    const small = await makeCloudWatchServer({ scan: 2 });
    onTestFinished(() => small.close());
    small.createStream(GROUP, STREAM);
    const client = makeTestClient(small);
    onTestFinished(() => client.destroy());
    await client.send(
      new PutLogEventsCommand({
        logGroupName: GROUP,
        logStreamName: STREAM,
        logEvents: kinds('a', 'b', 'b', 'b', 'a'),
      }),
    );
    const pages: number[] = [];
    let nextToken: string | undefined;
    do {
      const page = await filter({ filterPattern: '{ $.kind = "a" }', nextToken }, small);
      pages.push(page.events?.length ?? Number.NaN);
      ({ nextToken } = page);
    } while (nextToken !== undefined);
    expect(pages).toEqual([1, 0, 1]);
  });

  test('gives no more than the limit, and refuses what it does not know', async () => {
    await put(kinds('a', 'a', 'a'));
    const page = await filter({ limit: 2 });
    expect(page.events).toHaveLength(2);
    expect((await filter({ limit: 2, nextToken: page.nextToken })).events).toHaveLength(1);
    for (const input of [
      { limit: 10_001 },
      { filterPattern: '{ $.kind > 1 }' },
      { nextToken: page.nextToken, startTime: 1 },
    ])
      await expect(filter(input)).rejects.toMatchObject(refusal);
    await expect(filter({ logGroupName: 'other' })).rejects.toMatchObject({
      name: 'ResourceNotFoundException',
    });
  });
});

test('asks for a signature', async () => {
  const response = await fetch(server.url, {
    method: 'POST',
    headers: {
      'content-type': 'application/x-amz-json-1.1',
      'x-amz-target': 'Logs_20140328.PutLogEvents',
    },
    body: '{}',
  });
  expect(response.status).toBe(403);
});
