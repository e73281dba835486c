import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { asAdmin, reconcileAs, withOwner } from '../../support/reconcile.ts';
import { briefRowProblems, makeRows, pastTriggers } from '../../support/row_problems.ts';
import { sealAll } from '../../support/sealed_trail.ts';
import { useFreshDatabase } from '../../support/worker.ts';

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
