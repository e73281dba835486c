import type pg from 'pg';
import { describe, expect, test } from 'vitest';
import { asWorker, value, withActors } from '../support/actors.ts';
import { apply, flagState, outcome } from '../support/apply_due.ts';
import { cloneDatabase, useDatabase, withClient } from '../support/database.ts';
import { insertDuePlan, planSummary } from '../support/due_plans.ts';
import { insertFlag, insertSchedule } from '../support/factory.ts';
import { asAdmin } from '../support/plans.ts';
import { become, sqlStateOf } from '../support/roles.ts';
import { briefRowProblems } from '../support/row_problems.ts';
import { queuedEvents } from '../support/trail.ts';

const database = useDatabase();

const STOP = `select stopped_by from app_public.stop_environment('production', 'Incident 7')`;
const RESUME = 'select last_resume from app_public.resume_environment($1, $2, $3, $4)';

interface World {
  readonly client: pg.Client;
  /** Three schedules of flags of production: to 1, 2 and 3 %. The first two are of one flag. */
  readonly schedules: readonly string[];
  readonly flags: readonly string[];
  /** A release of a flag of production and one of staging. */
  readonly plan: string;
}

/** What came due in production while it is stopped; in staging one more schedule, which is applied. */
async function whileStopped(work: (world: World) => Promise<void>): Promise<void> {
  await withActors(database, async (client) => {
    await asAdmin(client, async () => expect(await value(client, STOP)).toBe('alice'));
    const flags: string[] = [];
    for (const flag_key of ['a', 'b', 'c']) flags.push((await insertFlag(client, { flag_key })).id);
    const schedules: string[] = [];
    for (const [n, flag] of [flags[0], flags[0], flags[1]].entries())
      schedules.push(
        (
          await insertSchedule(client, flag ?? '', {
            dueIn: `${n - 5} seconds`,
            updates: { rollout_percentage: n + 1 },
          })
        ).id,
      );
    const staging = await insertFlag(client, { flag_key: 'd', environment: 'staging' });
    const plan = await insertDuePlan(
      client,
      [
        { flag_key: 'c', environment: 'production', updates: { enabled: true } },
        { flag_key: 'd', environment: 'staging', updates: { enabled: true } },
      ],
      { dueIn: '-1 second' },
    );
    await insertSchedule(client, staging.id, { dueIn: '-4 seconds' });
    await work({ client, schedules, flags, plan: plan.id });
  });
}

async function statuses({ client, schedules }: World): Promise<string[]> {
  const { rows } = await client.query<{ status: string }>(
    `select s.status from unnest($1::uuid[]) with ordinality as i (id, no)
     join app_public.feature_flag_schedules s on s.id = i.id order by i.no`,
    [schedules],
  );
  return rows.map(({ status }) => status);
}

const resume = (
  { client }: World,
  missed: string,
  options: { except?: string[]; environments?: string[]; environment?: string } = {},
): Promise<unknown> => {
  const { except = [], environments, environment = 'production' } = options;
  return asAdmin(client, () => value(client, RESUME, [environment, missed, 'All clear', except]), {
    userId: 'bob',
    ...(environments && { environments }),
  });
};

test('I1: what comes due in a stopped environment is suspended, and in another one applied', async () => {
  await whileStopped(async (world) => {
    const { client, plan } = world;
    const { rows } = await asWorker(client, () =>
      client.query('select applied, suspended_for_stop from app_private.apply_due()'),
    );
    expect(rows).toEqual([{ applied: 1, suspended_for_stop: 5 }]);
    expect(await statuses(world)).toEqual(['suspended', 'suspended', 'suspended']);
    // The whole point waits, with its part in staging.
    expect(await planSummary(client, plan)).toEqual({
      ...{ status: 'active', schedules: { c: 'suspended', d: 'suspended' } },
    });
    const events = (await queuedEvents(client)).filter(
      ({ event_type }) => event_type === 'flag_schedule.suspended',
    );
    const details = { environment: 'production', reason: 'Incident 7' };
    expect(
      events.map(({ flag_key, metadata }) => [flag_key, metadata.for, metadata.details]),
    ).toEqual(
      expect.arrayContaining([
        ['a', 'stop', details],
        ['b', 'stop', details],
        ['c', 'stop', details],
        ['d', 'stop', undefined],
      ]),
    );
    expect(await value(client, 'select overdue_for is null from app_private.next_due()')).toBe(
      true,
    );
    expect(await briefRowProblems(client)).toEqual([]);
  });
});

