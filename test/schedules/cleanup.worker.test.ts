import { expect, test, vi } from 'vitest';
import { value } from '../support/actors.ts';
import { withClient } from '../support/database.ts';
import { insertDue, runTask, startTestWorker, useFreshDatabase } from '../support/worker.ts';

test('no schedule is deleted unless the setting schedule_retention says so', async () => {
  const database = await useFreshDatabase();
  await withClient(database.rootUrl, async (client) => {
    await insertDue(client, { count: 1_200, dueIn: '-1 second' });
    await vi.waitFor(
      async () => {
        await client.query('select app_private.apply_due(1200)');
        expect(
          await value(
            client,
            `select count(*)::int from app_public.feature_flag_schedules where status = 'applied'`,
          ),
        ).toBe(1_200);
      },
      { timeout: 10_000 },
    );
    await client.query(
      `set session_replication_role = replica;
       update app_public.feature_flag_schedules set applied_at = applied_at - interval '91 days';
       set session_replication_role = origin`,
    );
    const count = () =>
      value(client, 'select count(*)::int from app_public.feature_flag_schedules');
    const { lines } = await startTestWorker(database);
    await runTask(database, 'remove_old_schedules');
    expect(await count()).toBe(1_200);
    await client.query(
      `select app_private.set_setting('schedule_retention', 'applied=90,cancelled=30')`,
    );
    await runTask(database, 'remove_old_schedules');
    expect(await count()).toBe(0);
    expect(lines).toContainEqual(
      expect.objectContaining({ level: 'info', applied: 1_200, cancelled: 0 }),
    );
  });
});
