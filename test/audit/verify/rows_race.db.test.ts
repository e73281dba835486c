import { expect, test } from 'vitest';
import { withClient } from '../../support/database.ts';
import { insertFlag, insertSchedule } from '../../support/factory.ts';
import { reconcileAs, withOwner } from '../../support/reconcile.ts';
import { pastTriggers, rowProblems } from '../../support/row_problems.ts';
import { sealAll } from '../../support/sealed_trail.ts';
import { useFreshDatabase } from '../../support/worker.ts';

const WRITERS = 3;
const ROUNDS = 12;

test('rows that are made, changed, applied and deleted meanwhile raise no alarm', async () => {
  const database = await useFreshDatabase();
  let writing = WRITERS;
  const write = () =>
    withClient(database.ownerUrl, async (client) => {
      for (let i = 0; i < ROUNDS; i++) {
        const flag = await insertFlag(client);
        const due = await insertSchedule(client, flag.id, { dueIn: '-1 second' });
        const other = await insertSchedule(client, flag.id);
        await client.query('select app_private.apply_due()');
        await client.query(
          `update app_public.feature_flags set rollout_percentage = $2 where id = $1`,
          [flag.id, i],
        );
        await client.query(
          `update app_public.feature_flag_schedules set status = 'cancelled' where id = $1`,
          [other.id],
        );
        await client.query(`select app_private.set_setting('pending_per_flag', $1)`, [
          String(i + 1),
        ]);
        if (i % 3 === 0)
          await client.query('delete from app_public.feature_flags where id = $1', [flag.id]);
        else
          await client.query('delete from app_public.feature_flag_schedules where id = $1', [
            due.id,
          ]);
      }
    }).finally(() => writing--);
  let checks = 0;
  const keepChecking = () =>
    withClient(database.rootUrl, async (client) => {
      while (writing > 0) {
        expect(await rowProblems(client)).toEqual([]);
        checks += 1;
      }
    });
  const keepRecording = async () => {
    while (writing > 0)
      expect(await reconcileAs(database, 'recording')).toMatchObject({
        ...{ fromRows: 0, unexplained: 0 },
      });
  };
  const keepSealing = () =>
    withClient(database.ownerUrl, async (client) => {
      while (writing > 0) await sealAll(client, 10);
    });
  await Promise.all([
    ...Array.from({ length: WRITERS }, write),
    ...[keepChecking(), keepRecording(), keepSealing()],
  ]);
  expect(checks).toBeGreaterThan(0);
});

test('a row that changes while it is being recorded is recorded as it is then', async () => {
  const database = await useFreshDatabase();
  await withOwner(database, async (client) => {
    const { id } = await insertFlag(client);
    await pastTriggers(client, 'update app_public.feature_flags set rollout_percentage = 7');
    await withClient(database.ownerUrl, async (writer) => {
      await writer.query('begin');
      // The event of this change says all of the row: nothing is left to record.
      await writer.query(`update app_public.feature_flags set enabled = true where id = $1`, [id]);
      const recording = reconcileAs(database, 'recording');
      await expect
        .poll(async () => {
          const { rowCount } = await client.query(
            `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
          );
          return rowCount;
        })
        .toBe(1);
      await writer.query('commit');
      expect(await recording).toMatchObject({ fromRows: 0 });
    });
    expect(await rowProblems(client)).toEqual([]);
  });
});
