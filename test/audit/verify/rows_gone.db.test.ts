import { expect, test } from 'vitest';
import { value } from '../../support/actors.ts';
import { withClient } from '../../support/database.ts';
import { insertFlag, insertSchedule } from '../../support/factory.ts';
import { deliverAll, retain } from '../../support/old_trail.ts';
import { reconcileAs, withOwner } from '../../support/reconcile.ts';
import {
  briefRowProblems,
  makeRows,
  pastTriggers,
  rowProblems,
} from '../../support/row_problems.ts';
import { findings, sealAll } from '../../support/sealed_trail.ts';
import { useFreshDatabase } from '../../support/worker.ts';

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
