import { rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { callApi } from '../support/api.ts';
import { runAudit } from '../support/chaos/command.ts';
import { byForm, isFull } from '../support/chaos/form.ts';
import { startLoad } from '../support/chaos/load.ts';
import type { Load } from '../support/chaos/load.ts';
import { makeRandom, newSeed } from '../support/chaos/random.ts';
import { startReplicatedServer } from '../support/chaos/replicated_server.ts';
import type { ReplicatedServer } from '../support/chaos/replicated_server.ts';
import { openSite } from '../support/chaos/site.ts';
import type { Site } from '../support/chaos/site.ts';
import { withClient } from '../support/database.ts';
import { accept, ask } from '../support/restored.ts';

const random = makeRandom(newSeed());
const DEADLINE = { timeout: 60_000, interval: 50 };

/** A site on a primary with a synchronous standby, with that many APIs and as many workers. */
async function openReplicated(each: number): Promise<{ server: ReplicatedServer; site: Site }> {
  const server = await startReplicatedServer();
  const site = await openSite(server.database);
  const started = Array.from({ length: each }, () => [site.startWorker(), site.startApi()]);
  await Promise.all(started.flat());
  return { server, site };
}

/** Waits for that many more changes that clients are told of. */
async function promiseMore(load: Load, count: number): Promise<void> {
  const enough = load.promised() + count;
  await expect.poll(() => load.promised(), DEADLINE).toBeGreaterThan(enough);
}

/** The standby takes over, and the address leads to it. The proxy is the fence: nobody gets to the old primary any more. */
async function failOver({ server, site }: { server: ReplicatedServer; site: Site }): Promise<void> {
  site.proxy.drop();
  await server.promote();
  site.proxy.moveTo(server.primaryPort());
}

/** Answers that no client should get, whatever happens to the database. */
function blunders({ journal }: Site): number {
  return [...journal.statuses]
    .filter(([status]) => status >= 500 && status !== 503)
    .reduce((sum, [, count]) => sum + count, 0);
}

test('a primary that is killed under load takes no acknowledged change along', async () => {
  const { server, site } = await openReplicated(byForm({ short: 2, full: 4 }));
  const load = startLoad(site, random);
  for (let i = 0; i < byForm({ short: 1, full: 15 }); i++) {
    if (i > 0) await server.addStandby();
    await promiseMore(load, random.between(20, 60));
    await server.killPrimary();
    await failOver({ server, site });
    await promiseMore(load, 20);
  }
  await load.stop();
  expect(blunders(site)).toBe(0);
  await site.check(60_000);
});

/** Backends of that server whose commit waits for the standby. */
async function waitingCommits(rootUrl: string): Promise<number> {
  return count(rootUrl, `wait_event = 'SyncRep'`);
}

async function count(url: string, condition: string): Promise<number> {
  return withClient(url, async (client) => {
    const { rowCount } = await client.query(`select from pg_stat_activity where ${condition}`);
    return rowCount ?? 0;
  });
}

test.runIf(isFull())(
  'nobody is told of what the synchronous standby has not got, by an old primary that lives on neither',
  async () => {
    const { server, site } = await openReplicated(1);
    const load = startLoad(site, random);
    for (const dies of [true, false]) {
      await promiseMore(load, 20);
      server.cutOff();
      const { rootUrl } = server.database;
      await expect.poll(() => waitingCommits(rootUrl), DEADLINE).toBeGreaterThan(0);
      if (dies) await server.killPrimary();
      await server.promote();
      // The one that lives has its connections still: what they wait for must not be told.
      site.proxy.moveTo(server.primaryPort());
      await promiseMore(load, 20);
      await server.addStandby();
    }
    await load.stop();
    await site.check(120_000);
  },
);

// What this finds is what asynchronous replication may lose. It shows, too, that the tests above could fail.
test('an asynchronous standby that lags loses what was acknowledged: the worker waits for a decision, and the copies show it', async () => {
  const { server, site } = await openReplicated(1);
  await server.setSynchronous(false);
  const load = startLoad(site, random);
  await promiseMore(load, 20);
  server.cutOff();
  const arrived = (await site.copy()).lines.length;
  await promiseMore(load, 20);
  await expect
    .poll(async () => (await site.copy()).lines.length, DEADLINE)
    .toBeGreaterThan(arrived + 20);
  await server.killPrimary();
  await failOver({ server, site });
  await promiseMore(load, 20);
  await load.stop();
  const ahead = () => ask(server.database, 'select app_private.destination_is_ahead()');
  await expect.poll(ahead, DEADLINE).toBe(true);
  const copy = join(tmpdir(), `${server.database.name}.ndjson`);
  onTestFinished(() => rm(copy));
  await writeFile(copy, `${(await site.copy()).lines.join('\n')}\n`);
  const verify = (...args: string[]) => runAudit(server.database, 'verify', ...args);
  const alone = await verify();
  const anchored = await verify('--anchors', copy);
  expect({ alone: alone.status, anchored: anchored.status }).toEqual({ alone: 0, anchored: 1 });

  await accept(server.database, 'apply');
  const broken = new Set((await site.breaches(60_000)).map(({ rule }) => rule));
  expect([...broken]).toEqual(['promise broken']);
  await writeFile(copy, `${(await site.copy()).lines.join('\n')}\n`);
  const accepted = await verify('--anchors', copy);
  expect(accepted.status).toBe(0);
  expect(accepted.stdout).toContain('because: a disk was lost');
});

// As while a name still leads to the server that was the primary, or a proxy has not noticed.
test.runIf(isFull())('connections that came to a standby are given up, not kept', async () => {
  const { server, site } = await openReplicated(1);
  const load = startLoad(site, random);
  await promiseMore(load, 5);
  const standby = new URL(server.database.rootUrl);
  standby.port = String(server.standbyPort());
  site.proxy.moveTo(server.standbyPort());
  site.proxy.drop();
  const refused = site.journal.unknown.length;
  await expect.poll(() => site.journal.unknown.length, DEADLINE).toBeGreaterThan(refused + 20);
  site.proxy.moveTo(server.primaryPort());
  await promiseMore(load, 20);
  await expect
    .poll(
      () =>
        count(
          standby.href,
          `application_name like 'halyard-%' or application_name like 'halyard worker%'`,
        ),
      DEADLINE,
    )
    .toBe(0);
  const ready = async () => (await callApi(site.urls[0] ?? '', 'GET /readyz')).status;
  await expect.poll(ready, DEADLINE).toBe(200);
  await load.stop();
  await site.check(60_000);
});
