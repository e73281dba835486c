import { afterAll, beforeAll, expect, onTestFailed, test, vi } from 'vitest';
import { pino } from 'pino';
import { setUp } from '../../src/postgres/setup.ts';
import { collectFacts } from '../support/chaos/facts.ts';
import { openSite } from '../support/chaos/site.ts';
import { withClient } from '../support/database.ts';
import { loginsTo, makeMigrated } from '../support/migrated.ts';
import { startCluster } from './cluster.ts';
import type { Cluster } from './cluster.ts';
import { runHalyard } from './command.ts';
import { reusedNumbers, undelivered } from './copy.ts';
import { promiseMore } from './outage.ts';
import { findFreePorts } from './ports.ts';
import { blunders, clients, measure, openScenario, print, TEMPLATE } from './scenario.ts';
import type { Measured, Scenario } from './scenario.ts';
import { serversUser } from './user.ts';

const LOGINS = ['halyard_owner', 'halyard_authenticator', 'halyard_worker'];
const SETTLE_MS = 90_000;
const SAID = { timeout: 30_000, interval: 200 };
const log = pino({ level: 'silent' });

let cluster: Cluster;

beforeAll(async () => {
  cluster = await startCluster(serversUser(), LOGINS);
  const logins = loginsTo(cluster.rootUrl, cluster.password, TEMPLATE);
  await makeMigrated(cluster.rootUrl, logins, log);
});

afterAll(async () => {
  await (cluster as Cluster | undefined)?.[Symbol.asyncDispose]();
});

/** Every process lives, gave no answer that it should not, logged JSON only, and said that the outage is over. */
function expectHealthy(scenario: Scenario): void {
  const { site } = scenario;
  expect(blunders(scenario)).toBe(0);
  expect([...site.workers, ...site.apis].every((process) => process.running())).toBe(true);
  expect(scenario.log.broken.lines).toEqual([]);
  expect([...scenario.log.messages('info').keys()]).toContain('listening for notifications again');
}

async function expectSuccess(env: Record<string, string>, ...args: string[]): Promise<void> {
  const { status, output } = await runHalyard(env, ...args);
  expect(status, `${args.join(' ')} said: ${output}`).toBe(0);
}

/** Ends the load, and expects that nothing was lost or doubled. */
async function expectNothingLost(name: string, scenario: Scenario, measured: Measured) {
  await scenario.load.stop();
  const breaches = await scenario.site.breaches(SETTLE_MS);
  print(name, measured, scenario.log, breaches);
  expect(breaches).toEqual([]);
  expectHealthy(scenario);
}

test('migrate, api, worker and audit work through PgBouncer in session mode', async () => {
  const name = 'halyard_pooled';
  const direct = loginsTo(cluster.rootUrl, cluster.password, name);
  await setUp({ rootUrl: cluster.rootUrl, ...direct, log });
  const logins = loginsTo(cluster.throughPgbouncer(cluster.rootUrl), cluster.password, name);
  const env = {
    DATABASE_URL: logins.ownerUrl,
    AUTH_DATABASE_URL: logins.authenticatorUrl,
    WORKER_DATABASE_URL: logins.workerUrl,
  };
  await expectSuccess(env, 'migrate');
  await withClient(direct.ownerUrl, async (client) => {
    const { rows } = await client.query<{ owner: string }>(
      `select distinct relowner::regrole::text as owner from pg_class where relnamespace = 'graphile_worker'::regnamespace`,
    );
    expect(rows).toEqual([{ owner: 'halyard_worker' }]);
  });
  const rootUrl = new URL(direct.ownerUrl);
  rootUrl.username = 'postgres';
  const database = { name, rootUrl: rootUrl.href, ...logins, drop: () => Promise.resolve() };
  const site = await openSite(database, undefined, { direct: true });
  await Promise.all([site.startWorker(), site.startApi()]);
  const load = clients(site);
  await promiseMore(load, 100);
  await load.stop();
  await site.check();
  await expectSuccess(env, 'audit', 'verify');
});

test('a switchover loses no change, and schedules that came due meanwhile are applied', async () => {
  const scenario = await openScenario(cluster, 'switchover');
  const measured = await measure(scenario, 15, () => cluster.switchOver());
  await expectNothingLost('switchover', scenario, measured);
});

