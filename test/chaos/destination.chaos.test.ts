import { rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { cloudWatchDestination } from '../support/chaos/cloudwatch.ts';
import { byForm, isFull } from '../support/chaos/form.ts';
import { startLoad } from '../support/chaos/load.ts';
import { makeRandom, newSeed } from '../support/chaos/random.ts';
import { openSite } from '../support/chaos/site.ts';
import { makeCloudWatchServer } from '../support/cloudwatch_server.ts';
import type { CloudWatchServer, Failure } from '../support/cloudwatch_server.ts';
import { startTcpProxy } from '../support/tcp_proxy.ts';
import { withClient } from '../support/database.ts';
import { insertDue, useFreshDatabase } from '../support/worker.ts';

const random = makeRandom(newSeed());
const HOUR_MS = 3_600_000;

async function startCloudWatch(aheadMs = 0): Promise<CloudWatchServer> {
  const server = await makeCloudWatchServer({ clockOffsetMs: aheadMs });
  onTestFinished(() => server.close());
  return server;
}

test('storms of 429 and 503 and lost answers cost repeats at most', async () => {
  const server = await startCloudWatch();
  const site = await openSite(
    await useFreshDatabase(),
    cloudWatchDestination(() => server),
  );
  await Promise.all([site.startWorker(), site.startWorker(), site.startApi()]);
  const load = startLoad(site, random);
  const storms: Failure[] = ['throttle', 'unavailable', 'reset'];
  for (let i = 0; i < byForm({ short: 3, full: 20 }); i++) {
    const storm = storms[i % storms.length] ?? 'reset';
    const calls = server.calls.length;
    server.failNext(storm, random.between(1, byForm({ short: 3, full: 6 })));
    await expect
      .poll(() => server.calls.slice(calls).some(({ outcome }) => outcome === 'ok'), {
        timeout: 60_000,
      })
      .toBe(true);
  }
  await load.stop();
  await site.check(60_000);
});

// The first is longer than the service takes events for: they arrive under another stamp.
const OUTAGES = [
  ['fifteen days', 15 * 24 * HOUR_MS],
  ['an hour', HOUR_MS],
] as const;

test.for(OUTAGES.slice(0, byForm({ short: 1, full: 2 })))(
  'an outage of %s delays the trail and changes nothing in it',
  async ([, ms]) => {
    let server = await startCloudWatch();
    const target = { host: '127.0.0.1', port: Number(new URL(server.url).port) };
    const network = await startTcpProxy(target);
    onTestFinished(() => network[Symbol.asyncDispose]());
    const clock = join(tmpdir(), `halyard-chaos-clock-${process.pid}-${ms}`);
    await writeFile(clock, '0');
    onTestFinished(() => rm(clock));

    const url = `http://127.0.0.1:${network.port}`;
    const site = await openSite(
      await useFreshDatabase(),
      cloudWatchDestination(() => server, url),
    );
    network.refuse();
    const worker = await site.startWorker({ HALYARD_TEST_CLOCK: clock });
    await withClient(site.database.ownerUrl, (client) =>
      insertDue(client, { count: 50, dueIn: '100 ms' }),
    );
    await worker.said(/audit events could not be delivered/);

    // The time of the outage, in a moment: for the worker and for the service. What waits for delivery grows that old.
    server = await startCloudWatch(ms);
    target.port = Number(new URL(server.url).port);
    await writeFile(clock, String(ms));
    worker.signal('SIGUSR2');
    network.accept();

    await site.check(90_000);
    const copy = server.stored('/halyard/chaos', 'chaos');
    const marked = copy.some(({ message }) => message.includes('"audit.restamped"'));
    const stamped = copy.map(({ timestamp, message }) => timestamp - timeIn(message));
    expect(copy.length).toBeGreaterThan(150);
    expect(marked).toBe(ms > 14 * 24 * HOUR_MS);
    if (!marked) expect(Math.max(...stamped)).toBeLessThan(60_000);
  },
);

function timeIn(message: string): number {
  return Date.parse((JSON.parse(message) as { timestamp: string }).timestamp);
}

// A request on which nothing passes is given up after ten seconds, and some more times before the worker does.
test.runIf(isFull())('a connection to CloudWatch on which nothing passes is given up', async () => {
  const server = await startCloudWatch();
  const network = await startTcpProxy({
    host: '127.0.0.1',
    port: Number(new URL(server.url).port),
  });
  onTestFinished(() => network[Symbol.asyncDispose]());
  const url = `http://127.0.0.1:${network.port}`;
  const site = await openSite(
    await useFreshDatabase(),
    cloudWatchDestination(() => server, url),
  );
  await Promise.all([site.startWorker(), site.startApi()]);
  const load = startLoad(site, random);
  await expect.poll(() => server.calls.length, { timeout: 20_000 }).toBeGreaterThan(5);
  network.freeze();
  server.failNext('hang', 2);
  const before = load.promised();
  await expect.poll(() => load.promised(), { timeout: 20_000 }).toBeGreaterThan(before + 50);
  await load.stop();
  await site.check(120_000);
});
