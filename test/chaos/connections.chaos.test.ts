import { setTimeout as pause } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { byForm, isFull } from '../support/chaos/form.ts';
import { startLoad } from '../support/chaos/load.ts';
import { makeRandom, newSeed } from '../support/chaos/random.ts';
import { openSite } from '../support/chaos/site.ts';
import { withClient } from '../support/database.ts';
import type { TestDatabase } from '../support/database.ts';
import { useFreshDatabase } from '../support/worker.ts';

const random = makeRandom(newSeed());

/** Ends the sessions of Halyard's processes whose application name is like that; how many. */
async function terminate(database: TestDatabase, pattern: string): Promise<number> {
  return withClient(database.rootUrl, async (client) => {
    const { rowCount } = await client.query(
      `select pg_terminate_backend(pid) from pg_stat_activity
       where datname = current_database() and pid <> pg_backend_pid() and application_name like $1`,
      [pattern],
    );
    return rowCount ?? 0;
  });
}

test('backends that are terminated under load, listeners first, lose nothing', async () => {
  const site = await openSite(await useFreshDatabase());
  await Promise.all([site.startWorker(), site.startApi()]);
  const load = startLoad(site, random);
  await expect
    .poll(() => terminate(site.database, 'halyard%listener%'), { timeout: 10_000 })
    .toBeGreaterThan(0);
  for (let i = 0; i < byForm({ short: 1, full: 60 }); i++) {
    await pause(random.between(50, 500));
    await terminate(site.database, 'halyard%');
  }
  const before = load.promised();
  await expect.poll(() => load.promised(), { timeout: 20_000 }).toBeGreaterThan(before + 10);
  await load.stop();
  await site.check();
});

// Takes a lease and some more; what is frozen itself gives up after more than a minute.
test.runIf(isFull())('connections on which nothing passes any more lose nothing', async () => {
  const site = await openSite(await useFreshDatabase());
  await Promise.all([site.startWorker(), site.startApi()]);
  const load = startLoad(site, random);
  await expect.poll(() => load.promised(), { timeout: 10_000 }).toBeGreaterThan(20);
  site.proxy.freeze();
  // New connections pass: another worker and another API, and in the end the frozen ones too.
  await Promise.all([site.startWorker(), site.startApi()]);
  const before = load.promised();
  await expect.poll(() => load.promised(), { timeout: 60_000 }).toBeGreaterThan(before + 50);
  await load.stop();
  await site.check(200_000);
});
