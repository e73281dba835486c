import type pg from 'pg';
import { expect, test } from 'vitest';
import { actAsOwner, value, withActors } from '../support/actors.ts';
import { useDatabase, withClient } from '../support/database.ts';
import { insertFlag, insertSchedule, one } from '../support/factory.ts';
import { asAdmin, changeOf, planOf, rowsOf, type PlanChange } from '../support/plans.ts';
import { become, sqlStateOf } from '../support/roles.ts';

const database = useDatabase();

interface Result {
  readonly plan_id: string;
  readonly changes: unknown[];
}

/** Changes flags by the connection's role. */
async function changeFlags(
  client: pg.ClientBase,
  changes: readonly PlanChange[],
  reason: string | null = null,
): Promise<Result> {
  const { rows } = await client.query<Result>('select * from app_public.change_flags($1, $2)', [
    JSON.stringify(changes),
    reason,
  ]);
  return one(rows);
}

const rolloutOf = (rollout_percentage: number) => ({ updates: { rollout_percentage } });

/** The types of the events so far, oldest first, with who did what they say. */
async function events(client: pg.ClientBase, since: string): Promise<string[]> {
  const { rows } = await client.query<{ text: string }>(
    `select concat_ws(' ', e.event_type, e.actor_kind, e.admin_user_id, e.metadata ->> 'reason') as text
     from audit.events e join audit.queue q on q.event_id = e.id
     where e.occurred_at > $1 order by q.id`,
    [since],
  );
  return rows.map(({ text }) => text);
}

const now = (client: pg.ClientBase) => value<string>(client, 'select clock_timestamp()::text');

test('changes of several flags are made at once, as a plan that is completed, by the admin, also in a stopped environment', async () => {
  await withActors(database, async (client) => {
    const [here, there] = [
      await insertFlag(client, { rollout_percentage: 10 }),
      await insertFlag(client, { environment: 'staging' }),
    ];
    await client.query(
      `update app_public.environments set stopped_at = now(), stop_reason = 'fire' where name = 'production'`,
    );
    const since = await now(client);
    const changes = [changeOf(here, rolloutOf(50)), changeOf(there)];
    const result = await asAdmin(client, () => changeFlags(client, changes, 'Black Friday'));
    expect(result.changes).toMatchObject([
      {
        ...{ flag_key: here.flag_key, environment: 'production' },
        before: { enabled: false, rollout_percentage: 10 },
        after: { enabled: false, rollout_percentage: 50 },
      },
      {
        ...{ flag_key: there.flag_key, environment: 'staging' },
        before: { enabled: false, rollout_percentage: 100 },
        after: { enabled: true, rollout_percentage: 100 },
      },
    ]);
    expect(await planOf(client, result.plan_id)).toMatchObject({
      ...{ title: 'Change of 2 flags', status: 'completed', applied_count: 1, next_at: null },
      ...{ reason: 'Black Friday', created_by: 'alice', content: { startsAt: null } },
    });
    expect((await rowsOf(client, result.plan_id)).map(({ status }) => status)).toEqual([
      ...['applied', 'applied'],
    ]);
    const by = (type: string) => `${type} admin alice`;
    const because = (type: string) => `${by(type)} Black Friday`;
    expect(await events(client, since)).toEqual([
      because('flag_plan.created'),
      ...Array<string>(2).fill(because('flag_schedule.created')),
      ...Array<string>(2).fill(because('feature_flag.updated')),
      ...Array<string>(2).fill(by('flag_schedule.applied')),
      by('flag_plan.completed'),
    ]);
    const planIds = await client.query(
      `select distinct e.metadata ->> 'planId' as plan from audit.events e where e.occurred_at > $1`,
      [since],
    );
    expect(planIds.rows).toEqual([{ plan: result.plan_id }]);
  });
});

