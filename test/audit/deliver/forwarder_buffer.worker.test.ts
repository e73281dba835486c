import type pg from 'pg';
import { beforeEach, expect, onTestFinished, test } from 'vitest';
import { makeForwarder } from '../../../src/audit/delivery/forwarder.ts';
import { queryOf, readPage } from '../../../src/audit/delivery/outbox.ts';
import { makePool } from '../../../src/postgres/pool.ts';
import { withClient } from '../../support/database.ts';
import type { TestDatabase } from '../../support/database.ts';
import { makeTestLog } from '../../support/log.ts';
import { insertDue, makeMemorySink, useFreshDatabase } from '../../support/worker.ts';

// What a forwarder has numbered itself it delivers without reading it from the trail again.

const never = new AbortController().signal;
let database: TestDatabase;
let pool: pg.Pool;
let read: number;

beforeEach(async () => {
  database = await useFreshDatabase();
  pool = makePool(database.workerUrl, { name: 'halyard test', log: makeTestLog().log });
  onTestFinished(() => pool.end());
  read = 0;
  // Counts the rows that are read from the trail on each connection.
  pool.on('connect', (client) => {
    const query = client.query.bind(client) as (...args: unknown[]) => unknown;
    const counting = async (...args: unknown[]) => {
      const result = await (query(...args) as Promise<pg.QueryResult> | undefined);
      // One row is the cursor.
      if (JSON.stringify(args[0]).includes('undelivered_audit_events'))
        read += (result?.rows.length ?? 0) - 1;
      return result;
    };
    Object.assign(client, { query: counting });
  });
});

function makeTestForwarder() {
  const sink = makeMemorySink();
  const log = makeTestLog().log;
  return { sink, forwarder: makeForwarder({ pool, sink, destination: 'memory', log }) };
}

/** Of as many flags and schedules, an event each. */
const makeEvents = (count: number) =>
  withClient(database.ownerUrl, (client) =>
    insertDue(client, { count: count / 2, dueIn: '1 day' }),
  );

test('delivers the same messages in the same order as the trail has them, and reads little', async () => {
  await makeEvents(4_600);
  const { sink, forwarder } = makeTestForwarder();
  const run = () => forwarder.forward({ stopping: never, abort: never });
  await expect.poll(run).toBe('done');
  // The first page, before it is known where the cursor stands.
  expect(read).toBe(1_001);
  const { events } = await readPage(queryOf(pool), 'elsewhere', 10_000);
  expect(events).toHaveLength(4_605);
  expect(sink.taken).toStrictEqual(events);
});

test('reads what somebody else has numbered meanwhile, and leaves nothing out', async () => {
  await makeEvents(4_600);
  const { sink, forwarder } = makeTestForwarder();
  sink.trouble = async () => {
    // When it is another's turn the forwarder has numbered its next page already, or hasn't: both must do.
    await pool.query('select from app_private.seal_batch(70, 0)');
  };
  const run = () => forwarder.forward({ stopping: never, abort: never });
  await expect.poll(run).toBe('done');
  const { events } = await readPage(queryOf(pool), 'elsewhere', 10_000);
  expect(sink.taken).toStrictEqual(events);
});
