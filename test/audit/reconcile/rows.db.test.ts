import type pg from 'pg';
import { describe, expect, test } from 'vitest';
import { value } from '../../support/actors.ts';
import { withClient } from '../../support/database.ts';
import type { TestDatabase } from '../../support/database.ts';
import { insertFlag, insertSchedule } from '../../support/factory.ts';
import { problemsOf, reconcileAs, tellStory, toldStory } from '../../support/reconcile.ts';
import { findings, sealAll } from '../../support/sealed_trail.ts';
import { useFreshDatabase } from '../../support/worker.ts';

const TABLES = ['app_public.feature_flags', 'app_public.feature_flag_schedules'];

/** Changes made while the owner has switched the trail's triggers off: events and dead letters are lost, rows stay. */
async function untold<T>(client: pg.ClientBase, work: () => Promise<T>): Promise<T> {
  await setTriggers(client, 'disable');
  const result = await work();
  await setTriggers(client, 'enable always');
  return result;
}

async function setTriggers(client: pg.ClientBase, action: string): Promise<void> {
  for (const table of TABLES)
    for (const change of ['insert', 'update', 'delete'])
      await client.query(`alter table ${table} ${action} trigger _900_audit_${change}`);
}

async function withOwner<T>(
  database: TestDatabase,
  work: (client: pg.Client) => Promise<T>,
): Promise<T> {
  return withClient(database.rootUrl, async (client) => {
    await client.query('set role halyard_owner');
    return work(client);
  });
}

interface Told {
  readonly event_type: string;
  readonly revision: number;
  readonly reconciled: boolean;
  readonly actor_kind: string;
  readonly metadata: Record<string, unknown>;
}

async function eventsOf(client: pg.ClientBase, scheduleId: string): Promise<Told[]> {
  const { rows } = await client.query<Told>(
    `select event_type, revision::int, reconciled, actor_kind, metadata from audit.events
     where schedule_id = $1 and event_type like 'flag_schedule.%' order by revision`,
    [scheduleId],
  );
  return rows;
}

describe('events that are lost, and their dead letters too', () => {
  test('the trail and the dead letters broken: each transition gets its event, as far as the rows tell', async () => {
    const database = await useFreshDatabase();
    await withOwner(database, async (client) => {
      for (const table of ['events', 'dead_letters'])
        await client.query(`alter table audit.${table} rename to ${table}_old`);
      await tellStory(client, 'story-broken');
      for (const table of ['events', 'dead_letters'])
        await client.query(`alter table audit.${table}_old rename to ${table}`);
      await tellStory(client, 'story-sound');

      const done = await reconcileAs(database, 'thorough');
      expect(done).toMatchObject({ fromLetters: 0, fromRows: 10 });
      expect(await problemsOf(client)).toEqual([]);
      const sound = await toldStory(client, 'story-sound');
      const broken = await toldStory(client, 'story-broken');
      // A schedule that was made and deleted meanwhile has left no trace; and of a failure and its retry, both lost, a row that
      // has been applied since only tells that there were two changes.
      const known = (type: string) => type.replace(/\.(failed|retried)$/, '.changed');
      const types = (events: readonly Record<string, unknown>[]) =>
        events.map(({ type }) => known(type as string)).toSorted();
      expect(types(broken)).toEqual(types(sound.slice(0, -2)));

      expect(await reconcileAs(database, 'thorough')).toMatchObject({ fromRows: 0 });
      expect(await problemsOf(client)).toEqual([]);
    });
  });

  test('triggers switched off by the owner: what the rows know is as the trigger would have told it', async () => {
    const database = await useFreshDatabase();
    await withOwner(database, async (client) => {
      const flag = await insertFlag(client);
      const life = async () => {
        const due = await insertSchedule(client, flag.id, { dueIn: '-1 second' });
        await client.query('select app_private.apply_due()');
        const cancelled = await insertSchedule(client, flag.id);
        await client.query(
          `update app_public.feature_flag_schedules set status = 'cancelled', cancel_reason = 'no' where id = $1`,
          [cancelled.id],
        );
        return [due.id, cancelled.id];
      };
      const told = await life();
      const lost = await untold(client, life);
      expect(await reconcileAs(database, 'recent')).toMatchObject({ fromRows: 4 });
      for (const [i, id] of lost.entries()) {
        const control = await eventsOf(client, told[i] ?? '');
        const rebuilt = await eventsOf(client, id);
        expect(rebuilt.map(({ event_type }) => event_type)).toEqual(
          control.map(({ event_type }) => event_type),
        );
        for (const [k, event] of rebuilt.entries()) {
          expect(event.reconciled).toBe(true);
          expect(Object.keys(event.metadata).toSorted()).toEqual(
            Object.keys(control[k]?.metadata ?? {}).toSorted(),
          );
        }
      }
      const [applied] = await eventsOf(client, lost[0] ?? '').then((events) => events.slice(1));
      expect(applied).toMatchObject({
        actor_kind: 'system',
        metadata: {
          updates: { enabled: true },
          flagState: { enabled: true, rolloutPercentage: 100 },
        },
      });
      expect(await problemsOf(client)).toEqual([]);
    });
  });
});

