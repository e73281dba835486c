import { readFile } from 'node:fs/promises';
import type pg from 'pg';
import { beforeEach, expect, onTestFinished, test } from 'vitest';
import { migrate } from '../../src/postgres/migrate.ts';
import { value } from '../support/actors.ts';
import { endIdle } from '../support/connections.ts';
import { cloneDatabase, withClient, type TestDatabase } from '../support/database.ts';
import { insertFlag, insertSchedule } from '../support/factory.ts';
import { makeTestLog } from '../support/log.ts';
import { asRequest, requestPlan } from '../support/plan_requests.ts';
import { changeOf, planOf, rowsOf, statusesOf } from '../support/plans.ts';
import * as old from '../support/release_0_1_0.ts';
import { briefRowProblems } from '../support/row_problems.ts';

const ROLLBACK = new URL('../../migrations/rollback/plans.sql', import.meta.url);

let database: TestDatabase;
let flags: readonly Awaited<ReturnType<typeof insertFlag>>[];

const asRoot = <T>(work: (client: pg.Client) => Promise<T>) => withClient(database.rootUrl, work);
const asOwner = <T>(work: (client: pg.Client) => Promise<T>) => withClient(database.ownerUrl, work);

beforeEach(async () => {
  database = await cloneDatabase();
  onTestFinished(() => database.drop());
  flags = await asRoot(async (client) => [
    await insertFlag(client),
    await insertFlag(client),
    await insertFlag(client, { environment: 'staging' }),
  ]);
});

/** A plan of all three flags. */
const makePlan = (client: pg.Client, dueIn: string | null = null) =>
  requestPlan(
    client,
    flags.map((flag) => changeOf(flag)),
    { dueIn },
  );

/** As the worker of 0.1.0: the columns that it reads of a batch, with what was applied. */
const applyAsOld = async () => {
  const { rows } = await withClient(database.workerUrl, (client) =>
    client.query<Record<string, unknown>>(old.APPLY, [...old.ANY]),
  );
  return rows[0];
};

/** The SQLSTATE of a request of its API, or null. */
const stateOf = (client: pg.Client, sql: string, parameters: unknown[] = []) =>
  asRequest(client, () => client.query(sql, parameters)).then(
    () => null,
    (error: unknown) => (error as pg.DatabaseError).code,
  );

test('a worker of 0.1.0 applies a plan as a whole, and holds at a stop', async () => {
  await asRoot(async (client) => {
    const plan = await makePlan(client);
    await asRequest(client, () =>
      client.query(`select app_public.stop_environment('production', 'errors')`),
    );
    expect(await applyAsOld()).toMatchObject({ applied: 0, retried: 0, failed: 0, stuck: 0 });
    expect(new Set(await statusesOf(client, plan))).toEqual(new Set(['suspended']));
    await asRequest(client, () =>
      client.query(`select app_public.resume_environment('production', 'apply', 'mended')`),
    );
    const batch = await applyAsOld();
    expect(batch).toMatchObject({ applied: 3, stuckIds: [], untried: 0 });
    expect(batch?.latenessMs).toHaveLength(3);
    expect(await planOf(client, plan)).toMatchObject({ status: 'completed', applied_count: 1 });

    const later = await makePlan(client);
    await withClient(database.workerUrl, async (worker) => {
      const read = async (sql: string, parameters: unknown[] = []) =>
        (await worker.query<object>(sql, parameters)).rows;
      expect(await read(old.NEXT_DUE)).toEqual([
        { overdueForMs: expect.any(Number) as number, dueInMs: null },
      ]);
      // One flag stands for all of the plan.
      const [overdue, ...others] = (await read(old.OVERDUE, [0, '{}', '{}'])) as { id: string }[];
      expect(others).toEqual([]);
      const applied = await read(old.APPLY_FLAG, [overdue?.id, 1_000, '{}']);
      expect(applied).toMatchObject([{ applied: 3 }]);
      for (const status of ['applied', 'cancelled']) await read(old.REMOVE, [status, 1_000]);
    });
    expect(await planOf(client, later)).toMatchObject({ status: 'completed' });
  });
});

test('an API of 0.1.0 can’t take one flag out of a plan', async () => {
  await asRoot(async (client) => {
    const plan = await makePlan(client, '1 hour');
    const [row] = await rowsOf(client, plan);
    for (const change of [old.CANCEL, old.MOVE])
      expect(await stateOf(client, change, [row?.id])).toBe('ZF020');
    expect(new Set(await statusesOf(client, plan))).toEqual(new Set(['pending']));
  });
});

test('rolled back, plans are cancelled and can’t be made, until the database is migrated again', async () => {
  const rollback = await readFile(ROLLBACK, 'utf8');
  const run = () => asOwner((client) => client.query(rollback));
  const { open, done, alone } = await asRoot(async (client) => {
    const done = await makePlan(client);
    await applyAsOld();
    const open = await makePlan(client, '1 hour');
    const { id: alone } = await insertSchedule(client, flags[0]?.id ?? '');
    await asRequest(client, () =>
      client.query(`select app_public.stop_environment('production', 'errors')`),
    );
    return { open, done, alone };
  });
  await expect(run()).rejects.toMatchObject({
    message: expect.stringContaining('halyard -- resume') as string,
  });

  const steps = JSON.stringify([{ changes: flags.map((flag) => changeOf(flag)) }]);
  const create = () =>
    asRoot((client) => stateOf(client, `select app_public.create_plan('New', $1)`, [steps]));
  await asOwner(async (client) => {
    await client.query(`select app_private.resume_environment('production', 'apply', 'rollback')`);
    await client.query('rollback');
    await client.query(rollback);
    expect(await planOf(client, open)).toMatchObject({
      ...{ status: 'cancelled', status_reason: 'Plans were rolled back.' },
    });
    expect(new Set(await statusesOf(client, open))).toEqual(new Set(['cancelled']));
    expect(await planOf(client, done)).toMatchObject({ status: 'completed' });
    expect(
      await value(client, 'select status from app_public.feature_flag_schedules where id = $1', [
        alone,
      ]),
    ).toBe('pending');
    expect(await briefRowProblems(client)).toEqual([]);
  });
  expect(await create()).toBe('42501');
  await asRoot(async (client) => {
    await asRequest(client, () => client.query(old.FLAG, ['made-by-0.1.0']));
    expect(await stateOf(client, old.SCHEDULE, ['made-by-0.1.0', '1 hour'])).toBeNull();
    expect(await stateOf(client, old.CANCEL, [alone])).toBeNull();
  });
  expect(await applyAsOld()).toMatchObject({ applied: 0 });

  await endIdle(database.name);
  await migrate(database.ownerUrl, makeTestLog().log);
  expect(await create()).toBeNull();
});
