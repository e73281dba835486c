import { expect, test } from 'vitest';
import { value } from '../support/actors.ts';
import { runAudit } from '../support/chaos/command.ts';
import { startLoad } from '../support/chaos/load.ts';
import { makeRandom, newSeed } from '../support/chaos/random.ts';
import { openSite } from '../support/chaos/site.ts';
import { smallDiskObstacle, startSmallDisk } from '../support/chaos/small_disk.ts';
import { withClient } from '../support/database.ts';

const random = makeRandom(newSeed());

/** Writes PostgreSQL's log until the disk has no room for it: the server panics, and can't recover while the disk is full. */
async function exhaustLog(rootUrl: string): Promise<void> {
  const fill = withClient(rootUrl, async (client) => {
    client.on('error', () => undefined);
    for (;;)
      await client.query(
        `select pg_logical_emit_message(false, 'halyard test', 'x'), pg_switch_wal()`,
      );
  });
  await expect(fill).rejects.toThrow();
}

/** Events that stand for lost ones. */
const LOST = `select count(*)::int from audit.events where event_type ~ '\\.reconciled$|^audit\\.gap$'`;

test('a full disk loses no change that was answered 2xx, and all goes on when there is room', async (context) => {
  const obstacle = smallDiskObstacle();
  if (obstacle !== null) {
    process.stdout.write(`Skipped: ${obstacle}\n`);
    context.skip(obstacle);
  }
  const disk = await startSmallDisk();
  const site = await openSite(disk.database);
  await Promise.all([site.startWorker(), site.startApi()]);
  const refused = () => site.journal.statuses.get(503) ?? 0;
  const patient = { timeout: 30_000 };
  const load = startLoad(site, random);
  await expect.poll(() => load.promised(), patient).toBeGreaterThan(30);

  await disk.fill();
  await expect.poll(refused, patient).toBeGreaterThan(30);
  await exhaustLog(disk.database.rootUrl);
  const full = refused();
  await expect.poll(refused, patient).toBeGreaterThan(full + 30);
  await disk.free();
  const before = load.promised();
  await expect.poll(() => load.promised(), patient).toBeGreaterThan(before + 30);
  await load.stop();

  // Dead letters for which there was room are replayed each minute; this doesn't wait for it.
  const { status, stderr } = await runAudit(disk.database, 'reconcile', '--full');
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  await site.check();
  await withClient(disk.database.rootUrl, async (client) => {
    expect(await value<number>(client, LOST)).toBe(0);
  });
});
