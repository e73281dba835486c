import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { withClient } from '../support/database.ts';
import type { TestDatabase } from '../support/database.ts';
import { insertFlag, insertSchedule } from '../support/factory.ts';
import { makeCloudWatchServer } from '../support/cloudwatch_server.ts';
import type { CloudWatchServer } from '../support/cloudwatch_server.ts';
import { insertDue, parseShipped, spawnWorker, useFreshDatabase } from '../support/worker.ts';
import type { Shipped } from '../support/worker.ts';

const STREAM = 'host-1';
let server: CloudWatchServer;
let database: TestDatabase;
let group: string;
let tests = 0;

beforeAll(async () => {
  server = await makeCloudWatchServer();
});
afterAll(() => server.close());

beforeEach(async () => {
  database = await useFreshDatabase();
  tests += 1;
  group = `/halyard/test-${tests}`;
});

/** A worker process with the real CloudWatch sink, by the variables of production. */
function start() {
  return spawnWorker(database, {
    AUDIT_SINK: 'cloudwatch',
    AUDIT_LOG_GROUP: group,
    AUDIT_LOG_STREAM: STREAM,
    AWS_ENDPOINT_URL: server.url,
    AWS_REGION: 'eu-north-1',
    AWS_ACCESS_KEY_ID: 'AKIDEXAMPLE',
    AWS_SECRET_ACCESS_KEY: 'secret',
  });
}

/** The events that have arrived, without the records of their seals. */
function stored(): Shipped[] {
  return server
    .stored(group, STREAM)
    .map(({ message }) => parseShipped(message))
    .filter(({ eventType }) => eventType !== 'audit.sealed');
}

test('a schedule reaches CloudWatch when it is created and when it is applied', async () => {
  await start();
  const { flag, id } = await withClient(database.ownerUrl, async (client) => {
    const flag = await insertFlag(client, { flag_key: 'wishlist-gallery' });
    const { id } = await insertSchedule(client, flag.id, {
      dueIn: '300 ms',
      updates: { enabled: true },
    });
    return { flag, id };
  });
  await expect.poll(() => stored().length, { timeout: 15_000 }).toBe(4);
  const events = stored().filter(({ eventType }) => eventType.startsWith('flag_schedule.'));
  const metadata = { scheduleId: id, flagKey: flag.flag_key, updates: { enabled: true } };
  expect(events).toMatchObject([
    { eventType: 'flag_schedule.created', level: 'info', metadata },
    {
      eventType: 'flag_schedule.applied',
      level: 'info',
      metadata: { ...metadata, flagState: { enabled: true, rolloutPercentage: 100 } },
    },
  ]);
  expect(stored().map(({ seq }) => seq)).toStrictEqual([1, 2, 3, 4]);
});

test('after kill -9 in mid-send the next worker repeats what was in flight and loses nothing', async () => {
  const killed = await start();
  await withClient(database.ownerUrl, async (client) => {
    await insertDue(client, { count: 5, dueIn: '1 day' });
    await expect.poll(() => stored().length, { timeout: 15_000 }).toBe(10);
    // The next ones are stored, and the answer that says so never ends.
    server.failNext('drip');
    await insertDue(client, { count: 5, dueIn: '1 day' });
    await expect.poll(() => stored().length, { timeout: 15_000 }).toBeGreaterThan(10);
  });
  const inFlight = stored().slice(10);
  await killed.end('SIGKILL');
  await start();
  await expect.poll(() => stored().length, { timeout: 20_000 }).toBe(20 + inFlight.length);
  const seqs = stored().map(({ seq }) => seq);
  expect(seqs).toStrictEqual([
    ...Array.from({ length: 10 }, (_, i) => i + 1),
    ...inFlight.map(({ seq }) => seq),
    ...Array.from({ length: 10 }, (_, i) => i + 11),
  ]);
  expect(new Set(stored().map(({ eventId }) => eventId)).size).toBe(20);
});