describe('what is known of a lost event', () => {
  const move = `update app_public.feature_flag_schedules set scheduled_at = scheduled_at + interval '1 hour' where id = $1`;

  test('a move between two others: before and after from its neighbours', async () => {
    const database = await useFreshDatabase();
    await withOwner(database, async (client) => {
      const flag = await insertFlag(client);
      const { id } = await insertSchedule(client, flag.id);
      await client.query(move, [id]);
      await untold(client, () => client.query(move, [id]));
      await client.query(move, [id]);
      await reconcileAs(database, 'recent');
      const [, first, lost, last] = await eventsOf(client, id);
      expect(lost).toMatchObject({
        event_type: 'flag_schedule.rescheduled',
        actor_kind: 'unknown',
        metadata: { timeApproximate: true },
      });
      expect(lost?.metadata.after).toEqual(last?.metadata.before);
      // Attempts are counted without an event, so only its neighbour behind it tells of them.
      const { status, scheduledAt } = first?.metadata.after as Record<string, unknown>;
      expect(lost?.metadata.before).toEqual({ status, scheduledAt });
      expect(await problemsOf(client)).toEqual([]);
    });
  });

  test('a retry and the failure before it, both lost; a change of which only that is known', async () => {
    const database = await useFreshDatabase();
    await withOwner(database, async (client) => {
      const flag = await insertFlag(client);
      const { id } = await insertSchedule(client, flag.id, { max_attempts: 1 });
      const other = await insertSchedule(client, flag.id);
      await untold(client, async () => {
        for (const status of ['failed', 'pending'])
          await client.query(
            'update app_public.feature_flag_schedules set status = $2 where id = $1',
            [id, status],
          );
        await client.query(move, [other.id]);
        await client.query(move, [other.id]);
      });
      await client.query(
        `update app_public.feature_flag_schedules set status = 'cancelled' where id = any ($1)`,
        [[id, other.id]],
      );
      await reconcileAs(database, 'recent');
      const kinds = async (schedule: string) =>
        (await eventsOf(client, schedule)).map(({ event_type }) => event_type.split('.')[1]);
      // Pending, twice changed, pending: by way of failed, or moved twice. Nobody knows.
      expect(await kinds(id)).toEqual(['created', 'changed', 'changed', 'cancelled']);
      expect(await kinds(other.id)).toEqual(['created', 'changed', 'changed', 'cancelled']);
      expect(
        await value(
          client,
          `select array_agg(distinct level) from audit.events where event_type = 'flag_schedule.changed'`,
        ),
      ).toEqual(['warning']);
      expect(await problemsOf(client)).toEqual([]);
    });
  });

  test('a failure whose retry is in the trail', async () => {
    const database = await useFreshDatabase();
    await withOwner(database, async (client) => {
      const flag = await insertFlag(client);
      const { id } = await insertSchedule(client, flag.id, { max_attempts: 1 });
      await untold(client, () =>
        client.query(
          `update app_public.feature_flag_schedules set status = 'failed', attempts = 1, error_message = 'no' where id = $1`,
          [id],
        ),
      );
      await client.query('begin');
      await client.query(`select set_config('jwt.claims.role', 'admin', true)`);
      await client.query('select app_public.retry_flag_schedule($1)', [id]);
      await client.query('commit');
      await reconcileAs(database, 'recent');
      const [, failed] = await eventsOf(client, id);
      expect(failed).toMatchObject({
        event_type: 'flag_schedule.failed',
        actor_kind: 'system',
        metadata: { errorMessage: 'no', attempts: 1, timeApproximate: true },
      });
      expect(failed?.metadata).not.toHaveProperty('failedAt');
    });
  });
});

test('what the trail refuses keeps nothing else from it, and what a dead letter holds isn’t rebuilt from its row', async () => {
  const database = await useFreshDatabase();
  await withOwner(database, async (client) => {
    const refuse = `alter table audit.events add constraint no check (flag_key !~ 'refused') not valid`;
    await client.query(refuse);
    const letter = await insertFlag(client, { flag_key: 'refused-letter' });
    await untold(client, async () => {
      await insertFlag(client, { flag_key: 'refused-row' });
      await insertFlag(client, { flag_key: 'told' });
    });
    expect(await reconcileAs(database, 'thorough')).toMatchObject({ refused: 1, fromRows: 1 });

    await client.query('alter table audit.events drop constraint no');
    await client.query(`update audit.dead_letters set content = content - 'table' - 'events'
      || jsonb_build_object('rows', (select jsonb_agg(f) from app_public.feature_flags f where f.id = '${letter.id}'))`);
    expect(await reconcileAs(database, 'thorough')).toMatchObject({ refused: 1, fromRows: 1 });
    await client.query('delete from audit.dead_letters');
    expect(await reconcileAs(database, 'thorough')).toMatchObject({ refused: 0, fromRows: 1 });
    expect(await problemsOf(client)).toEqual([]);
  });
});

