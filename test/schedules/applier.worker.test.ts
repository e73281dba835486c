import type pg from 'pg';
import { expect, onTestFinished, test } from 'vitest';
import { makePool } from '../../src/postgres/pool.ts';
import { makeApplier } from '../../src/schedules/apply.ts';
import { withClient } from '../support/database.ts';
import { makeTestLog } from '../support/log.ts';
import { countByStatus, insertDue, useFreshDatabase } from '../support/worker.ts';

const NOTHING = {
  ...{ applied: 0, retried: 0, failed: 0, stuck: 0 },
  ...{ suspendedForStop: 0, suspendedForConflict: 0 },
};

/** An applier that gets the database's answers only once the network is `open`, but for the first `free`; and its batches, counted. */
async function useSlowApplier(free: number) {
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
      if (++net.answered > free) await opened.promise;
      return result;
    },
  });
  const applier = makeApplier({ pool: slow, log, stopping: new AbortController().signal });
  return { database, applier, net };
}

test('a call joins the run in progress, which applies what has come due since', async () => {
  const { database, applier, net } = await useSlowApplier(1);
  await withClient(database.ownerUrl, async (client) => {
    await insertDue(client, { count: 700, dueIn: '-1 second' });
    const run = applier.apply();
    // A full batch, and two in parallel that take the rest.
    await expect.poll(() => net.answered, { interval: 5 }).toBe(3);
    await insertDue(client, { count: 1, dueIn: '-1 second' });
    const calls = await Promise.all(Array.from({ length: 5 }, () => applier.apply()));
    expect(calls).toStrictEqual(Array(5).fill(NOTHING));
    expect(net.asked).toBe(3);
    const whenIdle = applier.idle().then(() => countByStatus(client));
    net.open();
    expect(await run).toStrictEqual({ ...NOTHING, applied: 701 });
    expect(await whenIdle).toStrictEqual({ applied: 701 });
  });
});

test('a call joins a run also while that takes its first batch', async () => {
  const { database, applier, net } = await useSlowApplier(0);
  await withClient(database.ownerUrl, async (client) => {
    const run = applier.apply();
    await expect.poll(() => net.answered, { interval: 5 }).toBe(1);
    await insertDue(client, { count: 3, dueIn: '-1 second' });
    expect(await applier.apply()).toStrictEqual(NOTHING);
    net.open();
    expect(await run).toStrictEqual({ ...NOTHING, applied: 3 });
  });
});

test('a run that hangs stops no other call for longer than a second', async () => {
  const { database, applier, net } = await useSlowApplier(1);
  await withClient(database.ownerUrl, async (client) => {
    await insertDue(client, { count: 700, dueIn: '-1 second' });
    const run = applier.apply();
    await expect.poll(() => net.answered, { interval: 5 }).toBe(3);
    await insertDue(client, { count: 1, dueIn: '-1 second' });
    const calls: Promise<{ applied: number }>[] = [];
    await expect
      .poll(
        () => {
          calls.push(applier.apply());
          return countByStatus(client);
        },
        { timeout: 10_000 },
      )
      .toStrictEqual({ applied: 701 });
    net.open();
    expect(await run).toStrictEqual({ ...NOTHING, applied: 700 });
    const applied = (await Promise.all(calls)).map((call) => call.applied);
    expect(applied.filter((count) => count > 0)).toStrictEqual([1]);
  });
});
