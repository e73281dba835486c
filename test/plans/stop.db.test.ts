import { describe, expect, test } from 'vitest';
import { asWorker, value, withActors } from '../support/actors.ts';
import { apply, flagState } from '../support/apply_due.ts';
import { cloneDatabase, useDatabase, withClient } from '../support/database.ts';
import { planSummary } from '../support/due_plans.ts';
import { insertFlag, insertSchedule } from '../support/factory.ts';
import { asAdmin } from '../support/plans.ts';
import { become, sqlStateOf } from '../support/roles.ts';
import { briefRowProblems } from '../support/row_problems.ts';
import { statusesOf, STOP, whileStopped } from '../support/stopped.ts';
import { queuedEvents } from '../support/trail.ts';

const database = useDatabase();

test('I1: what comes due in a stopped environment is suspended, and in another one applied', async () => {
  await whileStopped(database, async (stopped) => {
    const { client, plan } = stopped;
    const { rows } = await asWorker(client, () =>
      client.query('select applied, suspended_for_stop from app_private.apply_due()'),
    );
    expect(rows).toEqual([{ applied: 1, suspended_for_stop: 5 }]);
    expect(await statusesOf(stopped)).toEqual(['suspended', 'suspended', 'suspended']);
    // The whole point waits, with its part in staging.
    expect(await planSummary(client, plan)).toEqual({
      ...{ status: 'active', schedules: { c: 'suspended', d: 'suspended' } },
    });
    const events = (await queuedEvents(client)).filter(
      ({ event_type }) => event_type === 'flag_schedule.suspended',
    );
    const details = { environment: 'production' };
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

test('I3: people change flags, make schedules and cancel suspended ones while it is stopped', async () => {
  await whileStopped(database, async (stopped) => {
    const { client, schedules, flags } = stopped;
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
    expect(await statusesOf(stopped)).toEqual(['cancelled', 'suspended', 'suspended']);
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
  await whileStopped(database, async (stopped) => {
    const { client } = stopped;
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
    expect(rows[0]?.stuck_ids).toEqual(expect.arrayContaining([...stopped.schedules]));
    expect(await statusesOf(stopped)).toEqual(['pending', 'pending', 'pending']);
  });
});