test('a guard that finds something else refuses all, and says what it found; keep leaves the field', async () => {
  await withActors(database, async (client) => {
    const [guarded, other] = [await insertFlag(client), await insertFlag(client)];
    const guard = { ...rolloutOf(50), expects: { enabled: false, rollout_percentage: 10 } };
    const states = () =>
      client
        .query<object>(
          'select enabled, rollout_percentage from app_public.feature_flags order by id',
        )
        .then(({ rows }) => rows);
    const before = await states();
    const since = await now(client);
    await asAdmin(client, async () => {
      await client.query('savepoint before');
      const error = await changeFlags(client, [
        changeOf(other),
        changeOf(guarded, { ...guard, on_conflict: 'suspend' }),
      ]).catch((reason: unknown) => reason as { code: string; detail: string; message: string });
      await client.query('rollback to before');
      expect(error).toMatchObject({ code: 'ZF030' });
      expect(JSON.parse((error as { detail: string }).detail)).toEqual([
        {
          ...{ flag_key: guarded.flag_key, environment: 'production', field: 'rollout_percentage' },
          ...{ expected: 10, found: 100 },
        },
      ]);
    });
    expect(await states()).toEqual(before);
    expect(await events(client, since)).toEqual([]);

    const { plan_id, changes } = await asAdmin(client, () =>
      changeFlags(client, [changeOf(guarded, { ...guard, on_conflict: 'keep' })]),
    );
    expect(changes).toMatchObject([{ before: { rollout_percentage: 100 } }]);
    expect(
      await value(client, 'select kept from app_public.feature_flag_schedules where plan_id = $1', [
        plan_id,
      ]),
    ).toEqual(['rollout_percentage']);
  });
});

test('bad changes, and flags that the token doesn’t reach, are refused and change nothing', async () => {
  await withActors(database, async (client) => {
    const flag = await insertFlag(client);
    const far = await insertFlag(client, { environment: 'staging' });
    const refused = (changes: unknown) =>
      sqlStateOf(client, () => changeFlags(client, changes as PlanChange[]));
    await become(client, 'admin', { userId: 'ann', environments: ['production'] });
    expect(await refused([])).toBe('ZF028');
    expect(await refused(null)).toBe('ZF028');
    expect(await refused([changeOf(flag, { updates: { rollout_percentage: 101 } })])).toBe('ZF028');
    expect(await refused([changeOf(flag), changeOf(flag)])).toBe('ZF028');
    expect(await refused([changeOf(flag), changeOf(far)])).toBe('ZF014');
    expect(await refused([changeOf(flag), { ...changeOf(flag), flag_key: 'no-such' }])).toBe(
      'ZF001',
    );
    await become(client, 'viewer');
    expect(await refused([changeOf(flag)])).toBe('42501');
    await actAsOwner(client);
    expect(await value(client, 'select count(*)::int from app_public.plans')).toBe(0);
  });
});

test('a schedule that is late leaves alone what was changed since, and a full flag may be changed', async () => {
  await withActors(database, async (client) => {
    const flag = await insertFlag(client, { rollout_percentage: 10 });
    const late = await insertSchedule(client, flag.id, { dueIn: '-1 minute', ...rolloutOf(20) });
    await client.query(`insert into app_private.settings (name, value) values ('pending_per_flag', '1')
                        on conflict (name) do update set value = excluded.value`);
    await asAdmin(client, () => changeFlags(client, [changeOf(flag, rolloutOf(50))]));
    await client.query('select app_private.apply_in_turns(array[$1]::uuid[])', [late.id]);
    expect(
      await value(client, 'select rollout_percentage from app_public.feature_flags where id = $1', [
        flag.id,
      ]),
    ).toBe(50);
  });
});

test('two changes of the same flags wait for each other, in any order of their names', async () => {
  const flags = await withClient(database.ownerUrl, async (client) => [
    await insertFlag(client),
    await insertFlag(client),
  ]);
  const changeAll = (order: typeof flags, percentage: number) =>
    withClient(database.rootUrl, async (client) => {
      for (let n = 0; n < 10; n++) {
        await client.query('begin');
        await become(client, 'admin', { userId: 'ann' });
        await changeFlags(
          client,
          order.map((flag) => changeOf(flag, rolloutOf(percentage))),
        );
        await client.query('commit');
      }
    });
  await Promise.all([changeAll(flags, 30), changeAll(flags.toReversed(), 40)]);
  await withClient(database.ownerUrl, async (client) => {
    const { rows } = await client.query(
      'select distinct rollout_percentage from app_public.feature_flags',
    );
    expect(rows).toHaveLength(1);
  });
});
