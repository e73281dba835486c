import type pg from 'pg';
import { expect, test } from 'vitest';
import { value } from '../../support/actors.ts';
import { insertFlag, insertSchedule } from '../../support/factory.ts';
import { deliverAll, retain } from '../../support/old_trail.ts';
import {
  ALICE,
  asAdmin,
  problemsOf,
  reconcileAs,
  runLifecycle,
  withOwner,
  withoutAudit,
} from '../../support/reconcile.ts';
import { sealAll } from '../../support/sealed_trail.ts';
import type { TrailEvent } from '../../support/trail.ts';
import { useFreshDatabase } from '../../support/worker.ts';

const INSTANT: unknown = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);
const NIL = '00000000-0000-0000-0000-000000000000';
const MOVE = `update app_public.feature_flag_schedules set scheduled_at = scheduled_at + interval '1 hour' where id = $1`;
const ROLL = `update app_public.feature_flags set rollout_percentage = rollout_percentage - 1 where id = $1`;

/** The events that stand for lost ones, in the order of their writing. */
async function reconciledEvents(client: pg.ClientBase): Promise<TrailEvent[]> {
  const { rows } = await client.query<TrailEvent>(
    `select * from audit.events where event_type like '%.reconciled' order by occurred_at`,
  );
  return rows;
}

/** The revisions that each of them names. */
async function reconciledRevisions(client: pg.ClientBase): Promise<unknown[]> {
  return (await reconciledEvents(client)).map(({ metadata }) => metadata.revisions);
}

test('a flag without events gets one that shows the row, and no actor', async () => {
  const database = await useFreshDatabase();
  await withOwner(database, async (client) => {
    const flag = await withoutAudit(client, async () => {
      const made = await insertFlag(client);
      await client.query(ROLL, [made.id]);
      return made;
    });
    // By a session with an admin's claims, who hasn't changed the flag.
    await client.query('begin');
    await client.query(
      `select set_config('jwt.claims.role', 'admin', true), set_config('jwt.claims.user_id', 'alice', true)`,
    );
    await client.query(`select app_private.reconcile_rows('feature_flags', $1, '-infinity', 10)`, [
      NIL,
    ]);
    await client.query('commit');
    expect(await reconciledEvents(client)).toMatchObject([
      {
        event_type: 'feature_flag.reconciled',
        level: 'warning',
        flag_id: flag.id,
        flag_key: flag.flag_key,
        environment: 'production',
        schedule_id: null,
        revision: '2',
        actor_kind: 'system',
        admin_user_id: null,
        admin_email: null,
        reconciled: true,
      },
    ]);
    const [event] = await reconciledEvents(client);
    expect(event?.metadata).toEqual({
      flagKey: flag.flag_key,
      revisions: [1, 2],
      rowRevision: 2,
      rowCreatedAt: INSTANT,
      rowUpdatedAt: INSTANT,
      after: { enabled: false, rolloutPercentage: 99, description: null },
    });
    // When it was written: the month of the change may be purged.
    const late = `select every(e.occurred_at > f.updated_at) from audit.events e join app_public.feature_flags f on f.id = e.flag_id`;
    expect(await value(client, late)).toBe(true);
    expect(await problemsOf(client)).toEqual([]);
  });
});

test('a schedule without events gets one that shows the row, with its stamps', async () => {
  const database = await useFreshDatabase();
  await withOwner(database, async (client) => {
    const flag = await insertFlag(client);
    const id = await withoutAudit(client, async () => {
      const made = await asAdmin<string>(
        client,
        `select id from app_public.schedule_flag_change($1, null, now() + interval '1 hour', '{"enabled": true}')`,
        [flag.flag_key],
      );
      await asAdmin(client, `select id from app_public.cancel_flag_schedule($1, 'not now')`, [
        made,
      ]);
      return made;
    });
    expect(await reconcileAs(database, 'incremental')).toMatchObject({ fromRows: 1 });
    const [event] = await reconciledEvents(client);
    expect(event).toMatchObject({
      event_type: 'flag_schedule.reconciled',
      level: 'warning',
      flag_id: flag.id,
      schedule_id: id,
      revision: '2',
      actor_kind: 'system',
      admin_user_id: null,
      reconciled: true,
    });
    expect(event?.metadata).toEqual({
      scheduleId: id,
      flagKey: flag.flag_key,
      revisions: [1, 2],
      rowRevision: 2,
      rowCreatedAt: INSTANT,
      rowUpdatedAt: INSTANT,
      updates: { enabled: true },
      after: { status: 'cancelled', scheduledAt: INSTANT, attempts: 0, errorMessage: null },
      requestedBy: ALICE.userId,
      createdBy: ALICE.userId,
      cancelledBy: ALICE.userId,
      cancelReason: 'not now',
    });
    expect(await problemsOf(client)).toEqual([]);
  });
});

test('while the trail and the dead letters are broken, each row loses its events: one for each row', async () => {
  const database = await useFreshDatabase();
  await withOwner(database, async (client) => {
    for (const table of ['events', 'dead_letters'])
      await client.query(`alter table audit.${table} rename to ${table}_old`);
    await runLifecycle(client, 'lost');
    for (const table of ['events', 'dead_letters'])
      await client.query(`alter table audit.${table}_old rename to ${table}`);
    await runLifecycle(client, 'kept');
    // The flag, and the schedules that are still there.
    expect(await reconcileAs(database, 'full')).toMatchObject({ fromLetters: 0, fromRows: 3 });
    expect(await problemsOf(client)).toEqual([]);
    expect(await reconcileAs(database, 'full')).toMatchObject({ fromRows: 0 });
    expect(await problemsOf(client)).toEqual([]);
  });
});

