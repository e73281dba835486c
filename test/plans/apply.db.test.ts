import type pg from 'pg';
import { describe, expect, test } from 'vitest';
import { asWorker, value, withActors } from '../support/actors.ts';
import { cloneDatabase, useDatabase, withClient, withRollback } from '../support/database.ts';
import { insertFlag, insertSchedule } from '../support/factory.ts';
import { insertDuePlan, planSummary } from '../support/due_plans.ts';
import { asAdmin, type PlanChange } from '../support/plans.ts';
import { sqlStateOf } from '../support/roles.ts';
import { briefRowProblems } from '../support/row_problems.ts';
import { breakFlag, mendFlag, queuedEvents } from '../support/trail.ts';

const database = useDatabase();

const APPLY = `select applied, retried, failed, stuck, untried, suspended_for_stop, suspended_for_conflict
  from app_private.apply_due($1)`;
const NOTHING = {
  ...{ applied: 0, retried: 0, failed: 0, stuck: 0, untried: 0 },
  ...{ suspended_for_stop: 0, suspended_for_conflict: 0 },
};

async function applyDue(client: pg.ClientBase, batch = 500): Promise<unknown> {
  const { rows } = await client.query<object>(APPLY, [batch]);
  return rows[0];
}

/** So many flags, and a change of each that turns it on. */
async function changesOf(client: pg.ClientBase, ...keys: string[]): Promise<PlanChange[]> {
  const changes: PlanChange[] = [];
  for (const flag_key of keys) {
    const { environment } = await insertFlag(client, { flag_key });
    changes.push({ flag_key, environment, updates: { enabled: true } });
  }
  return changes;
}

async function enabled(client: pg.ClientBase): Promise<string[]> {
  const { rows } = await client.query<{ flag_key: string }>(
    'select flag_key from app_public.feature_flags where enabled order by flag_key',
  );
  return rows.map(({ flag_key }) => flag_key);
}

test('a release changes its flags at once, and each event names the plan', async () => {
  await withActors(database, async (client) => {
    const changes = await changesOf(client, 'a', 'b', 'c');
    const { id } = await insertDuePlan(client, changes, { reason: 'Launch' });
    const result = await asWorker(client, () => applyDue(client));
    expect(result).toEqual({ ...NOTHING, applied: 3 });
    expect(await planSummary(client, id)).toEqual({
      ...{ status: 'completed', applied: 1 },
      schedules: { a: 'applied', b: 'applied', c: 'applied' },
    });
    const events = await queuedEvents(client);
    for (const type of ['flag_schedule.created', 'feature_flag.updated', 'flag_schedule.applied']) {
      const own = events.filter(({ event_type }) => event_type === type);
      expect(own).toHaveLength(3);
      for (const { metadata } of own)
        expect(metadata).toMatchObject({ planId: id, occurrenceNo: 1, stepNo: 1 });
      expect(own.every(({ schedule_id }) => schedule_id !== null)).toBe(true);
    }
    expect(
      await value(
        client,
        'select array_agg(distinct before) from app_public.feature_flag_schedules',
      ),
    ).toEqual([{ enabled: false, rollout_percentage: 100 }]);
    expect(await briefRowProblems(client)).toEqual([]);
  });
});

test('D1: a release of which one flag can’t be changed changes none, and is tried again together', async () => {
  await withRollback(database, async (client) => {
    const changes = await changesOf(client, 'a', 'b', 'c');
    const { id } = await insertDuePlan(client, changes);
    const other = await insertFlag(client, { flag_key: 'other' });
    await insertSchedule(client, other.id, { dueIn: '-1 second' });
    await breakFlag(client, 'b');
    expect(await applyDue(client)).toEqual({ ...NOTHING, applied: 1, retried: 3 });
    expect(await enabled(client)).toEqual(['other']);
    const { rows } = await client.query(
      `select count(*)::int, attempts, error_message from app_public.feature_flag_schedules
       where plan_id is not null group by attempts, error_message, next_attempt_at`,
    );
    expect(rows).toEqual([{ count: 3, attempts: 1, error_message: 'the flag is broken' }]);
    await mendFlag(client);
    await client.query('update app_public.feature_flag_schedules set next_attempt_at = now()');
    expect(await applyDue(client)).toEqual({ ...NOTHING, applied: 3 });
    expect(await planSummary(client, id)).toMatchObject({ status: 'completed', applied: 1 });
  });
});