test('rows that are gone without a word are told of in a thorough run only, once', async () => {
  const database = await useFreshDatabase();
  await withOwner(database, async (client) => {
    const kept = await insertFlag(client);
    const flag = await insertFlag(client, { flag_key: 'gone' });
    const { id } = await insertSchedule(client, kept.id);
    await insertSchedule(client, flag.id);
    await sealAll(client);
    await untold(client, async () => {
      await client.query('delete from app_public.feature_flag_schedules where id = $1', [id]);
      await client.query('delete from app_public.feature_flags where id = $1', [flag.id]);
    });
    expect(await reconcileAs(database, 'recent')).toMatchObject({ fromRows: 0 });
    expect(await reconcileAs(database, 'thorough')).toMatchObject({ fromRows: 3 });
    const { rows } = await client.query<Told>(
      `select event_type, flag_key, metadata from audit.events where event_type like '%.deleted' order by 1, 2`,
    );
    expect(rows).toMatchObject([
      { event_type: 'feature_flag.deleted', metadata: { before: { enabled: false } } },
      { event_type: 'flag_schedule.deleted', metadata: { before: { status: 'pending' } } },
      { event_type: 'flag_schedule.deleted', metadata: { before: { status: 'pending' } } },
    ]);
    expect(await reconcileAs(database, 'thorough')).toMatchObject({ fromRows: 0 });
    expect(await problemsOf(client)).toEqual([]);
  });
});

test('a row that was deleted and made again with its id has only what came since', async () => {
  const database = await useFreshDatabase();
  await withOwner(database, async (client) => {
    const { id, flag_key: key } = await insertFlag(client);
    const roll = (percentage: number) =>
      client.query('update app_public.feature_flags set rollout_percentage = $2 where id = $1', [
        id,
        percentage,
      ]);
    await roll(11);
    await roll(12);
    await client.query('delete from app_public.feature_flags where id = $1', [id]);
    await client.query(
      `insert into app_public.feature_flags (id, flag_key, rollout_percentage) values ($1, $2, 70)`,
      [id, key],
    );
    await untold(client, () => roll(80));
    await roll(90);
    expect(await reconcileAs(database, 'thorough')).toMatchObject({ fromRows: 1 });
    const { rows } = await client.query(
      `select revision::int, metadata from audit.events where flag_id = $1 and reconciled`,
      [id],
    );
    expect(rows).toMatchObject([
      {
        revision: 2,
        metadata: { before: { rolloutPercentage: 70 }, after: { rolloutPercentage: 80 } },
      },
    ]);
    const planned = await insertSchedule(client, id);
    const move = (days: number) =>
      client.query(
        `update app_public.feature_flag_schedules set scheduled_at = '2100-01-01Z'::timestamptz + make_interval(days => $2)
         where id = $1`,
        [planned.id, days],
      );
    await move(1);
    await move(2);
    await client.query('delete from app_public.feature_flag_schedules where id = $1', [planned.id]);
    await client.query(
      `insert into app_public.feature_flag_schedules (id, flag_id, scheduled_at, updates)
       values ($1, $2, '2100-01-01Z', '{"enabled": true}')`,
      [planned.id, id],
    );
    await untold(client, () => move(5));
    await client.query(
      `update app_public.feature_flag_schedules set status = 'cancelled' where id = $1`,
      [planned.id],
    );
    expect(await reconcileAs(database, 'thorough')).toMatchObject({ fromRows: 1 });
    expect(
      (await eventsOf(client, planned.id)).filter(({ reconciled }) => reconciled),
    ).toMatchObject([
      {
        event_type: 'flag_schedule.rescheduled',
        revision: 2,
        metadata: {
          before: { scheduledAt: '2100-01-01T00:00:00.000000Z' },
          after: { scheduledAt: '2100-01-06T00:00:00.000000Z' },
        },
      },
    ]);
    await sealAll(client);
    expect(await findings(client)).toEqual([]);
    // And gone again without a word, though the trail tells of a deletion already.
    await untold(client, () =>
      client.query('delete from app_public.feature_flags where id = $1', [id]),
    );
    expect(await reconcileAs(database, 'thorough')).toMatchObject({ fromRows: 2 });
    expect(await reconcileAs(database, 'thorough')).toMatchObject({ fromRows: 0 });
  });
});
