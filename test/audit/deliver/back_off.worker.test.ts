import { expect, onTestFinished, test } from 'vitest';
import { makeForwarder } from '../../../src/audit/delivery/forwarder.ts';
import { makeDelivery } from '../../../src/audit/delivery/loop.ts';
import { makePool } from '../../../src/postgres/pool.ts';
import { withClient } from '../../support/database.ts';
import type { TestDatabase } from '../../support/database.ts';
import { insertFlag } from '../../support/factory.ts';
import { makeTestLog } from '../../support/log.ts';
import { breakInserts } from '../../support/trail_faults.ts';
import { makeMemorySink, useFreshDatabase } from '../../support/worker.ts';

/** The longest pause after that many runs that fail, one behind the other. */
async function longestPause(database: TestDatabase, runs: number, trouble: Error | null) {
  const { log, lines } = makeTestLog();
  const pool = makePool(database.workerUrl, { name: 'halyard worker', log });
  const sink = makeMemorySink();
  sink.trouble = trouble && (() => Promise.reject(trouble));
  const delivery = makeDelivery({
    pool,
    forwarder: makeForwarder({ pool, sink, destination: 'test', log }),
    log,
    stopping: new AbortController().signal,
    abort: new AbortController().signal,
  });
  onTestFinished(async () => {
    await delivery.close();
    await pool.end();
  });
  for (let run = 0; run < runs; run++) await delivery.run();
  const pauses = lines.map(({ retryInMs }) => Number(retryInMs ?? 0));
  expect(pauses.filter((ms) => ms > 0)).toHaveLength(runs);
  return Math.max(...pauses);
}

test('a full disk is tried again after 5 s at most, a destination after a minute', async () => {
  const database = await useFreshDatabase();
  await withClient(database.ownerUrl, (client) => insertFlag(client));
  expect(await longestPause(database, 10, new Error('of the destination'))).toBeGreaterThan(5_000);
  await withClient(database.ownerUrl, async (client) => {
    await insertFlag(client);
    await breakInserts(client, { ledger: '53100' });
  });
  expect(await longestPause(database, 10, null)).toBeLessThanOrEqual(5_000);
});