test('a release that fails for good pauses its plan', async () => {
  await withRollback(database, async (client) => {
    const { id } = await insertDuePlan(client, await changesOf(client, 'a', 'b'));
    await client.query('update app_public.feature_flag_schedules set max_attempts = 1');
    await breakFlag(client, 'b');
    expect(await applyDue(client)).toEqual({ ...NOTHING, failed: 2 });
    expect(await planSummary(client, id)).toEqual({
      ...{ status: 'paused', statusReason: 'the flag is broken' },
      schedules: { a: 'failed', b: 'failed' },
    });
    expect(await enabled(client)).toEqual([]);
  });
});

test('an error that passes by itself postpones the whole point, and uses no attempt up', async () => {
  await withRollback(database, async (client) => {
    await insertDuePlan(client, await changesOf(client, 'a', 'b'));
    await client.query(`
      create function app_private.tg_test__fail() returns trigger language plpgsql as $$
      begin raise exception 'no room' using errcode = '53100'; end $$;
      create trigger _050_fail before update on app_public.feature_flags for each row
      when (old.flag_key = 'b') execute function app_private.tg_test__fail()`);
    expect(await applyDue(client)).toEqual({ ...NOTHING, retried: 2 });
    const { rows } = await client.query(
      `select count(*)::int, attempts, next_attempt_at < now() + interval '2 seconds' as is_soon
       from app_public.feature_flag_schedules group by attempts, next_attempt_at`,
    );
    expect(rows).toEqual([{ count: 2, attempts: 0, is_soon: true }]);
  });
});

test('D3: the batch’s limit cuts no release', async () => {
  await withRollback(database, async (client) => {
    await insertDuePlan(client, await changesOf(client, 'a', 'b', 'c', 'd'));
    expect(await applyDue(client, 2)).toEqual({ ...NOTHING, applied: 4 });
  });
});

test('single schedules and points of one flag are applied in their order', async () => {
  await withRollback(database, async (client) => {
    await changesOf(client, 'a', 'b');
    const flag = await value<string>(
      client,
      `select id from app_public.feature_flags where flag_key = 'a'`,
    );
    await insertSchedule(client, flag, { dueIn: '-3 s', updates: { rollout_percentage: 1 } });
    await insertDuePlan(
      client,
      [
        { flag_key: 'a', environment: 'production', updates: { rollout_percentage: 2 } },
        { flag_key: 'b', environment: 'production', updates: { rollout_percentage: 2 } },
      ],
      { dueIn: '-2 s' },
    );
    await insertSchedule(client, flag, { dueIn: '-1 s', updates: { rollout_percentage: 3 } });
    expect(await applyDue(client)).toEqual({ ...NOTHING, applied: 4 });
    const states = (await queuedEvents(client))
      .filter(
        ({ event_type, flag_key }) => event_type === 'flag_schedule.applied' && flag_key === 'a',
      )
      .map(({ metadata }) => metadata.flagState);
    expect(states).toMatchObject([1, 2, 3].map((rolloutPercentage) => ({ rolloutPercentage })));
    expect(
      await value(
        client,
        'select jsonb_agg(before order by scheduled_at) from app_public.feature_flag_schedules where flag_id = $1',
        [flag],
      ),
    ).toEqual([null, { enabled: false, rollout_percentage: 1 }, null]);
  });
});

test.for<[string, string]>([
  ['cancelled', `update app_public.feature_flag_schedules set status = 'cancelled' where id = $1`],
  ['deleted', 'delete from app_public.feature_flag_schedules where id = $1'],
] as const)('a release of which SQL has %s a part is not made by halves', async ([, statement]) => {
  await withRollback(database, async (client) => {
    const { id } = await insertDuePlan(client, await changesOf(client, 'a', 'b'));
    await client.query('update app_public.feature_flag_schedules set max_attempts = 1');
    await client.query(statement, [
      await value(client, 'select id from app_public.feature_flag_schedules order by id limit 1'),
    ]);
    expect(await applyDue(client)).toEqual({ ...NOTHING, failed: 1 });
    expect(await enabled(client)).toEqual([]);
    expect(await planSummary(client, id)).toMatchObject({
      status: 'paused',
      statusReason:
        'The plan has 2 changes, and 1 of them can be made: all of them are made together or none.',
    });
  });
});

