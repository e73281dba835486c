import type pg from 'pg';
import { expect, test } from 'vitest';
import { DATABASE_GAUGES } from '../../src/metrics/database.ts';
import { useDatabase, withClient, withRollback } from '../support/database.ts';
import { insertDuePlan } from '../support/due_plans.ts';
import { insertFlag, insertSchedule } from '../support/factory.ts';

const database = useDatabase();

/** What the function says, by name, with the destination behind it where there is one. */
async function read(
  client: pg.ClientBase,
  destinations: string[] = [],
): Promise<Record<string, number>> {
  const { rows } = await client.query<{ name: string; value: number }>(
    `select concat_ws(' ', metric, destination) as name, value from app_private.metrics($1)`,
    [destinations],
  );
  return Object.fromEntries(rows.map(({ name, value }) => [name, value]));
}

test('an empty database has every gauge, and nothing to act upon', async () => {
  await withRollback(database, async (client) => {
    const metrics = await read(client, ['stdout']);
    const names = Object.keys(metrics).map((name) => name.split(' ')[0]);
    expect([...new Set(names)].toSorted()).toEqual(Object.keys(DATABASE_GAUGES).toSorted());
    const {
      seals_last_age_seconds: age,
      // Nothing was ever checked: it must not look as if that had been just now.
      rows_checked_age_seconds: unchecked,
      audit_partitions_ahead_months: ahead,
      // The server's, which tests of other databases use too.
      notification_queue_usage_ratio: queue,
      ...rest
    } = metrics;
    expect(age).toBeGreaterThan(0);
    expect(unchecked).toBeGreaterThan(0);
    expect(ahead).toBe(3);
    expect(queue).toBeLessThan(0.5);
    expect(new Set(Object.values(rest))).toEqual(new Set([0]));
  });
});

test('points of plans that wait, environments that are stopped, and schedules that are suspended, by the reason', async () => {
  await withRollback(database, async (client) => {
    const flags = [await insertFlag(client), await insertFlag(client, { environment: 'staging' })];
    const turnOn = flags.map(({ flag_key, environment }) => ({
      ...{ flag_key, environment, updates: { enabled: true } },
    }));
    await insertDuePlan(client, turnOn, { dueIn: '-1 second' });
    await insertDuePlan(client, turnOn, { dueIn: '1 hour' });
    expect(await read(client)).toMatchObject({ points_waiting: 1, environments_stopped: 0 });
    await insertDuePlan(
      client,
      turnOn.map((change) => ({
        ...{ ...change, expects: { enabled: false } },
        on_conflict: 'suspend' as const,
      })),
    );
    await client.query('select from app_private.apply_due()');
    await client.query(`select from app_private.stop_environment('staging', 'Incident')`);
    await insertSchedule(client, flags[1]?.id ?? '', { dueIn: '-1 second' });
    await client.query('select from app_private.apply_due()');
    expect(await read(client)).toMatchObject({
      ...{ points_waiting: 0, environments_stopped: 1 },
      ...{ 'schedules_suspended stop': 1, 'schedules_suspended conflict': 2 },
    });
  });
});

test('worker and API may ask, and nobody else', async () => {
  for (const url of [database.workerUrl, database.authenticatorUrl])
    await withClient(url, async (client) => {
      expect(await read(client)).toMatchObject({ dead_letters: 0 });
    });
});

test('schedules that wait and those that are overdue', async () => {
  await withRollback(database, async (client) => {
    const { id } = await insertFlag(client);
    for (const dueIn of ['1 hour', '-10 seconds', '-90 seconds'])
      await insertSchedule(client, id, { dueIn });
    const { id: later } = await insertSchedule(client, id, { dueIn: '-2 days' });
    await client.query(
      `update app_public.feature_flag_schedules set next_attempt_at = now() + interval '1 minute' where id = $1`,
      [later],
    );
    const metrics = await read(client);
    expect(metrics).toMatchObject({ schedules_pending: 4, schedules_overdue: 2 });
    // It counts from the next attempt, not from the time that was missed, and from the transaction's now.
    expect(metrics.schedules_overdue_oldest_seconds).toBeGreaterThan(85);
    expect(metrics.schedules_overdue_oldest_seconds).toBeLessThan(100);
  });
});

test('events on their way: queued, numbered, delivered to each destination', async () => {
  await withRollback(database, async (client) => {
    const { id } = await insertFlag(client);
    await insertSchedule(client, id);
    await client.query(`update audit.queue set occurred_at = now() - interval '5 minutes'`);
    const queued = await read(client);
    expect(queued).toMatchObject({ events_unsequenced: 2, events_last_seq: 0 });
    expect(queued.events_unsequenced_oldest_seconds).toBeCloseTo(300, 0);

    await client.query('select from app_private.seal_batch(1000, 0)');
    // The owner isn't the worker: its steps are events.
    await client.query('alter table audit.cursors disable trigger user');
    await client.query(`select app_private.advance_audit_cursor('stdout', 0, 1)`);
    const numbered = await read(client, ['elsewhere']);
    expect(numbered).toMatchObject({
      events_unsequenced: 0,
      events_unsequenced_oldest_seconds: 0,
      events_last_seq: 2,
      seals_last_number: 1,
      'delivery_behind_events stdout': 1,
      'delivery_behind_events elsewhere': 2,
    });

    await client.query(`alter table audit.ledger disable trigger user`);
    await client.query(`update audit.ledger set sequenced_at = now() - interval '10 minutes'`);
    expect((await read(client))['delivery_oldest_seconds stdout']).toBeCloseTo(600, 0);
    await client.query(`select app_private.advance_audit_cursor('stdout', 1, 2)`);
    expect(await read(client)).toMatchObject({
      'delivery_behind_events stdout': 0,
      'delivery_oldest_seconds stdout': 0,
    });
  });
});

