import type pg from 'pg';
import { expect, test } from 'vitest';
import { value } from '../../support/actors.ts';
import { runAudit } from '../../support/chaos/command.ts';
import { withClient } from '../../support/database.ts';
import { problemsOf, withOwner } from '../../support/reconcile.ts';
import { makeRows, pastTriggers, rowProblems } from '../../support/row_problems.ts';
import type { TrailEvent } from '../../support/trail.ts';
import { startTestWorker, useFreshDatabase } from '../../support/worker.ts';

const gauge = (client: pg.ClientBase) =>
  value(client, `select value from app_private.metrics() where metric = 'rows_unexplained'`);

test('a worker’s full run finds rows that were changed past the trail, is loud about them, and leaves them', async () => {
  const database = await useFreshDatabase();
  await withOwner(database, async (client) => {
    const { flag, pending } = await makeRows(client);
    await pastTriggers(
      client,
      `update app_public.feature_flags set enabled = false where id = '${flag.id}'`,
      `update app_public.feature_flag_schedules set updates = '{"enabled": false}' where id = '${pending.id}'`,
    );
    const { lines } = await startTestWorker(database);
    await expect.poll(() => gauge(client)).toBe(2);
    await expect
      .poll(() => lines.filter(({ level }) => level === 'error'))
      .toMatchObject([{ scope: 'full', fromRows: 0, unexplained: 2 }]);
    expect(await rowProblems(client)).toHaveLength(2);
  });
});

test('the command counts them with status 1, and records them as found when it is asked to', async () => {
  const database = await useFreshDatabase();
  await withOwner(database, async (client) => {
    const { flag, applied } = await makeRows(client);
    await pastTriggers(
      client,
      `update app_public.feature_flags set enabled = false where id = '${flag.id}'`,
      `update app_public.feature_flag_schedules set status = 'cancelled', applied_at = null where id = '${applied.id}'`,
      `update app_private.settings set value = '9' where name = 'pending_per_flag'`,
    );
    const counted = await runAudit(database, 'reconcile', '--full');
    expect(counted).toMatchObject({ status: 1 });
    expect(counted.stdout).toContain('Rows that differ from the trail: 3.');
    expect(await gauge(client)).toBe(3);
    const recorded = await runAudit(database, 'reconcile', '--record-rows');
    expect(recorded).toMatchObject({ status: 0 });
    expect(await gauge(client)).toBe(0);
    const { rows } = await client.query<TrailEvent>(
      `select * from audit.events where metadata ? 'differs' order by event_type`,
    );
    const same = { level: 'warning', actor_kind: 'system', database_user: 'halyard_owner' };
    expect(rows).toMatchObject([
      {
        ...{ ...same, event_type: 'feature_flag.reconciled', flag_id: flag.id, revision: '3' },
        metadata: {
          revisions: [3],
          rowRevision: 3,
          after: { enabled: false },
          differs: [{ column: 'enabled', trail: true, row: false }],
        },
      },
      {
        ...{ ...same, event_type: 'flag_schedule.reconciled', schedule_id: applied.id },
        metadata: {
          after: { status: 'cancelled' },
          differs: [{ column: 'status', trail: 'applied', row: 'cancelled' }],
        },
      },
      {
        ...{ ...same, event_type: 'setting.reconciled' },
        metadata: { after: '9', differs: [{ column: 'value', trail: '1000', row: '9' }] },
      },
    ]);
    expect(await rowProblems(client)).toEqual([]);
    expect(await problemsOf(client)).toEqual([]);
  });
  // What is recorded is where the comparison begins anew.
  await withClient(database.ownerUrl, async (client) => {
    await client.query('update app_public.feature_flags set rollout_percentage = 3');
    await pastTriggers(client, 'update app_public.feature_flags set rollout_percentage = 4');
  });
  expect((await runAudit(database, 'reconcile', '--full')).stdout).toContain('trail: 1.');
});