test('only revisions without an event are named, each once, in the order in which they are found', async () => {
  const database = await useFreshDatabase();
  await withOwner(database, async (client) => {
    const flag = await insertFlag(client);
    const { id } = await insertSchedule(client, flag.id);
    const move = () => client.query(MOVE, [id]);
    await withoutAudit(client, move);
    await move();
    await withoutAudit(client, move);
    await move();
    expect(await reconcileAs(database, 'incremental')).toMatchObject({ fromRows: 1 });
    expect(await reconcileAs(database, 'full'), 'still queued').toMatchObject({ fromRows: 0 });
    await sealAll(client);
    expect(await reconcileAs(database, 'full'), 'numbered').toMatchObject({ fromRows: 0 });
    await withoutAudit(client, move);
    expect(await reconcileAs(database, 'incremental')).toMatchObject({ fromRows: 1 });
    expect(await reconciledRevisions(client)).toEqual([[2, 4], [6]]);
    const [first] = await reconciledEvents(client);
    expect(first).toMatchObject({ revision: '4', metadata: { rowRevision: 5 } });
    expect(await problemsOf(client)).toEqual([]);
  });
});

test('what a purged event stands for isn’t missing', async () => {
  const database = await useFreshDatabase();
  await withOwner(database, async (client) => {
    const { id } = await withoutAudit(client, async () => {
      const flag = await insertFlag(client);
      for (let i = 0; i < 3; i++) await client.query(ROLL, [flag.id]);
      return flag;
    });
    await client.query(
      `select app_private.make_audit_partition(now() - interval '2 months'), app_private.write_events(array[
         jsonb_populate_record(
           app_private.reconciled_event(f, '{1,2,4}'),
           jsonb_build_object('occurred_at', now() - interval '2 months'))])
       from app_private.audited_rows f where f.row_id = $1`,
      [id],
    );
    await sealAll(client);
    await deliverAll(client, 'stdout');
    expect(await retain(client, '1 month')).toMatchObject([{ outcome: 'purged', events: '1' }]);
    expect(await reconcileAs(database, 'full')).toMatchObject({ fromRows: 0 });
    await withoutAudit(client, () => client.query(ROLL, [id]));
    expect(await reconcileAs(database, 'full')).toMatchObject({ fromRows: 1 });
    expect(await reconciledRevisions(client)).toEqual([[5]]);
  });
});

test('a row that a dead letter is about waits until the letter is gone', async () => {
  const database = await useFreshDatabase();
  await withOwner(database, async (client) => {
    const flag = await insertFlag(client);
    const refuse = `alter table audit.events add constraint no check (event_type <> 'flag_schedule.created') not valid`;
    await client.query(refuse);
    const { id } = await insertSchedule(client, flag.id);
    const other = await insertSchedule(client, flag.id);
    await withoutAudit(client, async () => {
      await client.query(MOVE, [id]);
      await client.query(MOVE, [other.id]);
    });
    expect(await reconcileAs(database, 'full')).toMatchObject({ refused: 2, fromRows: 0 });
    await client.query(
      `delete from audit.dead_letters where content #>> '{events,0,schedule_id}' = $1`,
      [other.id],
    );
    expect(await reconcileAs(database, 'full')).toMatchObject({ refused: 1, fromRows: 1 });
    await client.query('alter table audit.events drop constraint no');
    expect(await reconcileAs(database, 'full')).toMatchObject({ fromLetters: 1, fromRows: 1 });
    expect(await reconciledRevisions(client)).toEqual([[1, 2], [2]]);
    expect(await problemsOf(client)).toEqual([]);
  });
});

test('what the trail refuses keeps nothing else from it, and a letter’s rows aren’t reconciled', async () => {
  const database = await useFreshDatabase();
  await withOwner(database, async (client) => {
    const refuse = `alter table audit.events add constraint no check (flag_key !~ 'refused') not valid`;
    await client.query(refuse);
    const letter = await insertFlag(client, { flag_key: 'refused-letter' });
    await withoutAudit(client, async () => {
      await insertFlag(client, { flag_key: 'refused-row' });
      await insertFlag(client, { flag_key: 'lost' });
    });
    expect(await reconcileAs(database, 'full')).toMatchObject({ refused: 1, fromRows: 1 });

    await client.query('alter table audit.events drop constraint no');
    await client.query(`update audit.dead_letters set content = content - 'table' - 'events'
      || jsonb_build_object('rows', (select jsonb_agg(f) from app_public.feature_flags f where f.id = '${letter.id}'))`);
    expect(await reconcileAs(database, 'full')).toMatchObject({ refused: 1, fromRows: 1 });
    await client.query('delete from audit.dead_letters');
    expect(await reconcileAs(database, 'full')).toMatchObject({ refused: 0, fromRows: 1 });
    expect(await problemsOf(client)).toEqual([]);
  });
});