test('I2: resumed with apply they are applied at once, in their order', async () => {
  await whileStopped(async (world) => {
    const { client, flags, plan } = world;
    await asWorker(client, () => apply(client));
    expect(await resume(world, 'apply')).toEqual({
      ...{ missed: 'apply', applied: 5, skipped: 0, reason: 'All clear', by: 'bob' },
      ...{ at: expect.any(String) as string, stoppedForMs: expect.any(Number) as number },
    });
    expect(await asWorker(client, () => apply(client))).toEqual(outcome({ applied: 5 }));
    expect(await flagState(client, flags[0] ?? '')).toBe('false 2');
    expect(await planSummary(client, plan)).toMatchObject({ status: 'completed', applied: 1 });
    const last = (await queuedEvents(client)).findLast(
      ({ event_type }) => event_type === 'environment.resumed',
    );
    expect(last).toMatchObject({
      ...{ level: 'warning', environment: 'production', admin_user_id: 'bob' },
      metadata: {
        ...{ name: 'production', reason: 'All clear', missed: 'apply', applied: 5, skipped: 0 },
        before: { stopReason: 'Incident 7', stoppedBy: 'alice' },
      },
    });
    expect(await briefRowProblems(client)).toEqual([]);
  });
});

test.for([
  ['suspended by the worker', true],
  ['not seen by a worker yet', false],
] as const)('I2: resumed with skip, what was %s is skipped', async ([, isSuspended]) => {
  await whileStopped(async (world) => {
    const { client, flags, plan } = world;
    if (isSuspended) await asWorker(client, () => apply(client));
    await resume(world, 'skip');
    await asWorker(client, () => apply(client));
    expect(await statuses(world)).toEqual(['skipped', 'skipped', 'skipped']);
    expect(await flagState(client, flags[0] ?? '')).toBe('false 100');
    expect(await planSummary(client, plan)).toEqual({
      ...{ status: 'completed', skipped: 1 },
      schedules: { c: 'skipped', d: 'skipped' },
    });
    const skipped = (await queuedEvents(client)).filter(
      ({ event_type }) => event_type === 'flag_schedule.skipped',
    );
    expect(skipped).toHaveLength(5);
    expect(skipped[0]?.metadata.reason).toBe('All clear');
    expect(await briefRowProblems(client)).toEqual([]);
  });
});

test.for([
  ['apply', ['skipped', 'applied', 'applied'], 'completed', 1],
  ['skip', ['applied', 'skipped', 'skipped'], 'completed', undefined],
] as const)(
  'resumed with %s, the other is done with exceptions, of which one stands for its point',
  async ([missed, expected, status, skipped]) => {
    await whileStopped(async (world) => {
      const { client, schedules, plan } = world;
      await asWorker(client, () => apply(client));
      const part = await value<string>(
        client,
        'select id from app_public.feature_flag_schedules where plan_id = $1 limit 1',
        [plan],
      );
      await resume(world, missed, { except: [schedules[0] ?? '', part] });
      await asWorker(client, () => apply(client));
      expect(await statuses(world)).toEqual(expected);
      expect(await planSummary(client, plan)).toMatchObject({
        ...{ status, ...(skipped !== undefined && { skipped }) },
      });
    });
  },
);

test('an exception that isn’t among what came due is refused, and nothing is changed', async () => {
  await whileStopped(async (world) => {
    const { client } = world;
    await asWorker(client, () => apply(client));
    const other = await insertSchedule(client, world.flags[0] ?? '');
    expect(
      await asAdmin(client, () =>
        sqlStateOf(client, () =>
          client.query(RESUME, ['production', 'apply', 'All clear', [other.id]]),
        ),
      ),
    ).toBe('22023');
    expect(await statuses(world)).toEqual(['suspended', 'suspended', 'suspended']);
  });
});