test('dead letters and rebuilt events', async () => {
  await withRollback(database, async (client) => {
    await client.query(
      `insert into audit.dead_letters (occurred_at, content, error_code, error_message)
       values (now() - interval '1 hour', '{}', '23514', 'x'), (now(), '{}', '23514', 'x')`,
    );
    await client.query(
      `with e as (
       insert into audit.events (id, occurred_at, event_type, level, actor_kind, database_user, application_name,
         reconciled, metadata, payload)
       select gen_random_uuid(), now() - age, 'flag_schedule.created', 'info', 'system', '', '', reconciled, '{}', '{}'
       from (values (interval '1 minute', true), ('1 minute', false), ('25 hours', true), ('26 hours', true)) as e (age, reconciled)
       returning id, occurred_at, reconciled)
       insert into audit.ledger (seq, event_id, occurred_at, sequenced_at, leaf)
       select row_number() over (), id, occurred_at, now() - case when n = 3 then interval '25 hours' else '1 hour' end, sha256('')
       from (select e.*, row_number() over (order by occurred_at desc) as n from e where reconciled) as e`,
    );
    const metrics = await read(client);
    expect(metrics).toMatchObject({ dead_letters: 2, events_reconciled_last_day: 2 });
    expect(metrics.dead_letters_oldest_seconds).toBeCloseTo(3600, 0);
  });
});

test('triggers that are wrong, and rows that the last full reconciliation found to differ', async () => {
  await withRollback(database, async (client) => {
    await client.query('alter table app_public.feature_flags enable trigger _900_audit_insert');
    await client.query('alter table audit.ledger disable row level security');
    await client.query(
      `insert into audit.reconciliations (scope, started_at, finished_at, rows_unexplained)
       values ('full', now() - interval '2 hours', now() - interval '1 hour', 7), ('incremental', now(), now(), null)`,
    );
    expect(await read(client)).toMatchObject({
      ...{ audit_triggers_wrong: 2, rows_unexplained: 7, rows_checked_age_seconds: 3600 },
    });
  });
});

test('months ahead count up to the first gap, and only what is attached', async () => {
  await withRollback(database, async (client) => {
    const month = async (ahead: number) => {
      const { rows } = await client.query<{ name: string }>(
        `select to_char(date_trunc('month', now() at time zone 'UTC') + make_interval(months => $1), '"audit.events_"YYYY_MM') as name`,
        [ahead],
      );
      return rows[0]?.name ?? '';
    };
    await client.query('select app_private.ensure_audit_partitions(5)');
    expect((await read(client)).audit_partitions_ahead_months).toBe(5);
    await client.query(`alter table audit.events detach partition ${await month(2)}`);
    expect((await read(client)).audit_partitions_ahead_months).toBe(1);
    await client.query(`alter table audit.events detach partition ${await month(0)}`);
    expect((await read(client)).audit_partitions_ahead_months).toBe(-1);
  });
});

test('a part that can not be read is left out and counted, and the others are told', async () => {
  await withRollback(database, async (client) => {
    await client.query('alter table audit.events rename to elsewhere');
    await client.query('alter table audit.cursors rename to lost');
    const metrics = await read(client, ['stdout']);
    expect(metrics).toMatchObject({ database_unreadable_parts: 2, schedules_pending: 0 });
    expect(metrics).not.toHaveProperty('dead_letters');
    expect(metrics).not.toHaveProperty('delivery_behind_events stdout');
    expect(metrics.audit_partitions_ahead_months).toBe(-1);
  });
});

test('counts stop at 10,000', async () => {
  await withRollback(database, async (client) => {
    await client.query(
      `insert into audit.queue (event_id, occurred_at) select gen_random_uuid(), now() from generate_series(1, 10050)`,
    );
    expect(await read(client)).toMatchObject({ events_unsequenced: 10_000 });
  });
});

test('apply_due says how late each schedule was', async () => {
  await withRollback(database, async (client) => {
    const { id } = await insertFlag(client);
    await insertSchedule(client, id, { dueIn: '-90 seconds' });
    const { rows } = await client.query<{ applied: number; lateness_ms: number[] }>(
      'select applied, lateness_ms from app_private.apply_due()',
    );
    expect(rows).toEqual([{ applied: 1, lateness_ms: [expect.any(Number)] }]);
    const { rows: events } = await client.query<{ ms: number }>(
      `select (metadata ->> 'latenessMs')::float8 as ms from audit.events where event_type = 'flag_schedule.applied'`,
    );
    expect(Math.round(rows[0]?.lateness_ms[0] ?? 0)).toBe(events[0]?.ms);
  });
});
