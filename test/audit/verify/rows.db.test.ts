import { expect, test } from 'vitest';
import { withClient } from '../../support/database.ts';
import { insertFlag, insertSchedule } from '../../support/factory.ts';
import { reconcileAs, runLifecycle, withOwner } from '../../support/reconcile.ts';
import { briefRowProblems, makeRows, pastTriggers } from '../../support/row_problems.ts';
import { sealAll } from '../../support/sealed_trail.ts';
import { useFreshDatabase } from '../../support/worker.ts';
import type pg from 'pg';

const inState = async (state: 'queued' | 'sealed', client: pg.ClientBase) => {
  if (state === 'sealed') await sealAll(client);
};

test.for(['queued', 'sealed'] as const)(
  'rows of every kind of change are as the trail says, with events %s',
  async (state) => {
    const database = await useFreshDatabase();
    await withOwner(database, async (client) => {
      await runLifecycle(client, 'life');
      await makeRows(client);
      await client.query(`select app_private.set_setting('pending_per_flag', '10')`);
      // The state machine lets an owner move and apply in one statement.
      const { id } = await insertFlag(client);
      const both = await insertSchedule(client, id);
      await client.query(
        `update app_public.feature_flag_schedules set status = 'applied', scheduled_at = now() - interval '1 day' where id = $1`,
        [both.id],
      );
      await inState(state, client);
      expect(await briefRowProblems(client)).toEqual([]);
    });
  },
);

test.for(['queued', 'sealed'] as const)(
  'a row that was changed past the triggers differs, with events %s: each column that does is named',
  async (state) => {
    const database = await useFreshDatabase();
    await withOwner(database, async (client) => {
      const { flag, pending, moved, applied } = await makeRows(client);
      await client.query(`select app_private.set_setting('pending_per_flag', '10')`);
      await inState(state, client);
      const schedules = 'update app_public.feature_flag_schedules set';
      await pastTriggers(
        client,
        `update app_public.feature_flags set rollout_percentage = 5, description = 'x', flag_key = 'other' where id = '${flag.id}'`,
        `${schedules} updates = '{"enabled": false}' where id in ('${pending.id}', '${moved.id}')`,
        `${schedules} scheduled_at = scheduled_at - interval '2 seconds' where id = '${applied.id}'`,
        `update app_private.settings set value = '20' where name = 'pending_per_flag'`,
        `update app_private.settings set value = '1 month' where name = 'audit_retention'`,
      );
      const updates = ['updates', { enabled: true }, { enabled: false }];
      const found = await briefRowProblems(client);
      const late = found.find(([id]) => id === applied.id)?.[2] as [string, number, number][];
      expect((late[0]?.[2] ?? 0) - (late[0]?.[1] ?? 0)).toBe(2000);
      expect(Object.fromEntries(found.map(([id, ...rest]) => [id, rest]))).toEqual({
        [flag.id]: [
          'row_differs',
          [
            ['description', null, 'x'],
            ['flagKey', flag.flag_key, 'other'],
            ['rolloutPercentage', 100, 5],
          ],
        ],
        [pending.id]: ['row_differs', [updates]],
        [moved.id]: ['row_differs', [updates]],
        [applied.id]: ['row_differs', [['latenessMs', expect.anything(), expect.anything()]]],
        pending_per_flag: ['row_differs', [['value', '10', '20']]],
        audit_retention: ['row_differs', [['value', '', '1 month']]],
      });
    });
  },
);

test('a row that was changed while its triggers had lost their `always` differs', async () => {
  const database = await useFreshDatabase();
  await withClient(database.rootUrl, async (client) => {
    const { flag } = await makeRows(client);
    await client.query('alter table app_public.feature_flags enable trigger _900_audit_update');
    await client.query('set session_replication_role = replica');
    await client.query('update app_public.feature_flags set enabled = false');
    await client.query('set session_replication_role = origin');
    expect(await briefRowProblems(client)).toEqual([
      [flag.id, 'row_differs', [['enabled', true, false]]],
    ]);
  });
});

test('a change whose event the trail has, though the revision stood still, is explained', async () => {
  const database = await useFreshDatabase();
  await withClient(database.rootUrl, async (client) => {
    const { flag } = await makeRows(client);
    await client.query('set session_replication_role = replica');
    await client.query('update app_public.feature_flags set rollout_percentage = 1');
    await client.query('update app_public.feature_flags set rollout_percentage = 2, revision = 1');
    expect(await briefRowProblems(client)).toEqual([
      [flag.id, 'row_differs', [['revision', 2, 1]]],
    ]);
    await client.query('update app_public.feature_flags set revision = 3');
    expect(await briefRowProblems(client)).toEqual([]);
  });
});

test('a row whose event is a dead letter waits for it', async () => {
  const database = await useFreshDatabase();
  await withOwner(database, async (client) => {
    const { flag, pending } = await makeRows(client);
    await client.query('alter table audit.events add constraint no check (id is null) not valid');
    await client.query('update app_public.feature_flags set rollout_percentage = 1');
    await insertFlag(client);
    await insertSchedule(client, flag.id);
    await client.query(`select app_private.set_setting('pending_per_flag', '10')`);
    await client.query('delete from app_public.feature_flag_schedules where id = $1', [pending.id]);
    expect(await briefRowProblems(client)).toEqual([]);
    await client.query('alter table audit.events drop constraint no');
    expect(await reconcileAs(database, 'full')).toMatchObject({ fromLetters: 5, unexplained: 0 });
    expect(await briefRowProblems(client)).toEqual([]);
  });
});

test('a schedule that failed after it was moved, and is moved back past the triggers, differs', async () => {
  const database = await useFreshDatabase();
  await withOwner(database, async (client) => {
    const { moved } = await makeRows(client);
    const schedules = 'update app_public.feature_flag_schedules set';
    // The trail could not say that it was moved.
    await expect(
      client.query(`${schedules} status = 'failed', scheduled_at = now() where id = $1`, [
        moved.id,
      ]),
    ).rejects.toMatchObject({ code: 'ZF003' });
    await client.query(`${schedules} status = 'failed' where id = $1`, [moved.id]);
    expect(await briefRowProblems(client)).toEqual([]);
    await pastTriggers(
      client,
      `${schedules} scheduled_at = scheduled_at - interval '1 hour' where id = '${moved.id}'`,
    );
    expect(await briefRowProblems(client)).toEqual([
      [moved.id, 'row_differs', [['scheduledAt', expect.anything(), expect.anything()]]],
    ]);
  });
});

test('a clock that was set back after a row was made raises no alarm', async () => {
  const database = await useFreshDatabase();
  await withOwner(database, async (client) => {
    const { moved } = await makeRows(client);
    await client.query(
      `update app_public.feature_flag_schedules set status = 'failed' where id = $1`,
      [moved.id],
    );
    // What it would have left: the event of the move is older than the row.
    await client.query('alter table audit.events disable trigger user');
    await client.query(
      `with aged as (
         update audit.events set occurred_at = occurred_at - interval '1 minute'
         where event_type = 'flag_schedule.rescheduled'
         returning id, occurred_at
       )
       update audit.queue q set occurred_at = a.occurred_at from aged a where q.event_id = a.id`,
    );
    expect(await briefRowProblems(client)).toEqual([]);
  });
});
