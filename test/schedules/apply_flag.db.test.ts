import pg from 'pg';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { value } from '../support/actors.ts';
import { cloneDatabase, withClient, type TestDatabase } from '../support/database.ts';
import { insertFlag, insertSchedule, one } from '../support/factory.ts';
import { queuedEvents } from '../support/trail.ts';

let database: TestDatabase;
let owner: pg.Client;
let worker: pg.Client;

beforeEach(async () => {
  database = await cloneDatabase();
  [owner, worker] = [database.ownerUrl, database.workerUrl].map(
    (connectionString) => new pg.Client({ connectionString }),
  ) as [pg.Client, pg.Client];
  await Promise.all([owner.connect(), worker.connect()]);
});

afterEach(async () => {
  await Promise.all([owner.end(), worker.end()]);
  await database.drop();
});

function applyFlag(id: string, waitMs: number): Promise<number> {
  return value(worker, 'select applied from app_private.apply_flag($1, $2)', [id, waitMs]);
}

async function schedules(): Promise<object[]> {
  const { rows } = await owner.query<object>(
    'select status, attempts, error_message from app_public.feature_flag_schedules',
  );
  return rows;
}

const UNTOUCHED = { status: 'pending', attempts: 0, error_message: null };

test('a flag’s schedules are applied in order of time, and no other flag’s', async () => {
  const flag = await insertFlag(owner);
  for (const [dueIn, rollout_percentage] of [
    ['-1 second', 3],
    ['-3 seconds', 1],
    ['-2 seconds', 2],
    ['1 hour', 4],
  ] as const)
    await insertSchedule(owner, flag.id, { dueIn, updates: { rollout_percentage } });
  const other = await insertFlag(owner);
  await insertSchedule(owner, other.id, { dueIn: '-1 second' });
  expect(await applyFlag(flag.id, 100)).toBe(3);
  const states = (await queuedEvents(owner))
    .filter(({ event_type }) => event_type === 'flag_schedule.applied')
    .map(({ metadata }) => metadata.flagState);
  expect(states).toMatchObject(
    [1, 2, 3].map((rolloutPercentage) => ({ enabled: false, rolloutPercentage })),
  );
});

test.for([
  ['flag', 'select from app_public.feature_flags for share'],
  ['schedule', 'select from app_public.feature_flag_schedules for update'],
  ['table', 'lock table app_public.feature_flags in share mode'],
])('a locked %s is waited for no longer than asked, and nothing is changed', async ([, lock]) => {
  const flag = await insertFlag(owner);
  await insertSchedule(owner, flag.id, { dueIn: '-1 second' });
  await owner.query(`begin; ${lock}`);
  await expect(applyFlag(flag.id, 50)).rejects.toMatchObject({ code: '55P03' });
  await owner.query('rollback');
  expect(await schedules()).toEqual([UNTOUCHED]);
  expect(await applyFlag(flag.id, 50)).toBe(1);
});

test('what another session has done while it was waited for counts', async () => {
  const flag = await insertFlag(owner);
  const { id } = await insertSchedule(owner, flag.id, { dueIn: '-2 seconds' });
  await insertSchedule(owner, flag.id, {
    dueIn: '-1 second',
    updates: { rollout_percentage: 7 },
  });
  await owner.query('begin');
  await owner.query('update app_public.feature_flags set rollout_percentage = 50');
  await owner.query(
    `update app_public.feature_flag_schedules set status = 'cancelled' where id = $1`,
    [id],
  );
  const applied = applyFlag(flag.id, 10_000);
  await withClient(database.rootUrl, async (root) => {
    const waits = `select count(*)::int from pg_stat_activity
      where datname = current_database() and wait_event_type = 'Lock'`;
    await expect.poll(() => value(root, waits)).toBe(1);
  });
  await owner.query('commit');
  expect(await applied).toBe(1);
  const { rows } = await owner.query(
    'select enabled, rollout_percentage from app_public.feature_flags',
  );
  expect(one(rows)).toEqual({ enabled: false, rollout_percentage: 7 });
});

test('the lock_timeout counts for the waiting alone', async () => {
  const flag = await insertFlag(owner);
  await worker.query(`begin; set local lock_timeout = '7s'`);
  await applyFlag(flag.id, 50);
  expect(await value(worker, `select current_setting('lock_timeout')`)).toBe('7s');
  await worker.query('rollback');
});

test('while an index of the flags is being built a batch fails, and no schedule is marked', async () => {
  const flag = await insertFlag(owner);
  await insertSchedule(owner, flag.id, { dueIn: '-1 second' });
  await worker.query(`set lock_timeout = '100ms'`);
  for (const table of ['feature_flags', 'feature_flag_schedules']) {
    await owner.query(`begin; lock table app_public.${table} in share mode`);
    await expect(worker.query('select from app_private.apply_due()')).rejects.toMatchObject({
      code: '55P03',
    });
    await owner.query('rollback');
    expect(await schedules()).toEqual([UNTOUCHED]);
  }
  expect(await value(worker, 'select applied from app_private.apply_due()')).toBe(1);
});
