import { expect, onTestFinished, test } from 'vitest';
import { makePool } from '../../src/postgres/pool.ts';
import { makeApplier } from '../../src/schedules/apply.ts';
import { value } from '../support/actors.ts';
import { withClient } from '../support/database.ts';
import { insertFlag, insertSchedule } from '../support/factory.ts';
import { makeTestLog } from '../support/log.ts';
import { countByStatus, useFreshDatabase } from '../support/worker.ts';

async function useApplier({ statementTimeoutMs = 60_000 } = {}) {
  const database = await useFreshDatabase();
  const { log } = makeTestLog();
  const url = new URL(database.workerUrl);
  url.searchParams.set('options', `-c statement_timeout=${statementTimeoutMs}`);
  const pool = makePool(url.href, { name: 'halyard test', log });
  onTestFinished(() => pool.end());
  return { database, applier: makeApplier({ pool, log, stopping: new AbortController().signal }) };
}

test('one that takes longer than a statement may delays the others, and is put off', async () => {
  const { database, applier } = await useApplier({ statementTimeoutMs: 700 });
  await withClient(database.rootUrl, async (client) => {
    await client.query(`
      create function public.linger() returns trigger language plpgsql
        as $$ begin perform pg_sleep(60); return new; end $$;
      create trigger linger before update on app_public.feature_flags
        for each row when (old.flag_key = 'slow') execute function public.linger()`);
    for (let n = 0; n < 20; n++) {
      const { id } = await insertFlag(client, n === 4 ? { flag_key: 'slow' } : {});
      await insertSchedule(client, id, { dueIn: '-1 second' });
    }
    const applied = await applier.apply();
    expect(applied).toMatchObject({ applied: 19, failed: 0, stuck: 0 });
    expect(applied.retried).toBeGreaterThan(0);
    expect(await countByStatus(client)).toStrictEqual({ applied: 19, pending: 1 });
    expect(
      await value(
        client,
        `select attempts from app_public.feature_flag_schedules where status = 'pending'`,
      ),
    ).toBe(0);
  });
});

test('what can be neither applied nor marked is not tried by each run', async () => {
  const { database, applier } = await useApplier();
  await withClient(database.rootUrl, async (client) => {
    await client.query(`
      create sequence public.tries;
      grant usage on sequence public.tries to public;
      create function public.refuse() returns trigger language plpgsql
        as $$ begin perform nextval('public.tries'); raise exception 'no'; end $$;
      create trigger _050_refuse before update on app_public.feature_flag_schedules
        for each row when (old.updates ? 'enabled') execute function public.refuse()`);
    const stuck = await insertFlag(client);
    await insertSchedule(client, stuck.id, { dueIn: '-1 second' });
    expect(await applier.apply()).toMatchObject({ applied: 0, stuck: 1 });
    const RUNS = 30;
    for (let n = 0; n < RUNS; n++) {
      const { id } = await insertFlag(client);
      await insertSchedule(client, id, { dueIn: '-1 second', updates: { rollout_percentage: n } });
      expect(await applier.apply()).toMatchObject({ applied: 1 });
    }
    // Two for each try: to apply it, and to mark it. The runs take less than a second on a quiet machine.
    const tries = await value<number>(client, 'select last_value::int / 2 from public.tries');
    expect(tries).toBeLessThan(RUNS / 2);
    await client.query('drop function public.refuse() cascade');
    const applied = async () => (await applier.apply()).applied;
    await expect.poll(applied, { timeout: 10_000 }).toBe(1);
  });
});