test('a release of two stopped environments waits for the second', async () => {
  await whileStopped(async (world) => {
    const { client, plan } = world;
    await asAdmin(client, () =>
      client.query(`select from app_public.stop_environment('staging', 'Too')`),
    );
    await asWorker(client, () => apply(client));
    await resume(world, 'apply');
    await asWorker(client, () => apply(client));
    expect(await statuses(world)).toEqual(['applied', 'applied', 'applied']);
    expect(await planSummary(client, plan)).toMatchObject({
      schedules: { c: 'suspended', d: 'suspended' },
    });
    await resume(world, 'apply', { environment: 'staging' });
    await asWorker(client, () => apply(client));
    expect(await planSummary(client, plan)).toMatchObject({ status: 'completed' });
  });
});

test.for([
  ['apply', true, { c: 'applied', d: 'applied' }],
  ['skip', true, { c: 'suspended', d: 'suspended' }],
  ['skip', false, { c: 'suspended', d: 'suspended' }],
] as const)(
  'a release that reaches beyond the token, resumed with %s (suspended already: %s)',
  async ([missed, isSuspended, expected]) => {
    await whileStopped(async (world) => {
      const { client, plan } = world;
      if (isSuspended) await asWorker(client, () => apply(client));
      await resume(world, missed, { environments: ['production'] });
      await asWorker(client, () => apply(client));
      expect(await planSummary(client, plan)).toMatchObject({ schedules: expected });
      if (missed === 'apply') return;
      // An admin of both lets it go.
      const part = await value(
        client,
        'select id from app_public.feature_flag_schedules where plan_id = $1 limit 1',
        [plan],
      );
      await asAdmin(client, () =>
        client.query(`select from app_public.resume_schedule($1, 'Go')`, [part]),
      );
      await asWorker(client, () => apply(client));
      expect(await planSummary(client, plan)).toMatchObject({ status: 'completed' });
    });
  },
);

test('I3: people change flags, make schedules and cancel suspended ones while it is stopped', async () => {
  await whileStopped(async (world) => {
    const { client, schedules, flags } = world;
    await asWorker(client, () => apply(client));
    await asAdmin(client, async () => {
      await client.query('update app_public.feature_flags set enabled = true where id = $1', [
        flags[0],
      ]);
      await client.query(
        `select from app_public.schedule_flag_change('a', 'production', now() + interval '1 h', '{"enabled": false}')`,
      );
      await client.query('select from app_public.cancel_flag_schedule($1)', [schedules[0]]);
      expect(
        await sqlStateOf(client, () =>
          client.query(`select from app_public.resume_schedule($1, 'Now')`, [schedules[1]]),
        ),
      ).toBe('ZF023');
    });
    expect(await flagState(client, flags[0] ?? '')).toBe('true 100');
    expect(await statuses(world)).toEqual(['cancelled', 'suspended', 'suspended']);
  });
});

test.for<[string, string, string]>([
  ['stopped twice', STOP, 'ZF023'],
  ['stopped without a reason', `select from app_public.stop_environment('staging', ' ')`, '22023'],
  [
    'stopped with a long reason',
    `select from app_public.stop_environment('staging', repeat('x', 501))`,
    '22023',
  ],
  [
    'resumed while it runs',
    `select from app_public.resume_environment('staging', 'apply', 'x')`,
    'ZF023',
  ],
  [
    'resumed in a third way',
    `select from app_public.resume_environment('production', 'later', 'x')`,
    '22023',
  ],
  ['one that isn’t there', `select from app_public.stop_environment('nowhere', 'x')`, 'ZF014'],
])('what can’t be: %s', async ([, statement, state]) => {
  await withActors(database, async (client) => {
    await asAdmin(client, () => client.query(STOP));
    expect(await asAdmin(client, () => sqlStateOf(client, () => client.query(statement)))).toBe(
      state,
    );
  });
});

test('ZF023 says who stopped it, and who resumed it', async () => {
  await withActors(database, async (client) => {
    const messageOf = async (statement: string) => {
      await client.query('savepoint call');
      const message = await client.query(statement).then(
        () => null,
        (error: unknown) => String(error),
      );
      await client.query('rollback to savepoint call');
      return message;
    };
    await asAdmin(client, async () => {
      await client.query(STOP);
      expect(await messageOf(STOP)).toMatch(
        /The environment production is stopped, since .* UTC by alice: Incident 7$/,
      );
      const resumed = `select from app_public.resume_environment('production', 'apply', 'Over')`;
      await client.query(resumed);
      expect(await messageOf(resumed)).toMatch(
        /The environment production isn't stopped: it was resumed at .* UTC by alice: Over$/,
      );
    });
  });
});