test('a primary that is killed takes no acknowledged change along', async () => {
  await cluster.whole();
  const scenario = await openScenario(cluster, 'kill');
  const primary = await cluster.primary();
  onTestFailed(() => primary.start());
  const measured = await measure(
    scenario,
    35,
    () => primary.kill(),
    () => primary.start(),
  );
  await expectNothingLost('kill of the primary', scenario, measured);
});

test('a primary that is frozen, replaced and thawed takes no acknowledged change along, and makes none', async () => {
  await cluster.whole();
  const scenario = await openScenario(cluster, 'freeze');
  const primary = await cluster.primary();
  onTestFailed(() => primary.thaw());
  const measured = await measure(
    scenario,
    35,
    () => primary.freeze(),
    () => primary.thaw(),
  );
  await cluster.whole();
  await promiseMore(scenario.load, 50);
  await expectNothingLost('freeze of the primary', scenario, measured);
});

test('a failover that lost changes is said, and nothing is sent until a person accepts it', async () => {
  await cluster.configure({ synchronous_mode: false, maximum_lag_on_failover: 2 ** 30 });
  await cluster.whole();
  const [port = 0] = await findFreePorts(1);
  const scenario = await openScenario(cluster, 'lossy', { METRICS_PORT: String(port) });
  const { site, load } = scenario;
  const { promises, unknown } = site.journal;
  const primary = await cluster.primary();
  const window = { from: 0, to: 0 };

  async function loseChanges(): Promise<void> {
    window.from = promises.length;
    await primary.cutReplication(cluster.urlOf(primary));
    const arrived = (await site.copy()).lines.length;
    const more = async () => (await site.copy()).lines.length - arrived;
    await promiseMore(load, 100);
    await expect.poll(more, { timeout: 20_000 }).toBeGreaterThan(100);
    await primary.kill();
    const failed = unknown.length;
    // Answers of before the end may still be on their way.
    await expect.poll(() => unknown.length, { timeout: 20_000 }).toBeGreaterThan(failed + 20);
    window.to = promises.length;
  }

  const ahead = async () =>
    /^halyard_destination_ahead\S* (\d)/m.exec(
      await (await fetch(`http://127.0.0.1:${port}/metrics`)).text(),
    )?.[1];
  const found = { said: false };

  async function accept(): Promise<void> {
    const saying = vi.waitFor(async () => expect(await ahead()).toBe('1'), SAID);
    found.said = await saying.then(
      () => true,
      () => false,
    );
    if (!found.said) return;
    const sent = (await site.copy()).lines.length;
    await promiseMore(load, 50);
    expect((await site.copy()).lines).toHaveLength(sent);
    const env = { DATABASE_URL: site.database.ownerUrl };
    const how = ['--overdue', 'apply', '--reason', 'an asynchronous failover'];
    await expectSuccess(env, 'restore', 'accept', ...how);
    await expect.poll(ahead, SAID).toBe('0');
  }

  const { lines: measured } = await measure(scenario, 40, loseChanges, accept);
  await load.stop();
  const breaches = await site.breaches(SETTLE_MS);
  const line = `the loss was said: ${found.said ? 'yes' : 'no'}`;
  print('failover that loses changes', { lines: [...measured, line] }, scenario.log, breaches);
  expect(found.said).toBe(true);
  expect([...scenario.log.messages('error').keys()].join('\n')).toMatch(/destination/);
  const lost = promises.slice(window.from, window.to).map(({ requestId }) => requestId);
  // What the old primary sent is in the copy still: events that the trail no longer has, and numbers that are given again.
  const unexplained = breaches.filter(
    ({ rule, detail }) =>
      !['copy of no event', 'copy differs', 'copy out of order'].includes(rule) &&
      !(rule === 'promise broken' && lost.some((id) => detail.includes(`${id} `))),
  );
  expect(unexplained).toEqual([]);
  expect(breaches.map(({ rule }) => rule)).toContain('promise broken');
  const { lines } = await site.copy();
  expect(reusedNumbers(lines)).toEqual([]);
  expect(undelivered(await collectFacts(site.database, [], []), lines)).toEqual([]);
  expectHealthy(scenario);
});
