import type pg from 'pg';
import { expect, test } from 'vitest';
import { value } from '../../support/actors.ts';
import { withClient } from '../../support/database.ts';
import { insertFlag, insertSchedule } from '../../support/factory.ts';
import { problemsOf, reconcileAs, withOwner, withoutAudit } from '../../support/reconcile.ts';
import { pastTriggers } from '../../support/row_problems.ts';
import { findings, sealAll } from '../../support/sealed_trail.ts';
import type { TrailEvent } from '../../support/trail.ts';
import { useFreshDatabase } from '../../support/worker.ts';

const DELETE_FLAG = 'delete from app_public.feature_flags where id = $1';
const DELETE_SCHEDULE = 'delete from app_public.feature_flag_schedules where id = $1';

async function gaps(client: pg.ClientBase): Promise<TrailEvent[]> {
  const { rows } = await client.query<TrailEvent>(
    `select * from audit.events where event_type = 'audit.gap' order by flag_key, schedule_id nulls first`,
  );
  return rows;
}

test('rows that are gone without an event get an audit.gap each, in a full run only, once', async () => {
  const database = await useFreshDatabase();
  await withOwner(database, async (client) => {
    const kept = await insertFlag(client, { flag_key: 'kept' });
    const flag = await insertFlag(client, { flag_key: 'gone' });
    const { id } = await insertSchedule(client, kept.id);
    const other = await insertSchedule(client, flag.id);
    await client.query(
      `update app_public.feature_flag_schedules set status = 'cancelled' where id = $1`,
      [id],
    );
    await sealAll(client);
    await withoutAudit(client, async () => {
      await client.query(DELETE_SCHEDULE, [id]);
      await client.query(DELETE_FLAG, [flag.id]);
    });
    expect(await reconcileAs(database, 'incremental')).toMatchObject({ fromRows: 0 });
    expect(await reconcileAs(database, 'full')).toMatchObject({ fromRows: 3 });
    const same = { level: 'warning', actor_kind: 'system', revision: null, reconciled: true };
    expect(await gaps(client)).toMatchObject([
      { ...same, flag_id: flag.id, schedule_id: null, metadata: { lastRevision: 1 } },
      { ...same, flag_id: flag.id, schedule_id: other.id, metadata: { lastRevision: 1 } },
      { ...same, flag_id: kept.id, schedule_id: id, metadata: { lastRevision: 2 } },
    ]);
    const last: unknown = expect.stringMatching(/^[0-9a-f-]{36}$/);
    const at: unknown = expect.stringMatching(/Z$/);
    const known = { lastRevision: 1, lastEventId: last, lastEventAt: at };
    expect((await gaps(client)).slice(0, 2).map(({ metadata }) => metadata)).toEqual([
      { flagKey: 'gone', flagId: flag.id, ...known },
      { flagKey: 'gone', scheduleId: other.id, ...known },
    ]);
    expect(await reconcileAs(database, 'full'), 'still queued').toMatchObject({ fromRows: 0 });
    expect(await problemsOf(client)).toEqual([]);
    const warnings: unknown[] = [];
    client.on('notice', (notice) => warnings.push(notice.message));
    const again = `select events from app_private.reconcile_deleted_rows('', 100)`;
    expect(await value(client, again), 'numbered').toBe(0);
    expect(warnings).toEqual([]);
  });
});

test('a row that is restored behind a gap, changed and gone again gets another gap', async () => {
  const database = await useFreshDatabase();
  await withOwner(database, async (client) => {
    const { id } = await insertFlag(client, { flag_key: 'gone' });
    const row = await value<object>(
      client,
      'select to_jsonb(f) from app_public.feature_flags f where f.id = $1',
      [id],
    );
    await withoutAudit(client, () => client.query(DELETE_FLAG, [id]));
    expect(await reconcileAs(database, 'full')).toMatchObject({ fromRows: 1 });
    await withoutAudit(client, async () => {
      await client.query('alter table app_public.feature_flags disable trigger _100_stamp');
      await client.query(
        `insert into app_public.feature_flags
         select r.* from jsonb_populate_record(null::app_public.feature_flags, $1) as r`,
        [row],
      );
      await client.query('alter table app_public.feature_flags enable trigger _100_stamp');
    });
    for (const percentage of [1, 2])
      await client.query(
        'update app_public.feature_flags set rollout_percentage = $2 where id = $1',
        [id, percentage],
      );
    await withoutAudit(client, () => client.query(DELETE_FLAG, [id]));
    expect(await reconcileAs(database, 'full')).toMatchObject({ fromRows: 1 });
    const lasts = (await gaps(client)).map(({ metadata }) => metadata.lastRevision);
    expect(lasts.toSorted()).toEqual([1, 3]);
    expect(await reconcileAs(database, 'full')).toMatchObject({ fromRows: 0 });
  });
});

