import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { withClient } from '../../support/database.ts';
import type { TestDatabase } from '../../support/database.ts';
import { insertFlag, insertSchedule } from '../../support/factory.ts';
import { makeCloudWatchServer } from '../../support/cloudwatch_server.ts';
import type { CloudWatchServer } from '../../support/cloudwatch_server.ts';
import { insertDue, parseShipped, spawnWorker, useFreshDatabase } from '../../support/worker.ts';
import type { Shipped } from '../../support/worker.ts';

const STREAM = 'host-1';

interface Line {
  readonly level: string;
  readonly retryInMs?: number;
}

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
function start(env: NodeJS.ProcessEnv = {}) {
  return spawnWorker(database, {
    AUDIT_SINK: 'cloudwatch',
    AUDIT_LOG_GROUP: group,
    AUDIT_LOG_STREAM: STREAM,
    AWS_ENDPOINT_URL: server.url,
    AWS_REGION: 'eu-north-1',
    AWS_ACCESS_KEY_ID: 'AKIDEXAMPLE',
    AWS_SECRET_ACCESS_KEY: 'secret',
    ...env,
  });
}

/** Makes so many events, in one statement. */
function makeEvents(count: number): Promise<void> {
  return withClient(database.ownerUrl, (client) =>
    insertDue(client, { count: count / 2, dueIn: '1 day' }),
  );
}

function cursor(): Promise<number> {
  return withClient(database.ownerUrl, async (client) => {
    const { rows } = await client.query<{ seq: string }>(
      'select app_private.audit_cursor($1) as seq',
      [`cloudwatch:${group}`],
    );
    return Number(rows[0]?.seq);
  });
}

const seqsFrom = (first: number, last: number) =>
  Array.from({ length: last - first + 1 }, (_, i) => first + i);
const puts = (outcome: string) => server.calls.filter((call) => call.outcome === outcome).length;

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

test('while the forwarder is frozen in mid-send another takes over, and when it wakes it goes on without harm', async () => {
  const env = { AUDIT_LEASE_MS: '2000' };
  const frozen = await start(env);
  await makeEvents(10);
  await expect.poll(() => stored().length, { timeout: 15_000 }).toBe(10);
  const hanging = puts('hang');
  server.failNext('hang');
  await makeEvents(10);
  await expect.poll(() => puts('hang'), { timeout: 15_000 }).toBe(hanging + 1);
  process.kill(frozen.pid, 'SIGSTOP');
  const other = await start(env);
  await expect.poll(() => stored().length, { timeout: 10_000 }).toBe(20);
  await expect.poll(cursor).toBe(20);

  process.kill(frozen.pid, 'SIGCONT');
  await makeEvents(10);
  await expect.poll(() => stored().length, { timeout: 15_000 }).toBeGreaterThanOrEqual(30);
  expect(await other.end('SIGTERM')).toBe(0);
  await makeEvents(10);
  await expect
    .poll(() => new Set(stored().map(({ seq }) => seq)).size, { timeout: 15_000 })
    .toBe(40);
  await expect.poll(cursor).toBe(40);
  // Its own batch at the most arrived twice.
  const repeated = stored().length - 40;
  expect([0, 10]).toContain(repeated);
  const firsts = stored()
    .map(({ seq }) => seq)
    .filter((seq, i, all) => all.indexOf(seq) === i);
  expect(firsts).toStrictEqual(seqsFrom(1, 40));
  expect(frozen.stderr.filter((line) => (JSON.parse(line) as Line).level === 'error')).toEqual([]);
  expect(await frozen.end('SIGTERM')).toBe(0);
});

test('a worker that is told to stop in mid-send ends in time, and the next one sends what was in flight', async () => {
  const worker = await start();
  const hanging = puts('hang');
  server.failNext('hang');
  await makeEvents(10);
  await expect.poll(() => puts('hang'), { timeout: 15_000 }).toBe(hanging + 1);
  const began = performance.now();
  expect(await worker.end('SIGTERM')).toBe(0);
  expect(performance.now() - began).toBeLessThan(8_000);
  expect(await cursor()).toBe(0);
  await start();
  await expect.poll(() => stored().length, { timeout: 15_000 }).toBe(10);
  expect(stored().map(({ seq }) => seq)).toStrictEqual(seqsFrom(1, 10));
});

test('a storm of throttling is waited out with pauses of its own, and everything arrives once', async () => {
  server.failNext('throttle', 7);
  const { stderr } = await start();
  await makeEvents(10);
  await expect.poll(() => stored().length, { timeout: 40_000 }).toBe(10);
  expect(stored().map(({ seq }) => seq)).toStrictEqual(seqsFrom(1, 10));
  const pauses = stderr
    .map((line) => JSON.parse(line) as Line)
    .filter(({ retryInMs }) => retryInMs);
  expect(pauses).toMatchObject([{ level: 'warn', failures: 1 }]);
  // The pause is the forwarder's own: graphile-worker, whose pauses grow to hours, saw no failure.
  expect(stderr.filter((line) => line.includes('Failed task'))).toEqual([]);
}, 60_000);
