import type pg from 'pg';
import { describe, expect, test, vi } from 'vitest';
import { actAsOwner, value, withActors } from '../../support/actors.ts';
import { useDatabase, withClient } from '../../support/database.ts';
import { insertFlag } from '../../support/factory.ts';
import { sealAll, tamper } from '../../support/sealed_trail.ts';
import { deadLetters } from '../../support/trail.ts';
import { deliverAll, retain, writeOldMonths } from '../../support/old_trail.ts';
import { useFreshDatabase } from '../../support/worker.ts';
import { statuses, PURGED, BEHIND, writeTrail, partitionOf } from '../../support/retention.ts';

const database = useDatabase();

const ODD = 'a partition of another length';

const change = (sql: string) => (client: pg.ClientBase, month: string) =>
  tamper(client, sql.replaceAll('PARTITION', partitionOf(month)));

/** Changes a month's events so that text, columns, leaves and the root of seal 2, which is theirs, agree. */
const forge = (client: pg.ClientBase, month: string) =>
  tamper(
    client,
    `update ${partitionOf(month)} set flag_key = 'forged', metadata = '{"flagKey": "forged"}',
       payload = regexp_replace(payload, '"flagKey": "[^"]+"', '"flagKey": "forged"')`,
    `update audit.ledger l set leaf = app_private.event_leaf(e.payload, l.seq)
     from ${partitionOf(month)} e where e.id = l.event_id`,
    `update audit.seals set root = app_private.merkle_root(array(select leaf from audit.ledger where seq between 4 and 6 order by seq))
     where seal_no = 2`,
  );

/** What is done to the second of three months, and why that month must stay. */
const OBSTACLES: Record<
  string,
  [(client: pg.ClientBase, month: string) => Promise<unknown>, RegExp]
> = {
  'an event without a number': [
    (client, month) =>
      client.query(
        'insert into audit.queue (event_id, occurred_at) values (gen_random_uuid(), $1)',
        [month],
      ),
    /wait for their number/,
  ],
  'a dead letter of that time': [
    (client, month) =>
      client.query(
        `insert into audit.dead_letters (occurred_at, content, error_code, error_message) values ($1, '{}', 'XX000', '')`,
        [month],
      ),
    /dead letters/,
  ],
  'a younger dead letter about one of its events': [
    (client, month) =>
      client.query(
        `insert into audit.dead_letters (content, error_code, error_message)
         select jsonb_build_object('event_id', id), 'ZF012', '' from ${partitionOf(month)} limit 1`,
      ),
    /dead letters/,
  ],
  'a destination that is behind': [
    (client) =>
      client.query(`insert into audit.cursors (destination, last_seq) values ('cloudwatch', 5)`),
    /^cloudwatch hasn't confirmed/,
  ],
  'an event put in by hand': [
    (client, month) =>
      client.query(
        `insert into audit.events select (jsonb_populate_record(e, '{"id": "00000000-0000-4000-8000-000000000000"}')).*
         from ${partitionOf(month)} p join audit.events e using (id) limit 1`,
      ),
    /inserted past the triggers/,
  ],
  'an event whose text was changed': [
    change(`update PARTITION set payload = replace(payload, 'flag-1', 'flag-9')`),
    /event_altered/,
  ],
  'an event whose column was changed': [
    change(`update PARTITION set flag_key = 'other'`),
    /column_differs/,
  ],
  'an event that is gone': [
    change(`delete from PARTITION where occurred_at = (select min(occurred_at) from PARTITION)`),
    /event_missing/,
  ],
  'a seal that was changed together with its events and their leaves': [
    (client, month) => forge(client, month),
    /chain_broken/,
  ],
  'a seal that was written anew whole': [
    async (client, month) => {
      await forge(client, month);
      await tamper(
        client,
        `update audit.seals set head = app_private.seal_head(previous_head, trail, incarnation, seal_no, first_seq, last_seq - first_seq + 1, root)
         where seal_no = 2`,
      );
    },
    /chain_broken/,
  ],
  [ODD]: [
    (client) =>
      client.query(
        `create table audit.events_odd partition of audit.events
         for values from ('2001-01-01 00:00:00+00') to ('2001-03-01 00:00:00+00')`,
      ),
    /isn't one month/,
  ],
};

describe('a month stays for', () => {
  test.for(Object.entries(OBSTACLES))('%s', async ([name, [hinder, reason]]) => {
    await withActors(database, async (client) => {
      const months = await writeTrail(client);
      await hinder(client, months[1] ?? '');
      await actAsOwner(client);
      const rows = await retain(client, '6 months');
      expect(rows.find((row) => row.reason !== null)?.reason).toMatch(reason);
      // A partition without a month comes before all of them.
      const others = name === ODD ? [BEHIND, BEHIND, BEHIND] : [BEHIND];
      expect(rows).toMatchObject([
        ...(name === ODD ? [] : [PURGED]),
        { outcome: 'kept' },
        ...others,
      ]);
    });
  });

  test('a seal that is not delivered to its end, and any month when nothing ever was', async () => {
    await withActors(database, async (client) => {
      await writeOldMonths(client, 1);
      expect(await retain(client, '6 months')).toMatchObject([
        { reason: expect.stringMatching(/wait for/) as unknown },
      ]);
      await insertFlag(client);
      await sealAll(client);
      expect(await retain(client, '6 months')).toMatchObject([
        { reason: expect.stringMatching(/ever delivered/) as unknown },
      ]);
      await client.query(`insert into audit.cursors (destination, last_seq) values ('stdout', 3)`);
      expect(await retain(client, '6 months')).toMatchObject([
        { reason: expect.stringMatching(/^stdout/) as unknown },
      ]);
      await deliverAll(client, 'stdout');
      expect(await retain(client, '6 months')).toMatchObject([PURGED]);
    });
  });
});

