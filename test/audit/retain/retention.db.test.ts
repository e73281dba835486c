import { describe, expect, test } from 'vitest';
import { actAsOwner, value, withActors } from '../../support/actors.ts';
import { useDatabase } from '../../support/database.ts';
import { insertFlag, one } from '../../support/factory.ts';
import { sqlStateOf } from '../../support/roles.ts';
import { sealAll, tamper } from '../../support/sealed_trail.ts';
import { deliverAll, retain } from '../../support/old_trail.ts';
import { statuses, PURGED, BEHIND, writeTrail, partitionOf } from '../../support/retention.ts';

const database = useDatabase();

describe('audit.retain', () => {
  test('purges what is older than it keeps, and tells it in the trail', async () => {
    await withActors(database, async (client) => {
      const months = await writeTrail(client);
      await insertFlag(client);
      expect(await retain(client, '10 months')).toMatchObject([
        { month: months[0], ...PURGED },
        { month: months[1], ...PURGED },
      ]);
      expect(await retain(client, '10 months')).toEqual([]);
      const { rows } = await client.query<{ metadata: Record<string, unknown>; actor: string }>(
        `select metadata, actor_kind as actor from audit.events where event_type = 'audit.purged' order by occurred_at`,
      );
      expect(rows).toEqual(
        [0, 1].map((i) => ({
          actor: 'system',
          metadata: {
            month: months[i]?.slice(0, 7),
            before: `${months[i + 1] ?? ''}T00:00:00.000000Z`,
            events: 3,
            firstSeq: 3 * i + 1,
            lastSeq: 3 * i + 3,
            // An old purge is purged in its turn: the last one accounts for all.
            eventsInAll: 3 * (i + 1),
            lastSeqInAll: 3 * i + 3,
          },
        })),
      );
      expect(await value(client, 'select to_regclass($1)', [partitionOf(months[0])])).toBeNull();
      expect(
        await value(client, 'select to_regclass($1)', [partitionOf(months[2])]),
      ).not.toBeNull();
    });
  });

  test('leaves a trail that verifies, and proofs without the message', async () => {
    await withActors(database, async (client) => {
      await writeTrail(client);
      const eventId = await value(client, 'select event_id from audit.ledger where seq = 1');
      await retain(client, '6 months');
      expect(await statuses(client)).toEqual(['purged']);
      await sealAll(client);
      expect(await statuses(client)).toEqual(['ok', 'purged']);
      expect(await value(client, 'select count(*)::int from audit.ledger')).toBe(9 + 3);
      const first = `select message::jsonb from app_private.undelivered_audit_events('new', 1) limit 1`;
      expect(await value(client, first)).toEqual({
        eventType: 'audit.missing',
        eventId,
        seq: 1,
        purged: true,
      });
      expect(
        await value<{ message: unknown; leaf: string }>(client, 'select audit.prove($1)', [
          eventId,
        ]),
      ).toMatchObject({ message: null, seq: 1 });
    });
  });

  test('purges a month that is empty, and one that the next purge’s own event is in', async () => {
    await withActors(database, async (client) => {
      await writeTrail(client);
      await client.query(`select app_private.make_audit_partition(now() - interval '14 months')`);
      await client.query(
        `select app_private.make_audit_partition(m) from generate_series(now() - interval '13 months', now() - interval '10 months', interval '1 month') m`,
      );
      const rows = await retain(client, '6 months');
      expect(rows.map(({ outcome }) => outcome)).toEqual(Array(rows.length).fill('purged'));
      expect(rows[0]).toMatchObject({ events: '0' });
      await sealAll(client);
      expect(await statuses(client)).toEqual(['ok', 'purged']);
    });
  });

  test('only says what it would do when asked to', async () => {
    await withActors(database, async (client) => {
      const months = await writeTrail(client);
      expect(await retain(client, '6 months', { dryRun: true })).toMatchObject(
        months.map((month) => ({ month, outcome: 'purgeable', events: '3', reason: null })),
      );
      expect(await value(client, 'select count(*)::int from audit.events')).toBe(9);
      expect(await retain(client, '6 months', { atMost: 1 })).toMatchObject([PURGED]);
    });
  });

  test.for(['29 days', '-1 year', null])('refuses to keep %s', async (keep) => {
    await withActors(database, async (client) => {
      expect(await sqlStateOf(client, () => retain(client, keep))).toBe('22023');
    });
  });
});

test('an event that is gone and dated back among the purged ones keeps its month', async () => {
  await withActors(database, async (client) => {
    const months = await writeTrail(client);
    expect(await retain(client, '6 months', { atMost: 1 })).toMatchObject([PURGED]);
    await tamper(
      client,
      `delete from ${partitionOf(months[1])} where id = (select event_id from audit.ledger where seq = 5)`,
      `update audit.ledger set occurred_at = (select occurred_at from audit.ledger where seq = 1) where seq = 5`,
    );
    await actAsOwner(client);
    await sealAll(client);
    await deliverAll(client, 'stdout');
    expect(await statuses(client)).toEqual(['event_missing', 'ok', 'purged']);
    expect(await retain(client, '6 months')).toMatchObject([
      { outcome: 'kept', reason: expect.stringMatching(/event_missing/) as unknown },
      BEHIND,
    ]);
  });
});

test('a purge that was made up covers nothing', async () => {
  await withActors(database, async (client) => {
    const months = await writeTrail(client);
    await client.query(
      `insert into audit.events select (jsonb_populate_record(e, $1)).* from audit.events e limit 1`,
      [
        JSON.stringify({
          id: '00000000-0000-4000-8000-000000000000',
          occurred_at: new Date().toISOString(),
          event_type: 'audit.purged',
          metadata: { before: `${months[2] ?? ''}T00:00:00.000000Z` },
          payload: '{"eventType": "audit.purged", "metadata": {}}',
        }),
      ],
    );
    await client.query(`drop table ${partitionOf(months[0])}`);
    expect(await statuses(client)).toEqual(['event_missing', 'event_unsealed', 'ok']);
  });
});

test('a destination that isn’t used any more is forgotten, which the trail tells', async () => {
  await withActors(database, async (client) => {
    await writeTrail(client);
    await client.query(`insert into audit.cursors (destination, last_seq) values ('old', 1)`);
    expect(await value(client, `select audit.forget_destination('older')`)).toBe(false);
    expect(await value(client, `select audit.forget_destination('old')`)).toBe(true);
    const forgotten = `select metadata from audit.events where event_type = 'audit.destination_forgotten'`;
    expect(one((await client.query(forgotten)).rows)).toEqual({
      metadata: { destination: 'old', lastSeq: 1 },
    });
    expect(await retain(client, '11 months')).toMatchObject([PURGED]);
  });
});
