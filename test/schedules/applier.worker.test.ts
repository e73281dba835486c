import type pg from 'pg';
import { describe, expect, onTestFinished, test } from 'vitest';
import { makePool } from '../../src/postgres/pool.ts';
import { makeApplier } from '../../src/schedules/apply.ts';
import { withClient } from '../support/database.ts';
import { makeTestLog } from '../support/log.ts';
import { countByStatus, insertDue, useFreshDatabase } from '../support/worker.ts';

const NOTHING = { applied: 0, retried: 0, failed: 0, stuck: 0 };

/** An applier whose answers arrive only once the network is `open`, all but the first; and the batches that it has asked for. */
async function useSlowApplier() {
  const database = await useFreshDatabase();
  const { log } = makeTestLog();
  const pool = makePool(database.workerUrl, { name: 'halyard test', log });
  onTestFinished(() => pool.end());
  const opened = Promise.withResolvers<undefined>();
  const net = { asked: 0, answered: 0, open: () => opened.resolve(undefined) };
  const slow = Object.assign(Object.create(pool) as pg.Pool, {
    async query(text: string, values: unknown[]) {
      net.asked++;
      const result = await pool.query(text, values);
      if (++net.answered > 1) await opened.promise;
      return result;
    },
  });
  const applier = makeApplier({ pool: slow, log, stopping: new AbortController().signal });
  return { database, applier, net };
}

describe('while a run takes batches', () => {
  test('other calls of the process leave it what is due, also what has come since', async () => {
    const { database, applier, net } = await useSlowApplier();
    await withClient(database.ownerUrl, async (client) => {
      await insertDue(client, { count: 300, dueIn: '-1 second' });
      const run = applier.apply();
      // A first batch, and two side by side that take all of the rest.
      await expect.poll(() => net.answered, { interval: 5 }).toBe(3);
      await insertDue(client, { count: 1, dueIn: '-1 second' });
      const calls = await Promise.all(Array.from({ length: 5 }, () => applier.apply()));
      expect(calls).toStrictEqual(Array(5).fill(NOTHING));
      expect(net.asked).toBe(3);
      net.open();
      expect(await run).toStrictEqual({ ...NOTHING, applied: 301 });
      expect(await countByStatus(client)).toStrictEqual({ applied: 301 });
    });
  });

  test('a call takes a batch itself when no batch has come to an end for a second', async () => {
    const { database, applier, net } = await useSlowApplier();
    await withClient(database.ownerUrl, async (client) => {
      await insertDue(client, { count: 300, dueIn: '-1 second' });
      const run = applier.apply();
      await expect.poll(() => net.answered, { interval: 5 }).toBe(3);
      await insertDue(client, { count: 1, dueIn: '-1 second' });
      await new Promise((resolve) => setTimeout(resolve, 1_100));
      const call = applier.apply();
      await expect.poll(() => countByStatus(client)).toStrictEqual({ applied: 301 });
      net.open();
      expect(await call).toStrictEqual({ ...NOTHING, applied: 1 });
      expect(await run).toStrictEqual({ ...NOTHING, applied: 300 });
    });
  });
});
