import { describe, expect, test } from 'vitest';
import { value, withActors } from '../../support/actors.ts';
import { cloneDatabase, useDatabase, withClient } from '../../support/database.ts';
import { insertFlag, one } from '../../support/factory.ts';
import { deliverAll, writeOldMonths } from '../../support/old_trail.ts';
import { deadLetters, queuedEvents } from '../../support/trail.ts';

const database = useDatabase();

describe('the trail’s partitions', () => {
  test('are made from last month on, without gaps, by UTC, whatever the session’s time zone', async () => {
    await withActors(database, async (client) => {
      await client.query('drop table audit.events cascade');
      await client.query(`set local timezone = 'Pacific/Kiritimati'`);
      await client.query(`set local datestyle = 'SQL, DMY'`);
      await client.query(
        `create table audit.events (id uuid, occurred_at timestamptz not null) partition by range (occurred_at)`,
      );
      await client.query(
        `create trigger _200_append_only_rows before delete on audit.events
         for each row execute function app_private.tg__reject_write()`,
      );
      expect(await value(client, 'select app_private.ensure_audit_partitions(2)')).toBe(4);
      expect(await value(client, 'select app_private.ensure_audit_partitions(2)')).toBe(0);
      await client.query(`set local timezone = 'UTC'`);
      await client.query(`set local datestyle = 'ISO'`);
      const { rows } = await client.query<{ good: boolean }>(
        `select pg_get_expr(c.relpartbound, c.oid) = format('FOR VALUES FROM (%L) TO (%L)', m, m + interval '1 month')
           and c.relname = to_char(m, '"events_"YYYY_MM') as good
         from generate_series(date_trunc('month', now()) - interval '1 month',
           date_trunc('month', now()) + interval '2 months', interval '1 month') as m
         left join pg_class c on c.relname = to_char(m, '"events_"YYYY_MM')
           and c.relnamespace = 'audit'::regnamespace`,
      );
      expect(rows).toEqual(Array(4).fill({ good: true }));
    });
  });

  test('are attached while others read and write the trail', async () => {
    const own = await cloneDatabase();
    try {
      await withClient(own.ownerUrl, async (reader) => {
        await reader.query('begin');
        await reader.query('select count(*) from audit.events');
        await insertFlag(reader);
        await withClient(own.workerUrl, async (worker) => {
          await worker.query(`set lock_timeout = '1s'`);
          expect(await value(worker, 'select app_private.ensure_audit_partitions(6)')).toBe(3);
        });
        await reader.query('commit');
        expect(await deadLetters(reader)).toEqual([]);
        expect(one(await queuedEvents(reader)).event_type).toBe('feature_flag.created');
      });
    } finally {
      await own.drop();
    }
  });
});

test('the worker’s login can’t fill the catalog with months', async () => {
  await withClient(database.workerUrl, async (worker) => {
    for (const months of [25, -1, null])
      await expect(
        worker.query('select app_private.ensure_audit_partitions($1)', [months]),
      ).rejects.toMatchObject({ code: '22023' });
  });
});

// A join of a thousand events to the trail reads all of it once there are many months.
test('numbering, delivering and verifying look for events in their own months only', async () => {
  await withActors(database, async (client) => {
    const months = await writeOldMonths(client, 6);
    await client.query('select from app_private.seal_batch(15, 0)');
    await deliverAll(client, 'stdout');
    await client.query('analyze audit.events');
    const read = `select sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::int from pg_stat_xact_user_tables
      where schemaname = 'audit' and relname = any ($1)`;
    const before = months
      .slice(0, 5)
      .map((month) => `events_${month.slice(0, 7).replace('-', '_')}`);
    const lastMonth = `events_${(months[5] ?? '').slice(0, 7).replace('-', '_')}`;
    const readBy = async (sql: string) => {
      const counts = [
        await value<number>(client, read, [before]),
        await value<number>(client, read, [[lastMonth]]),
      ];
      await client.query(sql);
      return [
        (await value<number>(client, read, [before])) - (counts[0] ?? 0),
        (await value<number>(client, read, [[lastMonth]])) - (counts[1] ?? 0) > 0,
      ];
    };
    const last = [0, true];
    expect
      .soft(await readBy('select app_private.assign_seq(1000, 0, 15)'), 'numbering')
      .toEqual(last);
    expect
      .soft(
        await readBy(`select * from app_private.undelivered_audit_events('stdout')`),
        'delivering',
      )
      .toEqual(last);
    const verifying = `select * from app_private.seal_problems(
      row(2, gen_random_uuid(), gen_random_uuid(), 16, 18, ''::bytea, ''::bytea, ''::bytea, now())::audit.seals, null)`;
    expect.soft(await readBy(verifying), 'verifying').toEqual(last);
  });
});
