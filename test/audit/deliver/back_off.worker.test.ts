import { expect, onTestFinished, test } from 'vitest';
import { makeForwarder } from '../../../src/audit/delivery/forwarder.ts';
import { retryPause } from '../../../src/audit/delivery/loop.ts';
import { RetryLaterError } from '../../../src/audit/delivery/sink.ts';
import { makePool } from '../../../src/postgres/pool.ts';
import { withClient } from '../../support/database.ts';
import { insertFlag } from '../../support/factory.ts';
import { makeTestLog } from '../../support/log.ts';
import { breakInserts } from '../../support/trail_faults.ts';
import { makeMemorySink, useFreshDatabase } from '../../support/worker.ts';

const never = new AbortController().signal;

/** The longest pause of ten failures in a row. */
const longestPause = (error: unknown) =>
  Math.max(...Array.from({ length: 10 }, (_, failures) => retryPause(error, failures)));

test('a full disk is tried again after 5 s at most, a destination after a minute', async () => {
  const database = await useFreshDatabase();
  await withClient(database.ownerUrl, async (client) => {
    await insertFlag(client);
    await breakInserts(client, { ledger: '53100' });
  });
  const { log } = makeTestLog();
  const pool = makePool(database.workerUrl, { name: 'halyard worker', log });
  onTestFinished(() => pool.end());
  const forwarder = makeForwarder({ pool, sink: makeMemorySink(), destination: 'test', log });
  const full: unknown = await forwarder
    .forward({ stopping: never, abort: never })
    .catch((error: unknown) => error);
  expect(full).toMatchObject({ code: '53100' });
  expect(longestPause(full)).toBeLessThanOrEqual(5_000);
  expect(longestPause(new Error('of the destination'))).toBeGreaterThan(5_000);
  expect(longestPause(new Error('of the destination'))).toBeLessThanOrEqual(60_000);
});

test('a pause that a destination asks for is kept, up to an hour', () => {
  expect(retryPause(new RetryLaterError('Later.', 120_000), 0)).toBe(120_000);
  expect(retryPause(new RetryLaterError('Later.', 1e12), 0)).toBe(3_600_000);
  expect(retryPause(new RetryLaterError('Later.', 1), 9)).toBeGreaterThan(5_000);
});