test.for<[string, Parameters<typeof become>[1], string[] | undefined, string]>([
  ['a viewer', 'viewer', undefined, '42501'],
  ['an auditor', 'auditor', undefined, '42501'],
  ['an admin of another environment', 'admin', ['staging'], 'ZF014'],
])('%s stops nothing', async ([, role, environments, state]) => {
  await withActors(database, async (client) => {
    await become(client, role, { userId: 'eve', ...(environments && { environments }) });
    expect(await sqlStateOf(client, () => client.query(STOP))).toBe(state);
  });
});

test('no login but the owner takes the lock that a stop takes', async () => {
  for (const url of [database.workerUrl, database.authenticatorUrl])
    await withClient(url, async (client) => {
      for (const mode of ['row share', 'exclusive']) {
        await expect(
          client.query(`begin; lock table app_private.apply_gates in ${mode} mode`),
        ).rejects.toMatchObject({ code: '42501' });
        await client.query('rollback');
      }
    });
});

test('a viewer sees that an environment is stopped, and not by whom and why', async () => {
  await withActors(database, async (client) => {
    await asAdmin(client, () => client.query(STOP));
    await become(client, 'viewer');
    expect(
      await value(
        client,
        `select stopped_at is not null from app_public.environments where name = 'production'`,
      ),
    ).toBe(true);
    for (const column of ['stopped_by', 'stop_reason', 'last_resume'])
      expect(
        await sqlStateOf(client, () =>
          client.query(`select ${column} from app_public.environments`),
        ),
      ).toBe('42501');
  });
});

describe('with a batch at the same time', () => {
  test('a stop waits for the batch that is under way, and the next one sees it', async () => {
    const clone = await cloneDatabase(database.name);
    try {
      await withClient(clone.ownerUrl, (owner) =>
        withClient(clone.workerUrl, async (worker) => {
          for (const n of [1, 2]) {
            const { id } = await insertFlag(owner, { flag_key: `f${n}` });
            await insertSchedule(owner, id, { dueIn: '-1 second' });
          }
          await worker.query('begin');
          await worker.query('select from app_private.apply_due(1)');
          let isStopped = false;
          const stopped = owner
            .query(`select from app_private.stop_environment('production', 'Now')`)
            .then(() => (isStopped = true));
          await withClient(clone.rootUrl, async (root) => {
            const waits = `select count(*)::int from pg_locks
              where relation = 'app_private.apply_gates'::regclass and not granted`;
            await expect.poll(() => value(root, waits)).toBe(1);
          });
          expect(isStopped).toBe(false);
          await worker.query('commit');
          await stopped;
          const { rows } = await worker.query(
            'select applied, suspended_for_stop from app_private.apply_due()',
          );
          expect(rows).toEqual([{ applied: 0, suspended_for_stop: 1 }]);
        }),
      );
    } finally {
      await clone.drop();
    }
  });
});

test('a stop that can’t be recorded on a schedule holds all the same', async () => {
  await whileStopped(async (world) => {
    const { client } = world;
    await client.query(`
      create function app_private.tg_test__fail() returns trigger language plpgsql as $$
      begin raise exception 'broken'; end $$;
      create trigger _050_fail before update on app_public.feature_flag_schedules for each row
      when (new.status = 'suspended') execute function app_private.tg_test__fail()`);
    const { rows } = await asWorker(client, () =>
      client.query<{ applied: number; stuck: number; stuck_ids: string[] }>(
        'select applied, stuck, stuck_ids from app_private.apply_due()',
      ),
    );
    expect(rows[0]).toMatchObject({ applied: 1, stuck: 5 });
    expect(rows[0]?.stuck_ids).toEqual(expect.arrayContaining([...world.schedules]));
    expect(await statuses(world)).toEqual(['pending', 'pending', 'pending']);
  });
});
