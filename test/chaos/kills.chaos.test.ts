import { setTimeout as pause } from 'node:timers/promises';
import pg from 'pg';
import { expect, onTestFinished, test } from 'vitest';
import { byForm } from '../support/chaos/form.ts';
import { startLoad } from '../support/chaos/load.ts';
import { makeRandom, newSeed } from '../support/chaos/random.ts';
import { startChaosServer } from '../support/chaos/server.ts';
import { openSite } from '../support/chaos/site.ts';
import type { Site } from '../support/chaos/site.ts';
import type { TestDatabase } from '../support/database.ts';
import { useFreshDatabase } from '../support/worker.ts';

const random = makeRandom(newSeed());

/** Two workers, each of which may do what the other one is just doing, and so many APIs. */
async function openDouble(database: TestDatabase, apis: number): Promise<Site> {
  const site = await openSite(database);
  const started = Array.from({ length: apis }, () => site.startApi());
  await Promise.all([site.startWorker(), site.startWorker(), ...started]);
  return site;
}

/** A transaction that has written, and stays open until `commit`: everything that looks at the oldest one stands still. */
async function openLongWriter(database: TestDatabase): Promise<{ commit: () => Promise<void> }> {
  const client = new pg.Client({ connectionString: database.ownerUrl });
  client.on('error', () => undefined);
  await client.connect();
  onTestFinished(() => client.end());
  await client.query('begin');
  await client.query(`insert into app_public.feature_flags (flag_key) values ('long-writer')`);
  return { commit: () => client.query('commit').then(() => undefined) };
}

test('processes that are killed at any moment, under load, lose and repeat nothing', async () => {
  const site = await openDouble(await useFreshDatabase(), 2);
  const writer = await openLongWriter(site.database);
  const load = startLoad(site, random);
  const kills = byForm({ short: 3, full: 80 });
  const replacements: Promise<void>[] = [];
  for (let i = 0; i < kills; i++) {
    await pause(random.between(200, 800));
    const running = [...site.workers, ...site.apis];
    const victim = running[random.between(0, running.length - 1)];
    // Not waited for: the next kill may hit while there is one less.
    if (victim !== undefined) replacements.push(site.replace(victim));
    if (running.length < 3) await Promise.all(replacements);
  }
  await Promise.all(replacements);
  await load.stop();
  await writer.commit();
  expect(load.promised()).toBeGreaterThan(kills);
  await site.check();
});

test('a server that is stopped at once, again and again under load, loses nothing', async () => {
  const server = await startChaosServer();
  const site = await openDouble(server.database, byForm({ short: 1, full: 2 }));
  const load = startLoad(site, random);
  const crashes = byForm({ short: 1, full: 10 });
  for (let i = 0; i < crashes; i++) {
    const before = load.promised();
    await expect.poll(() => load.promised(), { timeout: 30_000 }).toBeGreaterThan(before + 20);
    await pause(random.between(0, 300));
    await server.crash();
  }
  await load.stop();
  await site.check(60_000);
});
