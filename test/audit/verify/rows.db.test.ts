import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { value } from '../../support/actors.ts';
import { withClient } from '../../support/database.ts';
import { insertFlag, insertSchedule } from '../../support/factory.ts';
import { deliverAll, retain } from '../../support/old_trail.ts';
import { asAdmin, reconcileAs, runLifecycle, withOwner } from '../../support/reconcile.ts';
import {
  briefRowProblems,
  makeRows,
  pastTriggers,
  rowProblems,
} from '../../support/row_problems.ts';
import { findings, sealAll } from '../../support/sealed_trail.ts';
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

test('rows that were put in past the triggers, with whatever revision, or that the trail says are gone, have no event', async () => {
  const database = await useFreshDatabase();
  await withOwner(database, async (client) => {
    const kept = await insertFlag(client);
    const { flag, pending } = await makeRows(client);
    const row = await value<string>(
      client,
      'select f::text from app_public.feature_flags f where id = $1',
      [flag.id],
    );
    await client.query('delete from app_public.feature_flags where id = $1', [flag.id]);
    await sealAll(client);
    await pastTriggers(
      client,
      `insert into app_public.feature_flags (flag_key) values ('one')`,
      `insert into app_public.feature_flags (flag_key, revision) values ('none', 0)`,
      `insert into app_public.feature_flags select ('${row}'::app_public.feature_flags).*`,
      `insert into app_public.feature_flag_schedules (flag_id, scheduled_at, updates) values ('${kept.id}', now() + interval '1 day', '{"enabled": true}')`,
    );
    const found = await rowProblems(client);
    expect(found.map(({ status }) => status)).toEqual(Array(4).fill('row_unrecorded'));
    expect(found.map(({ row_id }) => row_id)).toContain(flag.id);
    expect(found.map(({ row_id }) => row_id)).not.toContain(pending.id);
    // The reconciler accounts for those whose revisions tell that events are missing.
    expect(await reconcileAs(database, 'full')).toMatchObject({ fromRows: 2, unexplained: 2 });
    expect(await reconcileAs(database, 'recording')).toMatchObject({ fromRows: 2, unexplained: 0 });
    expect(await briefRowProblems(client)).toEqual([]);
    // And goes on from there: it is gone once more.
    await pastTriggers(client, `delete from app_public.feature_flags where id = '${flag.id}'`);
    expect(await briefRowProblems(client)).toEqual([[flag.id, 'row_vanished', []]]);
    expect(await reconcileAs(database, 'full')).toMatchObject({ fromRows: 1, unexplained: 0 });
    expect(await briefRowProblems(client)).toEqual([]);
    await sealAll(client);
    expect(await findings(client)).toEqual([]);
  });
});