describe('with others at work', () => {
  test('behind a long reader it gives up soon, and no writer’s event is lost meanwhile', async () => {
    const own = await useFreshDatabase();
    await withClient(own.ownerUrl, async (client) => {
      await writeTrail(client);
      await withClient(own.ownerUrl, async (reader) => {
        await reader.query('begin');
        await reader.query('select count(*) from audit.events');
        await withClient(own.ownerUrl, async (writer) => {
          await writer.query(`set lock_timeout = '2s'`);
          const writing = (async () => {
            for (let i = 0; i < 50; i++) await insertFlag(writer);
          })();
          expect(await retain(client, '6 months')).toMatchObject(
            Array(3).fill({ outcome: 'busy' }),
          );
          await writing;
        });
        await reader.query('commit');
      });
      expect(await deadLetters(client)).toEqual([]);
      expect(await value(client, 'select count(*)::int from audit.events')).toBe(9 + 50);
      expect(await retain(client, '6 months')).toMatchObject([PURGED, PURGED, PURGED]);
    });
  });

  test('a verification that waits for it finds what was purged, and nothing missing', async () => {
    const own = await useFreshDatabase();
    await withClient(own.rootUrl, async (first) => {
      await withClient(own.ownerUrl, writeTrail);
      await first.query('begin');
      expect(await retain(first, '6 months')).toMatchObject([PURGED, PURGED, PURGED]);
      await withClient(own.rootUrl, async (second) => {
        const pid = await value<number>(second, 'select pg_backend_pid()');
        const verifying = statuses(second);
        await vi.waitFor(
          async () => {
            const waits = 'select cardinality(pg_blocking_pids($1))';
            expect(await value(first, waits, [pid])).toBe(1);
          },
          { timeout: 10_000 },
        );
        await first.query('commit');
        expect(await verifying).toEqual(['purged']);
      });
    });
  });

  test('an event that comes into an old month meanwhile is not purged', async () => {
    const own = await useFreshDatabase();
    await withClient(own.rootUrl, async (client) => {
      await withClient(own.ownerUrl, writeTrail);
      await withClient(own.rootUrl, async (late) => {
        await late.query('begin');
        await late.query(
          `select app_private.write_events(array[app_private.make_event(
             gen_random_uuid(), (select min(occurred_at) from audit.events), 'feature_flag.created', gen_random_uuid(),
             'late', 'production', null, 1, '{"flagKey": "late"}')])`,
        );
        const pid = await value<number>(client, 'select pg_backend_pid()');
        const retaining = retain(client, '6 months');
        const waits = async () =>
          expect(await value(late, 'select cardinality(pg_blocking_pids($1))', [pid])).toBe(1);
        // It waits for a fifth of a second; if that is over before it is seen, it must have purged nothing either.
        await vi.waitFor(waits, { timeout: 2_000, interval: 5 }).catch(() => undefined);
        await late.query('commit');
        expect(await retaining).toMatchObject(Array(3).fill({ outcome: 'busy' }));
      });
      await sealAll(client);
      expect(await statuses(client)).toEqual(['ok']);
      expect(await value(client, 'select count(*)::int from audit.events')).toBe(10);
    });
  });

  test('of two at once one works', async () => {
    const own = await useFreshDatabase();
    await withClient(own.ownerUrl, async (first) => {
      await writeTrail(first);
      await first.query('begin');
      expect(await retain(first, '6 months')).toMatchObject([PURGED, PURGED, PURGED]);
      await withClient(own.ownerUrl, async (second) => {
        expect(await retain(second, '6 months')).toMatchObject([{ outcome: 'busy', month: null }]);
        await first.query('commit');
        expect(await retain(second, '6 months')).toEqual([]);
      });
    });
  });

  test('it is all or nothing when its process dies', async () => {
    const own = await useFreshDatabase();
    await withClient(own.rootUrl, async (client) => {
      await withClient(own.ownerUrl, writeTrail);
      await withClient(own.ownerUrl, async (dying) => {
        dying.on('error', () => undefined);
        await dying.query('begin');
        expect(await retain(dying, '6 months')).toMatchObject([PURGED, PURGED, PURGED]);
        const pid = await value(dying, 'select pg_backend_pid()');
        await client.query('select pg_terminate_backend($1, 5000)', [pid]);
      });
      await actAsOwner(client);
      expect(await value(client, 'select count(*)::int from audit.events')).toBe(9);
      expect(await statuses(client)).toEqual(['ok']);
    });
  });

  test('the worker purges a month at a time, as the system', async () => {
    const own = await useFreshDatabase();
    await withClient(own.ownerUrl, async (client) => {
      await writeTrail(client);
      await withClient(own.workerUrl, async (worker) => {
        const retain = 'select outcome, reason, events from app_private.retain_audit_events()';
        expect((await worker.query(retain)).rows).toEqual([]);
        await client.query(`select app_private.set_setting('audit_retention', '6 months')`);
        expect((await worker.query(retain)).rows).toEqual([PURGED]);
      });
      expect(
        await value(
          client,
          `select actor_kind from audit.events where event_type = 'audit.purged'`,
        ),
      ).toBe('system');
    });
  });
});