describe('a point that an admin applies', () => {
  const changeNow = (client: pg.ClientBase, id: string) =>
    asAdmin(client, () => value(client, 'select app_private.apply_point($1)', [id]));

  /** The API's role may not call it: the functions that it calls do, as their owner. */
  const allowed = (client: pg.ClientBase) =>
    client.query(
      `alter function app_private.apply_point(uuid) security definer;
       grant execute on function app_private.apply_point(uuid) to halyard_admin`,
    );

  test('is applied in the admin’s name at once, also in a stopped environment, and each event names the schedule and the plan', async () => {
    await withActors(database, async (client) => {
      await allowed(client);
      const { id } = await insertDuePlan(client, await changesOf(client, 'a', 'b'));
      await client.query(`select from app_private.stop_environment('production', 'Incident')`);
      expect(await changeNow(client, id)).toBe('applied');
      expect(await planSummary(client, id)).toMatchObject({ status: 'completed' });
      const updated = (await queuedEvents(client)).filter(
        ({ event_type }) => event_type === 'feature_flag.updated',
      );
      expect(updated).toHaveLength(2);
      for (const event of updated)
        expect(event).toMatchObject({
          ...{
            actor_kind: 'admin',
            admin_user_id: 'alice',
            schedule_id: expect.any(String) as string,
          },
          metadata: { planId: id, occurrenceNo: 1, stepNo: 1 },
        });
      expect(await briefRowProblems(client)).toEqual([]);
    });
  });

  test('is suspended where a guard finds something else, and raises what keeps it from being applied', async () => {
    await withActors(database, async (client) => {
      await allowed(client);
      const guarded = (await changesOf(client, 'a')).map((change) => ({
        ...{ ...change, expects: { rollout_percentage: 7 } },
        on_conflict: 'suspend' as const,
      }));
      expect(await changeNow(client, (await insertDuePlan(client, guarded)).id)).toBe('suspended');
      const { id } = await insertDuePlan(client, await changesOf(client, 'b', 'c'));
      await breakFlag(client, 'c');
      expect(await sqlStateOf(client, () => changeNow(client, id))).toBe('P0001');
      expect(await enabled(client)).toEqual([]);
    });
  });
});

describe('while another session has a part of a release', () => {
  /** A database, the owner's session, which inserts, and the worker's. */
  async function withSessions(
    work: (owner: pg.Client, worker: pg.Client, other: pg.Client) => Promise<void>,
  ): Promise<void> {
    const clone = await cloneDatabase(database.name);
    try {
      await withClient(clone.ownerUrl, (owner) =>
        withClient(clone.workerUrl, (worker) =>
          withClient(clone.ownerUrl, (other) => work(owner, worker, other)),
        ),
      );
    } finally {
      await clone.drop();
    }
  }

  test.for([
    ['a flag', `select from app_public.feature_flags where flag_key = 'b' for share`],
    ['a schedule', 'select from app_public.feature_flag_schedules limit 1 for update'],
    ['the plan', 'select from app_public.plans for update'],
  ])('D2: %s, all of it waits, and what is behind it doesn’t', async ([, lock]) => {
    await withSessions(async (owner, worker, other) => {
      const { id } = await insertDuePlan(owner, await changesOf(owner, 'a', 'b', 'c'), {
        dueIn: '-1 minute',
      });
      const { id: single } = await insertFlag(owner, { flag_key: 'single' });
      await insertSchedule(owner, single, { dueIn: '-1 second' });
      await other.query(`begin; ${lock}`);
      // As many as the release has: it doesn't fill the batch again and again.
      expect(await applyDue(worker, 2)).toEqual({ ...NOTHING, applied: 1 });
      expect(await enabled(owner)).toEqual(['single']);
      const flag = await value(worker, 'select flag_id from app_private.overdue_flags(1000)');
      await expect(
        worker.query('select from app_private.apply_flag($1, 50)', [flag]),
      ).rejects.toMatchObject({ code: '55P03' });
      await other.query('rollback');
      expect(
        await value(worker, 'select applied from app_private.apply_flag($1, 50)', [flag]),
      ).toBe(3);
      expect(await planSummary(owner, id)).toMatchObject({ status: 'completed' });
    });
  });

  test('a release that is stuck in part is left whole', async () => {
    await withSessions(async (owner, worker) => {
      await insertDuePlan(owner, await changesOf(owner, 'a', 'b'));
      const stuck = await value(
        owner,
        'select id from app_public.feature_flag_schedules order by id desc limit 1',
      );
      const { rows } = await worker.query(
        'select applied, stuck from app_private.apply_due(500, $1)',
        [[stuck]],
      );
      expect(rows).toEqual([{ applied: 0, stuck: 0 }]);
    });
  });
});