test('a row whose deletion is a dead letter has no gap', async () => {
  const database = await useFreshDatabase();
  await withOwner(database, async (client) => {
    const flag = await insertFlag(client);
    await insertSchedule(client, flag.id);
    await client.query(
      `alter table audit.events add constraint no check (event_type !~ 'deleted') not valid`,
    );
    await client.query(DELETE_FLAG, [flag.id]);
    expect(await reconcileAs(database, 'full')).toMatchObject({ refused: 2, fromRows: 0 });
    await client.query('alter table audit.events drop constraint no');
    expect(await reconcileAs(database, 'full')).toMatchObject({ fromLetters: 2, fromRows: 0 });
    expect(await problemsOf(client)).toEqual([]);
  });
});

test('a row that is reconciled while it is being deleted has no gap', async () => {
  const database = await useFreshDatabase();
  await withOwner(database, async (client) => {
    const flag = await withoutAudit(client, () => insertFlag(client));
    await withClient(database.ownerUrl, async (deleting) => {
      await deleting.query('begin');
      await deleting.query(DELETE_FLAG, [flag.id]);
      expect(await reconcileAs(database, 'full')).toMatchObject({ fromRows: 1 });
      await deleting.query('commit');
    });
    expect(await reconcileAs(database, 'full')).toMatchObject({ fromRows: 0 });
    expect(await gaps(client)).toEqual([]);
    expect(await problemsOf(client)).toEqual([]);
  });
});

test('a schedule that was deleted after its flag has no gap, though its event has no key', async () => {
  const database = await useFreshDatabase();
  await withOwner(database, async (client) => {
    const flag = await insertFlag(client);
    const { id } = await insertSchedule(client, flag.id);
    await client.query('set role postgres; set session_replication_role = replica');
    await client.query(DELETE_FLAG, [flag.id]);
    await client.query(DELETE_SCHEDULE, [id]);
    expect(await reconcileAs(database, 'full')).toMatchObject({ fromRows: 0 });
  });
});

test('a row that was made again with the id of a deleted one is compared with its own events only', async () => {
  const database = await useFreshDatabase();
  await withOwner(database, async (client) => {
    const { id, flag_key: key } = await insertFlag(client);
    const roll = (percentage: number) =>
      client.query('update app_public.feature_flags set rollout_percentage = $2 where id = $1', [
        id,
        percentage,
      ]);
    const remake = () =>
      client.query(`insert into app_public.feature_flags (id, flag_key) values ($1, $2)`, [
        id,
        key,
      ]);
    await roll(11);
    await roll(12);
    await client.query(DELETE_FLAG, [id]);
    await remake();
    await withoutAudit(client, () => roll(80));
    expect(await reconcileAs(database, 'full')).toMatchObject({ fromRows: 1 });
    // Gone again, without an event, though the trail has the first one's deleted event.
    await withoutAudit(client, () => client.query(DELETE_FLAG, [id]));
    expect(await reconcileAs(database, 'full')).toMatchObject({ fromRows: 1 });
    expect(await gaps(client)).toMatchObject([{ metadata: { lastRevision: 2 } }]);
    // And again, without a created event either.
    await withoutAudit(client, remake);
    expect(await reconcileAs(database, 'full')).toMatchObject({ fromRows: 1 });
    await withoutAudit(client, () => client.query(DELETE_FLAG, [id]));
    expect(await reconcileAs(database, 'full')).toMatchObject({ fromRows: 1 });
    expect(await gaps(client)).toHaveLength(2);
    expect(await reconcileAs(database, 'full')).toMatchObject({ fromRows: 0 });
    await sealAll(client);
    expect(await findings(client)).toEqual([]);
  });
});

test('a clock that was set back before a row was deleted makes no gap', async () => {
  const database = await useFreshDatabase();
  await withOwner(database, async (client) => {
    const flag = await insertFlag(client);
    await insertSchedule(client, flag.id);
    await client.query(DELETE_FLAG, [flag.id]);
    const reconciled = await withoutAudit(client, () => insertFlag(client));
    expect(await reconcileAs(database, 'full')).toMatchObject({ fromRows: 1 });
    await client.query(DELETE_FLAG, [reconciled.id]);
    // What it would have left: events that are older than the one of the row's creation.
    await client.query('alter table audit.events disable trigger user');
    await client.query(
      `with aged as (
         update audit.events set occurred_at = occurred_at - interval '1 minute'
         where event_type like '%.deleted'
         returning id, occurred_at
       )
       update audit.queue q set occurred_at = a.occurred_at from aged a where q.event_id = a.id`,
    );
    expect(await reconcileAs(database, 'full')).toMatchObject({ fromRows: 0 });
  });
});

test('a row that was put back to an older revision, and deleted, has no gap', async () => {
  const database = await useFreshDatabase();
  await withOwner(database, async (client) => {
    const { id } = await insertFlag(client);
    for (const share of [1, 2, 3])
      await client.query('update app_public.feature_flags set rollout_percentage = $1', [share]);
    await pastTriggers(client, 'update app_public.feature_flags set revision = 1');
    await client.query(DELETE_FLAG, [id]);
    await sealAll(client);
    expect(await reconcileAs(database, 'full')).toMatchObject({ fromRows: 0 });
    expect(await findings(client)).toEqual([]);
  });
});