test('rows that are gone without an event have vanished', async () => {
  const database = await useFreshDatabase();
  await withOwner(database, async (client) => {
    const { flag, pending, moved, applied } = await makeRows(client);
    const { id } = await insertSchedule(client, (await insertFlag(client)).id);
    await sealAll(client);
    await pastTriggers(
      client,
      `delete from app_public.feature_flags where id = '${flag.id}'`,
      `delete from app_public.feature_flag_schedules where id = '${id}'`,
      `delete from app_private.settings where name = 'retry_base'`,
    );
    const gone = [flag, pending, moved, applied, { id }].map((row) => row.id);
    const found = await briefRowProblems(client);
    expect(found[0]).toEqual(['retry_base', 'row_vanished', []]);
    expect(
      found
        .slice(1)
        .map(([row]) => row)
        .toSorted(),
    ).toEqual(gone.toSorted());
    expect(await reconcileAs(database, 'full')).toMatchObject({ fromRows: 5, unexplained: 1 });
    expect(await briefRowProblems(client)).toEqual([found[0]]);
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

test('rows whose events are purged are compared with what is left, which raises no alarm', async () => {
  const database = await useFreshDatabase();
  await withOwner(database, async (client) => {
    const { flag, moved } = await makeRows(client);
    // As if all of it had happened months ago.
    await pastTriggers(
      client,
      `select app_private.make_audit_partition(now() - interval '3 months')`,
      `alter table audit.events disable trigger user`,
      `update audit.events set occurred_at = occurred_at - interval '3 months'`,
      `update audit.events e
       set payload = app_private.render_event(jsonb_populate_record(null::app_private.audit_event, to_jsonb(e)))`,
      `update audit.queue set occurred_at = occurred_at - interval '3 months'`,
      `alter table audit.events enable always trigger _100_append_only, enable always trigger _200_append_only_rows`,
    );
    await sealAll(client);
    await deliverAll(client, 'stdout');
    const [purged] = await retain(client, '1 month');
    expect(purged).toMatchObject({ outcome: 'purged' });
    expect(await briefRowProblems(client)).toEqual([]);
    // The event before it is gone: what this one says is known, and no more.
    await client.query(
      `update app_public.feature_flag_schedules set status = 'cancelled' where id = $1`,
      [moved.id],
    );
    expect(await briefRowProblems(client)).toEqual([]);
    await pastTriggers(
      client,
      `update app_public.feature_flag_schedules set updates = '{"enabled": false}'`,
      `update app_public.feature_flag_schedules set status = 'pending' where id = '${moved.id}'`,
      `update app_public.feature_flags set enabled = false where id = '${flag.id}'`,
    );
    expect(await briefRowProblems(client)).toEqual([
      [moved.id, 'row_differs', [['status', 'cancelled', 'pending']]],
    ]);
  });
});

test('schedules that retention deletes leave nothing behind that differs', async () => {
  const database = await useFreshDatabase();
  await withOwner(database, async (client) => {
    const { pending } = await makeRows(client);
    await client.query(
      `update app_public.feature_flag_schedules set status = 'cancelled' where id = $1`,
      [pending.id],
    );
    await client.query(`select app_private.set_setting('schedule_retention', 'cancelled=1')`);
    await client.query(`update app_public.feature_flag_schedules set updated_at = now()`);
    await pastTriggers(
      client,
      `update app_public.feature_flag_schedules set cancelled_at = now() - interval '2 days' where status = 'cancelled'`,
    );
    expect(await value(client, `select app_private.remove_old_schedules('cancelled')`)).toBe(1);
    expect(await briefRowProblems(client)).toEqual([]);
  });
});

test('a row that was made again with its id in the transaction that deleted it is not gone', async () => {
  const database = await useFreshDatabase();
  await withOwner(database, async (client) => {
    const { id, flag_key } = await insertFlag(client);
    await client.query('begin');
    await client.query('delete from app_public.feature_flags where id = $1', [id]);
    await client.query('insert into app_public.feature_flags (id, flag_key) values ($1, $2)', [
      ...[id, flag_key],
    ]);
    await client.query('commit');
    // Past the stamp, so that the event isn't that of the row's revision, and its whole history is looked at.
    await withClient(database.rootUrl, async (other) => {
      await other.query('set session_replication_role = replica');
      await other.query('update app_public.feature_flags set enabled = true where id = $1', [id]);
    });
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

test('stamps that were changed past the triggers differ, where an event says what they were', async () => {
  const database = await useFreshDatabase();
  await withOwner(database, async (client) => {
    const flagKey = 'stamped';
    await asAdmin(
      client,
      'insert into app_public.feature_flags (flag_key) values ($1) returning id',
      [flagKey],
    );
    const plan = () =>
      asAdmin<string>(
        client,
        `select id from app_public.schedule_flag_change($1, 'production', now() + interval '1 hour', '{"enabled": true}', 'launch')`,
        [flagKey],
      );
    const [pending, cancelled, failed, retried] = [
      await plan(),
      await plan(),
      await plan(),
      await plan(),
    ];
    await asAdmin(client, `select id from app_public.cancel_flag_schedule($1, 'not now')`, [
      cancelled,
    ]);
    const fail = `update app_public.feature_flag_schedules set status = 'failed', attempts = 3, error_message = 'broken' where id = $1`;
    await client.query(fail, [failed]);
    await client.query(fail, [retried]);
    await asAdmin(client, `select id from app_public.retry_flag_schedule($1)`, [retried]);
    await client.query('select app_private.apply_due()');
    const { pending: typed } = await makeRows(client);
    // An attempt that failed for now is no event.
    await client.query(
      `update app_public.feature_flag_schedules set attempts = 1, error_message = 'for now' where id = $1`,
      [pending],
    );
    expect(await briefRowProblems(client)).toEqual([]);
    await sealAll(client);
    const schedules = 'update app_public.feature_flag_schedules set';
    await pastTriggers(
      client,
      `${schedules} created_by = 'eve' where id in ('${pending}', '${retried}', '${typed.id}')`,
      `${schedules} requested_by = 'eve' where id in ('${retried}', '${typed.id}')`,
      `${schedules} reason = 'none' where id in ('${pending}', '${retried}')`,
      `${schedules} reason = null, requested_by = null where id = '${cancelled}'`,
      `${schedules} cancelled_by = 'eve', cancel_reason = null where id = '${cancelled}'`,
      `${schedules} error_message = 'whole', attempts = 1, created_by = null where id = '${failed}'`,
    );
    const found = await briefRowProblems(client);
    const eve = ['createdBy', 'alice', 'eve'];
    const requested = ['requestedBy', 'alice', 'eve'];
    const reason = ['reason', 'launch', 'none'];
    expect(Object.fromEntries(found.map(([id, ...rest]) => [id, rest]))).toEqual({
      [pending]: ['row_differs', [eve, reason]],
      [retried]: ['row_differs', [eve, reason, requested]],
      [typed.id]: ['row_differs', [['requestedBy', null, 'eve']]],
      [cancelled]: [
        'row_differs',
        [
          ['cancelReason', 'not now', 'manual_cancellation'],
          ['cancelledBy', 'alice', 'eve'],
          ['reason', 'launch', null],
          ['requestedBy', 'alice', null],
        ],
      ],
      [failed]: [
        'row_differs',
        [
          ['attempts', 3, 1],
          ['createdBy', 'alice', null],
          ['errorMessage', 'broken', 'whole'],
        ],
      ],
    });
    expect(await reconcileAs(database, 'recording')).toMatchObject({ fromRows: 5, unexplained: 0 });
    expect(await briefRowProblems(client)).toEqual([]);
    // The trail goes on without the tracking columns.
    await client.query(
      await readFile(
        new URL('../../../migrations/rollback/schedule_tracking.sql', import.meta.url),
        'utf8',
      ),
    );
    expect(await briefRowProblems(client)).toEqual([]);
  });
});
